//! `macvlan` with `host-local` in namespaces, with the real binary.

mod node;

use std::os::unix::fs::PermissionsExt;

use node::uplink::{MASTER, OUTSIDE, Uplink, reaches};
use node::{Pod, Suite, assert_error, state, with_prev};
use serde_json::{Value, json};

fn heddle() -> Uplink {
    Uplink::new(Suite::Heddle)
}

#[track_caller]
/// What must be the same before and after.
fn inventory(up: &Uplink, pod: &Pod) -> Value {
    json!({ "node": state::of(&up.node.ns), "pod": state::of(&pod.ns), "leases": up.node.leases("testnet") })
}

fn eth0(pod: &Pod) -> Value {
    let links: Value = serde_json::from_str(&pod.sh("ip -j -d link show eth0")).unwrap();
    links[0].clone()
}

#[test]
fn del_is_idempotent_and_leaves_nothing() {
    let up = heddle();
    let (node, pod) = (&up.node, up.pod("a"));
    let conf = up.conf("macvlan", &json!({}));
    let before = inventory(&up, &pod);
    let result = node.add("macvlan", &pod, &conf);
    for conf in [with_prev(&conf, &result), conf.clone(), conf.clone()] {
        node.del("macvlan", &pod, &conf);
        state::assert_same(&before, &inventory(&up, &pod));
    }
}

#[test]
fn the_result_names_one_interface() {
    let up = heddle();
    let pod = up.pod("a");
    let conf = up.conf("macvlan", &json!({ "dns": { "nameservers": ["10.77.0.9"] } }));
    let result = up.node.add("macvlan", &pod, &conf);
    let mac = eth0(&pod)["address"].clone();
    let expected = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{ "name": "eth0", "mac": mac, "sandbox": pod.path() }],
        "ips": [
            { "interface": 0, "address": "10.77.0.2/24", "gateway": "10.77.0.1" },
            { "interface": 0, "address": "fd77::2/64", "gateway": "fd77::1" },
        ],
        "dns": { "nameservers": ["10.77.0.9"] },
    });
    assert_eq!(result, expected);
}

/// A quirk of the reference that is not copied: the IPAM plugin's name servers are lost.
#[test]
fn the_ipam_plugins_name_servers_are_kept() {
    let up = heddle();
    let file = up.node.dir.path().join("resolv.conf");
    std::fs::write(&file, "nameserver 10.77.0.53\n").unwrap();
    let mut conf = up.conf("macvlan", &json!({}));
    conf["ipam"]["resolvConf"] = json!(file);
    let result = up.node.add("macvlan", &up.pod("a"), &conf);
    assert_eq!(result["dns"], json!({ "nameservers": ["10.77.0.53"] }));
}

#[test]
fn without_ipam_it_is_layer_2() {
    let up = heddle();
    let (node, pod) = (&up.node, up.pod("a"));
    let conf = up.conf("macvlan", &json!({ "ipam": null }));
    let result = node.add("macvlan", &pod, &conf);
    assert_eq!((&result["ips"], &result["interfaces"][0]["name"]), (&Value::Null, &json!("eth0")));
    assert!(eth0(&pod)["flags"].as_array().unwrap().contains(&json!("UP")));
    assert_eq!(pod.sh("ip -4 addr show eth0"), "");
    let check = node.call("macvlan", "CHECK", &pod, &with_prev(&conf, &result));
    assert!(check.ok, "{check:#?}");
    // It carries frames: by hand it gets an address.
    pod.sh("ip addr add 10.77.0.99/24 dev eth0");
    assert!(reaches(&pod.ns, OUTSIDE));
    node.del("macvlan", &pod, &conf);

    // A version that has no word for it is refused before anything is done.
    let before = inventory(&up, &pod);
    let old = up.conf("macvlan", &json!({ "ipam": null, "cniVersion": "0.2.0" }));
    let answer = node.call_with("macvlan", "ADD", &pod, &old, &[("CNI_LOG", "stderr")]);
    assert_error(&answer, 1, "cannot convert: no valid IP addresses");
    assert!(answer.stderr.contains("\"steps\":[]"), "{answer:#?}");
    state::assert_same(&before, &inventory(&up, &pod));
}

