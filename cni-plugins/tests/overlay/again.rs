//! An address that was somebody else's before.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use netns_tools::Conntrack;
use netns_tools::conntrack::Filter;
use netns_tools::iptables::Family;
use serde_json::{Value, json};

use crate::node::{Node, Pod, traffic, with_prev};
use crate::world::*;

/// The address of a pod that went goes to another within the second: neighbours on the bridge, the node and tracked connections
/// lead to the new one at once.
#[test]
fn an_address_that_is_given_to_another_pod() {
    for mode in MODES {
        let node = leased();
        let mut conf = of_mode(&node, mode);
        let neighbour = node.pod("neighbour");
        node.add("overlay", &neighbour, &conf);
        conf["args"] = json!({ "cni": { "ips": ["10.244.1.50", "fd00:244:0:1::50"] } });
        for round in 0..3 {
            let pod = node.pod(&format!("pod{round}"));
            node.add("overlay", &pod, &conf);
            for target in ["10.244.1.50", "fd00:244:0:1::50"] {
                traffic::serve(&pod.ns, &at(target), 2);
                let start = Instant::now();
                assert!(neighbour.fetch(&at(target)).is_some(), "{mode}, {round}, {target}");
                assert!(
                    traffic::fetch(&node.ns, &at(target)).is_some(),
                    "{mode}, {round}, {target}"
                );
                // who tries where the address was gives up only after some seconds
                assert!(
                    start.elapsed() < Duration::from_secs(4),
                    "{mode}, {round}: {:?}",
                    start.elapsed()
                );
            }
            node.del("overlay", &pod, &conf);
        }
    }
}

/// How it is told that a pod is gone.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Del,
    /// Its namespace has gone, and ADD's result is lost: as after a crash of the runtime.
    BlindDel,
    Gc,
}

/// All tracked connections, as text.
fn flows(node: &Node) -> Vec<String> {
    let mut conntrack = Conntrack::open_in(node.ns.ns()).unwrap();
    let mut all = conntrack.list(&Filter::new(Family::V4)).unwrap();
    all.extend(conntrack.list(&Filter::new(Family::V6)).unwrap());
    all.into_iter().map(|flow| flow.to_string()).collect()
}

fn end(node: &Node, pod: &Pod, conf: &Value, result: &Value, how: End) {
    match how {
        End::Del => node.del("overlay", pod, &with_prev(conf, result)),
        End::BlindDel => {
            let gone = [("CNI_NETNS", "/run/netns/no-such-namespace")];
            let answer = node.call_with("overlay", "DEL", pod, conf, &gone);
            assert!(answer.ok, "{answer:#?}");
        }
        End::Gc => assert!(gc(node, conf, &[]).ok),
    }
}

/// A flow to a service sticks to the address that it was translated to: it goes with its pod.
#[test]
fn tracked_connections_go_with_their_pod() {
    let table = [
        ("bridge", "4", End::Del),
        ("bridge", "4", End::Gc),
        ("ptp", "4", End::Del),
        ("ptp", "4", End::BlindDel),
        ("ptp", "6", End::Del),
        ("ptp", "6", End::BlindDel),
        ("ptp", "6", End::Gc),
    ];
    for (mode, family, how) in table {
        let node = leased();
        let conf = of_mode(&node, mode);
        let pod = node.pod("a");
        let result = node.add("overlay", &pod, &conf);
        let (target, program, service) = match family {
            "4" => (address(&result, 0), "iptables", "10.96.0.10"),
            _ => (format!("[{}]", address(&result, 1)), "ip6tables", "fd00:96::10"),
        };
        node.sh(&format!("{program} -t nat -A OUTPUT -d {service} -p udp --dport 53 -j DNAT --to-destination {target}:53"));
        let other = if family == "4" { "10.244.1.1" } else { "fd00:244:0:1::1" };
        let client = node.ns.run(|| UdpSocket::bind((other, 0))).unwrap();
        // the gateway's address of a routed link is local, the service's needs any route
        node.sh(&format!("ip -{family} route add {service} dev lo"));
        client.send_to(b"x", (service, 53)).unwrap();
        let bystander = node.ns.run(|| UdpSocket::bind("127.0.0.1:0")).unwrap();
        bystander.send_to(b"x", "127.0.0.1:9").unwrap();
        let is_tracked = || flows(&node).iter().any(|flow| flow.contains(service));
        let start = Instant::now();
        while !is_tracked() {
            assert!(start.elapsed() < PATIENCE, "{mode} {family}: {:#?}", flows(&node));
        }
        // by whoever says that it is gone
        end(&node, &pod, &conf, &result, how);
        assert!(!is_tracked(), "{mode} {family} {how:?}: {:#?}", flows(&node));
        if family == "4" {
            assert!(flows(&node).iter().any(|flow| flow.contains("127.0.0.1")));
        }
    }
}
