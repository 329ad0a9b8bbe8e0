//! Tests of the world itself: by hand a tunnel works, and what is to break does. So another test fails for its own reason.

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::node::Node;
use crate::traffic::{datagram, eventually, source_of_connection, stream};
use crate::underlay::{Shape, ip, outside};
use crate::world::World;

const BOUND: Duration = Duration::from_secs(20);
/// A stream that cannot pass is given up after this.
const HANGS: Duration = Duration::from_secs(3);
const SIZE: usize = 2 << 20;

/// A tunnel to other nodes as `ip` makes it, with the rules that flannel has for it.
fn tunnel(node: &Node, others: &[&Node]) {
    let [local, _] = node.addresses();
    let mut lines = format!(
        "link add vx.1 mtu 1450 address 02:00:00:00:00:{:02x} type vxlan id 1 dev eth0 local {local} dstport 8472 nolearning\n\
         address add 10.244.{}.0/32 dev vx.1\nlink set vx.1 up\n",
        node.number, node.number
    );
    for other in others {
        let (number, [remote, _]) = (other.number, other.addresses());
        lines += &format!(
            "route add 10.244.{number}.0/24 via 10.244.{number}.0 dev vx.1 onlink\n\
             neigh add 10.244.{number}.0 lladdr 02:00:00:00:00:{number:02x} dev vx.1 nud permanent\n"
        );
        let mac = format!("02:00:00:00:00:{number:02x}");
        ip(&node.ns, &std::mem::take(&mut lines));
        node.ns.cmd(&["bridge", "fdb", "append", &mac, "dev", "vx.1", "dst", &remote.to_string()]);
    }
}

fn world_with_pods(shape: Shape, mtu: u32) -> World {
    let mut world = World::new(shape);
    for node in &mut world.nodes {
        node.add_pod(mtu);
    }
    world
}

#[test]
fn pods_of_a_node_talk_and_pods_of_others_do_not_until_a_tunnel_is_made() {
    for shape in [Shape::Link, Shape::Routed] {
        let mut world = world_with_pods(shape, 1450);
        world.node_mut(1).add_pod(1450);
        let [one, two, _] = &world.nodes;
        let (from, near, far) = (&one.pod(0).ns, one.pod(1), two.pod(0));
        for to in [near.v4(), near.v6()] {
            let ((), _) =
                eventually(BOUND, "pods of one node talk", || datagram(from, to, 1450).map(drop));
        }
        let why = datagram(from, far.v4(), 100).unwrap_err();
        assert!(why.contains("did not arrive"), "{why}");
        tunnel(one, &[two]);
        tunnel(two, &[one]);
        for size in [100, 1450] {
            assert_eq!(datagram(from, far.v4(), size), Ok(one.pod(0).v4), "{size} bytes");
        }
        assert_eq!(source_of_connection(from, far.v4()), Ok(one.pod(0).v4));
        stream(from, far.v4(), SIZE, BOUND).unwrap();
        // one byte more than the device takes
        assert!(datagram(from, far.v4(), 1451).is_err());
        one.ns.cmd(&["ip", "link", "set", "vx.1", "down"]);
        assert!(datagram(from, far.v4(), 100).is_err());
    }
}

#[test]
fn nodes_and_the_host_outside_reach_each_other_in_both_families() {
    for shape in [Shape::Link, Shape::Routed] {
        let world = World::new(shape);
        let [one, two, three] = &world.nodes;
        for (to, address) in [(two, 0), (three, 1), (two, 1), (three, 0)] {
            let to = (&to.ns, to.addresses()[address]);
            assert_eq!(datagram(&one.ns, to, 1500), Ok(one.addresses()[address]));
        }
        for (address, family) in outside().into_iter().zip(0..) {
            let to = (&world.underlay.outside, address);
            assert_eq!(datagram(&one.ns, to, 1500), Ok(one.addresses()[family]));
        }
    }
}

