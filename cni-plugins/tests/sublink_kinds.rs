//! `ipvlan`, `vlan` and `dummy`: with real interfaces and packets where the kernel can make them, and what they say where it cannot.

mod node;

use node::uplink::{FAR, MASTER, OUTSIDE, OUTSIDE_V6, Uplink, pings, proven_here, reaches};
use node::{Pod, Suite, assert_error, traffic, with_prev};
use serde_json::{Value, json};

/// An uplink, unless the kernel cannot make such interfaces.
fn proven(kind: &str) -> Option<Uplink> {
    let up = Uplink::new(Suite::Heddle);
    proven_here(&up.node.ns, kind).then_some(up)
}

#[track_caller]
/// ADD and CHECK.
fn attach(up: &Uplink, plugin: &str, pod: &Pod, conf: &Value) -> Value {
    let result = up.node.add(plugin, pod, conf);
    let check = up.node.call(plugin, "CHECK", pod, &with_prev(conf, &result));
    assert!(check.ok, "{check:#?}");
    result
}

fn detail(pod: &Pod) -> Value {
    let links: Value = serde_json::from_str(&pod.sh("ip -j -d link show eth0")).unwrap();
    links[0].clone()
}

/// Where the kernel lacks a kind, ADD fails before IPAM is asked and leaves nothing, and STATUS says so.
#[test]
fn a_kind_that_the_kernel_lacks() {
    let up = Uplink::new(Suite::Heddle);
    for kind in ["ipvlan", "vlan", "dummy"] {
        let (node, pod) = (&up.node, up.pod("a"));
        let conf = up.conf(kind, &json!({ "vlanId": 5 }));
        let has = node.ns.netlink().has_link_kind(kind).unwrap();
        let status = node.call(kind, "STATUS", &pod, &conf);
        assert_eq!(status.ok, has, "{status:#?}");
        if has {
            println!("not proven on this kernel: what {kind} says where it is missing");
            continue;
        }
        assert_error(&status, 50, &format!("this kernel cannot make {kind} interfaces"));
        assert!(status.stdout.contains("modprobe"), "{status:#?}");
        let add = node.call(kind, "ADD", &pod, &conf);
        assert_error(&add, 112, &format!("failed to create {kind}"));
        assert!(add.stdout.contains("this kernel has no such kind of link"), "{add:#?}");
        assert_eq!(pod.sh("ip -o link | wc -l").trim(), "1");
        assert_eq!(node.leases("testnet"), [""; 0]);
        // The rest of a runtime's calls do not mind.
        node.del(kind, &pod, &conf);
        let gone = node.call_with(kind, "DEL", &pod, &conf, &[("CNI_NETNS", "")]);
        assert!(gone.ok, "{gone:#?}");
    }
}

/// DEL and GC of these release what IPAM gave, whatever the kernel can make: with a master that is gone, and a configuration that
/// ADD would refuse. The reference's `ipvlan` and `vlan` fail there.
#[test]
fn del_and_gc_need_no_master() {
    let up = Uplink::new(Suite::Heddle);
    for kind in ["ipvlan", "vlan", "dummy"] {
        let (node, pod) = (&up.node, up.pod("a"));
        for extra in [
            json!({ "master": "gone0" }),
            json!({ "master": null }),
            json!({ "mode": 7, "vlanId": "x", "mtu": [] }),
        ] {
            let conf = up.conf(kind, &extra);
            node.add("host-local", &pod, &conf);
            assert_eq!(node.leases("testnet").len(), 2);
            node.del(kind, &pod, &conf);
            assert_eq!(node.leases("testnet"), [""; 0], "{kind}");
            node.add("host-local", &pod, &conf);
            let mut gc = conf.clone();
            gc["cni.dev/valid-attachments"] = json!([]);
            let gc =
                node.call_with(kind, "GC", &pod, &gc, &[("CNI_NETNS", ""), ("CNI_IFNAME", "")]);
            assert!(gc.ok, "{gc:#?}");
            assert_eq!(node.leases("testnet"), [""; 0], "{kind}");
        }
    }
}