#[test]
fn the_default_routes_interface_is_the_default_master() {
    let up = heddle();
    let (node, pod) = (&up.node, up.pod("a"));
    let conf = up.conf("macvlan", &json!({ "master": null }));
    let before = inventory(&up, &pod);
    assert_error(
        &node.call("macvlan", "ADD", &pod, &conf),
        111,
        "no default route interface found",
    );
    state::assert_same(&before, &inventory(&up, &pod));
    let status = node.call("macvlan", "STATUS", &pod, &conf);
    assert_error(&status, 50, "no default route interface found");

    // Of several, the one with the lowest metric.
    node.sh("ip link add other0 type veth peer name other1 && ip link set other0 up && ip link set other1 up");
    node.sh("ip addr add 10.78.0.1/24 dev other0 && ip route add default via 10.78.0.2 metric 200");
    node.sh(&format!(
        "ip addr add 10.77.0.200/24 dev {MASTER} && ip route add default via {OUTSIDE} metric 100"
    ));
    let result = node.add("macvlan", &pod, &conf);
    assert!(reaches(&pod.ns, OUTSIDE));
    // CHECK does not compare what the configuration leaves open.
    node.sh("ip route del default metric 100");
    let check = node.call("macvlan", "CHECK", &pod, &with_prev(&conf, &result));
    assert!(check.ok, "{check:#?}");
    assert!(node.call("macvlan", "STATUS", &pod, &conf).ok);
}

#[test]
fn the_master_may_be_in_the_container() {
    let up = heddle();
    let (node, pod) = (&up.node, up.pod("a"));
    let host = node.add("macvlan", &pod, &up.conf("macvlan", &json!({ "ipam": null })));
    assert_eq!(host["interfaces"][0]["name"], "eth0");
    pod.sh("ip link add base0 type veth peer name base1 && ip link set base0 up && ip link set base1 up");
    // On a device of the container; on a macvlan there, whose parent is on the host; and on the default route's.
    pod.sh("ip addr add 10.78.0.1/24 dev base0 && ip route add default via 10.78.0.2");
    for (ifname, master) in
        [("net1", json!("base0")), ("net2", json!("eth0")), ("net3", Value::Null)]
    {
        let conf = up.conf("macvlan", &json!({ "master": master, "linkInContainer": true }));
        let attachment = Pod { ns: up.pod("unused").ns, id: "a".into(), ifname: ifname.into() };
        let env = [("CNI_NETNS", pod.path())];
        let env: Vec<_> = env.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let answer = node.call_with("macvlan", "ADD", &attachment, &conf, &env);
        assert!(answer.ok, "{answer:#?}");
        let prev = with_prev(&conf, &answer.json());
        let check = node.call_with("macvlan", "CHECK", &attachment, &prev, &env);
        assert!(check.ok, "{check:#?}");
        if ifname == "net2" {
            assert!(reaches(&pod.ns, OUTSIDE));
        }
        let links: Value =
            serde_json::from_str(&pod.sh(&format!("ip -j link show {ifname}"))).unwrap();
        if ifname != "net2" {
            assert_eq!(links[0]["link"], "base0");
        }
        // It is not looked for on the host.
        assert!(node.call("macvlan", "STATUS", &attachment, &conf).ok);
        let del = node.call_with("macvlan", "DEL", &attachment, &conf, &env);
        assert!(del.ok, "{del:#?}");
        assert!(!pod.sh("ip -o link").contains(ifname));
    }
    let missing = up.conf("macvlan", &json!({ "linkInContainer": true }));
    let other = up.pod("b");
    let answer = node.call("macvlan", "ADD", &other, &missing);
    assert_error(&answer, 111, "failed to lookup master \"up0\": Link not found");
    assert!(answer.stdout.contains("in the container's network namespace"));
}

