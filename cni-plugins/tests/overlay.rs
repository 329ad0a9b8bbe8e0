//! `overlay` in namespaces: real binary, real packets in both modes and families, every fault, and everything that may become of a
//! lease and of what is remembered.

mod node;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use node::faults::{Scene, prove, scene};
use node::{Answer, Node, Pod, assert_error, state, traffic, with_prev};
use serde_json::{Value, json};

const MODES: [&str; 2] = ["bridge", "ptp"];
const LEASE: &str = "HEDDLE_NETWORK=10.244.0.0/16\nHEDDLE_SUBNET=10.244.1.1/24\nHEDDLE_IPV6_NETWORK=fd00:244::/48\n\
    HEDDLE_IPV6_SUBNET=fd00:244:0:1::1/64\nHEDDLE_MTU=1450\nHEDDLE_IPMASQ=true\n";
/// How long the kernel may take for what it does in the background.
const PATIENCE: Duration = Duration::from_secs(20);

fn lease_file(node: &Node) -> PathBuf {
    node.dir.path().join("run/subnet.env")
}

fn write_lease(node: &Node, text: &str) {
    fs::create_dir_all(lease_file(node).parent().unwrap()).unwrap();
    fs::write(lease_file(node), text).unwrap();
}

fn data_dir(node: &Node) -> PathBuf {
    node.dir.path().join("overlay")
}

