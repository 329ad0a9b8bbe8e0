//! kube-proxy's own rules for recorded objects.

use super::*;

const OBJECTS: &str = include_str!("../fixtures/objects.json");
/// The change that was recorded.
const CHANGE: &str = "after-endpoint-change";
const INITIAL: &str = include_str!("../fixtures/iptables-initial.txt");
const CHANGED: &str = include_str!("../fixtures/iptables-after-endpoint-change.txt");

/// The rules of kube-proxy that have no counterpart here, with the reason.
///
/// Accounting by `nfacct`: kube-proxy counts connections to node ports at 127.0.0.1 by a rule of its own in front of the one
/// that serves them, and packets that are dropped as invalid in the rule that drops them. Neither changes where a packet goes.
fn is_accounting_only(rule: &[String]) -> bool {
    rule.iter().any(|word| word == "localhost_nps_accepted_pkts")
}

fn without_accounting(rule: Vec<String>) -> Vec<String> {
    match rule.iter().position(|word| word == "nfacct") {
        Some(at) => [&rule[..at - 1], &rule[at + 3..]].concat(),
        None => rule,
    }
}

fn recorded(text: &str) -> Ruleset {
    let mut ruleset = Ruleset::parse(text).unwrap();
    for chain in ruleset.tables.values_mut().flat_map(|table| table.chains.values_mut()) {
        chain.rules.retain(|rule| !is_accounting_only(rule));
        chain.rules =
            std::mem::take(&mut chain.rules).into_iter().map(without_accounting).collect();
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
        let ours = ruleset(Family::V4, model.ports(Family::V4), &recorded_options(&model), true);
        let theirs = in_order_of_services(recorded(text));
        pretty(&in_order_of_services(ours), &theirs);
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

/// kube-proxy's rules are taken over: none of a service is written, and of the rest only what differs.
#[test]
fn kube_proxys_rules_are_adopted() {
    let objects: Value = serde_json::from_str(OBJECTS).unwrap();
    let mut model = Model::new(Node::default());
    apply(&mut model, &objects["initial"]);
    let fake = SharedFake::new(Family::V4);
    fake.get().restore(&INITIAL).unwrap();
    let (mut backend, ports) = (fake.backend(), model.ports(Family::V4).clone());
    let plan = backend.plan(&ports, &recorded_options(&model)).unwrap();
    assert_eq!(plan, TAKE_OVER);
    let report = backend.sync(&ports, &recorded_options(&model), Scope::Full).unwrap();
    assert!(report.full && report.changes == 3, "{report:?}");
    assert!(backend.plan(&ports, &recorded_options(&model)).unwrap().is_empty());
    // and a change from there writes the chains of the two ports
    model.take_changes();
    apply(&mut model, &objects["then"][CHANGE]);
    let changes = model.take_changes();
    let ports = model.ports(Family::V4);
    backend.sync(ports, &recorded_options(&model), Scope::Changed(&changes.v4)).unwrap();
    let batch = fake.get().commits.last().unwrap().clone();
    let found = in_order_of_services(fake.get().ruleset().clone());
    pretty(&found, &in_order_of_services(recorded(CHANGED)));
    let declared = batch.lines().filter(|line| line.starts_with(':')).count();
    // of each of the two ports: its chain, the endpoint that came and the one that went
    assert!(
        declared == 6 && !batch.contains("KUBE-SERVICES") && !batch.contains("*filter"),
        "{batch}"
    );
}