#[test]
fn mtu_and_queue_and_mac() {
    let up = heddle();
    let (node, pod) = (&up.node, up.pod("a"));
    node.sh(&format!("ip link set {MASTER} mtu 1450"));
    let conf =
        up.conf("macvlan", &json!({ "mtu": 1400, "bcqueuelen": 50, "mac": "0a:58:00:00:00:01" }));
    let env = [("CNI_ARGS", "MAC=0a:58:00:00:00:02")];
    let answer = node.call_with("macvlan", "ADD", &pod, &conf, &env);
    assert!(answer.ok, "{answer:#?}");
    let link = eth0(&pod);
    assert_eq!((&link["mtu"], &link["address"]), (&json!(1400), &json!("0a:58:00:00:00:02")));
    assert_eq!(link["linkinfo"]["info_data"]["bcqueuelen"], 50);
    node.del("macvlan", &pod, &conf);

    let result = node.add("macvlan", &pod, &up.conf("macvlan", &json!({})));
    assert_eq!(eth0(&pod)["mtu"], 1450);
    assert_ne!(result["interfaces"][0]["mac"], "0a:58:00:00:00:01");
    node.del("macvlan", &pod, &conf);

    let before = inventory(&up, &pod);
    for mtu in [1451, -1, 67] {
        let conf = up.conf("macvlan", &json!({ "mtu": mtu }));
        let msg = format!("invalid MTU {mtu}, must be [0, master MTU(1450)]");
        assert_error(&node.call("macvlan", "ADD", &pod, &conf), 7, &msg);
        assert_error(&node.call("macvlan", "STATUS", &pod, &conf), 50, &msg);
    }
    state::assert_same(&before, &inventory(&up, &pod));
}

#[test]
fn a_name_in_use_is_told_and_left_alone() {
    let up = heddle();
    let (node, pod) = (&up.node, up.pod("a"));
    pod.sh("ip link add eth0 type veth peer name eth1");
    let conf = up.conf("macvlan", &json!({}));
    let before = inventory(&up, &pod);
    let answer = node.call("macvlan", "ADD", &pod, &conf);
    assert_error(&answer, 111, "container interface name (\"eth0\") already exists");
    // The DEL that follows a failed ADD does not take what is another's.
    node.del("macvlan", &pod, &conf);
    state::assert_same(&before, &inventory(&up, &pod));
}

/// Older kernels look for the name of a new link on the host, too.
#[test]
fn a_name_in_use_on_the_host_is_no_matter() {
    let up = heddle();
    up.node.sh("ip link add eth0 type veth peer name eth1");
    let pod = up.pod("a");
    up.node.add("macvlan", &pod, &up.conf("macvlan", &json!({})));
    assert!(reaches(&pod.ns, OUTSIDE));
    assert!(up.node.sh("ip -o link").contains("eth0@eth1"));
}

#[test]
fn a_master_that_goes_away() {
    let up = heddle();
    let (node, pod) = (&up.node, up.pod("a"));
    let conf = up.conf("macvlan", &json!({}));
    let result = node.add("macvlan", &pod, &conf);
    assert!(node.call("macvlan", "STATUS", &pod, &conf).ok);
    node.sh(&format!("ip link del {MASTER}"));
    // The kernel took the interface with it.
    let check = node.call("macvlan", "CHECK", &pod, &with_prev(&conf, &result));
    assert_error(&check, 110, "interface \"eth0\" is not as ADD left it");
    for word in
        ["\\\"eth0\\\" is missing in the container", "master \\\"up0\\\" is missing on the host"]
    {
        assert!(check.stdout.contains(word), "{check:#?}");
    }
    let add = node.call("macvlan", "ADD", &up.pod("b"), &conf);
    assert_error(&add, 111, "failed to lookup master \"up0\": Link not found");
    let status = node.call("macvlan", "STATUS", &pod, &conf);
    assert_error(&status, 50, "failed to lookup master \"up0\": Link not found");
    node.del("macvlan", &pod, &with_prev(&conf, &result));
    assert_eq!(node.leases("testnet"), [""; 0]);
}

