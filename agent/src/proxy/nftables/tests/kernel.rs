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
    nft_takes(&plan);
    assert!(backend.plan(model.ports(FAMILY), &options()).unwrap().is_empty());
}

/// Services of every kind, with session affinity or without.
fn every_kind(family: Family, affinity: &str) -> Model {
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
                    "internalTrafficPolicy": internal, "externalTrafficPolicy": external, "sessionAffinity": affinity,
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

/// Whether nft takes a file that has these lines, in a namespace without rules.
fn nft_takes(lines: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines).unwrap();
    let empty = TestNetns::new("paff");
    empty.cmd(&["nft", "-c", "-f", file.path().to_str().unwrap()]);
}

#[test]
fn nft_lists_services_of_every_kind_and_takes_their_words() {
    for (family, affinity) in
        FAMILIES.into_iter().flat_map(|family| [(family, "None"), (family, "ClientIP")])
    {
        let ns = TestNetns::new("paff");
        let model = every_kind(family, affinity);
        let mut backend = NftablesBackend::open_in(family, ns.ns()).unwrap();
        let plan = backend.plan(model.ports(family), &options()).unwrap();
        backend.sync(model.ports(family), &options(), Scope::Full).unwrap();
        assert_eq!(backend.plan(model.ports(family), &options()).unwrap(), "");
        let listed = ns.cmd(&["nft", "list", "ruleset"]);
        for rule in plan.lines().filter(|line| line.starts_with("add rule")) {
            let rule = rule.splitn(6, ' ').nth(5).unwrap();
            assert!(listed.contains(rule), "{rule}\n{listed}");
        }
        let chains = if affinity == "None" {
            ["external-local-2-1", "cluster-local-1", "chain sources-"]
        } else {
            ["set affinity-", "chain pick-local-", "chain endpoint-"]
        };
        for words in chains {
            assert!(listed.contains(words), "{words}\n{listed}");
        }
        ns.cmd(&["nft", "-j", "list", "ruleset"]);
        nft_takes(&plan);
        nft_takes(&listed);
    }
}

/// A service that remembers its clients, at a node port too.
fn sticky(seconds: u32, endpoints: &[&str]) -> Model {
    let mut model = Model::new(Node::named("n1"));
    let spec = json!({"type": "NodePort", "clusterIP": "10.96.0.1", "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}, "ports": [{"port": 80, "nodePort": 30080}]});
    model.set_service(service("s", spec));
    model.set_slice(slice("s", endpoints));
    model
}

/// The sets of clients, in order of endpoint: name, and who is in it.
fn clients_in(ns: &TestNetns) -> Vec<(String, Vec<String>)> {
    let json = ns.json(&["nft", "-j", "list", "sets"]);
    let all = json["nftables"].as_array().unwrap().iter().map(|object| &object["set"]);
    let all = all.filter(|set| set["name"].as_str().is_some_and(|n| n.starts_with("affinity-")));
    let mut sets: Vec<_> = all
        .map(|set| {
            let elements = set["elem"].as_array().cloned().unwrap_or_default();
            let of = |element: &Value| element["elem"]["val"].as_str().unwrap().to_owned();
            (set["name"].as_str().unwrap().to_owned(), elements.iter().map(of).collect())
        })
        .collect();
    sets.sort_by_key(|(name, _)| name.rsplit("__").next().map(str::to_owned));
    sets
}

/// Remembers a client as a packet would.
fn remember(ns: &TestNetns, set: &str, client: &str) {
    nft(ns, &format!("add element ip heddle {set} {{ {client} }}"));
}

#[test]
fn clients_are_remembered_across_a_restart_and_changes() {
    let ns = TestNetns::new("pnft");
    let mut model = sticky(600, &["10.1.0.1@n1", "10.1.1.1@n2"]);
    let mut backend = synced(&ns, &model);
    let sets = clients_in(&ns);
    let (here, there) = (sets[0].0.clone(), sets[1].0.clone());
    assert!(sets.len() == 2 && here.ends_with("__10.1.0.1/8080"), "{sets:?}");
    remember(&ns, &here, "192.0.2.7");
    remember(&ns, &there, "192.0.2.8");
    let both = clients_in(&ns);
    assert!(backend.is_intact().unwrap(), "clients are not our affair");
    // a restart
    let mut backend = NftablesBackend::open_in(FAMILY, ns.ns()).unwrap();
    let report = backend.sync(model.ports(FAMILY), &options(), Scope::Full).unwrap();
    assert_eq!((report.full, report.changes, clients_in(&ns)), (true, 0, both.clone()));
    // other options: other rules in the chain that leads to the endpoints
    let other = RuleOptions { masquerade_all: true, ..options() };
    assert!(backend.sync(model.ports(FAMILY), &other, Scope::Full).unwrap().changes > 0);
    assert_eq!(clients_in(&ns), both);
    backend.sync(model.ports(FAMILY), &options(), Scope::Full).unwrap();
    // an endpoint more, then one less: its set and its chain go with it
    let mut follow = |model: &mut Model| {
        let changes = model.take_changes();
        backend.sync(model.ports(FAMILY), &options(), Scope::Changed(&changes.v4)).unwrap();
        assert!(backend.is_intact().unwrap());
        let found = backend.compare(model.ports(FAMILY), &options(), &|_| true).unwrap();
        assert_eq!(found.desired, found.actual);
    };
    model.take_changes();
    model.set_slice(slice("s", &["10.1.0.1@n1", "10.1.1.1@n2", "10.1.1.2@n2"]));
    follow(&mut model);
    assert_eq!(clients_in(&ns).len(), 3);
    model.set_slice(slice("s", &["10.1.1.1@n2", "10.1.1.2@n2"]));
    follow(&mut model);
    let left = clients_in(&ns);
    assert!(left.len() == 2 && left[0] == both[1], "{left:?}");
    assert!(!ns.cmd(&["nft", "list", "ruleset"]).contains("10.1.0.1"));
    // back again, it has no clients
    model.set_slice(slice("s", &["10.1.0.1@n1", "10.1.1.1@n2"]));
    follow(&mut model);
    assert_eq!(clients_in(&ns), [(here, Vec::new()), both[1].clone()]);
}

#[test]
fn another_time_is_another_set_and_no_affinity_is_none() {
    let ns = TestNetns::new("pnft");
    let mut backend = synced(&ns, &sticky(600, &["10.1.0.1@n1"]));
    let before = clients_in(&ns);
    remember(&ns, &before[0].0, "192.0.2.7");
    let mut model = sticky(60, &["10.1.0.1@n1"]);
    let mut follow = |model: &mut Model| {
        let changes = model.take_changes();
        let report =
            backend.sync(model.ports(FAMILY), &options(), Scope::Changed(&changes.v4)).unwrap();
        assert!(!report.full && backend.is_intact().unwrap());
    };
    follow(&mut model);
    let after = clients_in(&ns);
    assert!(after.len() == 1 && after[0].0 != before[0].0 && after[0].1.is_empty(), "{after:?}");
    assert!(ns.cmd(&["nft", "list", "ruleset"]).contains("timeout 1m\n"));
    let spec = json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80}]});
    model.set_service(service("s", spec));
    follow(&mut model);
    assert_eq!(clients_in(&ns), []);
    let listed = ns.cmd(&["nft", "list", "ruleset"]);
    assert!(!listed.contains("chain endpoint-") && listed.contains("chain cluster-1 "), "{listed}");
    model.remove_service(&ServiceName::new("default", "s"));
    follow(&mut model);
    let mut fresh = NftablesBackend::open_in(FAMILY, ns.ns()).unwrap();
    let report = fresh.sync(&Ports::new(), &options(), Scope::Full).unwrap();
    assert_eq!(report.changes, 0);
}