#[test]
fn masters_that_are_missing_or_unfit() {
    let up = Uplink::new(Suite::Heddle);
    let (node, pod) = (&up.node, up.pod("a"));
    node.sh("ip link add down0 type veth peer name down1");
    let cases = [
        ("ipvlan", "gone0", 111, "failed to lookup master \"gone0\": Link not found"),
        ("vlan", "gone0", 111, "failed to lookup master \"gone0\": Link not found"),
        (
            "ipvlan",
            "lo",
            7,
            "master \"lo\" cannot carry ipvlan interfaces: it is a loopback interface",
        ),
        ("vlan", "lo", 7, "master \"lo\" cannot carry vlan interfaces: it is a loopback interface"),
        ("vlan", "down0", 7, "master \"down0\" cannot carry vlan interfaces: it is down"),
    ];
    for (kind, master, code, msg) in cases {
        let conf = up.conf(kind, &json!({ "master": master }));
        assert_error(&node.call(kind, "ADD", &pod, &conf), code, msg);
    }
    let open = up.conf("ipvlan", &json!({ "master": null }));
    assert_error(&node.call("ipvlan", "ADD", &pod, &open), 111, "no default route interface found");
    assert_eq!(node.leases("testnet"), [""; 0]);
    let mtu = up.conf("vlan", &json!({ "mtu": 1501 }));
    let msg = "invalid MTU 1501, must be [0, master MTU(1500)]";
    assert_error(&node.call("vlan", "ADD", &pod, &mtu), 7, msg);
}

/// Which master it will be, only a chain's ADD knows.
#[test]
fn ipvlan_in_a_chain_is_not_judged_by_the_default_route() {
    let Some(up) = proven("ipvlan") else { return };
    let conf = up.conf("ipvlan", &json!({ "master": null, "ipam": null }));
    let status = up.node.call("ipvlan", "STATUS", &up.pod("a"), &conf);
    assert!(status.ok, "{status:#?}");
}

#[test]
fn ipvlan_pods_talk_to_each_other_and_the_outside() {
    for mode in ["l2", "l3", "l3s"] {
        let Some(up) = proven("ipvlan") else { return };
        let (a, b) = (up.pod("a"), up.pod("b"));
        let conf = up.conf("ipvlan", &json!({ "mode": mode, "mtu": 1400 }));
        let result = attach(&up, "ipvlan", &a, &conf);
        attach(&up, "ipvlan", &b, &conf);
        let link = detail(&a);
        assert_eq!(link["linkinfo"]["info_data"]["mode"], mode);
        assert_eq!(link["mtu"], 1400);
        let master = up.node.ns.link(MASTER).mac.unwrap().to_string();
        assert_eq!(result["interfaces"][0]["mac"], json!(master), "it shares the master's address");
        for target in ["10.77.0.3", "fd77::3"] {
            assert!(reaches(&a.ns, target), "{mode}: {target}");
        }
        traffic::serve(&b.ns, "10.77.0.3:80", 1);
        assert_eq!(a.fetch("10.77.0.3:80").as_deref(), Some("10.77.0.2"), "{mode}");
        if mode == "l2" {
            for target in [OUTSIDE, OUTSIDE_V6] {
                assert!(reaches(&a.ns, target), "{mode}: {target}");
            }
        }
        if mode == "l3" {
            // Neighbours outside do not ask for it in l3: they are told where it is.
            let told = format!(
                "ip neigh replace 10.77.0.2 lladdr {master} dev {FAR}; ip neigh replace fd77::2 lladdr {master} dev {FAR}"
            );
            up.outside.cmd(&["sh", "-c", &told]);
            assert!(reaches(&a.ns, OUTSIDE), "{mode}");
        }
        up.node.del("ipvlan", &a, &conf);
        assert!(!pings(&b.ns, "10.77.0.2"));
        assert_eq!(up.node.leases("testnet"), ["10.77.0.3", "fd77::3"]);
    }
}

#[test]
fn ipvlan_after_another_plugin() {
    let Some(up) = proven("ipvlan") else { return };
    let pod = up.pod("a");
    let prev = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{ "name": MASTER }],
        "ips": [{ "address": "10.77.0.50/24", "interface": 0 }],
    });
    let conf = up.conf("ipvlan", &json!({ "master": null, "ipam": null, "prevResult": prev }));
    let result = up.node.add("ipvlan", &pod, &conf);
    assert_eq!(result["interfaces"].as_array().unwrap().len(), 1);
    assert_eq!(result["interfaces"][0]["sandbox"], json!(pod.path()));
    assert_eq!(result["ips"], json!([{ "address": "10.77.0.50/24", "interface": 0 }]));
    assert!(reaches(&pod.ns, OUTSIDE));
    let check = up.node.call("ipvlan", "CHECK", &pod, &with_prev(&conf, &result));
    assert!(check.ok, "{check:#?}");
    pod.sh("ip link set eth0 type ipvlan mode l3");
    let check = up.node.call("ipvlan", "CHECK", &pod, &with_prev(&conf, &result));
    assert!(check.stdout.contains("ipvlan mode is l3, not l2"), "{check:#?}");
    up.node.del("ipvlan", &pod, &with_prev(&conf, &result));
    assert_eq!(pod.sh("ip -o link | wc -l").trim(), "1");
}

