//! kube-proxy's own rules for recorded objects.

use std::sync::atomic::{AtomicBool, Ordering};

use netns_tools::NetlinkError;
use netns_tools::netlink::Action;

use super::*;

const OBJECTS: &str = include_str!("../fixtures/objects.json");
/// The change that was recorded.
const CHANGE: &str = "after-endpoint-change";
const INITIAL: &str = include_str!("../fixtures/iptables-initial.txt");
const CHANGED: &str = include_str!("../fixtures/iptables-after-endpoint-change.txt");

fn recorded(text: &str) -> Ruleset {
    Ruleset::parse(text).unwrap()
}

/// Without packet counters, as kube-proxy writes them where the kernel has none: what only counts is not there, and what counts besides
/// does not say so. Neither changes where a packet goes.
fn without_counters(mut ruleset: Ruleset) -> Ruleset {
    for chain in ruleset.tables.values_mut().flat_map(|table| table.chains.values_mut()) {
        chain.rules.retain(|rule| !rule.iter().any(|word| word == counters::LOCALHOST));
        for rule in &mut chain.rules {
            if let Some(at) = rule.iter().position(|word| word == "nfacct") {
                rule.drain(at - 1..at + 3);
            }
        }
    }
    ruleset
}

/// kube-proxy goes through services in an order that differs from run to run; within the chains that services share it does
/// not matter. The jump to node ports stays the last.
fn in_order_of_services(mut ruleset: Ruleset) -> Ruleset {
    for shared in Shared::ALL {
        let table = ruleset.tables.get_mut(shared.table()).unwrap();
        let rules = &mut table.chains.get_mut(shared.chain()).unwrap().rules;
        let last = rules.iter().position(|rule| rule.ends_with(&["KUBE-NODEPORTS".to_owned()]));
        let end = last.unwrap_or(rules.len());
        rules[..end].sort();
    }
    ruleset
}

fn apply(model: &mut Model, objects: &Value) {
    for object in objects.as_array().unwrap() {
        let take = || object.clone();
        match object["kind"].as_str().unwrap() {
            "Service" => {
                let service = serde_json::from_value(take()).unwrap();
                model.set_service(Service::of(&service).unwrap().unwrap());
            }
            "EndpointSlice" => {
                model.set_slice(Slice::of(&serde_json::from_value(take()).unwrap()).unwrap());
            }
            "Node" => model.set_node(Node::of(&serde_json::from_value(take()).unwrap())),
            _ => {}
        }
    }
}

fn recorded_options(model: &Model) -> RuleOptions {
    RuleOptions { node_ips: model.node().address(Family::V4).into_iter().collect(), ..options() }
}

#[test]
fn the_rules_are_kube_proxys_before_and_after_a_change() {
    let objects: Value = serde_json::from_str(OBJECTS).unwrap();
    let mut model = Model::new(Node::default());
    for (objects, text) in [(&objects["initial"], INITIAL), (&objects["then"][CHANGE], CHANGED)] {
        apply(&mut model, objects);
        for counters in [true, false] {
            let abilities = Abilities { random_fully: true, counters };
            let (ports, options) = (model.ports(Family::V4), recorded_options(&model));
            let ours = ruleset(Family::V4, ports, &options, abilities);
            let theirs = recorded(text);
            let theirs = if counters { theirs } else { without_counters(theirs) };
            pretty(&in_order_of_services(ours), &in_order_of_services(theirs));
        }
    }
}

fn pretty(ours: &Ruleset, theirs: &Ruleset) {
    let (ours, theirs) = (ours.to_string(), theirs.to_string());
    for (ours, theirs) in ours.lines().zip(theirs.lines()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.lines().count(), theirs.lines().count());
}

const TAKE_OVER: &str = r#"*filter
:KUBE-FORWARD - [0:0]
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
*nat
-D KUBE-NODEPORTS -d 127.0.0.0/8 -p tcp -m comment --comment default/np:p80 -m tcp --dport 30080 -m nfacct --nfacct-name localhost_nps_accepted_pkts -j KUBE-EXT-N43N6SSSRGXXTFWH
-D KUBE-NODEPORTS -d 127.0.0.0/8 -p tcp -m comment --comment default/lb:p80 -m tcp --dport 30081 -m nfacct --nfacct-name localhost_nps_accepted_pkts -j KUBE-EXT-ULFSZB4ZNLMYB6HN
COMMIT
"#;

