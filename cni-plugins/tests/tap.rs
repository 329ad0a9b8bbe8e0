//! `tap` in namespaces. Debian's reference has no `tap`, so the yardstick is what it runs: `ip tuntap`.

mod node;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netns_tools::testing::TestNetns;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use node::faults::{prove, scene};
use node::{Node, Pod, state, with_prev};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

fn conf(extra: &Value) -> Value {
    let mut conf = json!({ "cniVersion": "1.1.0", "name": "testnet", "type": "tap" });
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    conf
}

fn link(pod: &Pod) -> Value {
    pod.ns.json(&["ip", "-j", "-d", "link", "show", "eth0"])[0].clone()
}

#[test]
fn add_check_del() {
    let node = Node::heddle();
    let pod = node.pod("c");
    let conf = conf(&json!({
        "mtu": 1400, "mac": "0a:58:00:00:00:01", "owner": 42424, "group": 2000, "multiQueue": true,
        "ipam": node.ipam(&["10.88.0.0/24"]), "dns": { "nameservers": ["10.96.0.10"] },
    }));
    let result = node.add("tap", &pod, &conf);
    assert_eq!(
        result,
        json!({
            "cniVersion": "1.1.0",
            "interfaces": [{ "name": "eth0", "mac": "0a:58:00:00:00:01", "sandbox": pod.path() }],
            "ips": [{ "interface": 0, "address": "10.88.0.2/24", "gateway": "10.88.0.1" }],
            "dns": { "nameservers": ["10.96.0.10"] },
        })
    );
    let link = link(&pod);
    assert_eq!((&link["mtu"], &link["address"]), (&json!(1400), &json!("0a:58:00:00:00:01")));
    let tun = &link["linkinfo"]["info_data"];
    assert_eq!((&tun["type"], &tun["user"]), (&json!("tap"), &json!(42424)), "{tun}");
    assert_eq!((&tun["multi_queue"], &tun["persist"]), (&json!(true), &json!(true)), "{tun}");
    assert_eq!(node.leases("testnet"), ["10.88.0.2"]);
    let checked = node.call("tap", "CHECK", &pod, &with_prev(&conf, &result));
    assert!(checked.ok, "{checked:#?}");

    for change in [
        "ip addr del 10.88.0.2/24 dev eth0",
        "ip link set eth0 mtu 1300",
        "ip link set eth0 address 0a:58:00:00:00:09",
        "ip link set eth0 down",
        "ip tuntap del mode tap name eth0 multi_queue",
    ] {
        pod.sh(change);
        let drifted = node.call("tap", "CHECK", &pod, &with_prev(&conf, &result));
        assert_eq!(drifted.error().0, 110, "{change}: {drifted:#?}");
    }
    for _ in 0..2 {
        node.del("tap", &pod, &with_prev(&conf, &result));
        assert_eq!(node.leases("testnet"), [""; 0]);
    }
}

/// Without owner and group, with one, and with both: what `ip tuntap` makes.
#[test]
fn like_those_of_ip_tuntap() {
    for (extra, words) in [
        (json!({}), ""),
        (json!({ "owner": 0 }), "user 0"),
        (json!({ "group": 107, "multiQueue": true }), "group 107 multi_queue"),
        (json!({ "owner": 107, "group": 107 }), "user 107 group 107 vnet_hdr"),
    ] {
        let node = Node::heddle();
        let (ours, theirs) = (node.pod("a"), node.pod("b"));
        node.add("tap", &ours, &conf(&extra));
        theirs.sh(&format!("ip tuntap add mode tap name eth0 {words} && ip link set eth0 up"));
        let found =
            state::differences("", &json!(state::of(&ours.ns)), &json!(state::of(&theirs.ns)));
        assert_eq!(found, [""; 0], "{words}");
        node.del("tap", &ours, &conf(&extra));
        assert!(!ours.sh("ip -o link").contains("eth0"));
    }
}

#[test]
fn versions() {
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let node = Node::heddle();
        let pod = node.pod("c");
        let ipam = node.ipam(&["10.88.0.0/24", "fd88::/64"]);
        let conf = conf(&json!({ "cniVersion": version, "ipam": ipam }));
        // A v6 gateway makes others wait for an address that cannot settle before a program opens the device.
        let start = Instant::now();
        let result = node.add("tap", &pod, &conf);
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        let has_interface = result.get("interfaces").is_some();
        assert_eq!(has_interface, version > "0.2.0", "{result}");
        if version >= "0.4.0" {
            let checked = node.call("tap", "CHECK", &pod, &with_prev(&conf, &result));
            assert!(checked.ok, "{checked:#?}");
        }
        node.del("tap", &pod, &conf);
    }
}

