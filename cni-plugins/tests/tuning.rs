//! `tuning` in namespaces, and the reference (Debian, 1.1.1) beside it.

mod node;

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use node::faults::{prove, scene};
use node::{Node, Pod, Suite, state, with_prev};
use serde_json::{Value, json};

const OLD_MAC: &str = "0a:58:00:00:00:01";
const NEW_MAC: &str = "0a:58:00:00:00:02";

fn pod(node: &Node) -> Pod {
    let pod = node.pod("c1");
    with_eth0(&pod);
    pod
}

fn with_eth0(pod: &Pod) {
    pod.sh(&format!(
        "ip link add eth0 address {OLD_MAC} type veth peer name far address 0a:58:00:00:00:99"
    ));
}

fn data_dir(node: &Node) -> PathBuf {
    node.dir.path().join("tuning")
}

fn conf(node: &Node, extra: &Value) -> Value {
    let mut conf = json!({
        "cniVersion": "1.1.0", "name": "testnet", "type": "tuning", "dataDir": data_dir(node),
    });
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    conf
}

/// What a main plugin answered before.
fn prev(pod: &Pod, version: &str) -> Value {
    if version < "0.3.0" {
        return json!({ "cniVersion": version, "ip4": { "ip": "10.88.0.2/24" } });
    }
    let mut ip = json!({ "interface": 1, "address": "10.88.0.2/24" });
    if version < "1.0.0" {
        ip["version"] = json!("4");
    }
    json!({
        "cniVersion": version,
        "interfaces": [
            { "name": "veth0", "mac": "0a:58:00:00:00:99" },
            { "name": "eth0", "mac": OLD_MAC, "sandbox": pod.path() },
        ],
        "ips": [ip],
    })
}

fn everything(node: &Node) -> Value {
    conf(
        node,
        &json!({
            "mac": NEW_MAC, "promisc": true, "mtu": 1400, "txQLen": 77, "allmulti": true,
            "sysctl": { "net.ipv4.conf.IFNAME.arp_notify": "1", "net/core/somaxconn": "500" },
        }),
    )
}

/// MAC address, MTU, queue length, flags of the interface.
fn link(pod: &Pod) -> (String, u64, u64, bool, bool) {
    let link = pod.ns.json(&["ip", "-j", "link", "show", "eth0"])[0].clone();
    let has = |flag: &str| link["flags"].as_array().unwrap().contains(&json!(flag));
    let number = |key: &str| link[key].as_u64().unwrap();
    let mac = link["address"].as_str().unwrap().to_owned();
    (mac, number("mtu"), number("txqlen"), has("PROMISC"), has("ALLMULTI"))
}

fn untouched() -> (String, u64, u64, bool, bool) {
    (OLD_MAC.into(), 1500, 1000, false, false)
}

fn tuned() -> (String, u64, u64, bool, bool) {
    (NEW_MAC.into(), 1400, 77, true, true)
}

