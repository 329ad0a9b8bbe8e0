//! Whatever fails, dies, is damaged or gone: nothing is left.

use std::fs;
use std::time::Instant;

use serde_json::{Value, json};

use crate::node::faults::{Scene, prove, scene};
use crate::node::{Node, state, with_prev};
use crate::world::*;

fn fault_scene(mode: &str, delegate: &Value) -> Scene {
    scene(|node: &Node| {
        write_lease(node, LEASE);
        conf(node, &json!({ "mode": mode, "delegate": delegate }))
    })
}

/// A bridge stays after the DEL of its last port, as in the reference.
fn of_the_bridge(line: &str) -> bool {
    ["br0", "10.244.1.", "fd00:244:0:1:"].iter().any(|part| line.contains(part))
}

#[test]
fn all_or_nothing_on_a_bridge() {
    prove("overlay", || fault_scene("bridge", &json!({})), of_the_bridge);
}

#[test]
fn all_or_nothing_with_masquerading() {
    prove("overlay", || fault_scene("bridge", &json!({ "ipMasq": true })), of_the_bridge);
}

#[test]
fn all_or_nothing_routed() {
    prove("overlay", || fault_scene("ptp", &json!({})), |_| false);
}

/// A second ADD of what is attached fails, and neither the attachment nor what is remembered of it suffers.
#[test]
fn an_add_of_what_is_attached() {
    for mode in MODES {
        let node = leased();
        let (conf, pod) = (of_mode(&node, mode), node.pod("a"));
        let result = node.add("overlay", &pod, &conf);
        let before = fs::read(data_dir(&node).join("a:eth0.json")).unwrap();
        assert!(!node.call("overlay", "ADD", &pod, &of_mode(&node, "bridge")).ok);
        assert_eq!(fs::read(data_dir(&node).join("a:eth0.json")).unwrap(), before);
        assert!(check(&node, &pod, &conf, &result).ok, "{mode}");
        node.del("overlay", &pod, &conf);
        assert_nothing_left(&node);
    }
}

/// DEL undoes what was delegated, whatever the configuration and the lease say by then; and does without anything that could tell it.
#[test]
fn del_whatever_has_become_of_the_rest() {
    type Damage = fn(&Node, &mut Value);
    let damages: [(&str, Damage); 9] = [
        ("the lease is gone", |node, _| fs::remove_file(lease_file(node)).unwrap()),
        ("the lease is another", |node, _| write_lease(node, &LEASE.replace(".1.1/24", ".9.1/24"))),
        ("the lease is broken", |node, _| write_lease(node, "HEDDLE_MTU=x")),
        ("the mode was switched", |_, conf| {
            let other = if conf["mode"] == "ptp" { "bridge" } else { "ptp" };
            conf["mode"] = json!(other);
        }),
        ("the configuration is wrong", |_, conf| {
            conf["mode"] = json!(7);
            conf["delegate"] = json!({ "name": "x", "mtu": -1 });
        }),
        ("nothing is remembered", |node, _| fs::remove_dir_all(data_dir(node)).unwrap()),
        ("nothing is remembered and the lease is gone", |node, _| {
            fs::remove_dir_all(data_dir(node)).unwrap();
            fs::remove_file(lease_file(node)).unwrap();
        }),
        ("what is remembered is broken", |node, _| {
            fs::write(data_dir(node).join("a:eth0.json"), "{\"network\":").unwrap();
        }),
        ("what is remembered is hostile", |node, _| {
            let text = json!({ "network": "testnet", "containerID": "a", "ifname": "eth0", "netns": "/", "followsMtu": true,
                "delegate": { "type": "../../../bin/sh", "name": "testnet" } });
            fs::write(data_dir(node).join("a:eth0.json"), text.to_string()).unwrap();
        }),
    ];
    for mode in MODES {
        for (name, damage) in damages {
            let node = leased();
            let (mut conf, pod) = (of_mode(&node, mode), node.pod("a"));
            node.add("overlay", &pod, &conf);
            damage(&node, &mut conf);
            let answer = node.call("overlay", "DEL", &pod, &conf);
            assert!(answer.ok, "{mode}, {name}: {answer:#?}");
            println!("{mode}, {name}");
            assert_nothing_left(&node);
            node.del("overlay", &pod, &conf);
        }
        let node = leased();
        let (conf, pod) = (of_mode(&node, mode), node.pod("a"));
        node.add("overlay", &pod, &conf);
        let gone = [("CNI_NETNS", "/run/netns/no-such-namespace")];
        let answer = node.call_with("overlay", "DEL", &pod, &conf, &gone);
        assert!(answer.ok, "{answer:#?}");
        assert_nothing_left(&node);
    }
}

