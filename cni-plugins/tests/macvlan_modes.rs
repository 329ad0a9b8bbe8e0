//! `macvlan`: what each mode lets through, with real packets.

mod node;

use netns_tools::testing::TestNetns;
use node::uplink::{FAR, MASTER, OUTSIDE, OUTSIDE_V6, Uplink, pings, reaches};
use node::{Pod, Suite, traffic, with_prev};
use serde_json::json;

/// The addresses that the first and the second pod get.
const FIRST: [&str; 2] = ["10.77.0.2", "fd77::2"];
const SECOND: [&str; 2] = ["10.77.0.3", "fd77::3"];

/// Two pods on one master.
fn two_pods(up: &Uplink, mode: &str) -> (Pod, Pod) {
    let conf = up.conf("macvlan", &json!({ "mode": mode }));
    let (a, b) = (up.pod("a"), up.pod("b"));
    for (pod, addresses) in [(&a, FIRST), (&b, SECOND)] {
        let result = up.node.add("macvlan", pod, &conf);
        for (n, address) in addresses.iter().enumerate() {
            let got = result["ips"][n]["address"].as_str().unwrap();
            assert!(got.starts_with(&format!("{address}/")), "{result:#}");
        }
        let check = up.node.call("macvlan", "CHECK", pod, &with_prev(&conf, &result));
        assert!(check.ok, "{check:#?}");
        for outside in [OUTSIDE, OUTSIDE_V6] {
            assert!(reaches(&pod.ns, outside), "{mode}: {outside}");
        }
    }
    (a, b)
}

/// The switch outside sends frames back where they came from.
fn make_reflective(up: &Uplink) {
    up.outside.cmd(&[
        "sh",
        "-c",
        &format!(
            "ip addr flush dev {FAR} && ip link add br0 type bridge && ip link set {FAR} master br0 \
         && ip link set {FAR} type bridge_slave hairpin on && ip link set br0 up \
         && ip addr add {OUTSIDE}/24 dev br0 && ip -6 addr add {OUTSIDE_V6}/64 dev br0 nodad"
        ),
    ]);
}

#[test]
fn bridge_connects_the_pods_directly() {
    let up = Uplink::new(Suite::Heddle);
    let (a, b) = two_pods(&up, "bridge");
    for (from, to) in [(&a, SECOND), (&b, FIRST)] {
        for to in to {
            assert!(reaches(&from.ns, to), "{to}");
        }
    }
    traffic::serve(&b.ns, "10.77.0.3:80", 2);
    assert_eq!(a.fetch("10.77.0.3:80").as_deref(), Some("10.77.0.2"));
    assert_eq!(traffic::fetch(&up.outside, "10.77.0.3:80").as_deref(), Some(OUTSIDE));
    traffic::serve(&b.ns, "[fd77::3]:80", 1);
    assert_eq!(a.fetch("[fd77::3]:80").as_deref(), Some("fd77::2"));
}

#[test]
fn vepa_connects_them_by_the_switch_outside() {
    let up = Uplink::new(Suite::Heddle);
    let (a, b) = two_pods(&up, "vepa");
    for (pod, other) in [(&a, SECOND), (&b, FIRST)] {
        for address in other {
            assert!(!pings(&pod.ns, address), "without a switch that sends frames back: {address}");
        }
    }
    make_reflective(&up);
    assert!(reaches(&a.ns, OUTSIDE) && reaches(&b.ns, OUTSIDE));
    for (pod, other) in [(&a, SECOND), (&b, FIRST)] {
        for address in other {
            assert!(reaches(&pod.ns, address), "{address}");
        }
    }
}

#[test]
fn private_keeps_them_apart() {
    let up = Uplink::new(Suite::Heddle);
    make_reflective(&up);
    let (a, b) = two_pods(&up, "private");
    for (pod, other) in [(&a, SECOND), (&b, FIRST)] {
        for address in other {
            assert!(!pings(&pod.ns, address), "{address}");
        }
    }
    // The same by hand in vepa mode: it is the mode that keeps them apart.
    for pod in [&a, &b] {
        pod.sh("ip link set eth0 type macvlan mode vepa");
    }
    assert!(reaches(&a.ns, SECOND[0]));
}

fn mac(ns: &TestNetns, name: &str) -> String {
    ns.link(name).mac.unwrap().to_string()
}

#[test]
fn passthru_takes_the_whole_master() {
    let up = Uplink::new(Suite::Heddle);
    let (node, a, b) = (&up.node, up.pod("a"), up.pod("b"));
    let conf = up.conf("macvlan", &json!({ "mode": "passthru" }));
    let own = mac(&node.ns, MASTER);
    let result = node.add("macvlan", &a, &conf);
    assert_eq!(result["interfaces"][0]["mac"], json!(own));
    for outside in [OUTSIDE, OUTSIDE_V6] {
        assert!(reaches(&a.ns, outside), "{outside}");
    }
    traffic::serve(&a.ns, "10.77.0.2:80", 1);
    assert_eq!(traffic::fetch(&up.outside, "10.77.0.2:80").as_deref(), Some(OUTSIDE));

    // Nobody else gets on it, in any mode, and what fails leaves nothing.
    for mode in ["passthru", "bridge"] {
        let other = up.conf("macvlan", &json!({ "mode": mode }));
        let answer = node.call("macvlan", "ADD", &b, &other);
        assert_eq!(answer.error(), (112, "failed to create macvlan".to_owned()));
        assert!(answer.stdout.contains("must be the only one of its parent"), "{answer:#?}");
        assert_eq!(b.sh("ip -o link | wc -l").trim(), "1");
        assert_eq!(node.leases("testnet"), ["10.77.0.2", "fd77::2"]);
    }
    node.del("macvlan", &a, &with_prev(&conf, &result));
    node.add("macvlan", &b, &conf);
    assert!(reaches(&b.ns, OUTSIDE));
}

/// The kernel gives a macvlan in passthru mode its master's MAC address whatever is asked for, and the reference leaves it at that.
#[test]
fn passthru_has_the_mac_address_that_was_asked_for() {
    let up = Uplink::new(Suite::Heddle);
    let (node, pod) = (&up.node, up.pod("a"));
    let wanted = "0a:58:0a:4d:00:02";
    let conf = up.conf("macvlan", &json!({ "mode": "passthru", "mac": wanted }));
    let before = mac(&node.ns, MASTER);
    let result = node.add("macvlan", &pod, &conf);
    assert_eq!(result["interfaces"][0]["mac"], json!(wanted));
    assert_eq!(
        (mac(&pod.ns, "eth0"), mac(&node.ns, MASTER)),
        (wanted.to_owned(), wanted.to_owned())
    );
    assert!(reaches(&pod.ns, OUTSIDE));
    let check = node.call("macvlan", "CHECK", &pod, &with_prev(&conf, &result));
    assert!(check.ok, "{check:#?}");
    node.del("macvlan", &pod, &conf);
    assert_eq!(mac(&node.ns, MASTER), before, "the master has its own address back");
}
