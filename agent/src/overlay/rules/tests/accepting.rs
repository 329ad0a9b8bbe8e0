//! Packets past others' drops, with both variants of iptables.

use std::os::fd::AsFd;

use netns_tools::nftables::Monitor;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::world::*;
use super::*;

const VARIANTS: [&str; 2] = ["nft", "legacy"];

/// `iptables-nft -P FORWARD DROP`, of both families.
fn iptables(world: &World, variant: &str, arguments: &str) {
    for program in ["iptables", "ip6tables"] {
        let program = format!("{program}-{variant}");
        let mut words = vec![program.as_str()];
        words.extend(arguments.split(' '));
        world.node.cmd(&words);
    }
}

/// Hosts that drop let neighbour discovery pass, or have no IPv6 at all.
fn neighbours(world: &World, variant: &str) {
    iptables(world, variant, "-A INPUT -p ipv6-icmp -j ACCEPT");
}

fn pods_talk(world: &World) -> [bool; 2] {
    [0, 1].map(|family| talks((&world.pod, POD[family]), (&world.other_pod, OTHER_POD[family])))
}

#[test]
fn a_policy_of_drop_before_and_after() {
    for variant in VARIANTS {
        for hook in ["FORWARD", "INPUT"] {
            let world = World::new();
            let mut rules = world.rules();
            iptables(&world, variant, &format!("-P {hook} DROP"));
            neighbours(&world, variant);
            assert_eq!(pods_talk(&world), [false, false], "{variant} {hook}");
            let report = world.sync(&mut rules, &input());
            assert_eq!(report.iptables_commits, 2, "{variant} {hook}");
            assert_eq!(pods_talk(&world), [true, true], "{variant} {hook}");
            assert_eq!(world.sync(&mut rules, &input()).iptables_commits, 0);
        }
        // the other way round: first there is no iptables at all
        let world = World::new();
        let mut rules = world.rules();
        assert_eq!(world.sync(&mut rules, &input()).iptables_commits, 0);
        assert_eq!(pods_talk(&world), [true, true]);
        neighbours(&world, variant);
        for hook in ["FORWARD", "INPUT"] {
            iptables(&world, variant, &format!("-P {hook} DROP"));
        }
        assert!(!world.node.run(|| rules.is_intact()).unwrap(), "{variant}");
        assert_eq!(world.sync(&mut rules, &input()).iptables_commits, 2);
        assert!(world.node.run(|| rules.is_intact()).unwrap(), "{variant}");
        assert_eq!(pods_talk(&world), [true, true], "{variant}");
    }
}

#[test]
fn a_drop_that_comes_first_later_does_not_stay_first() {
    for variant in VARIANTS {
        let world = World::new();
        let mut rules = world.rules();
        iptables(&world, variant, "-A FORWARD -j REJECT");
        world.sync(&mut rules, &input());
        assert_eq!(pods_talk(&world), [true, true], "{variant}");
        for rule in ["-I FORWARD -j DROP", "-I FORWARD -j REJECT", "-I INPUT -p udp -j DROP"] {
            iptables(&world, variant, rule);
            assert_eq!(pods_talk(&world), [false, false], "{variant} {rule}");
            assert!(!world.node.run(|| rules.is_intact()).unwrap(), "{variant} {rule}");
            let report = world.sync(&mut rules, &input());
            assert_eq!((report.nft_commits, report.iptables_commits), (0, 2), "{variant} {rule}");
            assert_eq!(pods_talk(&world), [true, true], "{variant} {rule}");
            assert!(world.node.run(|| rules.is_intact()).unwrap());
        }
        // what stands before ours and refuses nothing by itself stays there
        iptables(&world, variant, "-N KUBE-FORWARD");
        iptables(&world, variant, "-I FORWARD -j KUBE-FORWARD");
        let report = world.sync(&mut rules, &input());
        assert_eq!(report.iptables_commits, 0, "{variant}");
        assert!(world.node.run(|| rules.is_intact()).unwrap());
    }
}

/// Both variants hold rules: a packet passes both.
#[test]
fn both_variants_at_once() {
    let world = World::new();
    let mut rules = world.rules();
    for variant in VARIANTS {
        iptables(&world, variant, "-P FORWARD DROP");
    }
    assert_eq!(world.sync(&mut rules, &input()).iptables_commits, 4);
    assert_eq!(pods_talk(&world), [true, true]);
    let removed = world.node.run(|| rules.cleanup()).unwrap();
    // nobody has used INPUT of iptables-nft: nothing drops there, and it is not made
    assert_eq!(removed.len(), 7, "{removed:?}");
    assert_eq!(pods_talk(&world), [false, false]);
}

#[test]
fn probes_are_accepted_from_the_tunnel() {
    for variant in VARIANTS {
        let world = World::new();
        let mut rules = world.rules();
        iptables(&world, variant, "-P INPUT DROP");
        let probed = || {
            let socket = world.node.run(|| std::net::UdpSocket::bind((DEVICE[0], 8473))).unwrap();
            socket.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
            let prober = world.other.run(|| std::net::UdpSocket::bind(("10.244.2.0", 0))).unwrap();
            prober.send_to(b"probe", (DEVICE[0], 8473)).unwrap();
            socket.recv(&mut [0; 16]).is_ok()
        };
        assert!(!probed(), "{variant}");
        world.sync(&mut rules, &input());
        assert!(probed(), "{variant}");
    }
}

/// A notification comes, a cheap look tells that it matters, a sync repairs it: as the controller does it.
#[test]
fn notifications_tell_when_to_look() {
    let world = World::new();
    let mut rules = world.rules();
    iptables(&world, "nft", "-P FORWARD DROP");
    world.sync(&mut rules, &input());
    let mut monitor = Monitor::open_in(world.node.ns()).unwrap();
    monitor.listen(true).unwrap();
    let mut repaired = |what: &str| {
        within(what, || {
            let mut fds = [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(1000_u16)).unwrap();
            monitor.drain(&[]).unwrap();
            world.node.run(|| !rules.is_intact().unwrap() && rules.sync(&input()).is_ok())
        });
        assert!(world.node.run(|| rules.is_intact()).unwrap(), "{what}");
        assert_eq!(pods_talk(&world), [true, true], "{what}");
    };
    for change in [
        "iptables-nft -I FORWARD -j DROP",
        "iptables-nft -F FORWARD",
        "iptables-nft -F HEDDLE-FORWARD",
        "nft delete table inet heddle-overlay",
        "nft flush set inet heddle-overlay nodes4",
        "nft flush chain inet heddle-overlay tunnel",
    ] {
        world.node.cmd(&change.split(' ').collect::<Vec<_>>());
        repaired(change);
    }
}