#[test]
fn what_others_do_to_sets_of_clients_is_seen_and_repaired() {
    let ns = TestNetns::new("pnft");
    let model = sticky(600, &["10.1.0.1@n1", "10.1.1.1@n2"]);
    let mut backend = synced(&ns, &model);
    let sets = clients_in(&ns);
    let (here, there) = (sets[0].0.clone(), sets[1].0.clone());
    remember(&ns, &there, "192.0.2.8");
    let kept = clients_in(&ns)[1].clone();
    let chain = |set: &str| {
        let listed = ns.cmd(&["nft", "list", "ruleset"]);
        let chain = listed.lines().filter_map(|line| line.trim().strip_prefix("chain "));
        let address = set.rsplit("__").next().unwrap().to_owned();
        let mut found = chain.filter(|chain| chain.contains(&*address));
        found.next().unwrap().trim_end_matches(" {").to_owned()
    };
    let endpoint = chain(&here);
    // a set that rules use cannot be deleted by itself
    for words in [
        format!("flush chain ip heddle {endpoint}"),
        "add set ip heddle affinity-mine { type ipv4_addr; flags dynamic,timeout; timeout 9s; }"
            .into(),
        "add set ip heddle affinity-other { type ipv4_addr; }".into(),
    ] {
        nft(&ns, &words);
        assert!(!backend.is_intact().unwrap(), "{words}");
        let replaced = words.contains("affinity-other");
        let report = backend.sync(model.ports(FAMILY), &options(), Scope::Full).unwrap();
        assert!(report.full && report.changes > 0, "{words}");
        assert!(backend.is_intact().unwrap(), "{words}");
        let found = backend.compare(model.ports(FAMILY), &options(), &|_| true).unwrap();
        assert_eq!(found.desired, found.actual, "{words}");
        // only what is no set of ours makes it a new table
        assert_eq!(clients_in(&ns)[1] == kept, !replaced, "{words}");
    }
    // forgotten clients are no damage
    nft(&ns, &format!("flush set ip heddle {there}"));
    assert!(backend.is_intact().unwrap());
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
    nft(&ns, "add table ip heddle { comment \"services, by heddle-agent; layout 1\"; }");
    nft(&ns, "add chain ip heddle old { type filter hook input priority 0; }");
    let mut backend = synced(&ns, &model);
    let listed = ns.cmd(&["nft", "list", "ruleset"]);
    assert!(listed.contains("layout 2") && !listed.contains("chain old"), "{listed}");
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
    // of one that remembers its clients also the chains of endpoints, and the sets
    let mut model = sticky(600, &["10.1.0.1@n1"]);
    model.set_service(service("t", json!({"clusterIP": "10.96.0.9", "ports": [{"port": 80}]})));
    model.set_slice(slice("t", &["10.1.0.9@n1"]));
    backend.sync(model.ports(FAMILY), &options(), Scope::Full).unwrap();
    let only = |id: &PortId| id.service.as_str() == "default/s";
    let found = backend.compare(model.ports(FAMILY), &options(), &only).unwrap();
    assert_eq!(found.desired, found.actual);
    for words in ["set affinity-", "2: meta l4proto tcp dnat to 10.1.0.1:8080", "tcp . 30080"] {
        assert!(found.actual.iter().any(|line| line.contains(words)), "{words}");
    }
    assert!(found.actual.iter().all(|line| !line.contains("10.1.0.9")), "{:?}", found.actual);
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
