//! What changes while packets flow.

use std::collections::BTreeMap;

use heddle_agent::overlay::cluster::Event;
use heddle_agent::overlay::desired::Desired;
use heddle_agent::overlay::node::{Announcement, Backend, NodeRecord, Vtep};
use heddle_agent::overlay::plan::Plan;
use netns_tools::MacAddr;

use crate::world::*;

fn pair(router: &Router) -> [Node; 2] {
    [1, 2].map(|n| Node::new(router, n, 0, ONLY_V4, BOTH).with(Backend::Vxlan))
}

#[test]
fn a_peer_gets_another_mac() {
    let router = Router::new();
    let mut nodes = pair(&router);
    let mut cluster = settle(&mut nodes);
    all_talk(&nodes);
    let before = nodes[1].mac;
    nodes[1].mac = MacAddr([2, 1, 1, 1, 1, 1]);
    let index = nodes[1].ns.link("heddle.1").index;
    let record = nodes[1].record();
    let own = nodes[0].follow(&mut cluster, Event::Put(record));
    // two neighbours and one forwarding entry; the routes stay
    assert_eq!((own.put, own.removed), (3, 1));
    let theirs = nodes[1].sync(&cluster);
    assert_eq!(theirs.devices, ["heddle.1 set MAC 02:01:01:01:01:01"]);
    assert_eq!(nodes[1].ns.link("heddle.1").index, index, "changed in place");
    all_talk(&nodes);
    assert!(
        !nodes[0]
            .ns
            .cmd(&["bridge", "fdb", "show", "dev", "heddle.1"])
            .contains(&before.to_string())
    );
    assert!(nodes[0].sync(&cluster).is_empty());
    assert!(nodes[1].sync(&cluster).is_empty());
}

#[test]
fn a_peer_gets_another_address_on_the_underlay() {
    let router = Router::new();
    let mut nodes = pair(&router);
    let mut cluster = settle(&mut nodes);
    all_talk(&nodes);
    let index = nodes[1].ns.link("heddle.1").index;
    // in this order: the kernel deletes the second address of a network with the first
    nodes[1].ns.cmd(&["ip", "address", "del", "192.0.2.12/24", "dev", "eth0"]);
    nodes[1].ns.cmd(&["ip", "address", "add", "192.0.2.77/24", "dev", "eth0"]);
    nodes[1].addresses = vec!["192.0.2.77/24".into()];
    let record = nodes[1].record();
    nodes[0].follow(&mut cluster, Event::Put(record));
    let report = nodes[1].sync(&cluster);
    assert_eq!(report.devices, ["heddle.1 set sending from 192.0.2.77"]);
    assert_eq!(nodes[1].ns.link("heddle.1").index, index, "changed in place");
    all_talk(&nodes);
    assert!(nodes.iter_mut().all(|node| node.sync(&cluster).is_empty()));
}

#[test]
fn a_node_goes_and_nothing_of_it_is_left() {
    let router = Router::new();
    let mut nodes = pair(&router);
    let mut cluster = settle(&mut nodes);
    let report = nodes[0].follow(&mut cluster, Event::Gone("n2".into()));
    assert_eq!((report.put, report.removed), (0, 5));
    let ns = &nodes[0].ns;
    assert!(!ns.cmd(&["ip", "route"]).contains("10.244.2.0"));
    assert!(!ns.cmd(&["ip", "-6", "route"]).contains("fd00:244:2::"));
    assert_eq!(ns.cmd(&["ip", "neigh", "show", "dev", "heddle.1", "nud", "permanent"]), "");
    assert_eq!(ns.cmd(&["bridge", "fdb", "show", "dev", "heddle.1"]), "");
    assert!(nodes[0].sync(&cluster).is_empty());
    let report = nodes[0].kernel.sync(&Desired::default()).unwrap();
    assert_eq!(report.devices, ["heddle.1 removed"]);
    assert!(nodes[0].ns.netlink().link("heddle.1").unwrap().is_none());
}