/// The master goes in the middle of an ADD: the IPAM plugin takes it away.
#[test]
fn a_master_that_goes_away_meanwhile() {
    let up = heddle();
    let (node, pod) = (&up.node, up.pod("a"));
    let lease = node.dir.path().join("lease");
    let script = format!(
        "#!/bin/sh\ncat > /dev/null\ncase $CNI_COMMAND in\nADD) ip link del {MASTER} && touch {0}\n\
         echo '{{\"cniVersion\":\"1.1.0\",\"ips\":[{{\"address\":\"10.77.0.9/24\"}}]}}';;\n\
         DEL) rm -f {0};;\nesac\n",
        lease.display()
    );
    let file = node.bin_dir().join("taker");
    std::fs::write(&file, script).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    let conf = up.conf("macvlan", &json!({ "ipam": { "type": "taker" } }));
    let answer = node.call("macvlan", "ADD", &pod, &conf);
    assert_error(&answer, 112, "cannot add IP address 10.77.0.9/24 to \"eth0\"");
    assert!(answer.stdout.contains("at the step: set the interface up"), "{answer:#?}");
    assert!(!node.sh("ip -o link").contains(MASTER), "the IPAM plugin did not take it");
    assert!(!lease.exists(), "the address was not given back");
    assert_eq!(pod.sh("ip -o link | wc -l").trim(), "1");
}

#[test]
fn a_master_that_cannot_carry_it() {
    let up = heddle();
    let (node, pod) = (&up.node, up.pod("a"));
    let lo = up.conf("macvlan", &json!({ "master": "lo" }));
    let answer = node.call("macvlan", "ADD", &pod, &lo);
    assert_error(
        &answer,
        7,
        "master \"lo\" cannot carry macvlan interfaces: it is a loopback interface",
    );
    node.sh(&format!("ip link add br0 type bridge && ip link set {MASTER} master br0"));
    let answer = node.call("macvlan", "ADD", &pod, &up.conf("macvlan", &json!({})));
    assert_error(&answer, 112, "failed to create macvlan");
    assert!(answer.stdout.contains("the parent is a port of a bridge or bond"), "{answer:#?}");
    assert_eq!(pod.sh("ip -o link | wc -l").trim(), "1");
    assert_eq!(node.leases("testnet"), [""; 0]);
}

#[test]
fn a_namespace_that_is_gone() {
    let up = heddle();
    let conf = up.conf("macvlan", &json!({}));
    for netns in ["/run/netns/heddle-t-no-such", "", "/dev/null"] {
        let pod = up.pod("a");
        let result = up.node.add("macvlan", &pod, &conf);
        assert_ne!(up.node.leases("testnet"), [""; 0]);
        let env = [("CNI_NETNS", netns)];
        let del = up.node.call_with("macvlan", "DEL", &pod, &with_prev(&conf, &result), &env);
        assert!(del.ok, "{netns:?}: {del:#?}");
        assert_eq!(up.node.leases("testnet"), [""; 0], "{netns:?}");
    }
    let env = [("CNI_NETNS", "/run/netns/heddle-t-no-such")];
    let add = up.node.call_with("macvlan", "ADD", &up.pod("a"), &conf, &env);
    assert_error(&add, 8, "failed to open netns \"/run/netns/heddle-t-no-such\"");
    assert_eq!(up.node.leases("testnet"), [""; 0]);
}

