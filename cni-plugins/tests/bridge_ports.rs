//! `bridge`: isolated ports, VLANs, and addresses that come back to other containers.

mod node;

use node::faults::{Scene, prove, scene};
use node::{Node, state, traffic, with_prev};
use serde_json::{Value, json};

fn conf(node: &Node, extra: &Value) -> Value {
    let mut conf = json!({
        "cniVersion": "1.1.0", "name": "testnet", "type": "bridge", "bridge": "br0",
        "isDefaultGateway": true, "ipam": node.ipam(&["10.88.0.0/24"]),
    });
    for (key, value) in extra.as_object().unwrap() {
        conf[key] = value.clone();
    }
    conf
}

/// Isolated pods reach the gateway and pods that are not isolated, and nobody else.
#[test]
fn isolated_ports() {
    let node = Node::heddle();
    let isolated = conf(&node, &json!({ "portIsolation": true }));
    let (a, b, open) = (node.pod("a"), node.pod("b"), node.pod("open"));
    let result = node.add("bridge", &a, &isolated);
    node.add("bridge", &b, &isolated);
    node.add("bridge", &open, &conf(&node, &json!({})));
    traffic::serve(&node.ns, "10.88.0.1:80", 3);
    for pod in [&a, &b, &open] {
        assert!(pod.fetch("10.88.0.1:80").is_some(), "{} to the gateway", pod.id);
    }
    traffic::serve(&open.ns, "10.88.0.4:80", 1);
    assert_eq!(
        a.fetch("10.88.0.4:80").as_deref(),
        Some("10.88.0.2"),
        "to one that is not isolated"
    );
    traffic::serve(&b.ns, "10.88.0.3:80", 1);
    assert_eq!(a.fetch("10.88.0.3:80"), None, "to one that is");
    assert_eq!(open.fetch("10.88.0.3:80").as_deref(), Some("10.88.0.4"), "the server is there");

    let veth = result["interfaces"][1]["name"].as_str().unwrap();
    let check = || node.call("bridge", "CHECK", &a, &with_prev(&isolated, &result));
    assert!(check().ok);
    node.sh(&format!("bridge link set dev {veth} isolated off"));
    assert!(check().stdout.contains("has lost portIsolation"), "{:#?}", check());
}

#[test]
fn isolated_ports_all_or_nothing() {
    let isolated =
        || -> Scene { scene(|node| conf(node, &json!({ "portIsolation": true, "ipam": {} }))) };
    prove("bridge", isolated, |line| line.contains("br0"));
}

/// Without VLAN filtering in the kernel: refused with words, by STATUS too, and nothing is left.
#[test]
fn vlans() {
    let node = Node::heddle();
    let pod = node.pod("pod");
    let vlan = conf(&node, &json!({ "vlan": 100, "vlanTrunk": [{ "minID": 200, "maxID": 210 }] }));
    if netns_tools::link::port_vlan::is_supported().unwrap() {
        let result = node.add("bridge", &pod, &vlan);
        assert_eq!(result["interfaces"][3]["name"], "br0.100");
        assert!(node.call("bridge", "CHECK", &pod, &with_prev(&vlan, &result)).ok);
        traffic::serve(&node.ns, "10.88.0.1:80", 1);
        assert!(pod.fetch("10.88.0.1:80").is_some());
        return;
    }
    println!(
        "not proven on this kernel: vlan, vlanTrunk, preserveDefaultVlan (CONFIG_BRIDGE_VLAN_FILTERING is off)"
    );
    let before = json!(state::of(&node.ns));
    let answer = node.call("bridge", "ADD", &pod, &vlan);
    assert_eq!(answer.error().1, "cannot add bridge \"br0\"");
    assert!(answer.stdout.contains("CONFIG_BRIDGE_VLAN_FILTERING"), "{answer:#?}");
    assert_eq!(node.leases("testnet"), [""; 0]);
    let found = state::differences("", &json!(state::of(&node.ns)), &before);
    assert!(found.is_empty(), "{found:#?}");
    let status = |conf: &Value| node.call("bridge", "STATUS", &pod, conf);
    assert_eq!(status(&vlan).error(), (50, "this kernel's bridges cannot filter VLANs".into()));
    // And on a bridge that somebody made: the reference would set VLANs that separate nothing.
    node.sh("ip link add br0 type bridge");
    for command in ["ADD", "STATUS"] {
        let answer = node.call("bridge", command, &pod, &vlan);
        assert_eq!(answer.error().1, "bridge \"br0\" does not keep VLANs apart", "{command}");
    }
    assert_eq!(node.sh("ip -o link show type veth"), "");
}

