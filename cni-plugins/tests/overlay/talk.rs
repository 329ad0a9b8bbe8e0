//! Pods talk, on the node and to other nodes, and at once.

use std::time::{Duration, Instant};

use crate::node::{Pod, traffic, with_prev};
use crate::world::*;

#[test]
fn pods_talk_on_the_node_and_to_other_nodes() {
    for mode in MODES {
        let node = leased();
        let far = far(&node);
        let conf = of_mode(&node, mode);
        let (a, b) = (node.pod("a"), node.pod("b"));
        let (result_a, result_b) = (node.add("overlay", &a, &conf), node.add("overlay", &b, &conf));
        for (index, gateway, remote) in
            [(0, "10.244.1.1", "10.244.2.2"), (1, "fd00:244:0:1::1", "fd00:244:0:2::2")]
        {
            let (one, two) = (address(&result_a, index), address(&result_b, index));
            traffic::serve(&b.ns, &at(&two), 2);
            traffic::serve(&node.ns, &at(gateway), 1);
            traffic::serve(&far.ns, &at(remote), 1);
            assert_eq!(a.fetch(&at(&two)), Some(one.clone()), "{mode}: pod to pod");
            let from_node = traffic::fetch(&node.ns, &at(&two));
            assert_eq!(from_node.as_deref(), Some(gateway), "{mode}: node to pod");
            assert_eq!(a.fetch(&at(gateway)), Some(one.clone()), "{mode}: pod to gateway");
            assert_eq!(a.fetch(&at(remote)), Some(one.clone()), "{mode}: to another node's pod");
            traffic::serve(&a.ns, &at(&one), 1);
            let from_far = traffic::fetch(&far.ns, &at(&one));
            assert!(from_far.is_some(), "{mode}: from another node to {one}");
        }
        assert!(a.sh("ip link show eth0").contains("mtu 1450"), "{mode}");
        let is_routed = node.sh("ip -o link show type bridge").is_empty();
        assert_eq!(is_routed, mode == "ptp");
        for (pod, result) in [(&a, &result_a), (&b, &result_b)] {
            let answer = check(&node, pod, &conf, result);
            assert!(answer.ok, "{answer:#?}");
            node.del("overlay", pod, &with_prev(&conf, result));
            node.del("overlay", pod, &conf);
        }
        assert_nothing_left(&node);
    }
}

/// The first packet to a new pod does not wait for an address to be found unique, which takes a second and more.
#[test]
fn a_new_pod_is_reached_at_once() {
    for mode in MODES {
        for index in 0..2 {
            // a busy machine may take a second for anything, though not each time
            let fastest = (0..3).map(|_| time_to_reach(mode, index)).min();
            assert!(fastest < Some(Duration::from_millis(900)), "{mode}, {index}: {fastest:?}");
        }
    }
}

/// How long a fresh node and a pod of it take to reach another new pod.
fn time_to_reach(mode: &str, index: usize) -> Duration {
    let node = leased();
    let conf = of_mode(&node, mode);
    let (one, other) = (node.pod("a"), node.pod("b"));
    node.add("overlay", &one, &conf);
    let target = at(&address(&node.add("overlay", &other, &conf), index));
    traffic::serve(&other.ns, &target, 2);
    let start = Instant::now();
    assert!(one.fetch(&target).is_some(), "{mode} {target}");
    assert!(traffic::fetch(&node.ns, &target).is_some(), "{mode} {target}");
    start.elapsed()
}

/// The mode is switched while pods run: those of the one do not reach those of the other, and each ADD says so until they are gone.
#[test]
fn pods_of_both_modes_on_one_node() {
    for [former, later] in [MODES, ["ptp", "bridge"]] {
        let node = leased();
        let [old, new, newer] = ["old", "new", "newer"].map(|name| node.pod(name));
        let add = |pod: &Pod, mode: &str| {
            let answer = node.call("overlay", "ADD", pod, &of_mode(&node, mode));
            assert!(answer.ok, "{answer:#?}");
            answer.stderr
        };
        assert_eq!(add(&old, former), "");
        let told = add(&new, later);
        assert!(
            told.contains("1 pods on a bridge, 1 routed: on this node the ones do not reach"),
            "{told}"
        );
        node.del("overlay", &old, &of_mode(&node, later));
        assert_eq!(add(&newer, later), "");
    }
}
