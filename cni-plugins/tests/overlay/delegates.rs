//! What is delegated, to whom, and what else is in the chain.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::node::{Node, assert_error, traffic, with_prev};
use crate::world::*;

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

/// The list that is shipped, with the places of this test.
#[test]
fn the_shipped_list() {
    let node = leased();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf/20-heddle-overlay.conflist");
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

/// The plugins of a list, each with its keys.
fn chain(node: &Node, mode: &str) -> Vec<(&'static str, Value)> {
    let mut runtime = of_mode(node, mode);
    runtime["runtimeConfig"] = json!({
        "portMappings": [{ "hostPort": 18080, "containerPort": 80, "protocol": "tcp" }],
        "bandwidth": { "ingressRate": 80_000_000, "ingressBurst": 8_000_000, "egressRate": 80_000_000, "egressBurst": 8_000_000 },
    });
    let with = |keys: Value| {
        let mut conf = json!({
            "cniVersion": "1.1.0", "name": "testnet", "runtimeConfig": runtime["runtimeConfig"],
        });
        conf.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        conf
    };
    let sysctl = json!({ "net.ipv4.conf.IFNAME.arp_filter": "1" });
    let state = node.dir.path().join("tuning");
    vec![
        ("overlay", runtime.clone()),
        ("portmap", with(json!({ "type": "portmap", "snat": true }))),
        ("bandwidth", with(json!({ "type": "bandwidth" }))),
        ("tuning", with(json!({ "type": "tuning", "sysctl": sysctl, "dataDir": state }))),
        ("firewall", with(json!({ "type": "firewall", "backend": "iptables" }))),
    ]
}

/// First in a list, as it is shipped: what comes behind it finds what it needs, also when the lease's MTU has changed since and when
/// the lease is gone.
#[test]
fn first_in_a_list_of_many() {
    for mode in MODES {
        let node = leased();
        let pod = node.pod("a");
        let chain = chain(&node, mode);
        let mut result = Value::Null;
        for (plugin, conf) in &chain {
            let conf = if result.is_null() { conf.clone() } else { with_prev(conf, &result) };
            result = node.add(plugin, &pod, &conf);
        }
        let checks = |when: &str| {
            for (plugin, conf) in &chain {
                let answer = node.call(plugin, "CHECK", &pod, &with_prev(conf, &result));
                assert!(answer.ok, "{mode}, {plugin}, {when}: {answer:#?}");
            }
        };
        checks("after ADD");
        let target = at(&address(&result, 0));
        traffic::serve(&pod.ns, &target, 2);
        assert!(traffic::fetch(&node.ns, &target).is_some(), "{mode}");
        let gateway = if mode == "ptp" { "127.0.0.1:18080" } else { "10.244.1.1:18080" };
        assert!(traffic::fetch(&node.ns, gateway).is_some(), "{mode}: by the node's port");
        node.sh("ip link add another mtu 1450 type ifb");
        write_lease(&node, &LEASE.replace("1450", "1390"));
        node.add("overlay", &node.pod("b"), &of_mode(&node, mode));
        checks("with another MTU");
        assert_eq!(mtu(&node.ns, "another"), 1450);
        // nobody was there yet to follow this one
        write_lease(&node, &LEASE.replace("1450", "1410"));
        checks("with a third MTU to come");
        fs::remove_file(lease_file(&node)).unwrap();
        checks("without a lease");
        for (plugin, conf) in chain.iter().rev() {
            node.del(plugin, &pod, &with_prev(conf, &result));
        }
        assert_eq!(remembered(&node), ["b:eth0.json"]);
        let rules = node.sh("iptables-save; ip6tables-save");
        for word in ["18080", &address(&result, 0), &address(&result, 1)] {
            assert!(!rules.contains(word), "{mode}, {word}: {rules}");
        }
        assert_eq!(node.sh("ip -o link show type ifb | grep -v another || true"), "");
    }
}

/// Keys for the delegate reach the kernel.
#[test]
fn what_the_delegate_section_says_counts() {
    let node = leased();
    let delegate =
        json!({ "isDefaultGateway": false, "hairpinMode": false, "ipMasq": true, "mtu": 1333 });
    let pod = node.pod("a");
    let result = node.add("overlay", &pod, &conf(&node, &json!({ "delegate": delegate })));
    let routes = pod.sh("ip route; ip -6 route");
    assert!(
        !routes.contains("default") && routes.contains("10.244.0.0/16 via 10.244.1.1"),
        "{routes}"
    );
    assert!(!node.sh("bridge -d link show").contains("hairpin on"));
    assert!(node.sh("iptables-save").contains(&address(&result, 0)), "it masquerades");
    assert_eq!(mtu(&pod.ns, "eth0"), 1333);
    let node = leased();
    let pod = node.pod("a");
    let delegate = json!({ "isGateway": false, "bridge": "br9" });
    node.add("overlay", &pod, &conf(&node, &json!({ "delegate": delegate })));
    assert!(!pod.sh("ip route").contains("default"));
    assert!(!node.sh("ip -4 addr show dev br9").contains("inet"), "it has no gateway's address");
}