fn vlans_all_or_nothing(extra: &Value) {
    if !netns_tools::link::port_vlan::is_supported().unwrap() {
        println!(
            "not proven on this kernel: an ADD with VLANs that fails or dies (CONFIG_BRIDGE_VLAN_FILTERING is off)"
        );
        return;
    }
    prove("bridge", || scene(|node| conf(node, extra)), is_the_bridges);
}

/// The bridge stays, and what it has itself: its VLAN's interface with the gateway's address, and the port at that one's other end,
/// which has a random name. A pod's port tells whose it is.
fn is_the_bridges(line: &str) -> bool {
    let link_of_a_veth = line.contains(" -d link: ") && !line.contains("br0");
    let named = line.contains("br0") || line.contains("VETH0");
    named && !link_of_a_veth && !line.contains("cni:testnet:")
}

#[test]
fn vlans_all_or_nothing_with_a_gateway() {
    vlans_all_or_nothing(&json!({ "vlan": 100 }));
}

#[test]
fn vlans_all_or_nothing_with_a_trunk() {
    let trunk = json!([{ "minID": 200, "maxID": 202 }, { "id": 300 }]);
    vlans_all_or_nothing(
        &json!({ "vlanTrunk": trunk, "preserveDefaultVlan": true, "isDefaultGateway": false, "ipam": {} }),
    );
}

/// The host knows the MAC address of the pod that had an address before; the next pod under that address is reached at once.
#[test]
fn an_address_that_comes_back_is_not_looked_for_at_the_old_mac() {
    let node = Node::heddle();
    let ipam = node.ipam(&["10.88.0.0/30", "fd88::/126"]);
    let conf = conf(&node, &json!({ "ipam": ipam }));
    let (old, new) = (node.pod("old"), node.pod("new"));
    // So that the bridge has a port throughout, and keeps what it knows.
    let mut other =
        json!({ "cniVersion": "1.1.0", "name": "l2", "type": "bridge", "bridge": "br0" });
    other["hairpinMode"] = json!(true);
    let stays = node.pod("other");
    node.add("bridge", &stays, &other);
    node.add("bridge", &old, &conf);
    node.del("bridge", &old, &conf);
    for (address, kind) in
        [("10.88.0.2", "reachable"), ("fd88::2", "reachable"), ("fd88::3", "reachable")]
    {
        node.sh(&format!("ip neigh replace {address} lladdr 02:00:00:00:00:99 dev br0 nud {kind}"));
    }
    node.add("bridge", &new, &conf);
    let known = node.sh("ip neigh show dev br0");
    // fd88::2 is at rest and nobody's, so it is known as before: it was not the kernel that forgot the others.
    let old_mac: Vec<_> = known.lines().filter(|line| line.contains("02:00:00:00:00:99")).collect();
    assert_eq!(old_mac.len(), 1, "{known}");
    assert!(old_mac[0].starts_with("fd88::2 "), "{known}");
    for (server, gateway) in [("10.88.0.2:80", "10.88.0.1"), ("[fd88::3]:80", "fd88::1")] {
        traffic::serve(&new.ns, server, 1);
        assert_eq!(traffic::fetch(&node.ns, server).as_deref(), Some(gateway));
    }

    // What somebody set is meant for whoever gets the address.
    node.del("bridge", &new, &conf);
    node.sh("ip neigh replace 10.88.0.2 lladdr 02:00:00:00:00:98 dev br0 nud permanent");
    let mut fixed = conf.clone();
    fixed["runtimeConfig"] = json!({ "mac": "02:00:00:00:00:98" });
    node.add("bridge", &node.pod("fixed"), &fixed);
    assert!(node.sh("ip neigh show dev br0").contains("02:00:00:00:00:98 PERMANENT"));
}