#[test]
fn a_pod_is_seen_outside_as_itself_until_it_is_masqueraded() {
    let world = world_with_pods(Shape::Link, 1500);
    let (node, [to, _]) = (world.node(1), outside());
    let (pod, to) = (node.pod(0), (&world.underlay.outside, to));
    assert_eq!(datagram(&pod.ns, to, 1500), Ok(pod.v4));
    node.ns.cmd(&["iptables", "-t", "nat", "-A", "POSTROUTING", "-o", "eth0", "-j", "MASQUERADE"]);
    assert_eq!(datagram(&pod.ns, to, 1500), Ok(node.addresses()[0]));
    assert_eq!(source_of_connection(&pod.ns, to), Ok(node.addresses()[0]));
}

#[test]
fn a_router_with_a_smaller_mtu_says_so_unless_its_icmp_is_filtered() {
    let world = World::new(Shape::Routed);
    let [one, two, _] = &world.nodes;
    for family in [0, 1] {
        let to = (&two.ns, two.addresses()[family]);
        assert!(datagram(&one.ns, to, 1500).is_ok());
    }
    world.underlay.set_router_mtu(1400);
    for family in [0, 1] {
        let to = (&two.ns, two.addresses()[family]);
        assert!(datagram(&one.ns, to, 1400).is_ok());
        let why = datagram(&one.ns, to, 1401).unwrap_err();
        assert!(why.contains("did not arrive"), "{why}");
        stream(&one.ns, to, SIZE, BOUND).unwrap();
    }
    // what was learned is forgotten, and nothing new is told
    for node in [one, two] {
        node.ns.cmd(&["ip", "route", "flush", "cache"]);
        node.ns.cmd(&["ip", "-6", "route", "flush", "cache"]);
    }
    world.underlay.filter_icmp();
    for family in [0, 1] {
        let to = (&two.ns, two.addresses()[family]);
        assert!(datagram(&one.ns, to, 1400).is_ok());
        let why = stream(&one.ns, to, SIZE, HANGS).unwrap_err();
        assert!(why.contains("stuck") || why.contains("nothing comes back"), "{why}");
    }
}

#[test]
fn a_wire_with_a_smaller_mtu_loses_large_packets_without_a_word() {
    let world = World::new(Shape::Link);
    let [one, two, _] = &world.nodes;
    world.underlay.set_wire_mtu(&[(1, &one.ns), (2, &two.ns)], 1400);
    let to: (_, IpAddr) = (&two.ns, two.addresses()[0]);
    assert!(datagram(&one.ns, to, 1400).is_ok());
    let why = datagram(&one.ns, to, 1450).unwrap_err();
    assert!(why.contains("did not arrive"), "{why}");
    let why = stream(&one.ns, to, SIZE, HANGS).unwrap_err();
    assert!(why.contains("stuck") || why.contains("nothing comes back"), "{why}");
    // other wires are as they were
    let outside = (&world.underlay.outside, outside()[0]);
    assert!(datagram(&world.node(3).ns, outside, 1500).is_ok());
}

#[test]
fn a_reboot_leaves_the_disk_and_nothing_else() {
    let mut world = world_with_pods(Shape::Link, 1450);
    let node = world.node(2);
    for (name, text) in [("kept", "on the disk"), ("run/gone", "in memory")] {
        std::fs::write(node.path(name), text).unwrap();
    }
    tunnel(node, &[world.node(1)]);
    node.ns.cmd(&["ip", "link", "show", "dev", "vx.1"]);
    world.reboot(2);
    let node = world.node(2);
    assert!(node.path("kept").exists() && !node.path("run/gone").exists());
    assert!(!node.ns.output(&["ip", "link", "show", "dev", "vx.1"]).status.success());
    let [address, _] = node.addresses();
    eventually(BOUND, "it is there again", || {
        datagram(&world.node(1).ns, (&node.ns, address), 1500).map(drop)
    });
}

#[test]
fn what_never_comes_true_fails_in_time_with_its_last_reason() {
    let mut tried = 0;
    let failed = catch_unwind(AssertUnwindSafe(|| {
        eventually(Duration::from_millis(50), "the moon is blue", || {
            tried += 1;
            Err::<(), _>(format!("look {tried}: grey"))
        })
    }));
    let failed = failed.unwrap_err();
    let message = failed.downcast_ref::<String>().unwrap();
    assert!(message.contains("the moon is blue") && message.ends_with(": grey"), "{message}");
    assert!(tried > 1, "it is tried again");
}