/// A DEL that fails keeps what the next one needs.
#[test]
fn a_failed_del_can_be_repeated() {
    let node = leased();
    let (conf, pod) = (of_mode(&node, "ptp"), node.pod("a"));
    node.add("overlay", &pod, &conf);
    let file = node.bin_dir().join("ptp");
    fs::rename(&file, file.with_extension("away")).unwrap();
    assert!(!node.call("overlay", "DEL", &pod, &conf).ok);
    assert_eq!(remembered(&node), ["a:eth0.json"]);
    fs::rename(file.with_extension("away"), &file).unwrap();
    node.del("overlay", &pod, &conf);
    assert_nothing_left(&node);
}

/// Containers that flannel's plugin attached are detached by what it has written down.
#[test]
fn what_flannels_plugin_left() {
    let node = leased();
    let (conf, pod) = (conf(&node, &json!({ "mode": "ptp" })), node.pod("a"));
    let delegate = json!({
        "cniVersion": "1.0.0", "name": "testnet", "type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": true, "mtu": 1450,
        "ipam": node.ipam(&["10.244.1.0/24"]),
    });
    node.add("bridge", &pod, &delegate);
    fs::create_dir_all(data_dir(&node)).unwrap();
    fs::write(data_dir(&node).join("a"), delegate.to_string()).unwrap();
    node.del("overlay", &pod, &conf);
    assert_nothing_left(&node);
}

#[test]
fn garbage_of_either_mode() {
    let node = leased();
    let (bridge, ptp) =
        (conf(&node, &json!({ "delegate": { "ipMasq": true } })), of_mode(&node, "ptp"));
    let (a, b, c) = (node.pod("a"), node.pod("b"), node.pod("c"));
    node.add("overlay", &a, &bridge);
    node.add("overlay", &b, &ptp);
    let result = node.add("overlay", &c, &ptp);
    assert!(gc(&node, &ptp, &[&a, &b, &c]).ok);
    assert_eq!((veths(&node), remembered(&node).len()), (3, 3));
    // the lease is gone, and the mode is the other one by now
    fs::remove_file(lease_file(&node)).unwrap();
    assert!(gc(&node, &ptp, &[&c]).ok);
    assert_eq!((veths(&node), node.leases("testnet").len()), (1, 2));
    assert_eq!(remembered(&node), ["c:eth0.json"]);
    assert!(!node.sh("iptables-save").contains("CNI-"), "the bridge's rules went with it");
    let answer = check(&node, &c, &ptp, &result);
    assert!(answer.ok, "CHECK goes by what is remembered: {answer:#?}");
    assert!(gc(&node, &bridge, &[]).ok);
    assert_nothing_left(&node);
}

/// Many at once, with one lease: each has its own file, and nothing of any is left.
#[test]
fn many_at_once() {
    let node = leased();
    let conf = conf(&node, &json!({}));
    let pods: Vec<_> = (0..12).map(|number| node.pod(&format!("pod{number}"))).collect();
    for command in ["ADD", "DEL"] {
        let calls: Vec<_> =
            pods.iter().map(|pod| node.prepare("overlay", command, pod, &conf, &[])).collect();
        let threads: Vec<_> = calls
            .into_iter()
            .map(|mut call| call.spawn())
            .map(|child| std::thread::spawn(move || child.wait_with_output().unwrap()))
            .collect();
        for thread in threads {
            let output = thread.join().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
        let expected = if command == "ADD" { 12 } else { 0 };
        assert_eq!((veths(&node), remembered(&node).len()), (expected, expected));
    }
    assert_nothing_left(&node);
}

/// A scene of a whole life leaves the kernel as it was.
#[test]
fn nothing_is_left_of_a_life() {
    let Scene { node, pod, conf } = scene(|node| {
        write_lease(node, LEASE);
        of_mode(node, "ptp")
    });
    node.sh("sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    let before = json!(state::of(&node.ns));
    let result = node.add("overlay", &pod, &conf);
    node.del("overlay", &pod, &with_prev(&conf, &result));
    let start = Instant::now();
    loop {
        let found = state::differences("", &json!(state::of(&node.ns)), &before);
        if found.is_empty() {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{found:#?}");
    }
}