/// A configuration with more keys; those of `delegate` and `ipam` are completed.
fn conf(node: &Node, extra: &Value) -> Value {
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

fn of_mode(node: &Node, mode: &str) -> Value {
    conf(node, &json!({ "mode": mode }))
}

fn leased() -> Node {
    let node = Node::heddle();
    write_lease(&node, LEASE);
    node
}

fn check(node: &Node, pod: &Pod, conf: &Value, result: &Value) -> Answer {
    node.call("overlay", "CHECK", pod, &with_prev(conf, result))
}

fn gc(node: &Node, conf: &Value, valid: &[&Pod]) -> Answer {
    let list = valid.iter().map(|pod| json!({ "containerID": pod.id, "ifname": pod.ifname }));
    let mut conf = conf.clone();
    conf["cni.dev/valid-attachments"] = list.collect();
    let unset = [("CNI_CONTAINERID", ""), ("CNI_IFNAME", ""), ("CNI_NETNS", "")];
    node.call_with("overlay", "GC", &node.pod("any"), &conf, &unset)
}

fn veths(node: &Node) -> usize {
    node.sh("ip -o link show type veth").lines().count()
}

/// The files of what is remembered.
fn remembered(node: &Node) -> Vec<String> {
    let Ok(entries) = fs::read_dir(data_dir(node)) else { return Vec::new() };
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[track_caller]
fn assert_nothing_left(node: &Node) {
    assert_eq!(node.sh("ip -o link show type veth | grep -v up0 || true"), "");
    assert_eq!((node.leases("testnet"), remembered(node)), (vec![], vec![]));
    assert!(!node.sh("iptables-save; ip6tables-save").contains("CNI-"));
}

fn address(result: &Value, index: usize) -> String {
    let address = result["ips"][index]["address"].as_str().unwrap();
    address.split('/').next().unwrap().to_owned()
}

fn at(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:80") } else { format!("{ip}:80") }
}

/// Another node's pod, behind an underlay link with routes either way, and a machine of the world at the same place.
fn far(node: &Node) -> Pod {
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

#[test]
fn pods_talk_on_the_node_and_to_other_nodes() {
    for mode in MODES {
        let node = leased();
        let far = far(&node);
        let conf = of_mode(&node, mode);
        let (a, b) = (node.pod("a"), node.pod("b"));
        let (result_a, result_b) = (node.add("overlay", &a, &conf), node.add("overlay", &b, &conf));
        for (index, gateway, remote) in
            [(0, "10.244.1.1", "10.244.2.2"), (1, "fd00:244:0:1::1", "fd00:244:0:2::2")]
        {
            let (one, two) = (address(&result_a, index), address(&result_b, index));
            traffic::serve(&b.ns, &at(&two), 2);
            traffic::serve(&node.ns, &at(gateway), 1);
            traffic::serve(&far.ns, &at(remote), 1);
            assert_eq!(a.fetch(&at(&two)), Some(one.clone()), "{mode}: pod to pod");
            let from_node = traffic::fetch(&node.ns, &at(&two));
            assert_eq!(from_node.as_deref(), Some(gateway), "{mode}: node to pod");
            assert_eq!(a.fetch(&at(gateway)), Some(one.clone()), "{mode}: pod to gateway");
            assert_eq!(a.fetch(&at(remote)), Some(one.clone()), "{mode}: to another node's pod");
            traffic::serve(&a.ns, &at(&one), 1);
            let from_far = traffic::fetch(&far.ns, &at(&one));
            assert!(from_far.is_some(), "{mode}: from another node to {one}");
        }
        assert!(a.sh("ip link show eth0").contains("mtu 1450"), "{mode}");
        let is_routed = node.sh("ip -o link show type bridge").is_empty();
        assert_eq!(is_routed, mode == "ptp");
        for (pod, result) in [(&a, &result_a), (&b, &result_b)] {
            let answer = check(&node, pod, &conf, result);
            assert!(answer.ok, "{answer:#?}");
            node.del("overlay", pod, &with_prev(&conf, result));
            node.del("overlay", pod, &conf);
        }
        assert_nothing_left(&node);
    }
}

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

#[test]
fn every_version_of_the_protocol() {
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let node = leased();
        let (mut conf, pod) = (conf(&node, &json!({})), node.pod("a"));
        conf["cniVersion"] = json!(version);
        let result = node.add("overlay", &pod, &conf);
        assert_eq!(result["cniVersion"], version);
        node.del("overlay", &pod, &conf);
        assert_nothing_left(&node);
    }
}

/// The runtime's words reach the delegate and its IPAM plugin: capabilities, `args` and `CNI_ARGS`.
#[test]
fn what_the_runtime_says_reaches_the_delegate() {
    let node = leased();
    let pod = node.pod("a");
    let mut conf = conf(
        &node,
        &json!({ "runtimeConfig": { "mac": "0a:58:0a:f4:01:07" }, "dns": { "nameservers": ["10.96.0.10"] } }),
    );
    conf["args"] = json!({ "cni": { "ips": ["10.244.1.77"] } });
    let env = [("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=web")];
    let answer = node.call_with("overlay", "ADD", &pod, &conf, &env);
    assert!(answer.ok, "{answer:#?}");
    let result = answer.json();
    assert_eq!(result["ips"][0]["address"], "10.244.1.77/24");
    assert_eq!(result["dns"]["nameservers"], json!(["10.96.0.10"]));
    assert!(pod.sh("ip link show eth0").contains("0a:58:0a:f4:01:07"));
    assert!(node.sh("bridge -d link show").contains("hairpin on"));
}

/// Another program as the delegate gets the configuration on its standard input, and is told the same.
#[test]
fn the_delegate_may_be_another_program() {
    for mode in MODES {
        let node = leased();
        let file = node.bin_dir().join(mode);
        fs::remove_file(&file).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_heddle-cni"), &file).unwrap();
        let (conf, pod) = (of_mode(&node, mode), node.pod("a"));
        assert!(node.call("overlay", "STATUS", &pod, &conf).ok);
        let result = node.add("overlay", &pod, &conf);
        let answer = check(&node, &pod, &conf, &result);
        assert!(answer.ok, "{answer:#?}");
        assert!(gc(&node, &conf, &[&pod]).ok && veths(&node) == 1);
        assert!(gc(&node, &conf, &[]).ok);
        assert_nothing_left(&node);
    }
    let node = leased();
    let answer = node.call(
        "overlay",
        "ADD",
        &node.pod("a"),
        &conf(&node, &json!({ "delegate": { "type": "none-such" } })),
    );
    assert_error(&answer, 7, "none-such");
    assert_eq!(remembered(&node), [""; 0], "nothing was delegated");
}

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
    let result = node.add("overlay", &b, &conf);
    assert!(address(&result, 0).starts_with("10.244.7."), "{result}");
    let addresses = node.sh("ip -o -4 addr show dev br0");
    assert!(
        addresses.contains("10.244.7.1/24") && !addresses.contains("10.244.1.1"),
        "{addresses}"
    );
}

fn mtu(ns: &netns_tools::testing::TestNetns, link: &str) -> u32 {
    ns.link(link).mtu
}

/// Pods that are attached already follow, and so does the bridge; what is not ours, or has an MTU of its own, stays.
#[test]
fn links_follow_the_lease() {
    for mode in MODES {
        let node = leased();
        let conf = of_mode(&node, mode);
        let mut fixed = conf.clone();
        fixed["name"] = json!("fixed");
        fixed["delegate"]["bridge"] = json!("br1");
        fixed["delegate"]["mtu"] = json!(1450);
        write_lease(&node, &LEASE.replace("244", "245"));
        let own = node.pod("own");
        node.add("overlay", &own, &fixed);
        write_lease(&node, LEASE);
        let (a, b) = (node.pod("a"), node.pod("b"));
        let results = [&a, &b].map(|pod| node.add("overlay", pod, &conf));
        node.sh("ip link add mine mtu 1450 type veth peer name yours");
        let ends: Vec<_> = results
            .iter()
            .map(|result| {
                let all = result["interfaces"].as_array().unwrap().iter();
                let mut host = all.filter(|one| one["name"].as_str().unwrap().starts_with("veth"));
                host.next().unwrap()["name"].as_str().unwrap().to_owned()
            })
            .collect();
        for new in [1400, 8900, 1300] {
            write_lease(&node, &LEASE.replace("1450", &new.to_string()));
            let c = node.pod("c");
            let answer = node.call("overlay", "ADD", &c, &conf);
            assert!(answer.ok, "{answer:#?}");
            for (pod, end) in [&a, &b].iter().zip(&ends) {
                assert_eq!(
                    (mtu(&pod.ns, "eth0"), mtu(&node.ns, end)),
                    (new, new),
                    "{mode} {}",
                    answer.stderr
                );
                assert!(
                    answer.stderr.contains(&format!("changed {end} with eth0 of {}", pod.id)),
                    "{answer:#?}"
                );
            }
            if mode == "bridge" {
                assert_eq!(mtu(&node.ns, "br0"), new);
            }
            assert_eq!((mtu(&own.ns, "eth0"), mtu(&node.ns, "mine")), (1450, 1450));
            for (pod, result) in [&a, &b].iter().zip(&results) {
                let answer = check(&node, pod, &conf, result);
                assert!(answer.ok, "{answer:#?}");
            }
            node.del("overlay", &c, &conf);
        }
    }
}

/// Real packets of the new size pass, and none that is larger.
#[test]
fn packets_have_the_new_size() {
    for mode in MODES {
        let node = leased();
        let conf = of_mode(&node, mode);
        let (a, b) = (node.pod("a"), node.pod("b"));
        let (_, result) = (node.add("overlay", &a, &conf), node.add("overlay", &b, &conf));
        let target = address(&result, 0);
        let passes = |bytes: usize| send_whole(&a, &b, &target, bytes);
        assert!(passes(1450) && !passes(1451), "{mode}");
        write_lease(&node, &LEASE.replace("1450", "1400"));
        node.add("overlay", &node.pod("c"), &conf);
        assert!(passes(1400) && !passes(1401), "{mode}");
        write_lease(&node, &LEASE.replace("1450", "4000"));
        node.add("overlay", &node.pod("d"), &conf);
        assert!(passes(4000) && !passes(4001), "{mode}");
    }
}

/// Whether an IPv4 packet of `bytes`, which must not be fragmented, arrives.
fn send_whole(from: &Pod, to: &Pod, target: &str, bytes: usize) -> bool {
    use std::net::UdpSocket;
    let receiver = to.ns.run(|| UdpSocket::bind("0.0.0.0:9")).unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let sender = from.ns.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    set_df(&sender);
    // the headers of IP and of UDP
    if sender.send_to(&vec![7; bytes - 28], (target, 9)).is_err() {
        return false;
    }
    receiver.recv(&mut vec![0; bytes]).is_ok_and(|length| length == bytes - 28)
}

/// `IP_MTU_DISCOVER`, `IP_PMTUDISC_PROBE` (ip(7)): do not fragment, and do not go by what was learned.
fn set_df(socket: &std::net::UdpSocket) {
    use std::os::fd::AsRawFd;
    let probe = libc::IP_PMTUDISC_PROBE;
    // SAFETY: the descriptor is open, and the kernel reads an integer that outlives the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            (&raw const probe).cast(),
            std::mem::size_of_val(&probe).try_into().unwrap(),
        )
    };
    assert_eq!(done, 0);
}