#[test]
fn what_somebody_breaks_is_repaired() {
    let router = Router::new();
    let mut nodes = pair(&router);
    let cluster = settle(&mut nodes);
    let damages: [&[&[&str]]; 7] = [
        &[&["ip", "link", "del", "heddle.1"]],
        &[&["ip", "link", "set", "heddle.1", "down"]],
        &[&["ip", "link", "set", "heddle.1", "down"], &["ip", "link", "set", "heddle.1", "up"]],
        &[
            &["ip", "route", "flush", "proto", "104"],
            &["ip", "-6", "route", "flush", "proto", "104"],
        ],
        &[&["ip", "neigh", "flush", "dev", "heddle.1", "nud", "permanent"]],
        &[
            &["ip", "link", "set", "heddle.1", "mtu", "1300"],
            &["ip", "address", "flush", "dev", "heddle.1"],
        ],
        &[
            &["ip", "link", "del", "heddle.1"],
            &[
                "ip", "link", "add", "heddle.1", "type", "vxlan", "id", "9", "dstport", "4789",
                "dev", "eth0",
            ],
        ],
    ];
    for damage in damages {
        for words in damage {
            nodes[0].ns.cmd(words);
        }
        assert!(!nodes[0].sync(&cluster).is_empty(), "{damage:?}");
        all_talk(&nodes);
        let again = nodes[0].sync(&cluster);
        assert!(again.is_empty(), "{damage:?}: {again:?}");
    }
}

#[test]
fn what_is_added_to_our_device_goes() {
    let router = Router::new();
    let mut nodes = pair(&router);
    let cluster = settle(&mut nodes);
    let ns = &nodes[0].ns;
    ns.cmd(&[
        "bridge",
        "fdb",
        "append",
        "00:00:00:00:00:00",
        "dev",
        "heddle.1",
        "dst",
        "192.0.2.99",
    ]);
    ns.cmd(&[
        "bridge",
        "fdb",
        "append",
        &nodes[1].mac.to_string(),
        "dev",
        "heddle.1",
        "dst",
        "192.0.2.99",
    ]);
    ns.cmd(&["ip", "neigh", "add", "10.99.0.1", "lladdr", "02:00:00:00:00:99", "dev", "heddle.1"]);
    ns.cmd(&["ip", "route", "add", "10.98.0.0/24", "dev", "eth0", "proto", "104"]);
    ns.cmd(&["ip", "route", "add", "10.97.0.0/24", "dev", "eth0", "proto", "static"]);
    ns.cmd(&["ip", "address", "add", "10.96.0.1/32", "dev", "heddle.1"]);
    nodes[0].sync(&cluster);
    let ns = &nodes[0].ns;
    let shown = [
        ns.cmd(&["bridge", "fdb", "show", "dev", "heddle.1"]),
        ns.cmd(&["ip", "neigh"]),
        ns.cmd(&["ip", "route"]),
        ns.cmd(&["ip", "address"]),
    ]
    .concat();
    for gone in ["dst 192.0.2.99", "10.99.0.1", "10.98.0.0", "10.96.0.1"] {
        assert!(!shown.contains(gone), "{gone}\n{shown}");
    }
    assert!(shown.contains("10.97.0.0"), "others' routes stay");
    all_talk(&nodes);
    assert!(nodes[0].sync(&cluster).is_empty());
}

/// Another VNI means another device: the new one is in use before the old one goes.
#[test]
fn another_vni_another_mtu_another_backend() {
    let router = Router::new();
    let mut nodes = pair(&router);
    settle(&mut nodes);
    all_talk(&nodes);
    for node in &mut nodes {
        node.settings.vni = 7;
    }
    settle(&mut nodes);
    all_talk(&nodes);
    assert_eq!(nodes[0].link_towards(nodes[1].ip(true)), "heddle.7");
    assert!(nodes[0].ns.netlink().link("heddle.1").unwrap().is_none());
    for node in &mut nodes {
        (node.settings.mtu, node.settings.port) = (1400, 4789);
    }
    settle(&mut nodes);
    all_talk(&nodes);
    assert_eq!(nodes[0].ns.link("heddle.7").mtu, 1400);
    for node in &mut nodes {
        node.settings.backend = Backend::Auto;
    }
    settle(&mut nodes);
    // their underlay has no IPv6 that auto could use directly
    assert_eq!(nodes[0].link_towards(nodes[1].ip(true)), "eth0");
    assert_eq!(nodes[0].link_towards(nodes[1].ip(false)), "heddle.7");
    all_talk(&nodes);
}

