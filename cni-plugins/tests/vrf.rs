//! `vrf` in namespaces. Where the kernel has VRFs, everything is done; where it has none, what can be seen without.

mod node;

use node::faults::{prove_but, scene};
use node::{Node, Pod, Suite, with_prev};
use serde_json::{Value, json};

fn conf(extra: &Value) -> Value {
    let mut conf =
        json!({ "cniVersion": "1.1.0", "name": "testnet", "type": "vrf", "vrfname": "blue" });
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    conf
}

fn prev(pod: &Pod) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "interfaces": [{ "name": "eth0", "mac": "0a:58:00:00:00:01", "sandbox": pod.path() }],
        "ips": [{ "interface": 0, "address": "10.88.0.2/24" }],
    })
}

fn with_eth0(pod: &Pod) {
    pod.sh("ip link add eth0 type veth peer name far && ip link set far up && ip link set eth0 up");
    pod.sh("ip addr add 10.88.0.2/24 dev eth0 && ip route add 10.9.0.0/16 via 10.88.0.1");
}

fn pod(node: &Node) -> Pod {
    let pod = node.pod("c");
    with_eth0(&pod);
    pod
}

/// Whether this kernel has VRFs; says so if not.
fn kernel_has_vrfs(node: &Node, what: &str) -> bool {
    let has = node.ns.netlink().has_link_kind("vrf").unwrap();
    if !has {
        println!("not proven on this kernel: {what} (it has no VRF devices)");
    }
    has
}

#[test]
fn add_check_del() {
    let node = Node::heddle();
    let pod = pod(&node);
    let conf = with_prev(&conf(&json!({})), &prev(&pod));
    if !kernel_has_vrfs(&node, "ADD, CHECK and DEL of a VRF") {
        let before = pod.sh("ip addr; ip route show table all; ip -o link");
        let refused = node.call("vrf", "ADD", &pod, &conf);
        assert_eq!(refused.error(), (112, "could not add VRF blue".into()));
        let told = "this kernel has no such kind of link (modprobe may add it)";
        assert!(refused.json()["details"].as_str().unwrap().contains(told), "{refused:#?}");
        let normal = |text: String| -> Vec<String> {
            text.lines().filter(|line| !line.contains("lft")).map(str::to_owned).collect()
        };
        let after = pod.sh("ip addr; ip route show table all; ip -o link");
        let (before, after) = (normal(before), normal(after));
        assert!(before.iter().all(|line| after.contains(line)), "{before:#?} {after:#?}");
        return;
    }
    let result = node.add("vrf", &pod, &conf);
    assert_eq!(result["ips"], conf["prevResult"]["ips"]);
    assert!(pod.sh("ip -d link show blue").contains("vrf table 1"));
    assert!(pod.sh("ip route show table 1").contains("10.9.0.0/16 via 10.88.0.1"));
    assert!(node.call("vrf", "CHECK", &pod, &conf).ok);
    for _ in 0..2 {
        node.del("vrf", &pod, &conf);
        assert!(!pod.sh("ip -o link").contains("blue"));
    }
}

#[test]
fn faults() {
    if !kernel_has_vrfs(&Node::heddle(), "an ADD that fails or dies at any step leaves nothing") {
        return;
    }
    let make = || {
        let mut scene = scene(|_| conf(&json!({})));
        with_eth0(&scene.pod);
        scene.conf = with_prev(&scene.conf, &prev(&scene.pod));
        scene
    };
    // The kernel drops the interface's routes on the way into the VRF and out of it; DEL gives none back, because the interface
    // goes next.
    prove_but("vrf", make, |_| false, |line| line.contains("10.9.0.0/16"));
}

#[test]
fn refusals_before_anything_is_done() {
    let node = Node::heddle();
    let pod = pod(&node);
    let call = |extra: Value| {
        node.call("vrf", "ADD", &pod, &with_prev(&conf(&extra), &prev(&pod))).error()
    };
    let alone = node.call("vrf", "ADD", &pod, &conf(&json!({})));
    assert_eq!(alone.error(), (7, "missing prevResult from earlier plugin".into()));
    let nameless = call(json!({ "vrfname": "" }));
    assert_eq!(nameless, (7, "configuration is expected to have a valid vrf name".into()));
    assert_eq!(call(json!({ "vrfname": "far" })), (111, "Netlink far is not a VRF".into()));
    pod.sh("ip link add br1 type bridge && ip link set eth0 master br1");
    assert_eq!(call(json!({})), (111, "interface eth0 has already a master set: br1".into()));
    let nobody = Pod { ifname: "net9".into(), id: "c".into(), ns: node.pod("x").ns };
    let missing = node.call("vrf", "ADD", &nobody, &with_prev(&conf(&json!({})), &prev(&nobody)));
    assert_eq!(missing.error(), (111, "could not get link by name net9".into()));
    let old = with_prev(&conf(&json!({ "cniVersion": "0.3.0" })), &prev(&pod));
    assert_eq!(node.call("vrf", "ADD", &pod, &old).error().0, 1);
}

#[test]
fn what_is_missing_is_told_or_deleted() {
    let node = Node::heddle();
    let pod = pod(&node);
    let conf = with_prev(&conf(&json!({})), &prev(&pod));
    let gone = node.call("vrf", "CHECK", &pod, &conf);
    assert_eq!(gone.error().0, 110);
    assert!(gone.stdout.contains("VRF blue is missing"), "{gone:#?}");
    pod.sh("ip link add br1 type bridge && ip link set eth0 master br1");
    node.del("vrf", &pod, &conf);
    assert!(pod.sh("ip -o link show eth0").contains("master br1"), "another's port");
    // A quirk that is not copied: the reference fails when the interface is gone.
    pod.sh("ip link del eth0");
    node.del("vrf", &pod, &conf);
    for netns in ["", "/run/netns/no-such-namespace"] {
        assert!(node.call_with("vrf", "DEL", &pod, &conf, &[("CNI_NETNS", netns)]).ok);
    }
}

#[test]
fn status() {
    let node = Node::heddle();
    let pod = node.pod("c");
    let status = node.call("vrf", "STATUS", &pod, &conf(&json!({})));
    if node.ns.netlink().has_link_kind("vrf").unwrap() {
        assert!(status.ok, "{status:#?}");
    } else {
        assert_eq!(status.error(), (50, "this kernel has no VRFs".into()));
    }
    assert_eq!(node.sh("ip -o link").lines().count(), 1, "asking makes nothing");
    assert_eq!(node.call("vrf", "STATUS", &pod, &conf(&json!({ "vrfname": "" }))).error().0, 7);
}

/// What both refuse, both refuse in the same words; what both delete, both delete.
#[test]
fn the_reference_does_the_same() {
    let refusal = |suite| {
        let node = Node::new(suite);
        let pod = pod(&node);
        let mut told = Vec::new();
        for extra in [json!({ "vrfname": "" }), json!({ "vrfname": "far" })] {
            let mut conf = with_prev(&conf(&extra), &prev(&pod));
            conf["cniVersion"] = json!("1.0.0");
            let (_, msg) = node.call("vrf", "ADD", &pod, &conf).error();
            // A quirk that is not copied: it says where in its own code it is.
            told.push(msg.trim_start_matches("cmdAdd failed: ").to_owned());
            if !conf["vrfname"].as_str().unwrap().is_empty() {
                conf["vrfname"] = json!("blue");
                node.del("vrf", &pod, &conf);
            }
        }
        told
    };
    assert_eq!(refusal(Suite::Heddle), refusal(Suite::Reference));
}