fn set_mtu(node: &Node, more: &[&str]) -> (bool, String) {
    let (lease, data) = (lease_file(node), data_dir(node));
    let words = [env!("CARGO_BIN_EXE_heddle-cni"), "overlay", "set-mtu", "--lease"];
    let mut words: Vec<&str> = words.into();
    words.extend([lease.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]);
    words.extend(more);
    let output = node.ns.output(&words);
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.success(), text)
}

#[test]
fn links_follow_on_request() {
    let node = Node::heddle();
    let (ok, text) = set_mtu(&node, &[]);
    assert!(!ok && text.contains("subnet.env does not exist"), "{text}");
    write_lease(&node, LEASE);
    assert_eq!(set_mtu(&node, &[]), (true, "nothing to change: every link has MTU 1450\n".into()));
    let (conf, a, b) = (conf(&node, &json!({})), node.pod("a"), node.pod("b"));
    for pod in [&a, &b] {
        node.add("overlay", pod, &conf);
    }
    write_lease(&node, &LEASE.replace("1450", "1380"));
    assert!(set_mtu(&node, &["--network", "another"]).1.starts_with("nothing to change"));
    let (ok, text) = set_mtu(&node, &[]);
    assert!(ok && text.lines().count() == 3, "{text}");
    assert!(
        text.contains("eth0 of a: MTU 1450 -> 1380")
            && text.contains("changed bridge br0: MTU 1450 -> 1380"),
        "{text}"
    );
    assert_eq!((mtu(&a.ns, "eth0"), mtu(&b.ns, "eth0"), mtu(&node.ns, "br0")), (1380, 1380, 1380));
    assert!(set_mtu(&node, &[]).1.starts_with("nothing to change"));

    // of one nothing is remembered, the other's interface has another name by now: told, not touched, and no ADD suffers
    fs::remove_file(data_dir(&node).join("a:eth0.json")).unwrap();
    b.sh("ip link set eth0 down && ip link set eth0 name other && ip link set other up");
    write_lease(&node, LEASE);
    let (ok, text) = set_mtu(&node, &[]);
    assert!(!ok && text.contains("nothing is remembered of cni:testnet:a:eth0"), "{text}");
    assert!(
        text.contains("its other end is not \"eth0\"") && text.contains("2 links keep their MTU"),
        "{text}"
    );
    assert_eq!((mtu(&a.ns, "eth0"), mtu(&b.ns, "other"), mtu(&node.ns, "br0")), (1380, 1380, 1380));
    node.add("overlay", &node.pod("c"), &conf);
}

