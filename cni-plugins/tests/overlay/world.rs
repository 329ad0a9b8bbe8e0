//! What the tests share: a node with a lease, and another node.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use netns_tools::testing::TestNetns;
use serde_json::{Value, json};

use crate::node::{Answer, Node, Pod, with_prev};

pub const MODES: [&str; 2] = ["bridge", "ptp"];
pub const LEASE: &str = "HEDDLE_NETWORK=10.244.0.0/16\nHEDDLE_SUBNET=10.244.1.1/24\nHEDDLE_IPV6_NETWORK=fd00:244::/48\n\
    HEDDLE_IPV6_SUBNET=fd00:244:0:1::1/64\nHEDDLE_MTU=1450\nHEDDLE_IPMASQ=true\n";
/// How long the kernel may take for what it does in the background.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn lease_file(node: &Node) -> PathBuf {
    node.dir.path().join("run/subnet.env")
}

pub fn write_lease(node: &Node, text: &str) {
    fs::create_dir_all(lease_file(node).parent().unwrap()).unwrap();
    fs::write(lease_file(node), text).unwrap();
}

pub fn data_dir(node: &Node) -> PathBuf {
    node.dir.path().join("overlay")
}

/// A configuration with more keys; those of `delegate` and `ipam` are completed.
pub fn conf(node: &Node, extra: &Value) -> Value {
    let mut conf = json!({
        "cniVersion": "1.1.0", "name": "testnet", "type": "overlay", "subnetFile": lease_file(node), "dataDir": data_dir(node),
    });
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    conf["ipam"]["dataDir"] = json!(node.data_dir());
    if conf["delegate"]["bridge"].is_null() {
        conf["delegate"]["bridge"] = json!("br0");
    }
    conf
}

pub fn of_mode(node: &Node, mode: &str) -> Value {
    conf(node, &json!({ "mode": mode }))
}

pub fn leased() -> Node {
    let node = Node::heddle();
    write_lease(&node, LEASE);
    node
}

pub fn check(node: &Node, pod: &Pod, conf: &Value, result: &Value) -> Answer {
    node.call("overlay", "CHECK", pod, &with_prev(conf, result))
}

pub fn gc(node: &Node, conf: &Value, valid: &[&Pod]) -> Answer {
    let list = valid.iter().map(|pod| json!({ "containerID": pod.id, "ifname": pod.ifname }));
    let mut conf = conf.clone();
    conf["cni.dev/valid-attachments"] = list.collect();
    let unset = [("CNI_CONTAINERID", ""), ("CNI_IFNAME", ""), ("CNI_NETNS", "")];
    node.call_with("overlay", "GC", &node.pod("any"), &conf, &unset)
}

pub fn veths(node: &Node) -> usize {
    node.sh("ip -o link show type veth").lines().count()
}

/// The files of what is remembered.
pub fn remembered(node: &Node) -> Vec<String> {
    let Ok(entries) = fs::read_dir(data_dir(node)) else { return Vec::new() };
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[track_caller]
pub fn assert_nothing_left(node: &Node) {
    assert_eq!(node.sh("ip -o link show type veth | grep -v up0 || true"), "");
    assert_eq!((node.leases("testnet"), remembered(node)), (vec![], vec![]));
    assert!(!node.sh("iptables-save; ip6tables-save").contains("CNI-"));
}

pub fn address(result: &Value, index: usize) -> String {
    let address = result["ips"][index]["address"].as_str().unwrap();
    address.split('/').next().unwrap().to_owned()
}

pub fn at(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:80") } else { format!("{ip}:80") }
}

/// Another node's pod, behind an underlay link with routes either way, and a machine of the world at the same place.
pub fn far(node: &Node) -> Pod {
    let far = node.pod("far");
    node.sh(&format!(
        "ip link add up0 type veth peer name eth0 netns {} && echo 0 > /proc/sys/net/ipv6/conf/up0/accept_dad && ip addr add 192.0.2.1/24 dev up0 && ip link set up0 up \
         && ip -6 addr add 2001:db8::1/64 dev up0 nodad && ip route add 10.244.2.0/24 via 192.0.2.2 \
         && ip -6 route add fd00:244:0:2::/64 via 2001:db8::2",
        far.ns.name()
    ));
    far.sh(
        "echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad && ip addr add 192.0.2.2/24 dev eth0 && ip addr add 10.244.2.2/32 dev eth0 && ip link set eth0 up \
         && ip -6 addr add 2001:db8::2/64 dev eth0 nodad && ip -6 addr add fd00:244:0:2::2/128 dev eth0 nodad \
         && ip route add 10.244.1.0/24 via 192.0.2.1 && ip -6 route add fd00:244:0:1::/64 via 2001:db8::1",
    );
    far
}

pub fn mtu(ns: &TestNetns, link: &str) -> u32 {
    ns.link(link).mtu
}
