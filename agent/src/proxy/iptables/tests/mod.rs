//! The rules against kube-proxy's, against a fake, and against the kernel.

mod features;
mod golden;
mod incremental;
mod kernel;
mod lint;

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard};

use netns_tools::iptables::{Batch, FakeRules, Rules};
use serde_json::{Value, json};

use super::*;
use crate::proxy::model::{Event, Model, Node, Service, Slice};
use crate::proxy::options::LocalTraffic;

/// What most hosts can do, but for counters.
const ABILITIES: Abilities = Abilities { random_fully: true, counters: false };

/// A fake that the test can still look at.
#[derive(Clone)]
struct SharedFake(Arc<Mutex<FakeRules>>);

impl SharedFake {
    fn new(family: Family) -> Self {
        Self(Arc::new(Mutex::new(FakeRules::new(family))))
    }

    fn get(&self) -> MutexGuard<'_, FakeRules> {
        self.0.lock().unwrap()
    }

    fn backend(&self) -> IptablesBackend {
        IptablesBackend::new(Box::new(self.clone()))
    }
}

impl Rules for SharedFake {
    fn family(&self) -> Family {
        self.get().family()
    }

    fn save(&mut self, table: &str) -> Result<Table, IptablesError> {
        self.get().save(table)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), IptablesError> {
        self.get().commit(batch)
    }
}

impl BulkRules for SharedFake {
    fn each_line(&mut self, line: &mut dyn FnMut(&str)) -> Result<(), IptablesError> {
        self.get().each_line(line)
    }

    fn restore(&mut self, input: &dyn Display) -> Result<(), IptablesError> {
        self.get().restore(input)
    }

    fn check(&mut self, input: &dyn Display) -> Result<(), IptablesError> {
        self.get().check(input)
    }

    fn glance(&mut self, chains: &[(&str, &str)]) -> Result<Glance, IptablesError> {
        self.get().glance(chains)
    }
}

fn service(name: &str, spec: Value) -> Service {
    let status = spec.get("ingress").map(|ingress| json!({"loadBalancer": {"ingress": ingress}}));
    let object =
        json!({"metadata": {"namespace": "default", "name": name}, "spec": spec, "status": status});
    Service::of(&serde_json::from_value(object).unwrap()).unwrap().unwrap()
}

/// Endpoints as `address@node`, separated by spaces, at port 8080.
fn slice(owner: &str, endpoints: &str) -> Slice {
    let endpoint = |text: &str| {
        let (address, node) = text.split_once('@').unwrap();
        json!({"addresses": [address], "nodeName": node, "conditions": {"ready": true}})
    };
    let kind = if endpoints.contains(':') { "IPv6" } else { "IPv4" };
    let object = json!({
        "metadata": {"namespace": "default", "name": format!("{owner}-{kind}"), "labels": {"kubernetes.io/service-name": owner}},
        "addressType": kind, "endpoints": endpoints.split_whitespace().map(endpoint).collect::<Vec<_>>(),
        "ports": [{"port": 8080, "protocol": "TCP"}],
    });
    Slice::of(&serde_json::from_value(object).unwrap()).unwrap()
}

fn model() -> Model {
    Model::new(Node::named("n1"))
}

fn options() -> RuleOptions {
    let cidrs = ["10.240.0.0/12", "fd00:10::/32"].iter().map(|cidr| cidr.parse().unwrap());
    RuleOptions { local: LocalTraffic::Cidrs(cidrs.collect()), ..RuleOptions::default() }
}

/// The lines of a ruleset that say something of one service, in the order of `iptables-save`.
fn lines(ruleset: &Ruleset, of: &str) -> String {
    let chains = ruleset.tables.iter().flat_map(|(table, content)| {
        content.chains.keys().map(move |chain| (table, chain, content.rules(chain)))
    });
    let mut lines = String::new();
    for (table, chain, rules) in chains {
        for rule in rules.iter().filter(|rule| found::is_own(table, chain) || rule.contains(of)) {
            lines.push_str(&format!("{table} {chain} {rule}\n"));
        }
    }
    lines
}