/// An MTU that was made smaller in the pod stays if it fits.
#[test]
fn what_is_smaller_inside_stays() {
    let node = leased();
    let (conf, pod) = (conf(&node, &json!({})), node.pod("a"));
    node.add("overlay", &pod, &conf);
    pod.sh("ip link set eth0 mtu 1290");
    write_lease(&node, &LEASE.replace("1450", "1400"));
    assert!(set_mtu(&node, &[]).0);
    assert_eq!(mtu(&pod.ns, "eth0"), 1290);
    write_lease(&node, &LEASE.replace("1450", "1280"));
    assert!(set_mtu(&node, &[]).0);
    assert_eq!(mtu(&pod.ns, "eth0"), 1280);
}

/// The address of a pod that went goes to another within the second: neighbours on the bridge, the node and tracked connections
/// lead to the new one at once.
#[test]
fn an_address_that_is_given_to_another_pod() {
    for mode in MODES {
        let node = leased();
        let mut conf = of_mode(&node, mode);
        let neighbour = node.pod("neighbour");
        node.add("overlay", &neighbour, &conf);
        conf["args"] = json!({ "cni": { "ips": ["10.244.1.50", "fd00:244:0:1::50"] } });
        for round in 0..3 {
            let pod = node.pod(&format!("pod{round}"));
            node.add("overlay", &pod, &conf);
            for target in ["10.244.1.50", "fd00:244:0:1::50"] {
                traffic::serve(&pod.ns, &at(target), 2);
                let start = Instant::now();
                assert!(neighbour.fetch(&at(target)).is_some(), "{mode}, {round}, {target}");
                assert!(
                    traffic::fetch(&node.ns, &at(target)).is_some(),
                    "{mode}, {round}, {target}"
                );
                // who tries where the address was gives up only after some seconds
                assert!(
                    start.elapsed() < Duration::from_secs(4),
                    "{mode}, {round}: {:?}",
                    start.elapsed()
                );
            }
            node.del("overlay", &pod, &conf);
        }
    }
}

