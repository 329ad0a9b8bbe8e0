//! An ADD that fails at any of its steps leaves nothing; one that dies there leaves only what the next DEL removes.

mod node;

use node::Node;
use node::faults::{Scene, prove, scene};
use serde_json::{Value, json};

fn nothing(_: &str) -> bool {
    false
}

fn bridge(extra: &Value) -> Scene {
    scene(|node: &Node| {
        let mut conf = json!({
            "cniVersion": "1.1.0",
            "name": "testnet",
            "type": "bridge",
            "bridge": "br0",
            "isDefaultGateway": true,
            "ipam": node.ipam(&["10.88.0.0/24", "fd00:88::/64"]),
        });
        conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        conf
    })
}

/// A bridge stays after the DEL of its last port, as in the reference.
fn of_the_bridge(line: &str) -> bool {
    line.contains("br0") || line.contains("10.88.0.") || line.contains("fd00:88::")
}

#[test]
fn bridge_with_masquerading() {
    prove("bridge", || bridge(&json!({ "ipMasq": true })), of_the_bridge);
}

#[test]
fn bridge_without_addresses() {
    prove("bridge", || bridge(&json!({ "ipam": {} })), of_the_bridge);
}

#[test]
fn host_local() {
    let conf = |node: &Node| json!({ "cniVersion": "1.1.0", "name": "testnet", "type": "host-local", "ipam": node.ipam(&["10.88.0.0/24"]) });
    prove("host-local", || scene(conf), nothing);
}

#[test]
fn loopback() {
    let once_up = || {
        let scene = scene(|_| json!({ "cniVersion": "1.1.0", "name": "lo", "type": "loopback" }));
        // The kernel gives lo its address the first time, and leaves it there.
        scene.pod.sh("ip link set lo up; ip link set lo down");
        scene
    };
    prove("loopback", once_up, nothing);
}
