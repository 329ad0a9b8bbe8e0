//! Who is seen by whom.

use super::world::*;
use super::*;

/// Whatever the source was before, it is chosen by the route.
const ANY: [&str; 2] = ["0.0.0.0", "::"];

#[test]
fn once_and_only_towards_the_outside() {
    let world = World::new();
    let World { node, pod, other_pod, outside, .. } = &world;
    // what the rules must not depend on, they are not there yet: the way between nodes
    for family in 0..2 {
        let found = seen((pod, POD[family]), (other_pod, OTHER_POD[family]));
        assert_eq!(found.as_deref(), Some(POD[family]));
    }
    let mut rules = world.rules();
    world.sync(&mut rules, &input());
    for family in 0..2 {
        let from = |ns, address| (ns, address);
        let table = [
            (
                "pod to outside",
                from(pod, POD[family]),
                from(outside, OUTSIDE[family]),
                NODE[family],
            ),
            ("pod to pod", from(pod, POD[family]), from(other_pod, OTHER_POD[family]), POD[family]),
            ("back", from(other_pod, OTHER_POD[family]), from(pod, POD[family]), OTHER_POD[family]),
            (
                "node to pod",
                from(node, ANY[family]),
                from(other_pod, OTHER_POD[family]),
                DEVICE[family],
            ),
            (
                "a process with the underlay's address, as for a service",
                from(node, NODE[family]),
                from(other_pod, OTHER_POD[family]),
                DEVICE[family],
            ),
            (
                "node to outside",
                from(node, ANY[family]),
                from(outside, OUTSIDE[family]),
                NODE[family],
            ),
        ];
        for (what, from, to, want) in table {
            assert_eq!(seen(from, to).as_deref(), Some(want), "{what}");
            assert!(talks(from, to), "{what}");
        }
    }
}

#[test]
fn excluded_ranges_and_none_at_all() {
    let world = World::new();
    let World { pod, outside, .. } = &world;
    outside.cmd(&["ip", "address", "add", "198.51.100.3/32", "dev", "eth0"]);
    outside.cmd(&["ip", "route", "add", "10.244.1.0/24", "via", NODE[0]]);
    world.node.cmd(&["ip", "route", "add", "198.51.100.0/24", "dev", "eth0"]);
    let mut rules = world.rules();
    world.sync(&mut rules, &input());
    let to = |address| seen((pod, POD[0]), (outside, address));
    assert_eq!(to("198.51.100.3").as_deref(), Some(POD[0]));
    assert!(talks((pod, POD[0]), (outside, "198.51.100.3")));
    assert_eq!(to(OUTSIDE[0]).as_deref(), Some(NODE[0]));
    // a range that is not excluded any more
    let narrow = RuleInput { not_masqueraded: Vec::new(), ..input() };
    assert_eq!(world.sync(&mut rules, &narrow).nft_commits, 1);
    assert_eq!(to("198.51.100.3").as_deref(), Some(NODE[0]));
    let off = RuleInput { masquerade: false, ..input() };
    assert_eq!(world.sync(&mut rules, &off).nft_commits, 1);
    assert_eq!(to(OUTSIDE[0]).as_deref(), Some(POD[0]));
}

/// Rules of a service proxy that masquerade the same, before ours and behind: the connection is translated once, and the way between
/// pods is not touched by ours.
#[test]
fn beside_others_that_masquerade() {
    let world = World::new();
    let World { node, pod, other_pod, outside, .. } = &world;
    let mut rules = world.rules();
    world.sync(&mut rules, &input());
    node.cmd(&["iptables-nft", "-t", "nat", "-N", "KUBE-POSTROUTING"]);
    let rule = "iptables-nft -t nat -A KUBE-POSTROUTING -d 192.0.2.3 -j MASQUERADE --random-fully";
    node.cmd(&rule.split(' ').collect::<Vec<_>>());
    node.cmd(&["iptables-nft", "-t", "nat", "-A", "POSTROUTING", "-j", "KUBE-POSTROUTING"]);
    node.cmd(&[
        "nft",
        "add table ip late; add chain ip late post { type nat hook postrouting priority 200; }; \
                add rule ip late post ip daddr 192.0.2.3 counter masquerade",
    ]);
    world.sync(&mut rules, &input());
    assert_eq!(seen((pod, POD[0]), (outside, OUTSIDE[0])).as_deref(), Some(NODE[0]));
    assert!(talks((pod, POD[0]), (outside, OUTSIDE[0])));
    assert_eq!(seen((pod, POD[0]), (other_pod, OTHER_POD[0])).as_deref(), Some(POD[0]));
    let by_kube = node.cmd(&["iptables-nft", "-t", "nat", "-L", "KUBE-POSTROUTING", "-nvx"]);
    let count =
        |line: &str| line.split_whitespace().next().and_then(|word| word.parse::<u32>().ok());
    let counted: u32 = by_kube.lines().filter(|line| line.contains("MASQ")).filter_map(count).sum();
    assert!(counted > 0, "the proxy's own come first: {by_kube}");
    let late = node.cmd(&["nft", "list", "chain", "ip", "late", "post"]);
    assert!(
        late.contains("counter packets 0 "),
        "nobody is asked after one has translated: {late}"
    );
}
