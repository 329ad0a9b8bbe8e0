//! Pods talk, by every backend, on one link and over a router.

use serde_json::Value;

use crate::agent::PATIENCE;
use crate::cluster::{Cluster, DEVICE};
use crate::traffic::{datagram, eventually, source_of_connection};
use crate::underlay::{Shape, outside};

/// All that holds whatever the backend. `direct`: pairs of nodes that need no tunnel.
fn everybody_reaches_everybody(shape: Shape, backend: &str, mtu: u32, direct: &[(u8, u8)]) {
    let cluster = Cluster::new(shape, &format!("backend = \"{backend}\""));
    for (one, other) in [(1, 2), (1, 3), (2, 3)] {
        assert_eq!(cluster.node(one).pod_mtu(), Ok(mtu));
        // packets as large as pods are told to make them
        let size = usize::try_from(mtu).unwrap();
        eventually(PATIENCE, "large packets pass", || cluster.try_size(one, other, size));
        cluster.transfer(one, other).unwrap();
        let routes =
            cluster.node(one).ns.cmd(&["ip", "route", "show", &cluster.node(other).ranges()[0]]);
        assert_eq!(!routes.contains(DEVICE), direct.contains(&(one, other)), "{routes}");
    }
    let pod = cluster.pod(1);
    for (to, node) in outside().into_iter().zip(cluster.node(1).addresses()) {
        let to = (&cluster.underlay.outside, to);
        eventually(PATIENCE, "pods are masqueraded outside", || {
            let seen = datagram(&pod.ns, to, 1000)?;
            if seen == node { Ok(()) } else { Err(format!("seen as {seen}")) }
        });
        assert_eq!(source_of_connection(&pod.ns, to), Ok(node));
    }
    // a node speaks to pods of others, and they to it
    let (node, far) = (&cluster.node(1).ns, cluster.pod(2));
    eventually(PATIENCE, "a node reaches a remote pod", || datagram(node, far.v4(), 1000));
    eventually(PATIENCE, "a pod reaches a remote node", || {
        datagram(&far.ns, (node, cluster.address(1)), 1000)
    });
}

#[test]
fn by_vxlan_on_one_link() {
    everybody_reaches_everybody(Shape::Link, "vxlan", 1450, &[]);
}

#[test]
fn by_vxlan_over_a_router() {
    everybody_reaches_everybody(Shape::Routed, "vxlan", 1450, &[]);
}

#[test]
fn by_plain_routes_on_one_link() {
    everybody_reaches_everybody(Shape::Link, "host-gw", 1500, &[(1, 2), (1, 3), (2, 3)]);
}

#[test]
fn by_plain_routes_on_a_link_and_by_vxlan_over_a_router() {
    everybody_reaches_everybody(Shape::Routed, "auto", 1450, &[(2, 3)]);
}

#[test]
fn a_crash_stops_no_traffic_and_the_next_start_changes_nothing_that_is_right() {
    let mut cluster = Cluster::new(Shape::Link, "backend = \"vxlan\"");
    let state = |cluster: &Cluster| -> [Value; 2] {
        let routes = ["ip", "-j", "route", "show", "dev", DEVICE];
        [cluster.device(1)["ifindex"].clone(), cluster.node(1).ns.json(&routes)]
    };
    let before = state(&cluster);
    cluster.take(1).crash();
    cluster.transfer(1, 2).unwrap();
    cluster.transfer(2, 1).unwrap();
    cluster.start(1, "backend = \"vxlan\"");
    cluster.add_pod(1);
    cluster.is_told(1, &["node-2"]);
    cluster.transfer(1, 2).unwrap();
    assert_eq!(state(&cluster), before);
    cluster.take(1).stop();
    // whoever stops it wants it replaced, not pods cut off
    cluster.transfer(1, 2).unwrap();
}
