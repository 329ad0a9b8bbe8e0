//! `host-device` in namespaces, and the reference (Debian, 1.1.1) beside it. The device is an end of a veth pair; the other one is
//! the network that it leads to.

mod node;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use node::faults::{Scene, prove, scene};
use node::oracle::{self, Meant};
use node::{Node, Pod, Suite, state, traffic, with_prev};
use serde_json::{Value, json};

const MAC: &str = "0a:58:00:00:00:05";

fn with_device(node: &Node) {
    node.sh(&format!(
        "ip link add ens5 address {MAC} type veth peer name switch address 0a:58:00:00:00:01"
    ));
}

fn node_with_device() -> Node {
    let node = Node::heddle();
    with_device(&node);
    node
}

fn conf(extra: &Value) -> Value {
    let mut conf = json!({ "cniVersion": "1.1.0", "name": "testnet", "type": "host-device" });
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    conf
}

fn by_name() -> Value {
    conf(&json!({ "device": "ens5" }))
}

fn links(line: &str) -> Vec<String> {
    line.lines().map(|l| l.split(": ").nth(1).unwrap().split('@').next().unwrap().into()).collect()
}

fn on_host(node: &Node) -> Vec<String> {
    links(&node.sh("ip -o link"))
}

fn inside(pod: &Pod) -> Vec<String> {
    links(&pod.sh("ip -o link"))
}

#[track_caller]
fn is_home(node: &Node) {
    let link = node.ns.json(&["ip", "-j", "link", "show", "ens5"])[0].clone();
    assert_eq!(link["address"], MAC);
    assert!(link.get("ifalias").is_none(), "{link}");
}

#[test]
fn add_check_del() {
    let node = node_with_device();
    let pod = node.pod("c");
    let mut conf = by_name();
    conf["ipam"] = node.ipam(&["10.88.0.0/24"]);
    conf["dns"] = json!({ "nameservers": ["10.96.0.10"] });
    let result = node.add("host-device", &pod, &conf);
    assert_eq!(
        result,
        json!({
            "cniVersion": "1.1.0",
            "interfaces": [{ "name": "eth0", "mac": MAC, "sandbox": pod.path() }],
            "ips": [{ "interface": 0, "address": "10.88.0.2/24", "gateway": "10.88.0.1" }],
            "dns": { "nameservers": ["10.96.0.10"] },
        })
    );
    assert_eq!(on_host(&node), ["lo", "switch"]);
    let link = pod.ns.json(&["ip", "-j", "link", "show", "eth0"])[0].clone();
    assert_eq!(link["ifalias"], "ens5");
    let checked = with_prev(&conf, &result);
    assert!(node.call("host-device", "CHECK", &pod, &checked).ok);
    for (change, told) in [
        ("ip addr del 10.88.0.2/24 dev eth0", "address 10.88.0.2/24 is missing"),
        ("ip link set eth0 address 0a:58:00:00:00:77", "doesn't match container Mac"),
        ("ip link set eth0 alias ''", "lost its alias"),
        ("ip link set eth0 down", "is down"),
    ] {
        pod.sh(change);
        let drifted = node.call("host-device", "CHECK", &pod, &checked);
        assert_eq!(drifted.error().0, 110);
        assert!(drifted.stdout.contains(told), "{change}: {drifted:#?}");
    }
    pod.sh(&format!("ip link set eth0 address {MAC} && ip link set eth0 alias ens5"));
    for _ in 0..2 {
        node.del("host-device", &pod, &checked);
        is_home(&node);
        assert_eq!((inside(&pod), node.leases("testnet")), (vec!["lo".to_owned()], vec![]));
    }
    assert!(!node.sh("ip -o link show ens5").contains("UP"), "nobody knows how it was: down");
}

#[test]
fn packets_take_the_device() {
    let node = node_with_device();
    node.sh("ip addr add 10.88.0.1/24 dev switch && ip link set switch up");
    let pod = node.pod("c");
    let mut conf = by_name();
    conf["ipam"] = node.ipam(&["10.88.0.0/24"]);
    node.add("host-device", &pod, &conf);
    traffic::serve(&pod.ns, "10.88.0.2:80", 1);
    assert_eq!(traffic::fetch(&node.ns, "10.88.0.2:80").as_deref(), Some("10.88.0.1"));
    traffic::serve(&node.ns, "10.88.0.1:80", 1);
    assert_eq!(pod.fetch("10.88.0.1:80").as_deref(), Some("10.88.0.2"));
    assert!(node.sh("ip neigh show 10.88.0.2").contains(MAC));
}

