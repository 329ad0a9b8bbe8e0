//! The ways that packets take.

use heddle_agent::overlay::node::Backend;

use crate::world::*;

#[test]
fn vxlan_over_ipv4_carries_both_families() {
    let router = Router::new();
    let mut nodes: Vec<_> =
        (1..=3).map(|n| Node::new(&router, n, 0, ONLY_V4, BOTH).with(Backend::Vxlan)).collect();
    settle(&mut nodes);
    all_talk(&nodes);
    for v4 in [true, false] {
        assert_eq!(nodes[0].link_towards(nodes[1].ip(v4)), "heddle.1");
    }
    assert_eq!(nodes[0].ns.link("heddle.1").mtu, 1450);
    assert!(nodes[0].ns.netlink().link("heddle-v6.1").unwrap().is_none());
    // a node itself speaks from its device's address
    let pod = &nodes[1];
    let source = eventually(|| try_talk(&nodes[0].ns, &pod.pod, pod.ip(true))).unwrap();
    assert_eq!(source.to_string(), "10.244.1.0");
    let source = eventually(|| try_talk(&nodes[0].ns, &pod.pod, pod.ip(false))).unwrap();
    assert_eq!(source.to_string(), "fd00:244:1::");
}

#[test]
fn vxlan_over_ipv6_carries_both_families() {
    let router = Router::new();
    let mut nodes: Vec<_> =
        (1..=2).map(|n| Node::new(&router, n, 0, ONLY_V6, BOTH).with(Backend::Vxlan)).collect();
    settle(&mut nodes);
    all_talk(&nodes);
    assert_eq!(nodes[0].link_towards(nodes[1].ip(true)), "heddle-v6.1");
    assert_eq!(nodes[0].ns.link("heddle-v6.1").mtu, 1430);
}

/// A node of both families reaches nodes of either, and packets that do not fit the narrower device are told so on the spot.
#[test]
fn nodes_of_different_families_meet_over_the_common_one() {
    let router = Router::new();
    let mut nodes = [
        Node::new(&router, 1, 0, BOTH, BOTH).with(Backend::Vxlan),
        Node::new(&router, 2, 0, BOTH, BOTH).with(Backend::Vxlan),
        Node::new(&router, 3, 0, ONLY_V6, BOTH).with(Backend::Vxlan),
    ];
    settle(&mut nodes);
    all_talk(&nodes);
    assert_eq!(nodes[0].link_towards(nodes[1].ip(false)), "heddle.1");
    assert_eq!(nodes[0].link_towards(nodes[2].ip(true)), "heddle-v6.1");
}

/// flannel's way: each family of pods over the same family of nodes.
#[test]
fn as_flannel_does() {
    let router = Router::new();
    let mut nodes: Vec<_> =
        (1..=2).map(|n| Node::new(&router, n, 0, BOTH, BOTH).with(Backend::Vxlan)).collect();
    for node in &mut nodes {
        node.settings.flannel = true;
    }
    settle(&mut nodes);
    all_talk(&nodes);
    assert_eq!(nodes[0].link_towards(nodes[1].ip(true)), "heddle.1");
    assert_eq!(nodes[0].link_towards(nodes[1].ip(false)), "heddle-v6.1");
}

#[test]
fn host_gw_goes_by_the_link_itself() {
    let router = Router::new();
    let mut nodes: Vec<_> =
        (1..=2).map(|n| Node::new(&router, n, 0, BOTH, BOTH).with(Backend::HostGw)).collect();
    settle(&mut nodes);
    all_talk(&nodes);
    for (v4, ours) in [(true, "192.0.2.11"), (false, "2001:db8:0::b")] {
        let pod = &nodes[1];
        assert_eq!(nodes[0].link_towards(pod.ip(v4)), "eth0");
        let source = eventually(|| try_talk(&nodes[0].ns, &pod.pod, pod.ip(v4))).unwrap();
        assert_eq!(source, ours.parse::<std::net::IpAddr>().unwrap());
    }
    assert!(nodes[0].ns.netlink().link("heddle.1").unwrap().is_none());
}

/// Directly on one network, in the tunnel to the other, with the strict filter of reverse paths everywhere.
#[test]
fn auto_over_two_networks() {
    let router = Router::new();
    let mut nodes = [
        Node::new(&router, 1, 0, BOTH, BOTH),
        Node::new(&router, 2, 0, BOTH, BOTH),
        Node::new(&router, 3, 1, BOTH, BOTH),
    ];
    settle(&mut nodes);
    all_talk(&nodes);
    for v4 in [true, false] {
        assert_eq!(nodes[0].link_towards(nodes[1].ip(v4)), "eth0");
        assert_eq!(nodes[0].link_towards(nodes[2].ip(v4)), "heddle.1");
        assert_eq!(nodes[2].link_towards(nodes[1].ip(v4)), "heddle.1");
    }
}

/// Who may send directly does so only to those that may, too.
#[test]
fn auto_and_vxlan_on_one_network_both_use_the_tunnel() {
    let router = Router::new();
    let mut nodes = [
        Node::new(&router, 1, 0, ONLY_V4, ONLY_V4),
        Node::new(&router, 2, 0, ONLY_V4, ONLY_V4).with(Backend::Vxlan),
    ];
    settle(&mut nodes);
    all_talk(&nodes);
    assert_eq!(nodes[0].link_towards(nodes[1].ip(true)), "heddle.1");
}
