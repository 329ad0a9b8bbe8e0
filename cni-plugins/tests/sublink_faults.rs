//! An ADD of `macvlan`, `ipvlan`, `vlan` or `dummy` that fails at any of its steps leaves nothing; one that dies there leaves only
//! what the next DEL removes.

mod node;

use netns_tools::testing::TestNetns;
use node::faults::{Scene, prove};
use node::uplink::{FAR, OUTSIDE, OUTSIDE_V6, Uplink, conf, proven_here};
use node::{Pod, Suite};
use serde_json::{Value, json};

/// A node with an uplink whose other end is in the pod's namespace: a scene has no place for a third.
fn scene(plugin: &str, extra: &Value) -> Scene {
    let Uplink { node, outside } = Uplink::new(Suite::Heddle);
    for address in [OUTSIDE, OUTSIDE_V6] {
        let prefix = if address == OUTSIDE { 24 } else { 64 };
        outside.cmd(&["ip", "addr", "del", &format!("{address}/{prefix}"), "dev", FAR]);
    }
    let pod = Pod { ns: outside, id: "c1".into(), ifname: "eth0".into() };
    let mut conf = conf(&node, plugin, extra);
    if !conf["ipam"].is_null() {
        conf["ipam"]["routes"] = json!([{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]);
    }
    Scene { node, pod, conf }
}

fn nothing(_: &str) -> bool {
    false
}

fn kernel_has(kind: &str) -> bool {
    proven_here(&TestNetns::new("probe"), kind)
}

#[test]
fn macvlan_with_addresses() {
    prove("macvlan", || scene("macvlan", &json!({})), nothing);
}

#[test]
fn macvlan_without_addresses() {
    prove("macvlan", || scene("macvlan", &json!({ "ipam": null })), nothing);
}

#[test]
fn macvlan_in_passthru_mode_with_a_mac_address() {
    let extra = json!({ "mode": "passthru", "mac": "0a:58:00:00:00:01", "ipam": null });
    prove("macvlan", || scene("macvlan", &extra), nothing);
}

#[test]
fn macvlan_on_a_link_of_the_container() {
    let extra = json!({ "master": FAR, "linkInContainer": true });
    prove("macvlan", || scene("macvlan", &extra), nothing);
}

#[test]
fn ipvlan() {
    if kernel_has("ipvlan") {
        prove("ipvlan", || scene("ipvlan", &json!({})), nothing);
    }
}

#[test]
fn ipvlan_after_another_plugin() {
    if kernel_has("ipvlan") {
        let prev = json!({
            "cniVersion": "1.1.0",
            "interfaces": [{ "name": "up0" }],
            "ips": [
                { "address": "10.77.0.2/24", "gateway": OUTSIDE, "interface": 0 },
                { "address": "fd77::2/64", "gateway": OUTSIDE_V6, "interface": 0 },
            ],
        });
        let extra = json!({ "master": null, "ipam": null, "prevResult": prev });
        prove("ipvlan", || scene("ipvlan", &extra), nothing);
    }
}

#[test]
fn vlan() {
    if kernel_has("vlan") {
        prove("vlan", || scene("vlan", &json!({ "vlanId": 5 })), nothing);
    }
}

#[test]
fn dummy() {
    if kernel_has("dummy") {
        prove("dummy", || scene("dummy", &json!({})), nothing);
    }
}
