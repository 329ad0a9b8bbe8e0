//! Decisions by table and by chance, and real flows.

mod kernel;
mod random;
mod world;

use netns_tools::conntrack::{TCP, UDP};

use super::fake::FakeFlows;
use super::*;
use world::{World, flow, options};

/// What there was, what there is, and flows: `from > to = answered by`; `-` before those that are to be forgotten.
struct Case {
    what: &'static str,
    before: &'static str,
    after: &'static str,
    flows: &'static [&'static str],
}

/// This node is n1 with the address 172.16.0.1; the endpoint `2@n1:r` is 10.1.0.2:5353 on node n1, ready (`s`: serves, but
/// terminates; `d`: dead).
const CASES: &[Case] = &[
    Case {
        what: "an endpoint is removed",
        before: "udp 10.96.0.1:53 np=30053 ext=192.0.2.1 lb=203.0.113.1 1@n1:r 2@n2:r",
        after: "udp 10.96.0.1:53 np=30053 ext=192.0.2.1 lb=203.0.113.1 2@n2:r",
        flows: &[
            "-10.0.0.9:1 > 10.96.0.1:53 = 10.1.0.1:5353",
            "-10.0.0.9:2 > 192.0.2.1:53 = 10.1.0.1:5353",
            "-10.0.0.9:3 > 203.0.113.1:53 = 10.1.0.1:5353",
            "-10.0.0.9:4 > 172.16.0.1:30053 = 10.1.0.1:5353",
            "-10.0.0.9:5 > 127.0.0.1:30053 = 10.1.0.1:5353",
            "10.0.0.9:6 > 10.96.0.1:53 = 10.1.0.2:5353",
            "10.0.0.9:7 > 172.16.0.1:30053 = 10.1.0.2:5353",
            // the same endpoint, another service, another port, directly, or as the client
            "10.0.0.9:8 > 10.96.0.2:53 = 10.1.0.1:5353",
            "10.0.0.9:9 > 10.96.0.1:54 = 10.1.0.1:5353",
            "10.0.0.9:10 > 10.1.0.1:5353 = 10.1.0.1:5353",
            "10.1.0.1:5353 > 10.96.0.1:53 = 10.1.0.2:5353",
            // the endpoint's address with another port was never one
            "10.0.0.9:11 > 10.96.0.1:53 = 10.1.0.1:5354",
            // another node's node port
            "10.0.0.9:12 > 172.16.0.2:30053 = 10.1.0.1:5353",
            // a hostPort with the number of the node port
            "10.0.0.9:13 > 172.16.0.1:30053 = 10.1.0.77:5353",
            // nobody translated these, though there was an endpoint: not ours to judge
            "10.0.0.9:14 > 10.96.0.1:53 = 10.96.0.1:53",
            "10.0.0.9:15 > 172.16.0.1:30053 = 172.16.0.1:30053",
        ],
    },
    Case {
        what: "a service is removed",
        before: "udp 10.96.0.1:53 np=30053 1@n1:r",
        after: "",
        flows: &[
            "-10.0.0.9:1 > 10.96.0.1:53 = 10.1.0.1:5353",
            "-10.0.0.9:2 > 172.16.0.1:30053 = 10.1.0.1:5353",
            "10.0.0.9:3 > 10.96.0.1:53 = 10.96.0.1:53",
            "10.0.0.9:4 > 172.16.0.1:30053 = 10.1.0.77:80",
        ],
    },
    Case {
        what: "the last endpoint goes",
        before: "udp 10.96.0.1:53 1@n1:r",
        after: "udp 10.96.0.1:53 1@n1:d",
        flows: &["-10.0.0.9:1 > 10.96.0.1:53 = 10.1.0.1:5353"],
    },
    Case {
        what: "the first endpoint comes",
        before: "udp 10.96.0.1:53 np=30053 1@n1:d",
        after: "udp 10.96.0.1:53 np=30053 1@n1:r",
        flows: &[
            "-10.0.0.9:1 > 10.96.0.1:53 = 10.96.0.1:53",
            "-10.0.0.9:2 > 172.16.0.1:30053 = 172.16.0.1:30053",
            "10.0.0.9:3 > 172.16.0.2:30053 = 172.16.0.2:30053",
            "10.0.0.9:4 > 10.96.0.2:53 = 10.96.0.2:53",
            "10.0.0.9:5 > 10.96.0.1:53 = 10.1.0.1:5353",
        ],
    },
    Case {
        what: "a service comes with an endpoint",
        before: "",
        after: "udp 10.96.0.1:53 ext=192.0.2.1 1@n2:r",
        flows: &[
            "-10.0.0.9:1 > 10.96.0.1:53 = 10.96.0.1:53",
            "-10.0.0.9:2 > 192.0.2.1:53 = 192.0.2.1:53",
        ],
    },
    Case {
        what: "a second endpoint comes",
        before: "udp 10.96.0.1:53 1@n1:r",
        after: "udp 10.96.0.1:53 1@n1:r 2@n1:r",
        flows: &[
            "10.0.0.9:1 > 10.96.0.1:53 = 10.1.0.1:5353",
            "10.0.0.9:2 > 10.96.0.1:53 = 10.96.0.1:53",
        ],
    },
    Case {
        what: "the node port changes",
        before: "udp 10.96.0.1:53 np=30053 1@n1:r",
        after: "udp 10.96.0.1:53 np=30054 1@n1:r",
        flows: &[
            "10.0.0.9:1 > 10.96.0.1:53 = 10.1.0.1:5353",
            "-10.0.0.9:2 > 172.16.0.1:30053 = 10.1.0.1:5353",
            "-10.0.0.9:3 > 172.16.0.1:30054 = 172.16.0.1:30054",
        ],
    },
    Case {
        what: "an external address is removed, another comes",
        before: "udp 10.96.0.1:53 ext=192.0.2.1 1@n1:r",
        after: "udp 10.96.0.1:53 ext=192.0.2.2 1@n1:r",
        flows: &[
            "-10.0.0.9:1 > 192.0.2.1:53 = 10.1.0.1:5353",
            "-10.0.0.9:2 > 192.0.2.2:53 = 192.0.2.2:53",
            "10.0.0.9:3 > 192.0.2.1:53 = 192.0.2.1:53",
        ],
    },
    Case {
        what: "an address moves to another service",
        before: "udp 10.96.0.1:53 ext=192.0.2.1 1@n1:r 3@n1:r; udp 10.96.0.2:53 2@n1:r 3@n1:r",
        after: "udp 10.96.0.1:53 1@n1:r 3@n1:r; udp 10.96.0.2:53 ext=192.0.2.1 2@n1:r 3@n1:r",
        flows: &[
            "-10.0.0.9:1 > 192.0.2.1:53 = 10.1.0.1:5353",
            "10.0.0.9:2 > 192.0.2.1:53 = 10.1.0.3:5353",
            "10.0.0.9:3 > 10.96.0.1:53 = 10.1.0.1:5353",
        ],
    },
    Case {
        what: "the policy becomes Local: endpoints elsewhere still serve",
        before: "udp 10.96.0.1:53 np=30053 1@n1:r 2@n2:r",
        after: "udp 10.96.0.1:53 np=30053 elocal ilocal 1@n1:r 2@n2:r",
        flows: &[
            "10.0.0.9:1 > 172.16.0.1:30053 = 10.1.0.2:5353",
            "10.0.0.9:2 > 172.16.0.1:30053 = 10.1.0.1:5353",
            "10.0.0.9:3 > 10.96.0.1:53 = 10.1.0.2:5353",
        ],
    },
    Case {
        what: "an internal service that is Local has only its own: others may finish",
        before: "udp 10.96.0.1:53 1@n1:r 2@n2:r",
        after: "udp 10.96.0.1:53 ilocal 1@n1:r 2@n2:r",
        flows: &["10.0.0.9:1 > 10.96.0.1:53 = 10.1.0.2:5353"],
    },
    Case {
        what: "under Local, one that is elsewhere goes",
        before: "udp 10.96.0.1:53 np=30053 elocal 1@n1:r 2@n2:r",
        after: "udp 10.96.0.1:53 np=30053 elocal 1@n1:r",
        flows: &[
            // as a pod of this node made it
            "-10.1.0.9:1 > 172.16.0.1:30053 = 10.1.0.2:5353",
            "10.0.0.9:2 > 172.16.0.1:30053 = 10.1.0.1:5353",
        ],
    },
    Case {
        what: "an endpoint terminates: it keeps its flows",
        before: "udp 10.96.0.1:53 1@n1:r 2@n1:r",
        after: "udp 10.96.0.1:53 1@n1:s 2@n1:r",
        flows: &["10.0.0.9:1 > 10.96.0.1:53 = 10.1.0.1:5353"],
    },
    Case {
        what: "an endpoint has terminated",
        before: "udp 10.96.0.1:53 1@n1:s 2@n1:r",
        after: "udp 10.96.0.1:53 1@n1:d 2@n1:r",
        flows: &["-10.0.0.9:1 > 10.96.0.1:53 = 10.1.0.1:5353"],
    },
    Case {
        what: "the endpoint is the frontend itself: nothing to translate",
        before: "udp 10.96.0.1:5353 ext=10.1.0.1 1@n1:d",
        after: "udp 10.96.0.1:5353 ext=10.1.0.1 1@n1:r",
        flows: &["10.0.0.9:1 > 10.1.0.1:5353 = 10.1.0.1:5353"],
    },
    Case {
        what: "an external address on this node with another service's node port as its port",
        before: "udp 10.96.0.1:53 np=30053 1@n1:r 2@n1:r; udp 10.96.0.2:30053 ext=172.16.0.1 1@n1:r",
        after: "udp 10.96.0.1:53 np=30053 2@n1:r; udp 10.96.0.2:30053 ext=172.16.0.1 1@n1:r",
        flows: &["10.0.0.9:1 > 172.16.0.1:30053 = 10.1.0.1:5353"],
    },
    Case {
        what: "IPv6",
        before: "udp [fd96::1]:53 np=30053 1@n1:r 2@n1:r",
        after: "udp [fd96::1]:53 np=30053 2@n1:r",
        flows: &[
            "-[fd00::9]:1 > [fd96::1]:53 = [fd01::1]:5353",
            "[fd00::9]:2 > [fd96::1]:53 = [fd01::2]:5353",
            "-[fd00::9]:3 > [fd10::1]:30053 = [fd01::1]:5353",
            // no node ports at ::1
            "[fd00::9]:4 > [::1]:30053 = [fd01::1]:5353",
        ],
    },
];

