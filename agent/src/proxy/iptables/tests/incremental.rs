//! Changes one after the other lead where a fresh start leads, and each writes no more than it must.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::proxy::model::{Changes, ServiceName};

/// What happens to one of a few services.
#[derive(Clone, Debug)]
enum Step {
    Service(u8, u8),
    NoService(u8),
    Endpoints(u8, BTreeSet<u8>),
    NoEndpoints(u8),
    Zone(u8),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..6, any::<u8>()).prop_map(|(number, kind)| Step::Service(number, kind)),
        1 => (0u8..6).prop_map(Step::NoService),
        5 => (0u8..6, proptest::collection::btree_set(1u8..8, 0..5))
            .prop_map(|(number, hosts)| Step::Endpoints(number, hosts)),
        1 => (0u8..6).prop_map(Step::NoEndpoints),
        1 => (0u8..2).prop_map(Step::Zone),
    ]
}

fn bit(kind: u8, bit: u8) -> bool {
    kind & (1 << bit) != 0
}

/// A service whose fields follow from the bits of a number.
fn any_service(number: u8, kind: u8, family: Family) -> Service {
    let address = |prefix4: &str, prefix6: &str| match family {
        Family::V4 => format!("{prefix4}.{number}"),
        Family::V6 => format!("{prefix6}::{number}"),
    };
    let policy = |local: bool| if local { "Local" } else { "Cluster" };
    let types = ["ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer"];
    let kind_of = types[usize::from(kind & 3)];
    let mut port = json!({"port": 80, "protocol": "TCP"});
    if kind_of != "ClusterIP" {
        port["nodePort"] = json!(30000 + i32::from(number));
    }
    let external =
        if bit(kind, 2) { vec![address("198.51.100", "2001:db8:1")] } else { Vec::new() };
    let range = if family == Family::V4 { "203.0.113.0/24" } else { "2001:db8:2::/64" };
    let ranges = if bit(kind, 3) { vec![range] } else { Vec::new() };
    let spec = json!({
        "type": kind_of, "clusterIP": address("10.96.0", "fd00:96"), "ports": [port], "externalIPs": external,
        "loadBalancerSourceRanges": ranges, "externalTrafficPolicy": policy(bit(kind, 4)),
        "internalTrafficPolicy": policy(bit(kind, 5)), "healthCheckNodePort": 32000 + i32::from(number),
        "sessionAffinity": if bit(kind, 6) { "ClientIP" } else { "None" },
        "ingress": [{"ip": address("192.0.2", "2001:db8:3")}],
    });
    service(&format!("s{number}"), spec)
}

fn event(step: &Step, family: Family) -> Event {
    let name = |number: &u8| ServiceName::new("default", &format!("s{number}"));
    let slice_of = |number: &u8, hosts: &BTreeSet<u8>| {
        let prefix = if family == Family::V4 { "10.244.0." } else { "fd00:10::" };
        let text: Vec<_> =
            hosts.iter().map(|host| format!("{prefix}{host}@n{}", host % 2)).collect();
        slice(&format!("s{number}"), &text.join(" "))
    };
    match step {
        Step::Service(number, kind) => Event::Service(any_service(*number, *kind, family)),
        Step::NoService(number) => Event::NoService(name(number)),
        Step::Endpoints(number, hosts) => Event::Slice(slice_of(number, hosts)),
        Step::NoEndpoints(number) => {
            let kind = if family == Family::V4 { "IPv4" } else { "IPv6" };
            Event::NoSlice {
                name: format!("default/s{number}-{kind}").into(),
                service: Some(name(number)),
            }
        }
        Step::Zone(zone) => {
            Event::Node(Node { zone: format!("z{zone}").into(), ..Node::named("n1") })
        }
    }
}

/// Services in one order, and the jump to node ports the last: rules of services are added in front of others.
pub fn in_order(ruleset: &Ruleset) -> Ruleset {
    let mut ruleset = ruleset.clone();
    for shared in Shared::ALL {
        let table = ruleset.tables.get_mut(shared.table()).unwrap();
        let Some(chain) = table.chains.get_mut(shared.chain()) else { continue };
        let is_last = |rule: &Vec<String>| rule.last().is_some_and(|word| word == "KUBE-NODEPORTS");
        let services = chain.rules.iter().position(is_last).unwrap_or(chain.rules.len());
        chain.rules[..services].sort();
    }
    ruleset
}