/// What the host calls an interface, and what another plugin put there.
#[test]
fn a_name_that_is_taken_is_refused_and_survives() {
    let node = Node::heddle();
    let pod = node.pod("c");
    pod.sh("ip link add eth0 type veth peer name other");
    let conf = conf(&json!({ "ipam": node.ipam(&["10.88.0.0/24"]) }));
    let refused = node.call("tap", "ADD", &pod, &conf);
    assert_eq!(refused.error(), (111, "interface \"eth0\" already exists in the container".into()));
    assert_eq!(node.leases("testnet"), [""; 0]);
    node.del("tap", &pod, &conf);
    assert!(pod.sh("ip -o link show eth0").contains("other"), "DEL took a link that is no tap");
}

#[test]
fn a_missing_namespace_is_deleted() {
    let node = Node::heddle();
    let pod = node.pod("c");
    let conf = conf(&json!({ "ipam": node.ipam(&["10.88.0.0/24"]), "mtu": "nonsense" }));
    let good = {
        let mut good = conf.clone();
        good["mtu"] = json!(0);
        good
    };
    node.add("tap", &pod, &good);
    for netns in ["", "/run/netns/no-such-namespace"] {
        // Also with a configuration that ADD would refuse.
        let gone = node.call_with("tap", "DEL", &pod, &conf, &[("CNI_NETNS", netns)]);
        assert!(gone.ok, "{gone:#?}");
        assert_eq!(node.leases("testnet"), [""; 0]);
    }
}

#[test]
fn a_context_needs_selinux() {
    let node = Node::heddle();
    let pod = node.pod("c");
    let conf = conf(&json!({ "selinuxContext": "system_u:system_r:container_t:s0" }));
    if netns_tools::selinux::is_enabled() {
        node.add("tap", &pod, &conf);
        return;
    }
    println!(
        "not proven on this kernel: a tap device gets an SELinux context (it runs without SELinux)"
    );
    let msg = "selinuxContext is set, and this kernel runs without SELinux".to_owned();
    assert_eq!(node.call("tap", "ADD", &pod, &conf).error(), (112, msg.clone()));
    assert!(!pod.sh("ip -o link").contains("eth0"));
    assert_eq!(node.call("tap", "STATUS", &pod, &conf).error(), (50, msg));
}

/// The process that a context is given to: started by hand, without one.
#[test]
fn the_process_of_its_own_makes_the_same_device() {
    let pod = TestNetns::new("hpod");
    let make = |words: &[&str]| {
        pod.output(&[&[env!("CARGO_BIN_EXE_heddle-cni"), "make-tap"], words].concat())
    };
    assert!(make(&["eth0", "--multi-queue", "--owner", "7"]).status.success());
    let tun = pod.link("eth0").tun.unwrap();
    assert_eq!((tun.owner, tun.group, tun.multi_queue), (Some(7), None, true));
    let again = make(&["eth0"]);
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(!again.status.success() && said.contains("there is a link of this name"), "{said}");
}

#[test]
fn status_and_gc() {
    let node = Node::heddle();
    let pod = node.pod("c");
    let conf = conf(&json!({ "ipam": node.ipam(&["10.88.0.0/24"]) }));
    let status = node.call("tap", "STATUS", &pod, &conf);
    assert!(status.ok, "{status:#?}");
    node.add("tap", &pod, &conf);
    let mut gc = conf.clone();
    gc["cni.dev/valid-attachments"] = json!([{ "containerID": "c", "ifname": "eth0" }]);
    assert!(node.call("tap", "GC", &pod, &gc).ok);
    assert_eq!(node.leases("testnet"), ["10.88.0.2"]);
    gc["cni.dev/valid-attachments"] = json!([]);
    assert!(node.call("tap", "GC", &pod, &gc).ok);
    assert_eq!(node.leases("testnet"), [""; 0]);
}

#[test]
fn a_bridge_that_is_none_is_refused() {
    let node = Node::heddle();
    let pod = node.pod("c");
    let conf = conf(&json!({ "bridge": "br1" }));
    let refused = node.call("tap", "ADD", &pod, &conf).error();
    assert_eq!(refused, (111, "failed to get bridge br1: there is none".into()));
    pod.sh("ip link add br1 type veth peer name other");
    let refused = node.call("tap", "ADD", &pod, &conf).error();
    assert_eq!(refused, (111, "failed to get bridge br1: it is not a bridge".into()));
    assert!(!pod.sh("ip -o link").contains("eth0"));
}

