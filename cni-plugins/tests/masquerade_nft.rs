//! `ipMasqBackend`: masquerading with nftables, by bridge and by ptp.

mod node;

use std::collections::BTreeSet;

use netns_tools::testing::{End, TestNetns, veth_pair};
use node::faults::{Scene, prove, scene};
use node::{HIDE_SBIN, Node, Pod, traffic, with_prev};
use serde_json::{Value, json};

/// `printf testnet | sha512sum` and so on: as the reference makes them.
const NETWORK: &str = "testnet";

fn conf(node: &Node, plugin: &str, extra: &Value) -> Value {
    let mut conf = json!({
        "cniVersion": "1.1.0",
        "name": NETWORK,
        "type": plugin,
        "ipMasq": true,
        "ipMasqBackend": "nftables",
        "ipam": node.ipam(&["10.88.0.0/24", "fd00:88::/64"]),
    });
    if plugin == "bridge" {
        conf["bridge"] = json!("br0");
        conf["isDefaultGateway"] = json!(true);
    } else {
        conf["ipam"]["routes"] = json!([{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]);
    }
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    conf
}

fn ruleset(node: &Node) -> String {
    node.sh("nft list ruleset")
}

/// The comments of the rules that masquerade.
fn comments(node: &Node) -> Vec<String> {
    let text = node.sh("nft list table inet cni_plugins_masquerade 2>/dev/null || true");
    let mut found: Vec<_> = text
        .lines()
        .filter_map(|line| line.trim().strip_suffix('"')?.split_once("masquerade comment \""))
        .map(|(_, comment)| comment.to_owned())
        .collect();
    found.sort();
    found
}

/// Somewhere else, behind the node: it knows the way to nobody's containers.
fn outside(node: &Node) -> TestNetns {
    let outside = TestNetns::new("hout");
    veth_pair(
        End(&outside, "eth0", &["192.0.2.2/24", "2001:db8::2/64"]),
        End(&node.ns, "up0", &["192.0.2.1/24", "2001:db8::1/64"]),
    );
    outside
}

fn sha512(text: &str) -> String {
    let output = std::process::Command::new("sh")
        .args(["-c", "printf %s \"$0\" | sha512sum | cut -c 1-16", text])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn packets_leave_under_the_node_s_address() {
    for plugin in ["bridge", "ptp"] {
        let node = Node::heddle();
        let outside = outside(&node);
        let (pod, conf) = (node.pod("c1"), conf(&node, plugin, &json!({})));
        let result = node.add(plugin, &pod, &conf);
        for (server, seen) in [("192.0.2.2:80", "192.0.2.1"), ("[2001:db8::2]:80", "2001:db8::1")] {
            traffic::serve(&outside, server, 1);
            assert_eq!(pod.fetch(server).as_deref(), Some(seen), "{plugin}");
        }
        assert!(!node.sh("iptables-save").contains("MASQUERADE"));
        assert!(node.call(plugin, "CHECK", &pod, &with_prev(&conf, &result)).ok);
        node.sh("nft flush chain inet cni_plugins_masquerade masq_checks");
        let drifted = node.call(plugin, "CHECK", &pod, &with_prev(&conf, &result));
        assert_eq!(drifted.error().0, 110);
        assert!(drifted.stdout.contains("masquerading rules are missing"), "{drifted:#?}");
        node.del(plugin, &pod, &conf);
    }
}

#[test]
fn table_chains_and_comments_are_the_reference_s() {
    let node = Node::heddle();
    let (pod, conf) = (node.pod("c1"), conf(&node, "bridge", &json!({})));
    node.add("bridge", &pod, &conf);
    let (network, instance) = (sha512(NETWORK), sha512("eth0:c1"));
    let comment = format!("{network}-{instance}, net: {NETWORK}, if: eth0, id: c1");
    let expected = format!(
        "table inet cni_plugins_masquerade {{\n\
         \tcomment \"Masquerading for plugins from github.com/containernetworking/plugins\"\n\
         \tchain masq_checks {{\n\
         \t\tcomment \"Masquerade traffic from certain IPs to any (non-multicast) IP outside their subnet\"\n\
         \t\tip saddr 10.88.0.2 ip daddr != 10.88.0.0/24 masquerade comment \"{comment}\"\n\
         \t\tip6 saddr fd00:88::2 ip6 daddr != fd00:88::/64 masquerade comment \"{comment}\"\n\
         \t}}\n\n\
         \tchain postrouting {{\n\
         \t\ttype nat hook postrouting priority srcnat; policy accept;\n\
         \t\tip daddr 224.0.0.0/4 return\n\
         \t\tip6 daddr ff00::/8 return\n\
         \t\tgoto masq_checks\n\
         \t}}\n}}\n"
    );
    assert_eq!(ruleset(&node), expected);
    node.del("bridge", &pod, &conf);
    assert_eq!(comments(&node), [""; 0]);
    // Again, and without a namespace.
    node.del("bridge", &pod, &conf);
}

#[test]
fn what_an_earlier_attempt_left_is_replaced_and_a_disturbed_table_repaired() {
    let node = Node::heddle();
    let (pod, other) = (node.pod("c1"), node.pod("c2"));
    let conf = conf(&node, "bridge", &json!({}));
    node.add("bridge", &other, &conf);
    node.add("bridge", &pod, &conf);
    let before = comments(&node);
    assert_eq!(before.len(), 4);
    // The interface goes without a DEL, somebody empties the base chain, the container is attached again.
    pod.sh("ip link del eth0");
    node.sh("nft flush chain inet cni_plugins_masquerade postrouting");
    let mut again = conf.clone();
    again["ipam"]["dataDir"] = json!(node.data_dir().join("other"));
    node.add("bridge", &pod, &again);
    assert_eq!(comments(&node), before);
    assert!(ruleset(&node).contains("goto masq_checks"));
    node.del("bridge", &pod, &again);
    assert_eq!(comments(&node).len(), 2);
}

#[test]
fn nftables_serves_where_iptables_cannot_be_used_and_iptables_comes_first() {
    let node = Node::heddle();
    let (pod, other) = (node.pod("c1"), node.pod("c2"));
    let conf = conf(&node, "bridge", &json!({ "ipMasqBackend": "" }));
    let hidden = [(HIDE_SBIN, "1")];
    let added = node.call_with("bridge", "ADD", &pod, &conf, &hidden);
    assert!(added.ok, "{added:#?}");
    assert_eq!(comments(&node).len(), 2);
    node.add("bridge", &other, &conf);
    assert_eq!(comments(&node).len(), 2);
    assert!(node.sh("iptables-save -t nat").contains("id: \\\"c2\\\""));
    // DEL looks for both kinds, whatever the configuration says by now.
    for (pod, backend, env) in [(&pod, "iptables", &hidden[..]), (&other, "nftables", &[])] {
        let mut conf = conf.clone();
        conf["ipMasqBackend"] = json!(backend);
        let deleted = node.call_with("bridge", "DEL", pod, &conf, env);
        assert!(deleted.ok, "{deleted:#?}");
    }
    assert_eq!(comments(&node), [""; 0]);
    assert!(!node.sh("iptables-save -t nat").contains("MASQUERADE"));
}

#[test]
fn garbage_of_both_kinds_is_collected() {
    let node = Node::heddle();
    let pods: Vec<Pod> = ["gone", "lives", "stranger"].iter().map(|id| node.pod(id)).collect();
    let conf = |extra| conf(&node, "bridge", &extra);
    node.add("bridge", &pods[0], &conf(json!({})));
    node.add("bridge", &pods[1], &conf(json!({})));
    node.add("bridge", &pods[2], &conf(json!({ "name": "another", "bridge": "br0" })));
    let other = Pod { ns: TestNetns::new("hpod"), id: "gone2".into(), ifname: "eth0".into() };
    node.add("bridge", &other, &conf(json!({ "ipMasqBackend": "iptables" })));
    assert_eq!(comments(&node).len(), 6);
    let valid = json!([{ "containerID": "lives", "ifname": "eth0" }]);
    let gc =
        node.call("bridge", "GC", &pods[1], &conf(json!({ "cni.dev/valid-attachments": valid })));
    assert!(gc.ok, "{gc:#?}");
    let left: BTreeSet<_> = comments(&node)
        .iter()
        .map(|comment| comment.rsplit(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(left, BTreeSet::from(["lives".to_owned(), "stranger".to_owned()]));
    assert!(!node.sh("iptables-save -t nat").contains("MASQUERADE"));
}

#[test]
fn many_at_once() {
    let node = Node::heddle();
    let conf = conf(&node, "bridge", &json!({}));
    let pods: Vec<_> = (0..12).map(|n| node.pod(&format!("c{n}"))).collect();
    for command in ["ADD", "DEL"] {
        let calls: Vec<_> =
            pods.iter().map(|pod| node.prepare("bridge", command, pod, &conf, &[])).collect();
        std::thread::scope(|scope| {
            let running: Vec<_> =
                calls.into_iter().map(|call| scope.spawn(move || call.run())).collect();
            for answer in running {
                let answer = answer.join().unwrap();
                assert!(answer.ok, "{command}: {answer:#?}");
            }
        });
        let expected = if command == "ADD" { 24 } else { 0 };
        assert_eq!(comments(&node).len(), expected, "{command}");
    }
}

/// The table stays after the last DEL, as in the reference, with chains that do nothing. An attachment's own rules do not.
fn shared(line: &str) -> bool {
    let own_rule = line.contains(", net: ");
    let table = line.contains("cni_plugins_masquerade") && !own_rule;
    table
        || !own_rule
            && ["br0", "10.88.0.", "fd00:88::"].iter().any(|of_bridge| line.contains(of_bridge))
}

fn scene_of(plugin: &'static str) -> Scene {
    scene(move |node: &Node| conf(node, plugin, &json!({})))
}

#[test]
fn bridge_is_all_or_nothing() {
    prove("bridge", || scene_of("bridge"), shared);
}

#[test]
fn ptp_is_all_or_nothing() {
    prove("ptp", || scene_of("ptp"), shared);
}
