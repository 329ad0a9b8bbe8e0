//! In a kernel: what is found there, what others do to it, and what is left.

use netns_tools::testing::TestNetns;

use super::*;

const FAMILY: Family = Family::V4;

fn model() -> Model {
    let mut model = Model::new(Node::named("n1"));
    model.set_service(service("a", json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80}]})));
    model.set_slice(slice("a", &["10.1.0.1@n1", "10.1.1.1@n2"]));
    model.set_service(service(
        "b",
        json!({"type": "NodePort", "clusterIP": "10.96.0.2", "externalIPs": ["192.0.2.9"],
        "externalTrafficPolicy": "Local", "ports": [{"port": 80, "nodePort": 30080}]}),
    ));
    model.set_slice(slice("b", &["10.1.0.2@n1", "10.1.1.2@n2"]));
    model.set_service(service("c", json!({"clusterIP": "10.96.0.3", "ports": [{"port": 80}]})));
    model.take_changes();
    model
}

fn synced(ns: &TestNetns, model: &Model) -> NftablesBackend {
    let mut backend = NftablesBackend::open_in(FAMILY, ns.ns()).unwrap();
    backend.sync(model.ports(FAMILY), &options(), Scope::Full).unwrap();
    backend
}

fn nft(ns: &TestNetns, words: &str) {
    ns.cmd(&[&["nft"][..], &words.split(' ').collect::<Vec<_>>()].concat());
}

#[test]
fn nft_takes_our_words_and_lists_what_we_say() {
    let ns = TestNetns::new("pnft");
    let model = model();
    let mut backend = NftablesBackend::open_in(FAMILY, ns.ns()).unwrap();
    let plan = backend.plan(model.ports(FAMILY), &options()).unwrap();
    assert!(!ns.cmd(&["nft", "list", "ruleset"]).contains("heddle"));
    backend.sync(model.ports(FAMILY), &options(), Scope::Full).unwrap();
    let listed = ns.cmd(&["nft", "list", "ruleset"]);
    for line in plan.lines().filter(|line| line.starts_with("add rule")) {
        let rule = line.splitn(6, ' ').nth(5).unwrap();
        assert!(listed.contains(rule), "{rule}\n{listed}");
    }
    // numbers of endpoints are `integer` for nft, for which sets have no word; all else it takes as it is
    let words: Vec<_> = plan.lines().filter(|line| !line.contains("backends")).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), words.join("\n")).unwrap();
    let other = TestNetns::new("pnft");
    other.cmd(&["nft", "-c", "-f", file.path().to_str().unwrap()]);
    assert!(backend.plan(model.ports(FAMILY), &options()).unwrap().is_empty());
}

/// Services of every kind but those with session affinity, which nft 1.0.6 cannot list.
fn every_kind_without_affinity(family: Family) -> Model {
    let v4 = family == Family::V4;
    let ip = |v4_ip: String, v6_ip: String| if v4 { v4_ip } else { v6_ip };
    let mut model = Model::new(Node::named("n1"));
    let mut number = 0;
    for (internal, external) in [("Cluster", "Cluster"), ("Local", "Local"), ("Cluster", "Local")] {
        for ends in 0..3 {
            number += 1;
            let name = format!("s{number}");
            let spec = json!({"type": "LoadBalancer", "clusterIP": ip(format!("10.96.0.{number}"), format!("fd00::{number}")),
                    "externalIPs": [ip(format!("192.0.2.{number}"), format!("fd02::{number}"))],
                    "loadBalancerSourceRanges": [ip("198.51.100.0/24".into(), "fd03::/64".into())],
                    "internalTrafficPolicy": internal, "externalTrafficPolicy": external,
                    "ports": [{"port": 80, "nodePort": 30000 + number}]});
            let object = json!({"metadata": {"namespace": "default", "name": name}, "spec": spec,
                    "status": {"loadBalancer": {"ingress": [{"ip": ip(format!("203.0.113.{number}"), format!("fd04::{number}"))}]}}});
            let service = Service::of(&serde_json::from_value(object).unwrap());
            model.set_service(service.unwrap().unwrap());
            let all =
                if v4 { ["10.1.0.1@n1", "10.1.1.1@n2"] } else { ["fd01::1@n1", "fd01::2@n2"] };
            model.set_slice(slice(&name, &all[..ends]));
        }
    }
    model.take_changes();
    model
}