#[test]
fn the_hosts_own_namespace_is_refused() {
    let up = heddle();
    let own = up.node.ns.ns().path().display().to_string();
    let env = [("CNI_NETNS", own.as_str())];
    let conf = up.conf("macvlan", &json!({}));
    let add = up.node.call_with("macvlan", "ADD", &up.pod("a"), &conf, &env);
    assert_error(&add, 8, "plugin's netns and netns from CNI_NETNS should not be the same");
    // Unless it is meant.
    let env = [("CNI_NETNS", own.as_str()), ("CNI_NETNS_OVERRIDE", "1")];
    let add = up.node.call_with("macvlan", "ADD", &up.pod("a"), &conf, &env);
    assert!(add.ok, "{add:#?}");
    let prev = with_prev(&conf, &add.json());
    for command in ["CHECK", "DEL"] {
        let answer = up.node.call_with("macvlan", command, &up.pod("a"), &prev, &env);
        assert!(answer.ok, "{answer:#?}");
    }
    assert!(!up.node.sh("ip -o link").contains("eth0@up0"));
}

#[test]
fn del_needs_nothing_that_add_would_refuse() {
    let up = heddle();
    let (node, pod) = (&up.node, up.pod("a"));
    for damage in [
        json!({ "mode": "x" }),
        json!({ "mtu": "many" }),
        json!({ "master": "a/b" }),
        json!({ "master": "gone0" }),
        json!({ "mac": 7, "bcqueuelen": "x" }),
        json!({ "prevResult": { "ips": 7 } }),
    ] {
        let conf = up.conf("macvlan", &json!({}));
        node.add("macvlan", &pod, &conf);
        node.del("macvlan", &pod, &up.conf("macvlan", &damage));
        assert!(!pod.sh("ip -o link").contains("eth0"), "{damage}");
        assert_eq!(node.leases("testnet"), [""; 0], "{damage}");
    }
}

/// Both go on: the address goes back although the interface cannot be looked for, and the interface goes without the IPAM plugin.
#[test]
fn del_keeps_going() {
    let up = heddle();
    let (node, pod) = (&up.node, up.pod("a"));
    let conf = up.conf("macvlan", &json!({}));
    node.add("macvlan", &pod, &conf);
    let own = node.ns.ns().path().display().to_string();
    let answer = node.call_with("macvlan", "DEL", &pod, &conf, &[("CNI_NETNS", &own)]);
    assert_error(&answer, 8, "should not be the same");
    assert_eq!(node.leases("testnet"), [""; 0]);

    let broken = up.conf("macvlan", &json!({ "ipam": { "type": "nosuch" } }));
    let answer = node.call("macvlan", "DEL", &pod, &broken);
    assert_error(&answer, 7, "failed to find plugin \"nosuch\"");
    assert!(!pod.sh("ip -o link").contains("eth0"));
}

#[test]
fn what_a_killed_add_leaves_the_next_one_removes() {
    let up = heddle();
    let (node, pod) = (&up.node, up.pod("a"));
    let conf = up.conf("macvlan", &json!({}));
    let killed = node.call_with("macvlan", "ADD", &pod, &conf, &[("HEDDLE_FAULT", "1:before:die")]);
    assert_eq!(killed.code, None, "{killed:#?}");
    assert!(pod.sh("ip -o link").contains(": sub"), "it died before it had its name");
    node.add("macvlan", &pod, &conf);
    assert!(!pod.sh("ip -o link").contains(": sub"));
    node.del("macvlan", &pod, &conf);
    let killed = node.call_with("macvlan", "ADD", &pod, &conf, &[("HEDDLE_FAULT", "1:before:die")]);
    assert_eq!(killed.code, None, "{killed:#?}");
    node.del("macvlan", &pod, &conf);
    assert_eq!(pod.sh("ip -o link | wc -l").trim(), "1");
}