#[test]
fn a_smaller_path_is_told_to_pods_by_their_own_node() {
    let router = Router::new();
    let mut nodes = pair(&router);
    let cluster = settle(&mut nodes);
    let plan = nodes[0].plan.as_mut().unwrap();
    let names = std::collections::BTreeSet::from(["n2".to_owned()]);
    plan.know_mtu("n2", Some(1300));
    let changes = plan.update(&cluster, &names);
    assert_eq!(changes.len(), 2);
    let report = nodes[0].kernel.update(&changes).unwrap();
    assert_eq!((report.put, report.failed.len()), (2, 0));
    let route = nodes[0].ns.cmd(&["ip", "route", "show", "10.244.2.0/24"]);
    assert!(route.contains("mtu 1300"), "{route}");
    all_talk(&nodes);
    let desired = nodes[0].desired();
    assert!(nodes[0].kernel.sync(&desired).unwrap().is_empty());
    let plan = nodes[0].plan.as_mut().unwrap();
    plan.know_mtu("n2", None);
    let changes = plan.update(&cluster, &names);
    nodes[0].kernel.update(&changes).unwrap();
    assert!(nodes[0].sync(&cluster).is_empty());
}

/// A node that is not there.
fn distant(number: u16) -> NodeRecord {
    let [a, b] = number.to_be_bytes();
    let address = std::net::IpAddr::from([172, 16, a, b]);
    let vteps = vec![Vtep { address, mac: MacAddr([2, 9, 9, 9, a, b]) }];
    NodeRecord {
        name: format!("far{number}").into(),
        created: Some(100 + i64::from(number)),
        pod_cidrs: vec![format!("10.{}.{b}.0/24", 100 + a).parse().unwrap()],
        announced: Some(Announcement {
            backend: Backend::Vxlan,
            vteps,
            addresses: vec![address],
            ..Announcement::default()
        }),
        ..NodeRecord::default()
    }
}

#[test]
fn a_thousand_peers_and_one_change_among_them() {
    let router = Router::new();
    let mut nodes = pair(&router);
    let mut cluster = cluster(&nodes);
    for number in 0..1000 {
        cluster.apply(Event::Put(distant(number)));
    }
    nodes[1].sync(&cluster);
    let report = nodes[0].sync(&cluster);
    // three for each, five for the node of both families, two addresses
    assert_eq!((report.put, report.removed), (3007, 0));
    let counted = |words: &[&str]| nodes[0].ns.cmd(words).lines().count();
    assert_eq!(counted(&["ip", "route", "show", "proto", "104"]), 1001);
    assert_eq!(counted(&["bridge", "fdb", "show", "dev", "heddle.1"]), 1001);
    all_talk(&nodes);
    assert!(nodes[0].sync(&cluster).is_empty());
    let mut moved = distant(500);
    moved.announced.as_mut().unwrap().vteps[0].address = "172.31.0.9".parse().unwrap();
    let report = nodes[0].follow(&mut cluster, Event::Put(moved));
    assert_eq!((report.put, report.removed), (1, 0), "its forwarding entry only");
    let report = nodes[0].follow(&mut cluster, Event::Gone("far501".into()));
    assert_eq!((report.put, report.removed), (0, 3));
    assert!(nodes[0].sync(&cluster).is_empty());
    let alone = Plan::new(
        nodes[0].local(),
        &heddle_agent::overlay::cluster::Cluster::default(),
        BTreeMap::new(),
    );
    let report = nodes[0].kernel.sync(&alone.desired()).unwrap();
    assert_eq!((report.put, report.removed), (0, 3002));
}