#[test]
fn by_address() {
    let node = node_with_device();
    let pod = node.pod("c");
    let conf = conf(&json!({ "hwaddr": MAC.to_uppercase() }));
    node.add("host-device", &pod, &conf);
    assert_eq!((on_host(&node).len(), inside(&pod).len()), (2, 2));
    node.del("host-device", &pod, &conf);
    is_home(&node);
}

/// The node's `/sys` is the machine's: a mount shows the plugin one that goes with the node.
fn with_sys(node: &Node, links: &[(&str, &str)], drivers: &[(&str, &str)]) {
    let sys = node.dir.path().join("sys");
    for (folder, link) in links {
        fs::create_dir_all(sys.join(folder).join(link)).unwrap();
    }
    for (device, driver) in drivers {
        let device = sys.join("bus/pci/devices").join(device);
        let drivers = sys.join("bus/pci/drivers").join(driver);
        fs::create_dir_all(&device).unwrap();
        fs::create_dir_all(&drivers).unwrap();
        symlink(
            drivers.strip_prefix(&sys).map(|d| sys_link(d.to_str().unwrap())).unwrap(),
            device.join("driver"),
        )
        .unwrap();
    }
    let script = format!(
        "#!/bin/sh\nexec unshare --mount sh -c 'mount --bind {} /sys && exec {}/host-device'\n",
        sys.display(),
        node.bin_dir().display()
    );
    let path = node.bin_dir().join("with-sys");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// From a device's folder.
fn sys_link(driver: &str) -> String {
    format!("../../../../{driver}")
}

#[test]
fn by_place() {
    for (folder, driver, extra) in [
        ("bus/pci/devices/0000:00:03.0/net", "e1000e", json!({ "pciBusID": "0000:00:03.0" })),
        (
            "bus/pci/devices/0000:00:03.0/virtio2/net",
            "virtio-pci",
            json!({ "pciBusID": "0000:00:03.0" }),
        ),
        (
            "bus/pci/devices/0000:00:03.0/net",
            "e1000e",
            json!({ "runtimeConfig": { "deviceID": "0000:00:03.0" } }),
        ),
        (
            "bus/auxiliary/devices/mlx5_core.sf.4/net",
            "x",
            json!({ "runtimeConfig": { "deviceID": "mlx5_core.sf.4" } }),
        ),
        (
            "devices/pci0000:00/0000:00:03.0/net",
            "x",
            json!({ "kernelpath": "/sys/devices/pci0000:00/0000:00:03.0" }),
        ),
    ] {
        let node = node_with_device();
        with_sys(&node, &[(folder, "ens5")], &[("0000:00:03.0", driver)]);
        let pod = node.pod("c");
        let conf = conf(&extra);
        node.add("with-sys", &pod, &conf);
        assert_eq!((on_host(&node).len(), inside(&pod).len()), (2, 2), "{extra}");
        // A device that is away is no longer shown.
        fs::remove_dir(node.dir.path().join("sys").join(folder).join("ens5")).unwrap();
        let status = node.call("with-sys", "STATUS", &pod, &conf);
        assert!(status.ok, "{status:#?}");
        node.del("with-sys", &pod, &conf);
        is_home(&node);
    }
}

/// DPDK: nothing is moved, an address is got all the same.
#[test]
fn a_device_of_a_program_stays() {
    for driver in ["vfio-pci", "uio_pci_generic", "igb_uio"] {
        let node = node_with_device();
        with_sys(&node, &[], &[("0000:00:03.0", driver)]);
        let pod = node.pod("c");
        let conf =
            conf(&json!({ "pciBusID": "0000:00:03.0", "ipam": node.ipam(&["10.88.0.0/24"]) }));
        let result = node.add("with-sys", &pod, &conf);
        assert_eq!(result["interfaces"], json!([{ "name": "eth0", "sandbox": pod.path() }]));
        assert_eq!(result["ips"][0]["address"], "10.88.0.2/24");
        assert_eq!((on_host(&node).len(), inside(&pod).len()), (3, 1));
        assert!(node.call("with-sys", "CHECK", &pod, &with_prev(&conf, &result)).ok);
        node.del("with-sys", &pod, &conf);
        assert_eq!(node.leases("testnet"), [""; 0]);
    }
}

#[test]
fn refusals_move_nothing() {
    let node = node_with_device();
    let pod = node.pod("c");
    pod.sh("ip link add eth0 type veth peer name other");
    let taken = node.call("host-device", "ADD", &pod, &by_name());
    assert_eq!(taken.error(), (111, "interface \"eth0\" already exists in the container".into()));
    is_home(&node);
    // And the DEL after it leaves that one alone.
    node.del("host-device", &pod, &by_name());
    assert_eq!(inside(&pod), ["lo", "other", "eth0"]);
    let missing = node.call("host-device", "ADD", &pod, &conf(&json!({ "device": "ens9" })));
    assert_eq!(missing.error(), (114, "failed to find host device: Link not found: ens9".into()));
    let unnamed = node.call("host-device", "ADD", &pod, &conf(&json!({})));
    assert_eq!(unnamed.error().0, 7);
    let old = conf(&json!({ "cniVersion": "0.2.0", "device": "ens5" }));
    let empty = Pod { ifname: "net1".into(), ..pod };
    let refused = node.call("host-device", "ADD", &empty, &old);
    assert_eq!(refused.error(), (1, "cannot convert: no valid IP addresses".into()));
    is_home(&node);
}

/// Up, with addresses, routes and a description of an administrator's.
#[test]
fn a_failed_add_gives_back_all_that_the_device_had() {
    let node = node_with_device();
    node.sh("ip link set switch up && ip link set ens5 up alias 'uplink to rack 3'");
    node.sh(
        "ip addr add 192.0.2.5/24 brd + dev ens5 && ip -6 addr add 2001:db8::5/64 dev ens5 nodad",
    );
    node.sh("ip route add 198.51.100.0/24 via 192.0.2.1 dev ens5 metric 7");
    node.sh("ip -6 route add default via 2001:db8::1 dev ens5 table 100");
    let pod = node.pod("c");
    let before = json!(state::of(&node.ns));
    // The last step fails: an address that the kernel does not take with its route.
    let mut conf = by_name();
    conf["ipam"] = node.ipam(&["10.88.0.0/24"]);
    conf["ipam"]["routes"] = json!([{ "dst": "203.0.113.0/24", "gw": "203.0.113.1" }]);
    let refused = node.call("host-device", "ADD", &pod, &conf);
    assert_eq!(refused.error().0, 112, "{refused:#?}");
    let after = json!(state::of(&node.ns));
    let meant = |line: &String| {
        // The kernel counts what was done for it; and a restored address is not checked again for being unique.
        line.contains("nodad") || line.contains("carrier")
    };
    let found: Vec<_> =
        state::differences("", &after, &before).into_iter().filter(|line| !meant(line)).collect();
    assert_eq!(found, [""; 0]);
    assert_eq!((inside(&pod), node.leases("testnet")), (vec!["lo".to_owned()], vec![]));
}

/// Moved, but refused its new name, and killed before it could be moved back.
#[test]
fn del_finds_a_device_that_is_moved_and_not_renamed() {
    for extra in [json!({ "device": "ens5" }), json!({ "hwaddr": MAC })] {
        let node = node_with_device();
        let pod = node.pod("c");
        let ns = pod.ns.name();
        node.sh(&format!("ip link set ens5 alias ens5 && ip link set ens5 netns {ns}"));
        node.del("host-device", &pod, &conf(&extra));
        is_home(&node);
    }
}

/// Somebody in the container gave it another name.
#[test]
fn del_finds_a_device_that_was_renamed() {
    let node = node_with_device();
    let pod = node.pod("c");
    node.add("host-device", &pod, &by_name());
    pod.sh("ip link set eth0 down && ip link set eth0 name wan");
    node.del("host-device", &pod, &by_name());
    is_home(&node);
}

/// When a namespace ends the kernel moves its hardware to the first one, under the name that it had.
#[test]
fn del_finds_a_device_that_came_back_by_itself() {
    for name in ["eth0", "dev7"] {
        for extra in [json!({ "device": "ens5" }), json!({ "hwaddr": MAC })] {
            let node = node_with_device();
            let pod = node.pod("c");
            node.sh(&format!("ip link set ens5 name {name} && ip link set {name} alias ens5"));
            let env = [("CNI_NETNS", "/run/netns/no-such-namespace")];
            let answer = node.call_with("host-device", "DEL", &pod, &conf(&extra), &env);
            assert!(answer.ok, "{answer:#?}");
            is_home(&node);
        }
    }
}

/// A description is not a name to be restored.
#[test]
fn an_administrators_alias_is_left_alone() {
    let node = node_with_device();
    let pod = node.pod("c");
    node.sh("ip link set ens5 alias uplink up");
    for (name, netns) in [("ens5", pod.path()), ("eth0", pod.path()), ("eth0", String::new())] {
        // Also of a device that has the container's name for it, and that an ADD refused.
        node.sh(&format!("ip link set ens5 name {name} || true"));
        let env = [("CNI_NETNS", netns.as_str())];
        assert!(
            node.call_with("host-device", "DEL", &pod, &conf(&json!({ "hwaddr": MAC })), &env).ok
        );
        let link = node.ns.json(&["ip", "-j", "link", "show", name])[0].clone();
        assert_eq!(
            (&link["ifalias"], &link["operstate"]),
            (&json!("uplink"), &json!("LOWERLAYERDOWN"))
        );
    }
    node.sh("ip link set eth0 name ens5");
    for extra in [json!({ "device": "ens5" }), json!({ "hwaddr": MAC })] {
        node.del("host-device", &pod, &conf(&extra));
        let link = node.ns.json(&["ip", "-j", "link", "show", "ens5"])[0].clone();
        assert_eq!(link["ifalias"], "uplink");
    }
}

#[test]
fn without_an_alias_del_says_what_to_do() {
    let node = node_with_device();
    let pod = node.pod("c");
    let result = node.add("host-device", &pod, &by_name());
    pod.sh("ip link set eth0 alias ''");
    let lost = node.call("host-device", "DEL", &pod, &by_name());
    let msg = "failed to find original ifname for \"eth0\" (alias is not set)";
    assert_eq!(lost.error(), (111, msg.into()));
    // ADD's result tells that it is the one.
    node.del("host-device", &pod, &with_prev(&by_name(), &result));
    is_home(&node);
}

#[test]
fn a_name_that_is_taken_on_the_host_keeps_the_device_in_the_container() {
    let node = node_with_device();
    let pod = node.pod("c");
    // By address, so that the host's new ens5 is not taken for it.
    let conf = conf(&json!({ "hwaddr": MAC }));
    node.add("host-device", &pod, &conf);
    node.sh("ip link add ens5 type veth peer name other");
    let refused = node.call("host-device", "DEL", &pod, &conf);
    assert_eq!(
        refused.error(),
        (111, "failed to restore \"eth0\" to original name \"ens5\"".into())
    );
    assert_eq!(inside(&pod), ["lo", "eth0"]);
    node.sh("ip link del ens5");
    node.del("host-device", &pod, &conf);
    is_home(&node);
}

#[test]
fn del_with_what_add_would_refuse() {
    let node = node_with_device();
    let pod = node.pod("c");
    node.add("host-device", &pod, &by_name());
    let mut bad = conf(&json!({ "hwaddr": "nonsense", "pciBusID": "../x" }));
    bad["prevResult"] = json!(7);
    node.del("host-device", &pod, &bad);
    is_home(&node);
}

#[test]
fn gc_releases_addresses() {
    let node = node_with_device();
    let pod = node.pod("c");
    let mut conf = by_name();
    conf["ipam"] = node.ipam(&["10.88.0.0/24"]);
    node.add("host-device", &pod, &conf);
    conf["cni.dev/valid-attachments"] = json!([]);
    assert!(node.call("host-device", "GC", &pod, &conf).ok);
    assert_eq!(node.leases("testnet"), [""; 0]);
}

fn fault_scene(extra: impl Fn(&Node) -> Value) -> Scene {
    let scene = scene(|node| conf(&extra(node)));
    with_device(&scene.node);
    // With a carrier: without one every ADD waits for its IPv6 address, as the reference's does. The far end itself shall not get
    // addresses when the device comes up.
    scene.node.sh("echo 1 > /proc/sys/net/ipv6/conf/switch/disable_ipv6 && ip link set switch up");
    scene
}

#[test]
fn faults_with_addresses() {
    let make =
        || fault_scene(|node| json!({ "device": "ens5", "ipam": node.ipam(&["10.88.0.0/24"]) }));
    prove("host-device", make, |_| false);
}

#[test]
fn faults_without_addresses() {
    prove("host-device", || fault_scene(|_| json!({ "hwaddr": MAC })), |_| false);
}

const MEANT: [Meant; 3] = [
    (
        &["down/node", "operstate: ours \"LOWERLAYERDOWN\", reference \"DOWN\""],
        "we do not set it down before it moves: the kernel does, and looks for the peer in the namespace that it leaves",
    ),
    (&["down/node", "ifalias: ours null, reference \"ens5\""], "newer ones take the alias off"),
    oracle::KEEP_ADDR,
];

fn story(suite: Suite, subnets: &[&str], version: &str) -> Value {
    let (node, pod) = (Node::new(suite), Node::new(suite).pod("c"));
    // Duplicate address detection takes seconds.
    for ns in [&node.ns, &pod.ns] {
        ns.cmd(&["sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad"]);
    }
    with_device(&node);
    node.sh("ip link set switch up");
    let mut conf = by_name();
    conf["cniVersion"] = json!(version);
    if !subnets.is_empty() {
        conf["ipam"] = node.ipam(subnets);
        conf["ipam"]["routes"] = json!([{ "dst": "10.9.0.0/16" }]);
    }
    let answer = node.call("host-device", "ADD", &pod, &conf);
    assert!(answer.ok, "{suite:?}: {answer:#?}");
    let mut result = answer.json();
    // 1.1.1 prints an empty dns; newer ones do not.
    result.as_object_mut().unwrap().retain(|_, value| *value != json!({}));
    let mut told = result.clone();
    state::Names::default().normalise(&mut told);
    let up = json!({ "node": state::of(&node.ns), "pod": state::of(&pod.ns) });
    // The reference's CHECK does not find a route that it added without a gateway.
    if version >= "0.4.0" && (suite == Suite::Heddle || subnets.is_empty()) {
        let check = node.call("host-device", "CHECK", &pod, &with_prev(&conf, &result));
        assert!(check.ok, "{suite:?}: {check:#?}");
    }
    node.del("host-device", &pod, &with_prev(&conf, &result));
    let down = json!({ "node": state::of(&node.ns), "pod": state::of(&pod.ns) });
    json!({ "result": told, "up": up, "down": down, "leases": node.leases("testnet") })
}

#[test]
fn the_reference_does_the_same() {
    let dual: &[&str] = &["10.88.0.0/24", "fd88::/64"];
    let cases: [(&[&str], &str); 8] = [
        (&[], "1.0.0"),
        (&["10.88.0.0/24"], "1.0.0"),
        (dual, "1.0.0"),
        (dual, "0.1.0"),
        (dual, "0.2.0"),
        (dual, "0.3.0"),
        (dual, "0.3.1"),
        (dual, "0.4.0"),
    ];
    for (subnets, version) in cases {
        let ours = story(Suite::Heddle, subnets, version);
        let theirs = story(Suite::Reference, subnets, version);
        let found = oracle::differences(&ours, &theirs, &MEANT);
        assert_eq!(found, [""; 0], "{version} {subnets:?}");
    }
}

#[test]
fn each_gives_back_what_the_other_took() {
    for (adds, deletes) in [(Suite::Heddle, Suite::Reference), (Suite::Reference, Suite::Heddle)] {
        let node = Node::new(adds);
        with_device(&node);
        let pod = node.pod("c");
        let mut conf = conf(&json!({ "device": "ens5", "ipam": node.ipam(&["10.88.0.0/24"]) }));
        conf["cniVersion"] = json!("1.0.0");
        let result = node.add("host-device", &pod, &conf);
        let node = node.with_suite(deletes);
        node.del("host-device", &pod, &with_prev(&conf, &result));
        assert_eq!(on_host(&node), ["lo", "switch", "ens5"], "{adds:?} then {deletes:?}");
        assert_eq!(node.leases("testnet"), [""; 0]);
    }
}