/// A flow to a service sticks to the address that it was translated to: it goes with its pod.
#[test]
fn tracked_connections_go_with_their_pod() {
    use std::net::UdpSocket;
    let table = [
        ("bridge", "4", "DEL"),
        ("bridge", "4", "GC"),
        ("ptp", "4", "DEL"),
        ("ptp", "6", "DEL"),
        ("ptp", "6", "GC"),
    ];
    for (mode, family, end) in table {
        let node = leased();
        let conf = of_mode(&node, mode);
        let pod = node.pod("a");
        let result = node.add("overlay", &pod, &conf);
        let (target, program, service) = match family {
            "4" => (address(&result, 0), "iptables", "10.96.0.10"),
            _ => (format!("[{}]", address(&result, 1)), "ip6tables", "fd00:96::10"),
        };
        node.sh(&format!("{program} -t nat -A OUTPUT -d {service} -p udp --dport 53 -j DNAT --to-destination {target}:53"));
        let other = if family == "4" { "10.244.1.1" } else { "fd00:244:0:1::1" };
        let client = node.ns.run(|| UdpSocket::bind((other, 0))).unwrap();
        // the gateway's address of a routed link is local, the service's needs any route
        node.sh(&format!("ip -{family} route add {service} dev lo"));
        client.send_to(b"x", (service, 53)).unwrap();
        let bystander = node.ns.run(|| UdpSocket::bind("127.0.0.1:0")).unwrap();
        bystander.send_to(b"x", "127.0.0.1:9").unwrap();
        let flows = || {
            let of = |family| netns_tools::conntrack::Filter::new(family);
            let mut conntrack = netns_tools::Conntrack::open_in(node.ns.ns()).unwrap();
            let mut all = conntrack.list(&of(netns_tools::iptables::Family::V4)).unwrap();
            all.extend(conntrack.list(&of(netns_tools::iptables::Family::V6)).unwrap());
            all.into_iter().map(|flow| flow.to_string()).collect::<Vec<_>>()
        };
        let start = Instant::now();
        while !flows().iter().any(|flow| flow.contains(service)) {
            assert!(start.elapsed() < PATIENCE, "{mode} {family}: {:#?}", flows());
        }
        // by whoever says that it is gone
        if end == "GC" {
            assert!(gc(&node, &conf, &[]).ok);
        } else {
            node.del("overlay", &pod, &with_prev(&conf, &result));
        }
        assert!(!flows().iter().any(|flow| flow.contains(service)), "{mode}: {:#?}", flows());
        if family == "4" {
            assert!(flows().iter().any(|flow| flow.contains("127.0.0.1")), "{:#?}", flows());
        }
    }
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

/// Whatever CHECK of the delegate finds is told.
#[test]
fn check_names_every_drift() {
    for mode in MODES {
        let node = leased();
        let (conf, pod) = (of_mode(&node, mode), node.pod("a"));
        let result = node.add("overlay", &pod, &conf);
        pod.sh("ip link set eth0 mtu 1300");
        let answer = check(&node, &pod, &conf, &result);
        assert_eq!(answer.error().0, 110);
        assert!(answer.stdout.contains("has an MTU of 1300, not 1450"), "{mode}: {answer:#?}");
    }
}

/// The first packet to a new pod does not wait for an address to be found unique, which takes a second and more.
#[test]
fn a_new_pod_is_reached_at_once() {
    for mode in MODES {
        for index in 0..2 {
            // a busy machine may take a second for anything, though not each time
            let fastest = (0..3).map(|_| time_to_reach(mode, index)).min();
            assert!(fastest < Some(Duration::from_millis(900)), "{mode}, {index}: {fastest:?}");
        }
    }
}

/// How long a fresh node and a pod of it take to reach another new pod.
fn time_to_reach(mode: &str, index: usize) -> Duration {
    let node = leased();
    let conf = of_mode(&node, mode);
    let (one, other) = (node.pod("a"), node.pod("b"));
    node.add("overlay", &one, &conf);
    let target = at(&address(&node.add("overlay", &other, &conf), index));
    traffic::serve(&other.ns, &target, 2);
    let start = Instant::now();
    assert!(one.fetch(&target).is_some(), "{mode} {target}");
    assert!(traffic::fetch(&node.ns, &target).is_some(), "{mode} {target}");
    start.elapsed()
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

/// The list that is shipped, with the places of this test.
#[test]
fn the_shipped_list() {
    let node = leased();
    let file =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf/20-heddle-overlay.conflist");
    let list: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let mut conf = list["plugins"][0].clone();
    for key in ["name", "cniVersion"] {
        conf[key] = list[key].clone();
    }
    conf["subnetFile"] = json!(lease_file(&node));
    conf["dataDir"] = json!(data_dir(&node));
    conf["ipam"]["dataDir"] = json!(node.data_dir());
    let pod = node.pod("a");
    let result = node.add("overlay", &pod, &conf);
    assert!(check(&node, &pod, &conf, &result).ok);
    node.del("overlay", &pod, &with_prev(&conf, &result));
    assert_eq!((node.leases("heddle-overlay"), remembered(&node)), (vec![], vec![]));
}