/// kube-proxy's rules are taken over as they are.
#[test]
fn kube_proxys_rules_are_adopted() {
    let (model, fake) = recorded_world();
    let (options, ports) = (recorded_options(&model), model.ports(Family::V4));
    let made = Made::default();
    let mut backend = counting(&fake, Some(made.clone()));
    assert_eq!(backend.plan(ports, &options).unwrap(), "");
    assert_eq!(made.names(), [""; 0], "a plan makes nothing");
    let report = backend.sync(ports, &options, Scope::Full).unwrap();
    assert!(report.full && report.changes == 0, "{report:?}");
    assert_eq!(made.names(), [counters::INVALID, counters::LOCALHOST]);
    // and they follow a change as kube-proxy does
    follow_change(model, &mut backend, &fake, &recorded(CHANGED));
}

/// Where the kernel has no counters: none of a service is written, and of the rest only what differs.
#[test]
fn kube_proxys_rules_are_adopted_without_counters() {
    for counters in [None, Some(Made { unknown: true, ..Made::default() })] {
        let (model, fake) = recorded_world();
        let (options, ports) = (recorded_options(&model), model.ports(Family::V4));
        let mut backend = counting(&fake, counters);
        assert_eq!(backend.plan(ports, &options).unwrap(), TAKE_OVER);
        let report = backend.sync(ports, &options, Scope::Full).unwrap();
        assert!(report.full && report.changes == 3, "{report:?}");
        assert!(backend.plan(ports, &options).unwrap().is_empty());
        follow_change(model, &mut backend, &fake, &without_counters(recorded(CHANGED)));
    }
}

/// Counters that cannot be made are done without, and tried again with the next full sync.
#[test]
fn counters_that_are_refused_keep_no_rules_from_being_written() {
    let (model, fake) = recorded_world();
    let (options, ports) = (recorded_options(&model), model.ports(Family::V4));
    let made = Made::default();
    made.refused.store(true, Ordering::SeqCst);
    let mut backend = counting(&fake, Some(made.clone()));
    assert_eq!(backend.sync(ports, &options, Scope::Full).unwrap().changes, 3);
    assert!(!fake.get().ruleset().to_string().contains("nfacct"));
    made.refused.store(false, Ordering::SeqCst);
    assert_eq!(backend.sync(ports, &options, Scope::Full).unwrap().changes, 3);
    let found = in_order_of_services(fake.get().ruleset().clone());
    pretty(&found, &in_order_of_services(recorded(INITIAL)));
}

/// The counters of a kernel, as the test wants it.
#[derive(Clone, Default)]
struct Made {
    unknown: bool,
    refused: Arc<AtomicBool>,
    names: Arc<Mutex<Vec<String>>>,
}

impl Made {
    fn names(&self) -> Vec<String> {
        self.names.lock().unwrap().clone()
    }
}

impl Counters for Made {
    fn are_known(&mut self) -> bool {
        !self.unknown
    }

    fn ensure(&mut self, name: &str) -> Result<(), NetlinkError> {
        assert!(!self.unknown, "it was said that there are none");
        if self.refused.load(Ordering::SeqCst) {
            let action = Action { operation: "make packet counter".into(), object: name.into() };
            return Err(NetlinkError::Refused { action, errno: 12, text: None });
        }
        self.names.lock().unwrap().push(name.to_owned());
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), NetlinkError> {
        self.names.lock().unwrap().retain(|known| known != name);
        Ok(())
    }
}

fn recorded_world() -> (Model, SharedFake) {
    let objects: Value = serde_json::from_str(OBJECTS).unwrap();
    let mut model = Model::new(Node::default());
    apply(&mut model, &objects["initial"]);
    let fake = SharedFake::new(Family::V4);
    fake.get().restore(&INITIAL).unwrap();
    (model, fake)
}

fn counting(fake: &SharedFake, counters: Option<Made>) -> IptablesBackend {
    let counters = counters.map(|made| Box::new(made) as Box<dyn Counters>);
    IptablesBackend { counters, ..fake.backend() }
}

/// A change writes the chains of its two ports, and nothing else.
fn follow_change(
    mut model: Model,
    backend: &mut IptablesBackend,
    fake: &SharedFake,
    expected: &Ruleset,
) {
    let objects: Value = serde_json::from_str(OBJECTS).unwrap();
    model.take_changes();
    apply(&mut model, &objects["then"][CHANGE]);
    let changes = model.take_changes();
    let ports = model.ports(Family::V4);
    backend.sync(ports, &recorded_options(&model), Scope::Changed(&changes.v4)).unwrap();
    let batch = fake.get().commits.last().unwrap().clone();
    let found = in_order_of_services(fake.get().ruleset().clone());
    pretty(&found, &in_order_of_services(expected.clone()));
    let declared = batch.lines().filter(|line| line.starts_with(':')).count();
    // of each of the two ports: its chain, the endpoint that came and the one that went
    assert!(
        declared == 6 && !batch.contains("KUBE-SERVICES") && !batch.contains("*filter"),
        "{batch}"
    );
}