/// The flows of a case and those of them that should be left.
fn flows_of(texts: &[&str], protocol: u8) -> (Vec<Flow>, Vec<String>) {
    let all = texts.iter().map(|text| flow(protocol, text.trim_start_matches('-')));
    let kept = texts.iter().filter(|text| !text.starts_with('-'));
    (all.collect(), kept.map(|text| flow(protocol, text).to_string()).collect())
}

fn fake(flows: Vec<Flow>) -> FakeFlows {
    let addresses = ["172.16.0.1", "fd10::1"].map(|ip| ip.parse().unwrap());
    FakeFlows { flows, addresses: addresses.into(), ..FakeFlows::default() }
}

fn left(fake: &FakeFlows) -> Vec<String> {
    fake.flows.iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_stale_after_a_change() {
    for Case { what, before, after, flows } in CASES {
        for (name, protocol) in [("udp", 17), ("sctp", 132)] {
            let (all, kept) = flows_of(flows, protocol);
            let of = |text: &str| text.replace("udp", name);
            let family = all[0].family();
            let (world, changed) = World::of(&of(before)).then(&of(after));
            let mut fake = fake(all);
            let deleted = fake.flows.len() - kept.len();
            let ports = world.model.ports(family);
            let report =
                forget_stale(family, changed.of(family), ports, &options(), &mut fake).unwrap();
            assert_eq!((left(&fake), report.deleted), (kept, deleted), "{what} ({name})");
        }
    }
}

/// TCP is never asked for, nor is anything when no endpoint went and no first one came.
#[test]
fn the_kernel_is_asked_only_when_it_may_matter() {
    let cases = [
        ("tcp 10.96.0.1:53 1@n1:r 2@n1:r", "tcp 10.96.0.1:53 2@n1:r", 0),
        ("tcp 10.96.0.1:53 np=30053 1@n1:r", "", 0),
        ("udp 10.96.0.1:53 1@n1:r", "udp 10.96.0.1:53 1@n1:r 2@n1:r", 0),
        ("udp 10.96.0.1:53 1@n1:r 2@n1:r", "udp 10.96.0.1:53 1@n1:s 2@n1:r", 0),
        ("udp 10.96.0.1:53", "", 0),
        ("", "udp 10.96.0.1:53", 0),
        ("udp 10.96.0.1:53 1@n1:r 2@n1:r", "udp 10.96.0.1:53 2@n1:r", 1),
        ("udp 10.96.0.1:53 np=30053 1@n1:r", "udp 10.96.0.1:53 np=30053 2@n1:r", 2),
        ("udp 10.96.0.1:53 np=30053 1@n1:r", "udp 10.96.0.1:53 np=30054 1@n1:r", 2),
    ];
    let texts =
        ["10.0.0.9:1 > 10.96.0.1:53 = 10.1.0.1:5353", "10.0.0.9:2 > 10.9.0.1:53 = 10.9.0.1:53"];
    for (before, after, listings) in cases {
        let (world, changed) = World::of(before).then(after);
        let mut fake = fake(texts.iter().map(|text| flow(TCP, text)).collect());
        let ports = world.model.ports(Family::V4);
        let done = forget_stale(Family::V4, &changed.v4, ports, &options(), &mut fake).unwrap();
        assert_eq!(done, Report { deleted: 0, listings }, "{before} to {after}");
        assert_eq!((fake.flows.len(), fake.seen.get()), (2, 0), "{before} to {after}");
    }
}

#[test]
fn many_frontends_are_one_listing() {
    let services: Vec<_> = (1..=20).map(|n| format!("udp 10.96.0.{n}:53 1@n1:r")).collect();
    let (world, changed) = World::of(&services.join("; ")).then("");
    let mut fake = fake(
        (1..=21)
            .map(|n| flow(UDP, &format!("10.0.0.9:{n} > 10.96.0.{n}:53 = 10.1.0.1:5353")))
            .collect(),
    );
    let ports = world.model.ports(Family::V4);
    let done = forget_stale(Family::V4, &changed.v4, ports, &options(), &mut fake).unwrap();
    assert_eq!(done, Report { deleted: 20, listings: 1 });
    assert_eq!(left(&fake), [flow(UDP, "10.0.0.9:21 > 10.96.0.21:53 = 10.1.0.1:5353").to_string()]);
}

#[test]
fn other_zones_are_left_alone() {
    let (world, changed) = World::of("udp 10.96.0.1:53 1@n1:r").then("");
    let ours = flow(UDP, "10.0.0.9:1 > 10.96.0.1:53 = 10.1.0.1:5353");
    let mut theirs = ours.clone();
    theirs.zone = 7;
    let mut fake = fake(vec![theirs, ours]);
    let ports = world.model.ports(Family::V4);
    forget_stale(Family::V4, &changed.v4, ports, &options(), &mut fake).unwrap();
    assert_eq!(fake.flows.iter().map(|flow| flow.zone).collect::<Vec<_>>(), [7]);
}

#[test]
fn node_ports_are_judged_only_where_they_answer() {
    let texts = [
        "10.0.0.9:1 > 172.16.0.1:30053 = 10.1.0.1:5353",
        "10.0.0.9:2 > 192.168.0.1:30053 = 10.1.0.1:5353",
        "10.0.0.9:3 > 127.0.0.1:30053 = 10.1.0.1:5353",
    ];
    let listed = |ip: &str| NodePortAddresses::Listed(vec![ip.parse().unwrap()]);
    let cases = [
        (NodePortAddresses::Any, true, [false, true, false]),
        (NodePortAddresses::Any, false, [false, true, true]),
        (listed("192.168.0.1"), true, [true, false, true]),
    ];
    for (node_ports, localhost_node_ports, kept) in cases {
        let options = RuleOptions { node_ports, localhost_node_ports, ..options() };
        let (world, changed) = World::of("udp 10.96.0.1:53 np=30053 1@n1:r").then("");
        let mut fake = fake(texts.map(|text| flow(UDP, text)).to_vec());
        let all = fake.flows.clone();
        let ports = world.model.ports(Family::V4);
        forget_stale(Family::V4, &changed.v4, ports, &options, &mut fake).unwrap();
        let found: Vec<_> = all.iter().map(|flow| fake.flows.contains(flow)).collect();
        assert_eq!(found, kept, "{options:?}");
    }
}

/// After a start nobody knows what was before.
#[test]
fn what_is_stale_for_one_who_does_not_know_what_was() {
    let now = "udp 10.96.0.1:53 np=30053 lb=203.0.113.1 1@n1:r 2@n1:s; udp 10.96.0.2:53 np=30054; tcp 10.96.0.3:80 1@n1:r";
    let flows = [
        "10.0.0.9:1 > 10.96.0.1:53 = 10.1.0.1:5353",
        "10.0.0.9:2 > 172.16.0.1:30053 = 10.1.0.2:5353",
        "-10.0.0.9:3 > 10.96.0.1:53 = 10.1.0.3:5353",
        "-10.0.0.9:4 > 10.96.0.1:53 = 10.1.0.3:9999",
        "-10.0.0.9:5 > 10.96.0.2:53 = 10.1.0.3:5353",
        "-10.0.0.9:6 > 172.16.0.1:30053 = 10.1.0.3:5353",
        "-10.0.0.9:7 > 203.0.113.1:53 = 10.1.0.3:5353",
        // perhaps a hostPort: another number, or nothing to compare with
        "10.0.0.9:8 > 172.16.0.1:30053 = 10.1.0.3:9999",
        "10.0.0.9:9 > 172.16.0.1:30054 = 10.1.0.3:5353",
        "-10.0.0.9:10 > 10.96.0.1:53 = 10.96.0.1:53",
        "-10.0.0.9:11 > 172.16.0.1:30053 = 172.16.0.1:30053",
        // there is no endpoint to send them to
        "10.0.0.9:12 > 10.96.0.2:53 = 10.96.0.2:53",
        "10.0.0.9:13 > 172.16.0.1:30054 = 172.16.0.1:30054",
        // not ours
        "10.0.0.9:14 > 10.96.0.9:53 = 10.1.0.3:5353",
        "10.0.0.9:15 > 172.16.0.2:30053 = 10.1.0.3:5353",
        "10.0.0.9:16 > 8.8.8.8:53 = 8.8.8.8:53",
        "10.0.0.9:17 > 10.96.0.3:80 = 10.1.0.3:5353",
    ];
    let world = World::of(now);
    let (all, kept) = flows_of(&flows, UDP);
    let mut fake = fake(all);
    let tcp = flow(TCP, "10.0.0.9:18 > 10.96.0.1:53 = 10.1.0.3:5353");
    fake.flows.push(tcp.clone());
    let ports = world.model.ports(Family::V4);
    let report = reconcile(Family::V4, ports, &options(), &mut fake).unwrap();
    let kept = [kept, vec![tcp.to_string()]].concat();
    assert_eq!((left(&fake), report.deleted), (kept, 7));
    let again = reconcile(Family::V4, ports, &options(), &mut fake).unwrap();
    assert_eq!(again.deleted, 0);
}

#[test]
fn a_failure_is_told_with_what_was_done_all_the_same() {
    let (world, changed) = World::of("udp 10.96.0.1:53 1@n1:r").then("");
    let texts = [1, 2].map(|n| format!("10.0.0.9:{n} > 10.96.0.1:53 = 10.1.0.1:5353"));
    let mut fake = fake(texts.iter().map(|text| flow(UDP, text)).collect());
    fake.fails = true;
    let ports = world.model.ports(Family::V4);
    let error = forget_stale(Family::V4, &changed.v4, ports, &options(), &mut fake).unwrap_err();
    assert_eq!((error.deleted, error.failed), (0, 2));
    assert!(error.source.to_string().contains("10.0.0.9:1 to 10.96.0.1:53"), "{}", error.source);
}