#[test]
fn check_finds_every_drift() {
    let up = heddle();
    let node = &up.node;
    let extra = json!({ "mtu": 1400, "bcqueuelen": 50 });
    let mut conf = up.conf("macvlan", &extra);
    conf["ipam"]["routes"] = json!([{ "dst": "0.0.0.0/0" }]);
    let drifts = [
        ("ip link set eth0 type macvlan mode vepa", "macvlan mode is vepa, not bridge"),
        ("ip link set eth0 type macvlan bcqueuelen 60", "bcqueuelen is 60, not 50"),
        ("ip link set eth0 mtu 1300", "has MTU 1300, not 1400"),
        ("ip link set eth0 address 0a:58:00:00:00:09", "has MAC address 0a:58:00:00:00:09, not"),
        ("ip link set eth0 down", "is down"),
        ("ip addr del $ADDRESS dev eth0", "/24 is missing"),
        ("ip route del default", "the route 0.0.0.0/0 is missing"),
        ("ip link del eth0", "is missing in the container"),
        ("ip link del eth0; ip link add eth0 type veth peer name x", "is not a macvlan"),
    ];
    for (line, word) in drifts {
        let pod = up.pod("a");
        let result = node.add("macvlan", &pod, &conf);
        let prev = with_prev(&conf, &result);
        let good = node.call("macvlan", "CHECK", &pod, &prev);
        assert!(good.ok, "{good:#?}");
        pod.sh(&line.replace("$ADDRESS", result["ips"][0]["address"].as_str().unwrap()));
        let check = node.call("macvlan", "CHECK", &pod, &prev);
        assert_error(&check, 110, "interface \"eth0\" is not as ADD left it");
        assert!(check.stdout.contains(word), "{line}: {check:#?}");
        node.del("macvlan", &pod, &prev);
    }
    // On another master than the configuration says.
    let pod = up.pod("a");
    node.sh("ip link add other0 type veth peer name other1");
    let result = node.add("macvlan", &pod, &conf);
    let mut moved = with_prev(&conf, &result);
    moved["master"] = json!("other0");
    let check = node.call("macvlan", "CHECK", &pod, &moved);
    assert!(check.stdout.contains("\\\"eth0\\\" is not on master \\\"other0\\\""), "{check:#?}");
    let check = node.call("macvlan", "CHECK", &pod, &conf);
    assert_error(&check, 7, "Required prevResult missing");
}

#[test]
fn gc_gives_back_what_is_not_valid() {
    let up = heddle();
    let (node, a, b) = (&up.node, up.pod("a"), up.pod("b"));
    let mut conf = up.conf("macvlan", &json!({}));
    node.add("macvlan", &a, &conf);
    node.add("macvlan", &b, &conf);
    conf["cni.dev/valid-attachments"] = json!([{ "containerID": "b", "ifname": "eth0" }]);
    let gc = node.call_with("macvlan", "GC", &a, &conf, &[("CNI_NETNS", ""), ("CNI_IFNAME", "")]);
    assert!(gc.ok, "{gc:#?}");
    assert_eq!(node.leases("testnet"), ["10.77.0.3", "fd77::3"]);
}

#[test]
fn status_says_what_is_missing() {
    let up = heddle();
    let (node, pod) = (&up.node, up.pod("a"));
    let before = inventory(&up, &pod);
    let status = |conf: &Value| node.call("macvlan", "STATUS", &pod, conf);
    let good = status(&up.conf("macvlan", &json!({})));
    assert!(good.ok && good.stdout.is_empty(), "{good:#?}");
    assert!(status(&up.conf("macvlan", &json!({ "ipam": null }))).ok);
    let wrong = status(&up.conf("macvlan", &json!({ "mode": "x" })));
    assert_error(&wrong, 7, "unknown macvlan mode: \"x\"");
    state::assert_same(&before, &inventory(&up, &pod));

    let full = up.conf("macvlan", &json!({ "ipam": node.ipam(&["10.77.0.0/30"]) }));
    node.add("macvlan", &pod, &full);
    assert_error(&status(&full), 50, "no IP addresses available in range set");
}