#[test]
fn vlan_carries_one_tag() {
    let Some(up) = proven("vlan") else { return };
    // The outside talks in VLAN 5 only.
    up.outside.cmd(&["sh", "-c", &format!(
        "ip addr flush dev {FAR} && ip link add link {FAR} name v5 type vlan id 5 && ip link set v5 up \
         && ip addr add {OUTSIDE}/24 dev v5 && ip -6 addr add {OUTSIDE_V6}/64 dev v5 nodad"
    )]);
    let (a, b) = (up.pod("a"), up.pod("b"));
    let conf = up.conf("vlan", &json!({ "vlanId": 5, "mtu": 1400 }));
    let result = attach(&up, "vlan", &a, &conf);
    let link = detail(&a);
    assert_eq!((&link["mtu"], &link["linkinfo"]["info_data"]["id"]), (&json!(1400), &json!(5)));
    for target in [OUTSIDE, OUTSIDE_V6] {
        assert!(reaches(&a.ns, target), "{target}");
    }
    // Another tag is another network.
    let other = up.conf("vlan", &json!({ "vlanId": 6 }));
    attach(&up, "vlan", &b, &other);
    assert!(!pings(&b.ns, OUTSIDE));
    up.node.del("vlan", &b, &other);
    // A tag of a master is one interface's; what fails leaves nothing.
    let answer = up.node.call("vlan", "ADD", &b, &conf);
    assert_error(&answer, 112, "failed to create vlan");
    assert!(answer.stdout.contains("the parent has a link for this VLAN already"), "{answer:#?}");
    assert_eq!(b.sh("ip -o link | wc -l").trim(), "1");
    // On what it is not.
    let check = up.node.call("vlan", "CHECK", &a, &with_prev(&other, &result));
    assert!(check.stdout.contains("VLAN ID is 5, not 6"), "{check:#?}");
    // The master goes: DEL needs it not, unlike the reference's.
    up.node.sh(&format!("ip link del {MASTER}"));
    up.node.del("vlan", &a, &with_prev(&conf, &result));
    assert_eq!(up.node.leases("testnet"), [""; 0]);
}

#[test]
fn dummy_has_addresses_and_nothing_behind() {
    let Some(up) = proven("dummy") else { return };
    let pod = up.pod("a");
    let mut conf = up.conf("dummy", &json!({}));
    conf["ipam"]["routes"] = json!([{ "dst": "10.9.0.0/16" }]);
    let result = attach(&up, "dummy", &pod, &conf);
    assert_eq!(detail(&pod)["linkinfo"]["info_kind"], "dummy");
    assert_eq!(result["ips"][1]["address"], "fd77::2/64");
    // What a namespace sends to itself goes by its loopback link.
    pod.sh("ip link set lo up");
    for own in ["10.77.0.2", "fd77::2"] {
        assert!(reaches(&pod.ns, own), "{own}");
    }
    assert!(!pings(&pod.ns, OUTSIDE), "there is nobody");
    pod.sh("ip link set eth0 down");
    let check = up.node.call("dummy", "CHECK", &pod, &with_prev(&conf, &result));
    assert!(check.stdout.contains("\\\"eth0\\\" is down"), "{check:#?}");
    up.node.del("dummy", &pod, &conf);
    assert_eq!(pod.sh("ip -o link | wc -l").trim(), "1");
    assert_eq!(up.node.leases("testnet"), [""; 0]);
}

#[test]
fn the_master_may_be_in_the_container() {
    for kind in ["ipvlan", "vlan"] {
        let Some(up) = proven(kind) else { continue };
        let pod = up.pod("a");
        pod.sh("ip link add base0 type veth peer name base1 && ip link set base0 up && ip link set base1 up");
        let conf = up.conf(kind, &json!({ "master": "base0", "linkInContainer": true }));
        attach(&up, kind, &pod, &conf);
        assert_eq!(detail(&pod)["link"], "base0");
        up.node.del(kind, &pod, &conf);
        assert!(!pod.sh("ip -o link").contains("eth0"));
    }
}
