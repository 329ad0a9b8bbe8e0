//! What others have made is left alone, and told.

use heddle_agent::overlay::cluster::Event;
use heddle_agent::overlay::node::Backend;
use heddle_agent::overlay::plan::Plan;

use crate::world::*;

fn pair(router: &Router) -> [Node; 2] {
    [1, 2].map(|n| Node::new(router, n, 0, ONLY_V4, BOTH).with(Backend::Vxlan))
}

/// What a full comparison says that it could not do.
fn failures(node: &mut Node, cluster: &heddle_agent::overlay::cluster::Cluster) -> Vec<String> {
    let plan = Plan::new(node.local(), cluster, std::collections::BTreeMap::new());
    let report = node.kernel.sync(&plan.desired()).unwrap();
    node.plan = Some(plan);
    report.failed.iter().map(ToString::to_string).collect()
}

#[test]
fn somebody_elses_route() {
    let router = Router::new();
    let mut nodes = pair(&router);
    let mut cluster = cluster(&nodes[..1]);
    nodes[0].ns.cmd(&[
        "ip",
        "route",
        "add",
        "10.244.2.0/24",
        "via",
        "192.0.2.1",
        "proto",
        "static",
    ]);
    nodes[0].ns.cmd(&["ip", "route", "add", "fd00:244:2::/64", "dev", "eth0", "metric", "7"]);
    let told = [
        "route 10.244.2.0/24: packets take one of an administrator (protocol static) already via 192.0.2.1 on eth0; it is left alone: \
         delete it, or give one of the two another range",
        "route fd00:244:2::/64: packets take one of somebody's `ip route` (protocol boot) already on eth0; it is left alone: \
         delete it, or give one of the two another range",
    ];
    // as a change, which only sees what is in its way
    nodes[0].sync(&cluster);
    let names = cluster.apply(Event::Put(nodes[1].record()));
    let changes = nodes[0].plan.as_mut().unwrap().update(&cluster, &names);
    let report = nodes[0].kernel.update(&changes).unwrap();
    assert_eq!(report.failed.iter().map(ToString::to_string).collect::<Vec<_>>(), told[1..]);
    // and as a full comparison, again and again
    for _ in 0..2 {
        assert_eq!(failures(&mut nodes[0], &cluster), told);
        let route = nodes[0].ns.cmd(&["ip", "route", "show", "10.244.2.0/24", "proto", "static"]);
        assert!(route.contains("192.0.2.1"), "{route}");
        assert_eq!(nodes[0].link_towards(nodes[1].ip(true)), "eth0");
    }
    // in the very place of ours
    let ours = nodes[0].ns.cmd(&["ip", "route", "show", "10.244.2.0/24", "proto", "104"]);
    let metric = ours.split("metric ").nth(1).unwrap().split(' ').next().unwrap();
    nodes[0].ns.cmd(&[
        "ip",
        "route",
        "replace",
        "10.244.2.0/24",
        "via",
        "192.0.2.1",
        "metric",
        metric,
        "proto",
        "bird",
    ]);
    assert!(
        failures(&mut nodes[0], &cluster)[0]
            .starts_with("route 10.244.2.0/24: there is one of BIRD")
    );
    assert!(nodes[0].ns.cmd(&["ip", "route"]).contains("proto bird"));
    nodes[0].ns.cmd(&["ip", "route", "del", "10.244.2.0/24", "proto", "bird"]);
    // its node goes: theirs stays
    nodes[0].follow(&mut cluster, Event::Gone("n2".into()));
    assert!(nodes[0].ns.cmd(&["ip", "route"]).contains("10.244.2.0/24 via 192.0.2.1"));
    cluster.apply(Event::Put(nodes[1].record()));
    nodes[0].ns.cmd(&["ip", "route", "del", "10.244.2.0/24"]);
    nodes[0].ns.cmd(&["ip", "route", "del", "fd00:244:2::/64", "metric", "7"]);
    nodes[0].sync(&cluster);
    nodes[1].sync(&cluster);
    all_talk(&nodes);
}

#[test]
fn a_link_with_our_devices_name() {
    let router = Router::new();
    let mut nodes = pair(&router);
    let cluster = cluster(&nodes);
    nodes[0].ns.cmd(&["ip", "link", "add", "heddle.1", "type", "bridge"]);
    let told = [
        "device heddle.1: there is a link of this name that is no VXLAN device but bridge; rename or delete it",
        "routes: 2 of them wait for their device",
    ];
    assert_eq!(failures(&mut nodes[0], &cluster), told);
    assert_eq!(nodes[0].ns.link("heddle.1").kind.as_deref(), Some("bridge"));
    nodes[0].ns.cmd(&["ip", "link", "del", "heddle.1"]);
    for node in &mut nodes {
        node.sync(&cluster);
    }
    all_talk(&nodes);
}

#[test]
fn somebody_elses_vxlan_device() {
    let router = Router::new();
    let mut nodes = pair(&router);
    let cluster = cluster(&nodes);
    let flannel = [
        "ip",
        "link",
        "add",
        "flannel.1",
        "type",
        "vxlan",
        "id",
        "1",
        "dstport",
        "8472",
        "dev",
        "eth0",
        "nolearning",
    ];
    nodes[0].ns.cmd(&flannel);
    let told = failures(&mut nodes[0], &cluster);
    assert!(told[0].starts_with("device heddle.1: ") && told[0].contains("flannel.1"), "{told:?}");
    assert_eq!(told.len(), 2, "{told:?}");
    nodes[0].ns.cmd(&["ip", "link", "del", "flannel.1"]);
    // takes the whole port, once it is up
    nodes[0].ns.cmd(&[
        "ip",
        "link",
        "add",
        "cilium_vxlan",
        "up",
        "type",
        "vxlan",
        "external",
        "dstport",
        "8472",
    ]);
    let told = failures(&mut nodes[0], &cluster);
    assert!(told.iter().any(|line| line.contains("cilium_vxlan")), "{told:?}");
    nodes[0].ns.cmd(&["ip", "link", "del", "cilium_vxlan"]);
    for node in &mut nodes {
        node.sync(&cluster);
    }
    all_talk(&nodes);
}

/// Unique local addresses are often routed as a whole; the kernel then takes no gateway of the range on another link by itself.
#[test]
fn a_wider_route_of_somebody_else() {
    let router = Router::new();
    let mut nodes = pair(&router);
    for node in &nodes {
        node.ns.cmd(&["ip", "route", "add", "fd00::/8", "dev", "eth0"]);
    }
    settle(&mut nodes);
    all_talk(&nodes);
    assert!(nodes[0].ns.cmd(&["ip", "-6", "route"]).contains("fd00::/8 dev eth0"));
}

/// Without IPv6 on the device, pods' IPv4 still passes and the rest is told.
#[test]
fn one_failure_does_not_stop_the_rest() {
    let router = Router::new();
    let mut nodes = pair(&router);
    let cluster = cluster(&nodes);
    nodes[0].ns.cmd(&["sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"]);
    let told = failures(&mut nodes[0], &cluster);
    assert!(
        told.iter().any(|line| line.starts_with("address fd00:244:1::/128 of heddle.1: ")),
        "{told:?}"
    );
    assert!(told.iter().any(|line| line.starts_with("route fd00:244:2::/64: ")), "{told:?}");
    nodes[1].sync(&cluster);
    talk(&nodes[0], &nodes[1], true);
    nodes[0].ns.cmd(&["sysctl", "-qw", "net.ipv6.conf.heddle/1.disable_ipv6=0"]);
    nodes[0].sync(&cluster);
    all_talk(&nodes);
}
