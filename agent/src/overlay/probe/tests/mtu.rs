//! A wire that carries less than its ends say.

use std::sync::Arc;

use super::super::*;
use super::world::{PORT, Underlay, World, ip};

const SOME: usize = 1_000_000;

#[test]
fn a_wire_that_carries_everything() {
    for underlay in [Underlay::V4, Underlay::V6] {
        let world = World::new(underlay, "set");
        world.probing(world.input(), |probing| {
            probing.until_outcome(&World::key(), Outcome::Arrives);
        });
        assert_eq!(world.stream(false, SOME), SOME);
    }
}

/// A router that is narrower and tells nobody: TCP stalls, the probe finds the size, and with it in the route TCP works.
fn black_hole(underlay: Underlay, v6: bool) {
    let world = World::new(underlay, "set");
    world.narrow(1400);
    world.filter_icmp();
    let found = 1400 - underlay.overhead();
    world.probing(world.input(), |probing| {
        let known = probing.until(&World::key(), |known| known.mtu.is_some());
        assert_eq!((known.outcome, known.mtu), (Some(Outcome::ArrivesUpTo(found)), Some(found)));
    });
    let arrived = world.stream(v6, SOME);
    assert!(arrived < SOME, "TCP gets through a black hole");
    world.set_route_mtu(1, Some(found));
    assert_eq!(world.stream(v6, SOME), SOME);
    // it is the node itself that tells the pod
    let path = if v6 { "fd00:2::2" } else { "10.244.2.2" };
    let learned = world.pods[0].cmd(&["ip", "route", "get", path]);
    assert!(learned.contains(&format!("mtu {found} ")), "{learned}");
    if v6 {
        assert!(world.counter("snmp6", "Icmp6OutPktTooBigs") > 0);
    }
}

#[test]
fn a_black_hole_over_ipv4_is_found_and_avoided() {
    black_hole(Underlay::V4, false);
}

#[test]
fn a_black_hole_over_ipv6_is_found_and_avoided() {
    black_hole(Underlay::V6, false);
}

#[test]
fn a_black_hole_over_ipv4_for_pods_with_ipv6() {
    black_hole(Underlay::V4, true);
}

#[test]
fn a_router_that_tells_is_probed_all_the_same() {
    for underlay in [Underlay::V4, Underlay::V6] {
        let world = World::new(underlay, "set");
        world.narrow(1400);
        let found = 1400 - underlay.overhead();
        world.probing(world.input(), |probing| {
            probing.until_outcome(&World::key(), Outcome::ArrivesUpTo(found));
        });
        world.set_route_mtu(1, Some(found));
        assert_eq!(world.stream(false, SOME), SOME);
    }
}

/// A router becomes narrower while the nodes run, and says so: the size is known long before the next round of probes.
#[test]
fn a_router_that_tells_is_heard_at_once() {
    for underlay in [Underlay::V4, Underlay::V6] {
        let world = World::new(underlay, "set");
        let found = 1400 - underlay.overhead();
        world.probing(world.input(), |probing| {
            probing.until_outcome(&World::key(), Outcome::Arrives);
            world.narrow(1400);
            let start = std::time::Instant::now();
            // the first large packet of a pod
            world.stream(false, SOME);
            probing.until_outcome(&World::key(), Outcome::ArrivesUpTo(found));
            // the stream itself takes a while on a busy machine, the next round of probes comes after 36 seconds
            assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
        });
    }
}

/// Without DF outside, routers cut packets in pieces: everything arrives, at a price.
#[test]
fn a_router_that_fragments_lets_everything_through() {
    let world = World::new(Underlay::V4, "unset");
    world.narrow(1400);
    world.probing(world.input(), |probing| {
        probing.until_outcome(&World::key(), Outcome::Arrives);
    });
    assert_eq!(world.stream(false, SOME), SOME);
}

#[test]
fn a_wire_that_changes_is_followed_with_the_mtu_in_the_route() {
    let world = World::new(Underlay::V4, "set");
    world.filter_icmp();
    world.probing(world.input(), |probing| {
        probing.until_outcome(&World::key(), Outcome::Arrives);
        for (carries, expected) in [
            (1300, Outcome::ArrivesUpTo(1250)),
            (1420, Outcome::ArrivesUpTo(1370)),
            (1500, Outcome::Arrives),
        ] {
            world.narrow(carries);
            probing.hurry.blocking_send(vec![World::key()]).unwrap();
            probing.until_outcome(&World::key(), expected);
            // the route's own MTU must not hide that the wire became wider
            let known = probing.until(&World::key(), |_| true);
            world.set_route_mtu(1, known.mtu);
        }
    });
}

fn direct(from: &str, to: &str) -> Target {
    let end = End { from: ip(from), local: ip(from), device: None, full: 1500, floor: 576 };
    Target { end: Arc::new(end), port: PORT, remote: ip(to) }
}

#[test]
fn without_a_tunnel_the_link_itself_is_probed() {
    for (from, to, node) in
        [("192.0.1.1", "192.0.2.1", Underlay::V4), ("2001:db8:1::1", "2001:db8:2::1", Underlay::V6)]
    {
        let world = World::new(node, "set");
        world.narrow(1400);
        world.filter_icmp();
        let key = Key { node: "two".into(), to: ip(to) };
        let target = direct(from, to);
        let input = Input { targets: [(key.clone(), target)].into(), ..Input::default() };
        world.probing(input, |probing| {
            probing.until_outcome(&key, Outcome::ArrivesUpTo(1400));
        });
    }
}

/// The address of this node changes: the probes come from the new one, and the other node learns whom to answer.
#[test]
fn an_underlay_address_that_changes_is_followed() {
    let world = World::new(Underlay::V4, "set");
    let key = Key { node: "two".into(), to: ip("192.0.2.1") };
    let target = |from| direct(from, "192.0.2.1");
    let input = |from| Input { targets: [(key.clone(), target(from))].into(), ..Input::default() };
    world.probing(input("192.0.1.1"), |probing| {
        probing.until_outcome(&key, Outcome::Arrives);
        let node = &world.nodes[0];
        node.cmd(&["ip", "address", "del", "192.0.1.1/24", "dev", "eth0"]);
        // nothing can be sent from an address that is not there, and that is no mistake for ever
        probing.input.send_replace(Arc::new(input("192.0.1.3")));
        probing.until_outcome(&key, Outcome::Nothing(Cause::Silent));
        node.configure("eth0", &["192.0.1.3/24"]);
        node.cmd(&["ip", "route", "add", "default", "via", "192.0.1.254"]);
        probing.answering.send_modify(|now| {
            *now = Arc::new(Answering { nodes: [ip("192.0.1.3")].into(), ..Answering::clone(now) });
        });
        probing.until_outcome(&key, Outcome::Arrives);
    });
}
