//! `macspoofchk` of bridge: a container cannot send under another MAC address than its own.

mod node;

use std::sync::atomic::{AtomicU16, Ordering};

use node::faults::{Scene, prove, scene};
use node::{Node, Pod, Suite, traffic, with_prev};
use serde_json::{Value, json};

/// A server of its own for each question.
static PORT: AtomicU16 = AtomicU16::new(8000);

fn conf(node: &Node, extra: &Value) -> Value {
    let mut conf = json!({
        "cniVersion": "1.0.0",
        "name": "testnet",
        "type": "bridge",
        "bridge": "br0",
        "isGateway": true,
        "macspoofchk": true,
        "ipam": node.ipam(&["10.88.0.0/24"]),
    });
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    conf
}

/// Whether a connection from the pod comes up. Neighbours are asked for anew, under the address that the interface has now.
fn reaches_gateway(node: &Node, pod: &Pod) -> bool {
    for ns in [&node.ns, &pod.ns] {
        ns.cmd(&["ip", "neigh", "flush", "all"]);
    }
    let port = PORT.fetch_add(1, Ordering::Relaxed);
    let server = format!("10.88.0.1:{port}");
    traffic::serve(&node.ns, &server, 1);
    pod.fetch(&server).is_some()
}

/// The rules about MAC addresses, with the names of interfaces that differ each time left out.
fn rules(node: &Node) -> String {
    let text = node.sh("nft list table bridge nat 2>/dev/null || true");
    let words = text.split('"').map(|word| if word.starts_with("veth") { "VETH" } else { word });
    words.collect::<Vec<_>>().join("\"")
}

fn mac(pod: &Pod) -> String {
    pod.ns.link("eth0").mac.unwrap().to_string()
}

#[test]
fn frames_under_another_address_are_dropped() {
    let node = Node::heddle();
    let (pod, free) = (node.pod("c1"), node.pod("c2"));
    let conf = conf(&node, &json!({ "args": { "cni": { "mac": "0a:58:0a:58:00:02" } } }));
    let result = node.add("bridge", &pod, &conf);
    assert!(reaches_gateway(&node, &pod));
    pod.sh("ip link set eth0 address 0a:58:0a:58:00:66");
    assert!(!reaches_gateway(&node, &pod), "a spoofed address must not get through");
    pod.sh("ip link set eth0 address 0a:58:0a:58:00:02");
    assert!(reaches_gateway(&node, &pod));
    assert!(node.call("bridge", "CHECK", &pod, &with_prev(&conf, &result)).ok);
    node.sh("nft flush chain bridge nat cni-br-iface-c1-eth0");
    let drifted = node.call("bridge", "CHECK", &pod, &with_prev(&conf, &result));
    assert_eq!(drifted.error().0, 110);
    assert!(drifted.stdout.contains("rules about its MAC address"), "{drifted:#?}");
    // Without the key, nobody looks.
    let mut free_conf = conf.clone();
    free_conf["macspoofchk"] = json!(false);
    free_conf["args"] = json!({});
    node.add("bridge", &free, &free_conf);
    free.sh("ip link set eth0 address 0a:58:0a:58:00:77");
    assert!(reaches_gateway(&node, &free));
}

#[test]
fn rules_are_the_reference_s_and_either_suite_removes_the_other_s() {
    let extra = json!({ "args": { "cni": { "mac": "0a:58:0a:58:00:02" } } });
    let mut seen = Vec::new();
    for (adds, deletes) in [(Suite::Heddle, Suite::Reference), (Suite::Reference, Suite::Heddle)] {
        let node = Node::new(adds);
        let (pod, conf) = (node.pod("c1"), conf(&node, &extra));
        node.add("bridge", &pod, &conf);
        seen.push(rules(&node));
        let node = node.with_suite(deletes);
        node.del("bridge", &pod, &conf);
        let left = rules(&node);
        assert!(left.contains("chain PREROUTING") && !left.contains("c1"), "{left}");
    }
    assert_eq!(seen[0], seen[1]);
    assert!(
        seen[0].contains("ether saddr 0a:58:0a:58:00:02 return comment \"macspoofchk-c1-eth0\"")
    );
}

#[test]
fn the_jump_of_an_earlier_attempt_is_replaced() {
    let node = Node::heddle();
    let pod = node.pod("c1");
    let conf = conf(&node, &json!({}));
    node.add("bridge", &pod, &conf);
    let first = mac(&pod);
    pod.sh("ip link del eth0");
    let mut again = conf.clone();
    again["ipam"]["dataDir"] = json!(node.data_dir().join("other"));
    node.add("bridge", &pod, &again);
    let text = rules(&node);
    assert_ne!(mac(&pod), first);
    assert_eq!(text.matches("jump cni-br-iface-c1-eth0 ").count(), 1, "{text}");
    assert!(text.contains(&mac(&pod)) && !text.contains(&first), "{text}");
    assert!(reaches_gateway(&node, &pod));
    node.del("bridge", &pod, &again);
    node.del("bridge", &pod, &again);
    assert!(!rules(&node).contains("c1"));
}

#[test]
fn garbage_is_collected_with_its_interface() {
    let node = Node::heddle();
    let pods = [node.pod("gone"), node.pod("lives"), node.pod("stranger")];
    let conf = |extra| conf(&node, &extra);
    node.add("bridge", &pods[0], &conf(json!({})));
    node.add("bridge", &pods[1], &conf(json!({})));
    node.add("bridge", &pods[2], &conf(json!({ "name": "another" })));
    node.sh("nft 'add rule bridge nat PREROUTING iifname \"none\" counter comment \"not ours\"'");
    let valid = json!({
        "cniVersion": "1.1.0",
        "cni.dev/valid-attachments": [{ "containerID": "lives", "ifname": "eth0" }],
    });
    let gc = node.call("bridge", "GC", &pods[1], &conf(valid));
    assert!(gc.ok, "{gc:#?}");
    let text = rules(&node);
    assert!(!text.contains("gone"), "{text}");
    assert!(text.contains("not ours"), "{text}");
    for id in ["lives", "stranger"] {
        assert_eq!(text.matches(&format!("macspoofchk-{id}-eth0")).count(), 4, "{text}");
    }
    assert!(reaches_gateway(&node, &pods[1]));
}

#[test]
fn what_nftables_could_not_name_is_refused_at_once() {
    let node = Node::heddle();
    let pod = node.pod(&"x".repeat(120));
    let refused = node.call("bridge", "ADD", &pod, &conf(&node, &json!({})));
    let (code, msg) = refused.error();
    assert!(code == 4 && msg.contains("too long for macspoofchk"), "{refused:#?}");
    assert_eq!(node.sh("ip -o link show type veth"), "");
    node.del("bridge", &pod, &conf(&node, &json!({})));
    let status = conf(&node, &json!({ "cniVersion": "1.1.0" }));
    assert!(node.call("bridge", "STATUS", &node.pod("c1"), &status).ok);
}

fn a_scene() -> Scene {
    scene(|node: &Node| conf(node, &json!({})))
}

#[test]
fn it_is_all_or_nothing() {
    // The table and the base chain stay after DEL, as in the reference.
    let shared = |line: &str| {
        let base = line.contains("node nftables") && !line.contains("macspoofchk");
        let own_chain = line.contains("cni-br-iface");
        (base && !own_chain) || line.contains("br0") || line.contains("10.88.0.")
    };
    prove("bridge", a_scene, shared);
}
