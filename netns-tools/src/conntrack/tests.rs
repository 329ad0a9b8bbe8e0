//! Real flows in a namespace, made with the `conntrack` program or with packets.

use std::net::UdpSocket;

use super::*;
use crate::iptables::Family;
use crate::testing::{End, TestNetns, veth_pair};

/// A namespace with flows: from, to, answered by (all UDP but one).
fn with_flows(flows: &[(&str, &str, &str, &str)]) -> TestNetns {
    let ns = TestNetns::new("ct");
    for (protocol, from, to, backend) in flows {
        let split = |end: &str| {
            let (ip, port) = end.rsplit_once('/').unwrap();
            (ip.to_owned(), port.to_owned())
        };
        let ((src, sport), (dst, dport), (back, backport)) =
            (split(from), split(to), split(backend));
        let mut words = vec!["conntrack", "-I", "-p", protocol, "-t", "600"];
        if *protocol == "tcp" {
            words.extend(["--state", "ESTABLISHED"]);
        }
        words.extend(["-s", &src, "-d", &dst, "--sport", &sport, "--dport", &dport]);
        words.extend(["-r", &back, "-q", &src, "--reply-port-src", &backport]);
        words.extend(["--reply-port-dst", &sport]);
        ns.cmd(&words);
    }
    ns
}

const FLOWS: [(&str, &str, &str, &str); 7] = [
    ("udp", "10.0.0.9/4000", "10.96.0.10/53", "10.1.0.7/5353"),
    ("udp", "10.0.0.9/4001", "10.96.0.10/53", "10.1.0.8/5353"),
    ("udp", "10.0.0.9/4002", "10.96.0.11/53", "10.1.0.7/5353"),
    ("udp", "10.0.0.9/4003", "10.96.0.10/54", "10.1.0.7/5354"),
    ("tcp", "10.0.0.9/4004", "10.96.0.10/53", "10.1.0.7/5353"),
    ("udp", "fd00::9/4005", "fd96::10/53", "fd01::7/5353"),
    ("udp", "fd00::8/4006", "fd96::11/53", "fd01::8/5353"),
];

fn open(ns: &TestNetns) -> Conntrack {
    Conntrack::open_in(ns.ns()).unwrap()
}

/// The source ports of the flows, by which they are told apart here.
fn ports(flows: &[Flow]) -> Vec<u16> {
    let mut ports: Vec<_> = flows.iter().map(|flow| flow.original.source.port()).collect();
    ports.sort_unstable();
    ports
}