/// The chains that a batch touches besides those that services share.
fn touched(batch: &str) -> BTreeSet<String> {
    let declared = batch.lines().filter_map(|line| line.strip_prefix(':'));
    declared.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// The chains of ports that changed, before or after.
fn allowed(changes: &Changes, family: Family, model: &Model) -> BTreeSet<String> {
    let options = options();
    let context = Context { family, options: &options, comments: true, counters: false };
    let ports = changes.of(family).iter().flat_map(|(id, before)| {
        [before.clone(), model.ports(family).get(id).cloned()].into_iter().flatten()
    });
    ports.flat_map(|port| generate(context, &port).own).map(|(chain, _)| chain).collect()
}

fn fresh(model: &Model, family: Family) -> Ruleset {
    ruleset(family, model.ports(family), &options(), ABILITIES)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn steps_lead_where_a_fresh_start_leads(
        steps in proptest::collection::vec(any_step(), 1..25), v6: bool, fail in 0usize..40, batch in 1usize..4,
    ) {
        let family = if v6 { Family::V6 } else { Family::V4 };
        let (fake, mut model) = (SharedFake::new(family), model());
        let mut backend = fake.backend();
        backend.sync(model.ports(family), &options(), Scope::Full).unwrap();
        for (index, steps) in steps.chunks(batch).enumerate() {
            for step in steps {
                model.apply(event(step, family));
            }
            let changes = model.take_changes();
            let commits = fake.get().commits.len();
            if index == fail {
                fake.get().fail_next = Some("no".to_owned());
                let before = fake.get().ruleset().clone();
                let failed = backend.sync(model.ports(family), &options(), Scope::Changed(changes.of(family))).is_err();
                prop_assert!(!failed || *fake.get().ruleset() == before);
                fake.get().fail_next = None;
                let report = backend.sync(model.ports(family), &options(), Scope::Changed(&Changed::new())).unwrap();
                prop_assert_eq!(report.full, failed);
            } else {
                let report = backend.sync(model.ports(family), &options(), Scope::Changed(changes.of(family))).unwrap();
                prop_assert!(!report.full);
                let made: Vec<_> = fake.get().commits[commits..].to_vec();
                prop_assert!(made.len() <= 1);
                prop_assert_eq!(report.changes > 0, made.len() == 1);
                let touched: BTreeSet<_> = made.iter().flat_map(|batch| touched(batch)).collect();
                let allowed = allowed(&changes, family, &model);
                prop_assert!(touched.is_subset(&allowed), "{touched:?} {allowed:?}");
            }
            let found = fake.get().ruleset().clone();
            prop_assert_eq!(lint::problems(&found), Vec::<String>::new());
            prop_assert_eq!(in_order(&found).to_string(), in_order(&fresh(&model, family)).to_string());
            prop_assert!(backend.is_intact().unwrap());
        }
        // a full look finds nothing to do, also that of a new process
        prop_assert_eq!(backend.sync(model.ports(family), &options(), Scope::Full).unwrap().changes, 0);
        let report = fake.backend().sync(model.ports(family), &options(), Scope::Full).unwrap();
        prop_assert_eq!((report.changes, report.full), (0, true));
        // and what is counted step by step is what is there
        let count = |table: &str| {
            let ruleset = fake.get().ruleset().clone();
            ruleset.tables[table].chains.values().map(|chain| chain.rules.len()).sum::<usize>()
        };
        prop_assert_eq!(report.rules, vec![("filter", count("filter")), ("nat", count("nat"))]);
    }
}

fn web(model: &mut Model, endpoints: &str) {
    let spec = json!({"type": "NodePort", "clusterIP": "10.96.0.1", "ports": [{"port": 80, "nodePort": 30080}]});
    model.set_service(service("s", spec));
    model.set_slice(slice("s", endpoints));
}

#[test]
fn a_change_of_an_endpoint_writes_the_chains_that_lead_to_it() {
    let (fake, mut model) = (SharedFake::new(Family::V4), model());
    let mut backend = fake.backend();
    web(&mut model, "10.244.0.2@n1 10.244.0.3@n1");
    backend.sync(model.ports(Family::V4), &options(), Scope::Full).unwrap();
    model.take_changes();
    web(&mut model, "10.244.0.2@n1 10.244.0.4@n1");
    let changes = model.take_changes();
    let report =
        backend.sync(model.ports(Family::V4), &options(), Scope::Changed(&changes.v4)).unwrap();
    let batch = fake.get().commits.last().unwrap().clone();
    assert!(!batch.contains("*filter") && !batch.contains("KUBE-SERVICES"), "{batch}");
    assert!(!batch.contains("10.244.0.2:8080\n"), "{batch}");
    assert_eq!(touched(&batch).len(), 3, "{batch}");
    assert_eq!((report.changes, report.written), (3, vec![("nat", 5)]));
}

#[test]
fn other_options_are_a_full_sync() {
    let (fake, mut model) = (SharedFake::new(Family::V4), model());
    let mut backend = fake.backend();
    web(&mut model, "10.244.0.2@n1");
    let nothing = Changed::new();
    assert!(
        backend.sync(model.ports(Family::V4), &options(), Scope::Changed(&nothing)).unwrap().full
    );
    assert!(
        !backend.sync(model.ports(Family::V4), &options(), Scope::Changed(&nothing)).unwrap().full
    );
    let other = RuleOptions { masquerade_bit: 3, masquerade_all: true, ..options() };
    assert!(backend.sync(model.ports(Family::V4), &other, Scope::Changed(&nothing)).unwrap().full);
    let expected = ruleset(Family::V4, model.ports(Family::V4), &other, ABILITIES);
    assert_eq!(fake.get().ruleset().to_string(), expected.to_string());
}

/// A cluster that becomes large does not write everything anew: rules that come from then on have no comments, as in kube-proxy.
#[test]
fn a_large_cluster_has_no_comments_of_endpoints() {
    let (fake, mut model) = (SharedFake::new(Family::V4), model());
    let mut backend = fake.backend();
    web(&mut model, "10.244.0.2@n1");
    backend.sync(model.ports(Family::V4), &options(), Scope::Full).unwrap();
    model.take_changes();
    let spec = json!({"clusterIP": "10.96.0.2", "ports": [{"port": 80}]});
    model.set_service(service("large", spec));
    let endpoints: Vec<_> =
        (0..1000).map(|n| format!("10.244.{}.{}@n1", 1 + n / 250, 1 + n % 250)).collect();
    model.set_slice(slice("large", &endpoints.join(" ")));
    let changes = model.take_changes();
    backend.sync(model.ports(Family::V4), &options(), Scope::Changed(&changes.v4)).unwrap();
    let batch = fake.get().commits.last().unwrap().clone();
    assert_eq!(batch.matches("--comment").count(), 2, "the cluster address twice");
    assert!(!batch.contains("default/s\""), "{batch}");
    let report = backend.sync(model.ports(Family::V4), &options(), Scope::Full).unwrap();
    assert_eq!(report.changes, 0);
}

#[test]
fn many_services_that_go_at_once() {
    let (fake, mut model) = (SharedFake::new(Family::V4), model());
    let mut backend = fake.backend();
    let add = |model: &mut Model, number: u8| {
        let spec = json!({"clusterIP": format!("10.96.0.{number}"), "ports": [{"port": 80}]});
        model.set_service(service(&format!("s{number}"), spec));
        model.set_slice(slice(&format!("s{number}"), &format!("10.244.0.{number}@n1")));
    };
    (1..100).for_each(|number| add(&mut model, number));
    backend.sync(model.ports(Family::V4), &options(), Scope::Full).unwrap();
    model.take_changes();
    for number in 1..80 {
        model.remove_service(&ServiceName::new("default", &format!("s{number}")));
    }
    let changes = model.take_changes();
    backend.sync(model.ports(Family::V4), &options(), Scope::Changed(&changes.v4)).unwrap();
    let batch = fake.get().commits.last().unwrap().clone();
    assert!(batch.contains(":KUBE-SERVICES") && !batch.contains("\n-D"), "{batch}");
    let found = in_order(&fake.get().ruleset().clone());
    assert_eq!(found.to_string(), in_order(&fresh(&model, Family::V4)).to_string());
}

#[test]
fn clean_up_leaves_foreign_rules_and_nothing_else() {
    let foreign = "*filter\n-A FORWARD -j DROP\n-A INPUT -j KUBE-FIREWALL\n:KUBE-FIREWALL - [0:0]\n-A KUBE-FIREWALL -j DROP\nCOMMIT\n\
                   *mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n*nat\n:DOCKER - [0:0]\n:KUBE-MARK-DROP - [0:0]\n:CNI-A - [0:0]\n\
                   -A PREROUTING -j DOCKER\n-A CNI-A -m comment --comment \"a -j KUBE-SERVICES b\" -j RETURN\nCOMMIT\n";
    let fake = SharedFake::new(Family::V4);
    fake.get().restore(&foreign).unwrap();
    let before = fake.get().ruleset().clone();
    // of a kube-proxy before 1.24
    let old = "*nat\n:KUBE-XLB-A - [0:0]\n:KUBE-SERVICES - [0:0]\n-A KUBE-SERVICES -j KUBE-XLB-A\n-A INPUT -j KUBE-SERVICES\nCOMMIT\n";
    fake.get().restore(&old).unwrap();
    let (mut backend, mut model) = (fake.backend(), model());
    web(&mut model, "10.244.0.2@n1");
    backend.sync(model.ports(Family::V4), &options(), Scope::Full).unwrap();
    let text = fake.get().to_string();
    assert!(text.contains("-A FORWARD -j DROP\n") && !text.contains("XLB"), "{text}");
    assert!(text.contains("-A KUBE-FIREWALL -j DROP\n"), "the kubelet's rule stays: {text}");
    backend.cleanup().unwrap();
    let mut after = fake.get().ruleset().clone();
    // what stands in the chain that the kubelet keeps too is needed there
    let filter = after.tables.get_mut("filter").unwrap();
    filter.chains.get_mut("KUBE-FIREWALL").unwrap().rules.truncate(1);
    filter.chains.get_mut("OUTPUT").unwrap().rules.clear();
    assert_eq!(after.to_string(), before.to_string());
    backend.cleanup().unwrap();
}

#[test]
fn what_others_take_away_is_noticed_and_repaired() {
    let mut model = model();
    web(&mut model, "10.244.0.2@n1");
    let takes: [&str; 4] = [
        "*nat\n:KUBE-SERVICES - [0:0]\nCOMMIT\n",
        "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n",
        "*mangle\n-X KUBE-PROXY-CANARY\nCOMMIT\n",
        "*filter\n:KUBE-FORWARD - [0:0]\nCOMMIT\n",
    ];
    for take in takes {
        let fake = SharedFake::new(Family::V4);
        let mut backend = fake.backend();
        assert!(!backend.is_intact().unwrap(), "nothing was committed");
        backend.sync(model.ports(Family::V4), &options(), Scope::Full).unwrap();
        assert!(backend.is_intact().unwrap());
        let before = fake.get().ruleset().clone();
        fake.get().restore(&take).unwrap();
        assert!(!backend.is_intact().unwrap(), "{take}");
        backend.sync(model.ports(Family::V4), &options(), Scope::Full).unwrap();
        assert_eq!(fake.get().ruleset().to_string(), before.to_string());
        assert!(backend.is_intact().unwrap());
    }
}

#[test]
fn desired_and_actual_side_by_side() {
    let (fake, mut model) = (SharedFake::new(Family::V4), model());
    let mut backend = fake.backend();
    web(&mut model, "10.244.0.2@n1");
    let other = json!({"clusterIP": "10.96.0.2", "ports": [{"port": 80}]});
    model.set_service(service("other", other));
    backend.sync(model.ports(Family::V4), &options(), Scope::Full).unwrap();
    let ports = model.ports(Family::V4);
    let all = backend.compare(ports, &options(), &|_| true).unwrap();
    assert_eq!(all.desired, all.actual);
    assert!(all.desired.iter().any(|line| line.contains("POSTROUTING")));
    let change = "*nat\n-A KUBE-NODEPORTS -p tcp -m comment --comment default/s -j RETURN\n-D KUBE-SERVICES -d 10.96.0.1/32 -p tcp \
                  -m comment --comment \"default/s cluster IP\" -m tcp --dport 80 -j KUBE-SVC-KE2ZEW65PB3QQ5VD\nCOMMIT\n";
    let svc =
        name::PortChains::of(ports.keys().find(|id| id.service.as_str() == "default/s").unwrap())
            .cluster;
    fake.get().restore(&change.replace("KUBE-SVC-KE2ZEW65PB3QQ5VD", &svc)).unwrap();
    let one = backend.compare(ports, &options(), &|id| id.service.as_str() == "default/s").unwrap();
    assert!(
        one.desired
            .iter()
            .all(|line| !line.contains("default/other") && !line.contains("POSTROUTING"))
    );
    let missing: Vec<_> = one.desired.difference(&one.actual).collect();
    let surplus: Vec<_> = one.actual.difference(&one.desired).collect();
    assert!(missing.len() == 1 && missing[0].contains("default/s cluster IP"), "{missing:?}");
    assert_eq!(surplus, ["nat: -A KUBE-NODEPORTS -p tcp -m comment --comment default/s -j RETURN"]);
}