#[test]
fn nft_lists_services_without_affinity_and_takes_their_words() {
    for family in [Family::V4, Family::V6] {
        let (ns, other) = (TestNetns::new("paff"), TestNetns::new("paff"));
        let model = every_kind_without_affinity(family);
        let mut backend = NftablesBackend::open_in(family, ns.ns()).unwrap();
        let plan = backend.plan(model.ports(family), &options()).unwrap();
        backend.sync(model.ports(family), &options(), Scope::Full).unwrap();
        assert_eq!(backend.plan(model.ports(family), &options()).unwrap(), "");
        let listed = ns.cmd(&["nft", "list", "ruleset"]);
        for words in ["external-local-2-1", "cluster-local-1", "chain sources-"] {
            assert!(listed.contains(words), "{words}\n{listed}");
        }
        ns.cmd(&["nft", "-j", "list", "ruleset"]);
        let words: Vec<_> = plan.lines().filter(|line| !line.contains("backends")).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), words.join("\n")).unwrap();
        other.cmd(&["nft", "-c", "-f", file.path().to_str().unwrap()]);
    }
}

#[test]
fn what_an_earlier_run_left_is_adopted() {
    let ns = TestNetns::new("pnft");
    let mut model = model();
    drop(synced(&ns, &model));
    let mut next = NftablesBackend::open_in(FAMILY, ns.ns()).unwrap();
    let report = next.sync(model.ports(FAMILY), &options(), Scope::Full).unwrap();
    assert_eq!((report.full, report.changes), (true, 0));
    // something changed while nobody ran: that is repaired, and nothing else
    drop(next);
    model.set_slice(slice("a", &["10.1.0.1@n1", "10.1.1.9@n2"]));
    let mut next = NftablesBackend::open_in(FAMILY, ns.ns()).unwrap();
    // the first is a full one whatever is asked for
    let changes = model.take_changes();
    let report = next.sync(model.ports(FAMILY), &options(), Scope::Changed(&changes.v4)).unwrap();
    assert_eq!((report.full, report.changes), (true, 2));
}

#[test]
fn a_table_of_another_layout_is_replaced() {
    let ns = TestNetns::new("pnft");
    let model = model();
    nft(&ns, "add table ip heddle { comment \"services, by heddle-agent; layout 0\"; }");
    nft(&ns, "add chain ip heddle old { type filter hook input priority 0; }");
    let mut backend = synced(&ns, &model);
    let listed = ns.cmd(&["nft", "list", "ruleset"]);
    assert!(listed.contains("layout 1") && !listed.contains("chain old"), "{listed}");
    // a chain of ours that hangs elsewhere cannot be moved
    nft(&ns, "delete chain ip heddle filter-input");
    nft(&ns, "add chain ip heddle filter-input { type filter hook input priority 7; }");
    assert!(!backend.is_intact().unwrap());
    backend.sync(model.ports(FAMILY), &options(), Scope::Full).unwrap();
    assert!(!ns.cmd(&["nft", "list", "ruleset"]).contains("priority 7"));
}

#[test]
fn what_others_do_is_seen_and_repaired() {
    let ns = TestNetns::new("pnft");
    let model = model();
    let mut backend = synced(&ns, &model);
    let before = ns.cmd(&["nft", "list", "ruleset"]);
    nft(&ns, "add table ip foreign");
    assert!(backend.is_intact().unwrap(), "what is not ours is no matter");
    for words in [
        "flush ruleset",
        "delete table ip heddle",
        "flush table ip heddle",
        "flush chain ip heddle cluster-2",
        "flush map ip heddle services",
        "flush map ip heddle backends",
        "delete element ip heddle backends { 10.96.0.2 . tcp . 80 . 1 }",
        "delete element ip heddle rejected { 10.96.0.3 . tcp . 80 }",
        "add rule ip heddle services drop",
        "add element ip heddle cluster-ips { 10.96.9.9 }",
        "add chain ip heddle mine",
    ] {
        nft(&ns, words);
        assert!(!backend.is_intact().unwrap(), "{words}");
        let report = backend.sync(model.ports(FAMILY), &options(), Scope::Full).unwrap();
        assert!(report.full && report.changes > 0, "{words}");
        assert!(backend.is_intact().unwrap(), "{words}");
        let found = backend.compare(model.ports(FAMILY), &options(), &|_| true).unwrap();
        assert_eq!(found.desired, found.actual, "{words}");
    }
    assert!(before.contains("table ip heddle"));
}