fn cases() -> [(Filter, &'static [u16]); 13] {
    let (v4, v6) = (Filter::new(Family::V4), Filter::new(Family::V6));
    let ip = |text: &str| text.parse().unwrap();
    [
        (v4, &[4000, 4001, 4002, 4003, 4004]),
        (v6, &[4005, 4006]),
        (v6.protocol(UDP).to(ip("fd96::10")).port(53), &[4005]),
        (v6.from(ip("fd00::8")), &[4006]),
        (v6.protocol(UDP).answered_by(ip("fd01::7")).answered_from_port(5353), &[4005]),
        (v4.protocol(UDP).port(53), &[4000, 4001, 4002]),
        (v4.protocol(UDP).to(ip("10.96.0.10")).port(53), &[4000, 4001]),
        (v4.protocol(UDP).to(ip("10.96.0.10")).port(53).answered_by(ip("10.1.0.7")), &[4000]),
        (v4.protocol(UDP).answered_by(ip("10.1.0.7")).answered_from_port(5353), &[4000, 4002]),
        (v4.answered_by(ip("10.1.0.7")), &[4000, 4002, 4003, 4004]),
        (v4.port(54), &[4003]),
        (v4.protocol(TCP).from(ip("10.0.0.9")), &[4004]),
        (v4.protocol(SCTP), &[]),
    ]
}

#[test]
fn the_filter_lets_through_what_is_meant_and_the_kernel_applies_it() {
    let ns = with_flows(&FLOWS);
    let mut conntrack = open(&ns);
    for (filter, expected) in cases() {
        assert_eq!(ports(&conntrack.list(&filter).unwrap()), expected, "{filter}");
        assert!(conntrack.filters, "this kernel knows {filter}");
        // Without our own comparison: a port without a protocol is left to us, and so are addresses of IPv6.
        if filter != Filter::new(Family::V4).port(54) && filter.family == Family::V4 {
            assert_eq!(ports(&conntrack.dump(&filter, |_| true).unwrap()), expected, "{filter}");
        }
    }
}

#[test]
fn an_old_kernel_is_served_by_our_own_comparison() {
    let ns = with_flows(&FLOWS);
    let mut conntrack = open(&ns);
    conntrack.filters = false;
    for (filter, expected) in cases() {
        assert_eq!(ports(&conntrack.list(&filter).unwrap()), expected, "{filter}");
    }
}

#[test]
fn only_what_is_meant_is_forgotten() {
    let ns = with_flows(&FLOWS);
    let mut conntrack = open(&ns);
    let stale = Filter::new(Family::V4).protocol(UDP).to("10.96.0.10".parse().unwrap()).port(53);
    let stale = stale.answered_by("10.1.0.7".parse().unwrap());
    assert_eq!(conntrack.forget(&stale).unwrap(), 1);
    assert_eq!(conntrack.forget(&stale).unwrap(), 0);
    let left = conntrack.list(&Filter::new(Family::V4)).unwrap();
    assert_eq!(ports(&left), [4001, 4002, 4003, 4004]);
    let v6 = Filter::new(Family::V6).protocol(UDP).port(53);
    assert_eq!(conntrack.forget(&v6).unwrap(), 2);
    assert_eq!(ns.cmd(&["sh", "-c", "conntrack -L -f ipv6 2>/dev/null"]), "");
}

#[test]
fn a_flow_that_is_gone_is_no_error() {
    let ns = with_flows(&FLOWS[..1]);
    let mut conntrack = open(&ns);
    let flow = conntrack.list(&Filter::new(Family::V4)).unwrap().remove(0);
    assert!(conntrack.delete(&flow).unwrap());
    assert!(!conntrack.delete(&flow).unwrap());
}

/// One that was made up is as good as one that was listed, for deletion: both name the original direction.
#[test]
fn a_flow_by_its_ends_is_the_listed_one() {
    for one in [&FLOWS[..1], &FLOWS[5..6]] {
        let ns = with_flows(one);
        let mut conntrack = open(&ns);
        let family = if one[0].1.contains(':') { Family::V6 } else { Family::V4 };
        let listed = conntrack.list(&Filter::new(family)).unwrap().remove(0);
        let made = Flow::new(listed.protocol, listed.original, listed.reply);
        assert_eq!(made.to_string(), listed.to_string());
        assert!(made.is_diverted());
        assert!(conntrack.delete(&made).unwrap());
        assert_eq!(conntrack.list(&Filter::new(family)).unwrap(), []);
    }
}

#[test]
fn a_flow_tells_its_zone() {
    let ns = TestNetns::new("ct");
    let base = "conntrack -I -p udp -t 600 -s 10.0.0.9 -d 10.96.0.10 --dport 53 --sport";
    for zone in ["4000", "4001 --zone 7", "4002 --orig-zone 8", "4003 --reply-zone 9"] {
        ns.cmd(&["sh", "-c", &format!("{base} {zone}")]);
    }
    let mut conntrack = open(&ns);
    let listed = conntrack.list(&Filter::new(Family::V4)).unwrap();
    let mut zones: Vec<_> =
        listed.iter().map(|flow| (flow.original.source.port(), flow.zone)).collect();
    zones.sort_unstable();
    assert_eq!(zones, [(4000, 0), (4001, 7), (4002, 8), (4003, 9)]);
    // each is known again in its zone
    for flow in &listed {
        assert!(conntrack.delete(flow).unwrap(), "{flow} in zone {}", flow.zone);
    }
}

#[test]
fn flows_of_packets() {
    let (one, other) = (TestNetns::new("ct"), TestNetns::new("ct"));
    veth_pair(
        End(&one, "left", &["10.9.0.1/24", "fd00::1/64"]),
        End(&other, "right", &["10.9.0.2/24", "fd00::2/64"]),
    );
    // Tracking begins where a rule asks for it.
    one.cmd(&["iptables", "-A", "OUTPUT", "-m", "conntrack", "--ctstate", "NEW"]);
    one.cmd(&["ip6tables", "-A", "OUTPUT", "-m", "conntrack", "--ctstate", "NEW"]);
    for (family, target) in [(Family::V4, "10.9.0.2:7"), (Family::V6, "[fd00::2]:7")] {
        let from = one.run(|| {
            let socket = UdpSocket::bind(if family == Family::V4 { "0.0.0.0:0" } else { "[::]:0" });
            let socket = socket.unwrap();
            socket.connect(target).unwrap();
            socket.send(b"x").unwrap();
            socket.local_addr().unwrap()
        });
        let flows = open(&one).list(&Filter::new(family).protocol(UDP).port(7)).unwrap();
        let found: Vec<_> = flows.iter().map(|flow| (flow.original, flow.replied)).collect();
        let tuple = Tuple { source: from, destination: target.parse().unwrap() };
        assert_eq!(found, [(tuple, false)]);
        assert_eq!(flows[0].reply, Tuple { source: tuple.destination, destination: from });
    }
}

#[test]
fn thousands_of_flows_are_listed_whole() {
    let ns = TestNetns::new("ct");
    let lines: Vec<_> = (0..3000)
        .map(|n| {
            format!(
                "-I -p udp -t 600 -s 10.0.{}.{} -d 10.96.0.10 --sport 4000 --dport 53",
                n / 250,
                n % 250 + 1
            )
        })
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("flows");
    std::fs::write(&file, lines.join("\n")).unwrap();
    ns.cmd(&["conntrack", "-R", file.to_str().unwrap()]);
    let mut conntrack = open(&ns);
    let filter = Filter::new(Family::V4).protocol(UDP).port(53);
    assert_eq!(conntrack.list(&filter).unwrap().len(), 3000);
    let first = |flow: &Flow| flow.original.source.ip().to_string() == "10.0.0.1";
    assert_eq!(conntrack.list_where(&filter, first).unwrap().len(), 1);
    assert_eq!(conntrack.forget(&filter).unwrap(), 3000);
    assert_eq!(conntrack.list(&filter).unwrap().len(), 0);
}