fn files(node: &Node) -> Vec<String> {
    let Ok(entries) = fs::read_dir(data_dir(node)) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn add_check_del() {
    let node = Node::heddle();
    let pod = pod(&node);
    let conf = with_prev(&everything(&node), &prev(&pod, "1.1.0"));
    let result = node.add("tuning", &pod, &conf);
    let mut wanted = prev(&pod, "1.1.0");
    wanted["interfaces"][1]["mac"] = json!(NEW_MAC);
    assert_eq!(result, wanted);
    assert_eq!(link(&pod), tuned());
    assert_eq!(
        pod.sh("cat /proc/sys/net/ipv4/conf/eth0/arp_notify /proc/sys/net/core/somaxconn"),
        "1\n500\n"
    );
    let file = data_dir(&node).join("c1_eth0.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(data_dir(&node)).unwrap().permissions().mode() & 0o777, 0o700);

    let checked = with_prev(&conf, &result);
    let answer = node.call("tuning", "CHECK", &pod, &checked);
    assert!(answer.ok, "{answer:#?}");
    for (change, back, told) in [
        (
            "ip link set eth0 mtu 1300",
            "ip link set eth0 mtu 1400",
            "configured MTU of eth0 is 1400, current value is 1300",
        ),
        (
            "ip link set eth0 promisc off",
            "ip link set eth0 promisc on",
            "configured promisc is true, current value is false",
        ),
        (
            "ip link set eth0 allmulticast off",
            "ip link set eth0 allmulticast on",
            "all-multicast mode of eth0 is true, current value is false",
        ),
        (
            "ip link set eth0 txqueuelen 5",
            "ip link set eth0 txqueuelen 77",
            "Transmit Queue Length of eth0 is 77, current value is 5",
        ),
        (
            "ip link set eth0 address 0a:58:00:00:00:07",
            "ip link set eth0 address 0a:58:00:00:00:02",
            "configured Ethernet of eth0 is 0a:58:00:00:00:02, current value is 0a:58:00:00:00:07",
        ),
        (
            "echo 9 > /proc/sys/net/core/somaxconn",
            "echo 500 > /proc/sys/net/core/somaxconn",
            "configured value of /proc/sys/net/core/somaxconn is 500, current value is 9",
        ),
    ] {
        pod.sh(change);
        let drifted = node.call("tuning", "CHECK", &pod, &checked);
        assert!(
            drifted.json()["details"].as_str().unwrap().contains(told),
            "{change}: {drifted:#?}"
        );
        pod.sh(back);
    }
    for _ in 0..2 {
        node.del("tuning", &pod, &checked);
        assert_eq!(link(&pod), untouched());
        assert_eq!(files(&node), [""; 0]);
    }
}

/// As in the reference: a promiscuous interface that nobody asked for is a difference.
#[test]
fn promiscuous_without_being_asked() {
    let node = Node::heddle();
    let pod = pod(&node);
    let conf = with_prev(&conf(&node, &json!({ "mtu": 1400 })), &prev(&pod, "1.0.0"));
    node.add("tuning", &pod, &conf);
    pod.sh("ip link set eth0 promisc on");
    assert_eq!(node.call("tuning", "CHECK", &pod, &conf).error().0, 110);
}

#[test]
fn sysctls_alone_need_no_interface_and_no_file() {
    let node = Node::heddle();
    let pod = node.pod("c1");
    let conf = conf(&node, &json!({ "sysctl": { "net.core.somaxconn": "501" } }));
    let conf = with_prev(&conf, &prev(&pod, "1.0.0"));
    node.add("tuning", &pod, &conf);
    assert_eq!(pod.sh("cat /proc/sys/net/core/somaxconn"), "501\n");
    assert_eq!(files(&node), [""; 0]);
    node.del("tuning", &pod, &conf);
    assert_eq!(
        pod.sh("cat /proc/sys/net/core/somaxconn"),
        "501\n",
        "sysctls go with the namespace"
    );
}

#[test]
fn refusals_change_nothing() {
    let node = Node::heddle();
    let pod = pod(&node);
    let somaxconn = pod.sh("cat /proc/sys/net/core/somaxconn");
    for (extra, code, msg) in [
        (
            json!({ "sysctl": { "net.core.somaxconn": "7", "kernel.hostname": "x" } }),
            7,
            "invalid net sysctl key: \"kernel.hostname\"",
        ),
        (
            json!({ "sysctl": { "net.core.somaxconn": "7", "net.core.nonsense": "x" } }),
            111,
            "there is no sysctl \"net.core.nonsense\" in the container",
        ),
        (
            json!({ "sysctl": { "net.core.somaxconn": "7", "net.ipv4.ip_forward": "perhaps" } }),
            112,
            "cannot set sysctl net/ipv4/ip_forward",
        ),
        (
            json!({ "sysctl": { "net.core.somaxconn": "7" }, "mtu": 7 }),
            112,
            "cannot set the MTU of \"eth0\"",
        ),
        (
            json!({ "promisc": true, "allmulti": true, "mtu": 99_999 }),
            112,
            "cannot set the MTU of \"eth0\"",
        ),
    ] {
        let conf = with_prev(&conf(&node, &extra), &prev(&pod, "1.0.0"));
        let refused = node.call("tuning", "ADD", &pod, &conf).error();
        assert_eq!(refused, (code, msg.to_owned()));
        assert_eq!(pod.sh("cat /proc/sys/net/core/somaxconn"), somaxconn, "{msg}");
        assert_eq!((link(&pod), files(&node).len()), (untouched(), 0), "{msg}");
    }
    let alone = node.call("tuning", "ADD", &pod, &everything(&node));
    assert_eq!(alone.error(), (7, "Required prevResult missing".into()));
    let nobody = Pod { ifname: "net9".into(), ..pod };
    let conf = with_prev(&everything(&node), &prev(&nobody, "1.0.0"));
    let refused = node.call("tuning", "ADD", &nobody, &conf).error();
    assert_eq!(refused, (111, "failed to get \"net9\": there is none".into()));
}

/// Only the raw text knows that a key is there twice.
#[test]
fn duplicate_keys() {
    let text = r#"{"cniVersion": "1.0.0", "name": "n", "type": "tuning", "prevResult": {"cniVersion": "1.0.0"},
        "sysctl": {"net.core.somaxconn": "7", "net.core.somaxconn": "8"}}"#;
    let node = Node::heddle();
    let pod = pod(&node);
    for command in ["ADD", "CHECK"] {
        let line = format!(
            "echo '{text}' | CNI_COMMAND={command} CNI_CONTAINERID=c1 CNI_NETNS={} CNI_IFNAME=eth0 CNI_PATH=/x {}/tuning || true",
            pod.path(),
            node.bin_dir().display()
        );
        let answer = node.sh(&line);
        assert!(answer.contains("duplicated sysctl keys are not allowed"), "{answer}");
    }
}

/// The list of this node is where it is: a mount shows the plugin another one.
#[test]
fn the_allow_list() {
    let node = Node::heddle();
    let pod = pod(&node);
    let etc = node.dir.path().join("etc");
    fs::create_dir_all(etc.join("cni/tuning")).unwrap();
    fs::write(etc.join("cni/tuning/allowlist.conf"), "^net\\.core\\.\n").unwrap();
    let script = format!(
        "#!/bin/sh\nexec unshare --mount sh -c 'mount --bind {} /etc && exec {}/tuning'\n",
        etc.display(),
        node.bin_dir().display()
    );
    let path = node.bin_dir().join("with-list");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let of = |key: &str| {
        let conf = conf(&node, &json!({ "sysctl": { key: "1" } }));
        with_prev(&conf, &prev(&pod, "1.1.0"))
    };
    let (allowed, refused) = (of("net.core.somaxconn"), of("net.ipv4.ip_forward"));
    let msg = "Sysctl net.ipv4.ip_forward is not allowed. Only the following sysctls are allowed: [^net\\.core\\.]";
    assert!(node.call("with-list", "ADD", &pod, &allowed).ok);
    assert!(node.call("with-list", "STATUS", &pod, &allowed).ok);
    assert_eq!(node.call("with-list", "ADD", &pod, &refused).error(), (7, msg.into()));
    assert_eq!(node.call("with-list", "STATUS", &pod, &refused).error(), (50, msg.into()));
    assert!(node.call("with-list", "DEL", &pod, &refused).ok, "DEL takes what ADD refuses");
}

/// ADD was killed, and ran again: what it finds changed is not what was.
#[test]
fn the_first_old_values_survive_a_second_add() {
    let node = Node::heddle();
    let pod = pod(&node);
    let conf = with_prev(&everything(&node), &prev(&pod, "1.0.0"));
    node.add("tuning", &pod, &conf);
    node.add("tuning", &pod, &conf);
    node.del("tuning", &pod, &conf);
    assert_eq!(link(&pod), untouched());
}

/// Two of a chain write the same file: the first old value counts, and the reference loses it.
#[test]
fn two_in_a_chain() {
    let node = Node::heddle();
    let pod = pod(&node);
    let of = |extra| with_prev(&conf(&node, &extra), &prev(&pod, "1.0.0"));
    let (one, two) = (of(json!({ "mtu": 1400 })), of(json!({ "mtu": 1300, "txQLen": 5 })));
    node.add("tuning", &pod, &one);
    node.add("tuning", &pod, &two);
    node.del("tuning", &pod, &two);
    node.del("tuning", &pod, &one);
    assert_eq!((link(&pod), files(&node).len()), (untouched(), 0));
}

/// A name is not an interface: what is there now was never tuned.
#[test]
fn another_interface_of_the_name_is_left_alone() {
    let node = Node::heddle();
    let pod = pod(&node);
    let conf =
        with_prev(&conf(&node, &json!({ "mtu": 1400, "mac": NEW_MAC })), &prev(&pod, "1.0.0"));
    node.add("tuning", &pod, &conf);
    pod.sh("ip link del eth0 && ip link add eth0 mtu 1200 address 0a:58:00:00:00:77 type veth peer name far");
    node.del("tuning", &pod, &conf);
    assert_eq!((link(&pod).0.as_str(), link(&pod).1), ("0a:58:00:00:00:77", 1200));
    assert_eq!(files(&node), [""; 0]);
}

#[test]
fn del_never_fails_and_leaves_no_file() {
    let node = Node::heddle();
    let pod = pod(&node);
    let good = with_prev(&everything(&node), &prev(&pod, "1.0.0"));
    for netns in ["", "/run/netns/no-such-namespace"] {
        node.add("tuning", &pod, &good);
        let gone = node.call_with("tuning", "DEL", &pod, &good, &[("CNI_NETNS", netns)]);
        assert!(gone.ok, "{gone:#?}");
        // A quirk that is not copied: the reference leaves the file.
        assert_eq!(files(&node), [""; 0]);
    }
    // The interface is gone; the configuration is one that ADD refuses; the file is garbage.
    node.add("tuning", &pod, &good);
    pod.sh("ip link del eth0");
    let mut bad = good.clone();
    bad["mtu"] = json!("nonsense");
    bad["prevResult"] = json!(7);
    assert!(node.call("tuning", "DEL", &pod, &bad).ok);
    assert_eq!(files(&node), [""; 0]);
    fs::write(data_dir(&node).join("c1_eth0.json"), "{").unwrap();
    assert!(node.call("tuning", "DEL", &pod, &bad).ok);
    assert_eq!(files(&node), [""; 0]);
}

#[test]
fn gc_restores_what_is_not_valid() {
    let node = Node::heddle();
    let (one, two) = (pod(&node), node.pod("c2"));
    with_eth0(&two);
    let of = |pod: &Pod| with_prev(&conf(&node, &json!({ "mtu": 1400 })), &prev(pod, "1.1.0"));
    node.add("tuning", &one, &of(&one));
    node.add("tuning", &two, &of(&two));
    // The reference's files do not say of which network they are.
    fs::write(data_dir(&node).join("c9_eth0.json"), r#"{"mtu": 1500}"#).unwrap();
    let mut gc = conf(&node, &json!({}));
    gc["cni.dev/valid-attachments"] = json!([{ "containerID": "c2", "ifname": "eth0" }]);
    let mut other = gc.clone();
    other["name"] = json!("othernet");
    assert!(node.call("tuning", "GC", &one, &other).ok);
    assert_eq!(files(&node).len(), 3, "another network's");
    assert!(node.call("tuning", "GC", &one, &gc).ok);
    let mut left = files(&node);
    left.sort();
    assert_eq!(left, ["c2_eth0.json", "c9_eth0.json"]);
    assert_eq!((link(&one).1, link(&two).1), (1500, 1400));
}

/// A new address and a smaller MTU are what the other side sees.
#[test]
fn packets_have_the_new_address_and_size() {
    let node = Node::heddle();
    let pod = node.pod("c1");
    let peer = pod.ns.ns().path().file_name().unwrap().to_str().unwrap();
    node.sh(&format!("ip link add far type veth peer name eth0 netns {peer}"));
    node.sh("ip addr add 10.88.0.1/24 dev far && ip link set far up");
    pod.sh("ip addr add 10.88.0.2/24 dev eth0 && ip link set eth0 up");
    let conf =
        with_prev(&conf(&node, &json!({ "mac": NEW_MAC, "mtu": 1400 })), &prev(&pod, "1.0.0"));
    node.add("tuning", &pod, &conf);
    node::traffic::serve(&pod.ns, "10.88.0.2:80", 1);
    assert_eq!(node::traffic::fetch(&node.ns, "10.88.0.2:80").as_deref(), Some("10.88.0.1"));
    assert!(node.sh("ip neigh show 10.88.0.2").contains(NEW_MAC));
    // What fits is sent whole, what does not in two fragments.
    for (payload, fragments) in [(1372, 0), (1373, 2)] {
        let before = fragments_made(&pod);
        pod.ns.run(|| {
            let socket = UdpSocket::bind("10.88.0.2:0").unwrap();
            socket.send_to(&vec![0; payload], "10.88.0.1:9").unwrap();
        });
        assert_eq!(fragments_made(&pod) - before, fragments, "{payload}");
    }
}

/// The namespace's counter `FragCreates` of IP.
fn fragments_made(pod: &Pod) -> u64 {
    let text = pod.sh("grep ^Ip: /proc/net/snmp");
    let (names, values) = text.split_once('\n').unwrap();
    let at = names.split_whitespace().position(|name| name == "FragCreates").unwrap();
    values.split_whitespace().nth(at).unwrap().parse().unwrap()
}

#[test]
fn faults() {
    let tuned_pod = || {
        let mut scene = scene(|node| {
            let mut conf = everything(node);
            conf["sysctl"] =
                json!({ "net.ipv4.conf.IFNAME.arp_notify": "1", "net/core/somaxconn": "500" });
            conf
        });
        with_eth0(&scene.pod);
        scene.conf = with_prev(&scene.conf, &prev(&scene.pod, "1.0.0"));
        scene
    };
    // No DEL restores a sysctl: the namespace is about to go. That a failed ADD does is in `refusals_change_nothing`.
    prove("tuning", tuned_pod, |line| line.contains("pod sysctl"));
}

/// The same calls on both suites: results, kernel state after ADD and after DEL.
fn story(suite: Suite, extra: &Value, version: &str, args: &str) -> Value {
    let node = Node::new(suite);
    let pod = pod(&node);
    let mut conf = conf(&node, extra);
    conf["cniVersion"] = json!(version);
    let conf = with_prev(&conf, &prev(&pod, version));
    let env = [("CNI_ARGS", args)];
    let answer = node.call_with("tuning", "ADD", &pod, &conf, &env);
    assert!(answer.ok, "{suite:?}: {answer:#?}");
    let mut result = answer.json();
    // 1.1.1 prints an empty dns; newer ones do not.
    result.as_object_mut().unwrap().retain(|_, value| *value != json!({}));
    let mut told = result.clone();
    state::Names::default().normalise(&mut told);
    let up = state::of(&pod.ns);
    if version >= "0.4.0" {
        let check = node.call_with("tuning", "CHECK", &pod, &with_prev(&conf, &result), &env);
        assert!(check.ok, "{suite:?}: {check:#?}");
    }
    let kept = backup(&data_dir(&node));
    let down = node.call_with("tuning", "DEL", &pod, &with_prev(&conf, &result), &env);
    assert!(down.ok, "{suite:?}: {down:#?}");
    json!({ "result": told, "up": up, "kept": kept, "down": state::of(&pod.ns), "files": files(&node) })
}

/// What both suites write; ours says in addition whose it is.
fn backup(dir: &Path) -> Value {
    let Ok(text) = fs::read(dir.join("c1_eth0.json")) else { return Value::Null };
    let mut json: Value = serde_json::from_slice(&text).unwrap();
    json.as_object_mut().unwrap().remove("of");
    json
}

#[test]
fn the_reference_does_the_same() {
    let mac_args = format!("MAC={NEW_MAC}");
    for (extra, args) in [
        (json!({}), ""),
        (json!({ "mtu": 1400 }), ""),
        (json!({ "promisc": true }), ""),
        (json!({ "allmulti": true, "mac": NEW_MAC }), ""),
        (json!({ "allmulti": false }), ""),
        (
            json!({ "sysctl": { "net.core.somaxconn": "500", "net.ipv4.conf.eth0.arp_notify": "1" } }),
            "",
        ),
        (json!({ "sysctl": { "net/core/somaxconn": "500" }, "mtu": 1400 }), ""),
        (json!({ "mac": OLD_MAC }), mac_args.as_str()),
        (json!({ "runtimeConfig": { "mac": NEW_MAC } }), ""),
        (
            json!({ "args": { "cni": { "mac": NEW_MAC, "mtu": 1300, "promisc": true } }, "mtu": 1400 }),
            "",
        ),
    ] {
        let ours = story(Suite::Heddle, &extra, "1.0.0", args);
        let theirs = story(Suite::Reference, &extra, "1.0.0", args);
        assert_eq!(state::differences("", &ours, &theirs), [""; 0], "{extra}");
    }
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0"] {
        let extra = json!({ "mac": NEW_MAC, "mtu": 1400 });
        let ours = story(Suite::Heddle, &extra, version, "");
        let theirs = story(Suite::Reference, &extra, version, "");
        assert_eq!(state::differences("", &ours, &theirs), [""; 0], "{version}");
    }
}

#[test]
fn either_restores_what_the_other_changed() {
    for (adds, deletes) in [(Suite::Heddle, Suite::Reference), (Suite::Reference, Suite::Heddle)] {
        let node = Node::new(adds);
        let pod = pod(&node);
        let mut conf =
            conf(&node, &json!({ "mac": NEW_MAC, "mtu": 1400, "promisc": true, "allmulti": true }));
        conf["cniVersion"] = json!("1.0.0");
        let conf = with_prev(&conf, &prev(&pod, "1.0.0"));
        node.add("tuning", &pod, &conf);
        let node = node.with_suite(deletes);
        node.del("tuning", &pod, &conf);
        assert_eq!((link(&pod), files(&node).len()), (untouched(), 0), "{adds:?} then {deletes:?}");
    }
}
