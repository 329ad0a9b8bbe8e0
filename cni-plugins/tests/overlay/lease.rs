//! What a lease may say, and what may become of it.

use std::fs;

use serde_json::json;

use crate::node::{Node, assert_error, traffic, with_prev};
use crate::world::*;

/// If the agent does not masquerade, the plugin does; with the agent it makes no rule.
#[test]
fn the_one_or_the_other_masquerades() {
    for (mode, agent) in [("bridge", true), ("bridge", false), ("ptp", false)] {
        let node = Node::heddle();
        write_lease(&node, &LEASE.replace("IPMASQ=true", &format!("IPMASQ={agent}")));
        let far = far(&node);
        // the world knows no pods
        far.sh("ip route del 10.244.1.0/24 && ip -6 route del fd00:244:0:1::/64");
        let (conf, pod) = (of_mode(&node, mode), node.pod("a"));
        let result = node.add("overlay", &pod, &conf);
        assert_eq!(node.sh("iptables-save").contains("CNI-"), !agent, "{mode}");
        if !agent {
            for (target, source) in [("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")] {
                traffic::serve(&far.ns, &at(target), 1);
                assert_eq!(pod.fetch(&at(target)).as_deref(), Some(source), "{mode}");
            }
        }
        // DEL removes the rules though nothing says any more that there are some
        fs::remove_file(lease_file(&node)).unwrap();
        fs::remove_dir_all(data_dir(&node)).unwrap();
        node.del("overlay", &pod, &with_prev(&conf, &result));
        assert_nothing_left(&node);
    }
}

#[test]
fn without_a_lease_it_is_try_again_later() {
    let node = Node::heddle();
    let (conf, pod) = (conf(&node, &json!({})), node.pod("a"));
    let no_file = "this node has no lease yet";
    assert_error(&node.call("overlay", "ADD", &pod, &conf), 11, no_file);
    let status = node.call("overlay", "STATUS", &pod, &conf);
    assert_error(&status, 50, no_file);
    assert!(status.stdout.contains("heddle-agent writes it"), "{status:#?}");
    for text in ["", "HEDDLE_NETWORK=10.244.0.0/16\nHEDDLE_SUB", "\u{0}\u{0}\u{0}"] {
        write_lease(&node, text);
        assert_error(&node.call("overlay", "ADD", &pod, &conf), 11, "lease cannot be used");
        assert_error(&node.call("overlay", "STATUS", &pod, &conf), 50, "lease cannot be used");
    }
    assert_eq!((veths(&node), remembered(&node).len()), (0, 0));
    node.del("overlay", &pod, &conf);
    write_lease(&node, LEASE);
    assert!(node.call("overlay", "STATUS", &pod, &conf).ok);
    node.add("overlay", &pod, &conf);
}

/// What the delegate's STATUS says is passed on: here that every address is taken.
#[test]
fn status_is_the_delegates_too() {
    for mode in MODES {
        let node = Node::heddle();
        write_lease(
            &node,
            "HEDDLE_NETWORK=10.244.0.0/16\nHEDDLE_SUBNET=10.244.1.1/30\nHEDDLE_MTU=1450\nHEDDLE_IPMASQ=true\n",
        );
        let (conf, pod) = (of_mode(&node, mode), node.pod("a"));
        assert!(node.call("overlay", "STATUS", &pod, &conf).ok);
        node.add("overlay", &pod, &conf);
        assert_eq!(node.call("overlay", "STATUS", &pod, &conf).error().0, 50, "{mode}");
    }
}

/// flannel's file, as it is, and a lease of IPv6 alone.
#[test]
fn leases_of_other_kinds() {
    let v6 = LEASE.lines().filter(|line| !line.contains("10.244")).collect::<Vec<_>>().join("\n");
    for (lease, expected) in [
        (LEASE.replace("HEDDLE_", "FLANNEL_"), vec!["10.244.1.2/24", "fd00:244:0:1::2/64"]),
        (v6, vec!["fd00:244:0:1::2/64"]),
    ] {
        for mode in MODES {
            let node = Node::heddle();
            write_lease(&node, &lease);
            let result = node.add("overlay", &node.pod("a"), &of_mode(&node, mode));
            let found: Vec<_> = result["ips"]
                .as_array()
                .unwrap()
                .iter()
                .map(|ip| ip["address"].as_str().unwrap())
                .collect();
            assert_eq!(found, expected, "{mode}");
        }
    }
}

/// The node is given another pod CIDR: a bridge that nobody is on takes the new gateway's address, one with pods keeps its own.
#[test]
fn a_lease_with_another_subnet() {
    let node = leased();
    let (conf, a, b) = (conf(&node, &json!({})), node.pod("a"), node.pod("b"));
    node.add("overlay", &a, &conf);
    write_lease(&node, &LEASE.replace("10.244.1.", "10.244.7.").replace("0:1::1", "0:7::1"));
    assert_error(
        &node.call("overlay", "ADD", &b, &conf),
        111,
        "already has an IP address different",
    );
    assert_eq!(veths(&node), 1);
    node.del("overlay", &a, &conf);
    node.sh("ip -6 addr add 2001:db8:77::1/64 dev br0 nodad");
    let result = node.add("overlay", &b, &conf);
    assert!(address(&result, 0).starts_with("10.244.7."), "{result}");
    let addresses = node.sh("ip -o addr show dev br0");
    let has = |address| addresses.contains(address);
    assert!(has("10.244.7.1/24") && has("fd00:244:0:7::1/64"), "{addresses}");
    assert!(has("2001:db8:77::1/64"), "somebody's own: {addresses}");
    // by now another node may have the former ones
    assert!(!has("10.244.1.1") && !has("fd00:244:0:1::1"), "{addresses}");
}