/// Reads frames until one is wanted.
fn frame(tap: &mut File, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let mut ready = [PollFd::new(tap.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::from(100_u16)).unwrap() == 0 {
            continue;
        }
        let mut bytes = vec![0; 2000];
        let length = tap.read(&mut bytes).unwrap();
        bytes.truncate(length);
        if wanted(&bytes) {
            return bytes;
        }
    }
    panic!("no such frame");
}

/// "Who has `target`?", sent by `sender` to everybody.
fn arp_request(mac: [u8; 6], sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    [&[0xff; 6][..], &mac, &[8, 6], &head, &mac, &sender, &[0; 6], &target].concat()
}

#[test]
fn frames_pass_in_both_directions() {
    let node = Node::heddle();
    let pod = node.pod("c");
    node.add("tap", &pod, &conf(&json!({ "ipam": node.ipam(&["10.88.0.0/24"]) })));
    let mut machine = pod.ns.open_tap("eth0", false).unwrap();
    let mac = [0x0a, 0x58, 0, 0, 0, 7];
    machine.write_all(&arp_request(mac, [10, 88, 0, 7], [10, 88, 0, 2])).unwrap();
    let reply = frame(&mut machine, |f| f.get(12..14) == Some(&[8, 6]) && f.get(21) == Some(&2));
    assert_eq!((&reply[..6], &reply[28..32]), (&mac[..], &[10, 88, 0, 2][..]));
    // One file at a time without multiQueue.
    assert!(pod.ns.open_tap("eth0", false).is_err());
}

#[test]
fn several_queues() {
    let node = Node::heddle();
    let pod = node.pod("c");
    node.add("tap", &pod, &conf(&json!({ "multiQueue": true })));
    let _one = pod.ns.open_tap("eth0", true).unwrap();
    pod.ns.open_tap("eth0", true).unwrap();
}

/// Two machines on taps of one bridge hear each other.
#[test]
fn ports_of_a_bridge_in_the_container() {
    let node = Node::heddle();
    let pod = node.pod("c");
    pod.sh("ip link add br1 type bridge && ip link set br1 up");
    let other = Pod { ifname: "net1".into(), id: "c".into(), ns: pod.ns };
    let conf = conf(&json!({ "bridge": "br1" }));
    let result = node.add("tap", &other, &conf);
    let pod = Pod { ifname: "eth0".into(), ..other };
    node.add("tap", &pod, &conf);
    let mut one = pod.ns.open_tap("eth0", false).unwrap();
    let mut two = pod.ns.open_tap("net1", false).unwrap();
    let mac = [0x0a, 0x58, 0, 0, 0, 7];
    let request = arp_request(mac, [10, 88, 0, 7], [10, 88, 0, 9]);
    // The bridge's ports take a moment to forward.
    let start = Instant::now();
    let both = ["eth0", "net1"];
    while !both
        .iter()
        .all(|name| pod.sh(&format!("bridge link show dev {name}")).contains("state forwarding"))
    {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    one.write_all(&request).unwrap();
    let heard = frame(&mut two, |f| f.get(6..12) == Some(&mac));
    assert_eq!(heard[..42], request[..42]);

    let other = Pod { ifname: "net1".into(), ..pod };
    let checked = node.call("tap", "CHECK", &other, &with_prev(&conf, &result));
    assert!(checked.ok, "{checked:#?}");
    other.sh("ip link set net1 nomaster");
    let drifted = node.call("tap", "CHECK", &other, &with_prev(&conf, &result));
    assert_eq!(drifted.error().0, 110);
}

#[test]
fn faults_with_addresses() {
    prove(
        "tap",
        || {
            scene(|node| {
                conf(&json!({ "mtu": 1400, "ipam": node.ipam(&["10.88.0.0/24", "fd88::/64"]) }))
            })
        },
        |_| false,
    );
}

#[test]
fn faults_on_a_bridge() {
    let with_bridge = || {
        let scene = scene(|_| conf(&json!({ "bridge": "br1", "owner": 1, "group": 2 })));
        // With a MAC address of its own it does not take over its ports'; up, so that its state does not change.
        scene.pod.sh("ip link add br1 address 0a:58:00:00:00:99 type bridge");
        scene
    };
    // A bridge keeps how large a packet its ports once took (tso_max_size).
    prove("tap", with_bridge, |line| {
        line.contains("-d link") && line.contains("\"ifname\":\"br1\"")
    });
}