#[test]
fn after_a_failure_the_old_rules_stay_and_the_next_sync_is_full() {
    let ns = TestNetns::new("pnft");
    let mut model = model();
    let mut backend = synced(&ns, &model);
    // the change deletes an element that somebody took away
    nft(&ns, "delete element ip heddle backends { 10.96.0.1 . tcp . 80 . 1 }");
    let before = ns.cmd(&["nft", "list", "ruleset"]);
    model.set_slice(slice("a", &["10.1.0.1@n1", "10.1.1.9@n2"]));
    model.set_slice(slice("b", &[]));
    let changes = model.take_changes();
    backend.sync(model.ports(FAMILY), &options(), Scope::Changed(&changes.v4)).unwrap_err();
    assert_eq!(ns.cmd(&["nft", "list", "ruleset"]), before);
    assert!(!backend.is_intact().unwrap());
    let report =
        backend.sync(model.ports(FAMILY), &options(), Scope::Changed(&changes.v4)).unwrap();
    assert!(report.full);
    let found = backend.compare(model.ports(FAMILY), &options(), &|_| true).unwrap();
    assert_eq!(found.desired, found.actual);
}

#[test]
fn other_options_make_it_a_full_one() {
    let ns = TestNetns::new("pnft");
    let model = model();
    let mut backend = synced(&ns, &model);
    let other = RuleOptions { masquerade_all: true, masquerade_bit: 15, ..options() };
    let report = backend
        .sync(model.ports(FAMILY), &other, Scope::Changed(&crate::proxy::model::Changed::default()))
        .unwrap();
    assert!(report.full && report.changes > 0);
    assert!(ns.cmd(&["nft", "list", "ruleset"]).contains("0x00008000"));
}

#[test]
fn a_clean_up_leaves_what_is_not_ours() {
    let ns = TestNetns::new("pnft");
    let mut backend = synced(&ns, &model());
    nft(&ns, "add table ip foreign");
    nft(&ns, "add table inet heddle");
    backend.cleanup().unwrap();
    assert_eq!(ns.cmd(&["nft", "list", "tables"]), "table ip foreign\ntable inet heddle\n");
    backend.cleanup().unwrap();
    assert!(!backend.is_intact().unwrap());
}

#[test]
fn one_service_side_by_side() {
    let ns = TestNetns::new("pnft");
    let model = model();
    let mut backend = synced(&ns, &model);
    nft(&ns, "delete element ip heddle backends { 10.96.0.1 . tcp . 80 . 1 }");
    let only = |id: &PortId| id.service.as_str() == "default/a";
    let found = backend.compare(model.ports(FAMILY), &options(), &only).unwrap();
    let missing: Vec<_> = found.desired.difference(&found.actual).collect();
    assert_eq!(missing, ["map backends: 10.96.0.1 . tcp . 80 . 0x00000001 : 10.1.1.1 . 8080"]);
    assert!(found.desired.iter().all(|line| !line.contains("10.96.0.2")), "{:?}", found.desired);
    assert!(found.actual.is_subset(&found.desired), "{:?}", found.actual);
}

#[test]
fn ipv6() {
    let ns = TestNetns::new("pnft");
    let mut model = Model::new(Node::named("n1"));
    model.set_service(service(
        "a",
        json!({"type": "NodePort", "clusterIP": "fd00::1", "sessionAffinity": "ClientIP",
        "externalTrafficPolicy": "Local", "ports": [{"port": 80, "nodePort": 30080}]}),
    ));
    model.set_slice(slice("a", &["fd01::1@n1", "fd01::2@n2"]));
    let mut backend = NftablesBackend::open_in(Family::V6, ns.ns()).unwrap();
    backend.sync(model.ports(Family::V6), &options(), Scope::Full).unwrap();
    let report = backend.sync(model.ports(Family::V6), &options(), Scope::Full).unwrap();
    assert_eq!(report.changes, 0);
    assert_eq!(
        lint(Family::V6, &objects(Family::V6, model.ports(Family::V6), &options())),
        [""; 0]
    );
}
