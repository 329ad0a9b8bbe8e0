//! Service rules by `iptables`, in kube-proxy's own shape: its chains, names, marks, order and comments.

mod fixed;
mod name;
mod port;

use std::collections::BTreeMap;

use netns_tools::iptables::{Chain, Family, Ruleset, Table, split_words};

use super::model::Ports;
use super::options::RuleOptions;
use fixed::Fixed;
use port::{Context, Shared, generate};

/// From so many endpoints on, the rules of endpoints have no comments.
const LARGE_CLUSTER: usize = 1000;

/// All rules that `ports` and `options` ask for, in tables that hold nothing else. Pure.
pub fn ruleset(
    family: Family,
    ports: &Ports,
    options: &RuleOptions,
    random_fully: bool,
) -> Ruleset {
    let comments = ports.values().map(|port| port.endpoint_count()).sum::<usize>() <= LARGE_CLUSTER;
    let context = Context { family, options, comments };
    let fixed = Fixed::new(context, random_fully);
    let mut ruleset = kernel_tables();
    for (table, chain, rules) in &fixed.chains {
        fill(&mut ruleset, table, chain, rules);
    }
    for port in ports.values() {
        let rules = generate(context, port);
        for (chain, rules) in &rules.own {
            fill(&mut ruleset, "nat", chain, rules);
        }
        for (chain, rule) in &rules.shared {
            fill(&mut ruleset, chain.table(), chain.chain(), std::slice::from_ref(rule));
        }
    }
    fill(&mut ruleset, "nat", Shared::NatServices.chain(), &fixed.to_node_ports);
    for jump in &fixed.jumps {
        fill(&mut ruleset, jump.table, jump.from, &[jump.rule.to_owned()]);
    }
    ruleset
}

fn fill(ruleset: &mut Ruleset, table: &str, chain: &str, rules: &[String]) {
    let table = ruleset.tables.entry(table.to_owned()).or_default();
    let chain = table.chains.entry(chain.to_owned()).or_default();
    chain.rules.extend(rules.iter().map(|rule| split_words(rule)));
}

/// The kernel's own chains, empty.
fn kernel_tables() -> Ruleset {
    const CHAINS: [(&str, &[&str]); 3] = [
        ("filter", &["INPUT", "FORWARD", "OUTPUT"]),
        ("mangle", &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"]),
        ("nat", &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]),
    ];
    let empty = || Chain { policy: Some("ACCEPT".to_owned()), rules: Vec::new() };
    let table = |chains: &[&str]| Table {
        chains: chains.iter().map(|chain| ((*chain).to_owned(), empty())).collect::<BTreeMap<_, _>>(),
    };
    Ruleset { tables: CHAINS.iter().map(|(name, chains)| ((*name).to_owned(), table(chains))).collect() }
}
