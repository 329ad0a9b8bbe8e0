//! `bridge` with `host-local` in namespaces, with the real binary and real packets.

mod node;

use std::collections::BTreeSet;

use node::{Answer, Node, Pod, assert_error, state, traffic, with_prev};
use serde_json::{Value, json};

fn conf(node: &Node, extra: &Value) -> Value {
    let mut conf = json!({
        "cniVersion": "1.1.0",
        "name": "testnet",
        "type": "bridge",
        "bridge": "br0",
        "isDefaultGateway": true,
        "ipam": node.ipam(&["10.88.0.0/24"]),
    });
    for (key, value) in extra.as_object().unwrap() {
        conf[key] = value.clone();
    }
    conf
}

fn address(result: &Value, index: usize) -> String {
    let cidr = result["ips"][index]["address"].as_str().unwrap();
    cidr.split('/').next().unwrap().to_owned()
}

/// What must be the same before an ADD and after it failed, or after DEL.
fn inventory(node: &Node, pod: &Pod) -> Value {
    let mut node_state = json!(state::of(&node.ns));
    // Forwarding stays on: others may rely on it by then.
    node_state["sysctl"].as_array_mut().unwrap().retain(|line| {
        let line = line.as_str().unwrap();
        !line.contains("ip_forward") && !line.contains("/forwarding")
    });
    // Reading nat makes it.
    node_state["iptables-save"]
        .as_array_mut()
        .unwrap()
        .retain(|line| line.as_str().unwrap().starts_with('-'));
    node_state["ip6tables-save"]
        .as_array_mut()
        .unwrap()
        .retain(|line| line.as_str().unwrap().starts_with('-'));
    json!({ "node": node_state, "pod": json!(state::of(&pod.ns)), "leases": node.leases("testnet") })
}

#[test]
fn two_pods_talk_to_each_other_and_to_the_gateway() {
    let node = Node::heddle();
    let conf = conf(&node, &json!({ "ipam": node.ipam(&["10.88.0.0/24", "fd88::/64"]) }));
    let (a, b) = (node.pod("a"), node.pod("b"));
    let (result_a, result_b) = (node.add("bridge", &a, &conf), node.add("bridge", &b, &conf));
    assert_eq!(
        [
            address(&result_a, 0),
            address(&result_a, 1),
            address(&result_b, 0),
            address(&result_b, 1)
        ],
        ["10.88.0.2", "fd88::2", "10.88.0.3", "fd88::3"]
    );
    for (v6, gateway, one, two) in
        [(false, "10.88.0.1", "10.88.0.2", "10.88.0.3"), (true, "fd88::1", "fd88::2", "fd88::3")]
    {
        let at = |ip: &str| if v6 { format!("[{ip}]:80") } else { format!("{ip}:80") };
        traffic::serve(&b.ns, &at(two), 2);
        traffic::serve(&node.ns, &at(gateway), 1);
        assert_eq!(a.fetch(&at(two)).as_deref(), Some(one), "pod to pod");
        assert_eq!(traffic::fetch(&node.ns, &at(two)).as_deref(), Some(gateway), "node to pod");
        assert_eq!(a.fetch(&at(gateway)).as_deref(), Some(one), "pod to gateway");
        a.sh(&format!("busybox ping -c 1 -W 5 {two}"));
        a.sh(&format!("busybox ping -c 1 -W 5 {gateway}"));
    }
    for (pod, result) in [(&a, &result_a), (&b, &result_b)] {
        let check = node.call("bridge", "CHECK", pod, &with_prev(&conf, result));
        assert!(check.ok, "{check:#?}");
    }
}

#[test]
fn masquerading_hides_the_pod_from_peers_and_not_from_the_network() {
    let node = Node::heddle();
    let peer = node.pod("peer");
    node.sh(&format!(
        "ip link add up0 type veth peer name eth0 netns {} && ip addr add 192.0.2.1/24 dev up0 && ip link set up0 up \
         && ip -6 addr add 2001:db8::1/64 dev up0 nodad",
        peer.ns.name()
    ));
    peer.sh("ip addr add 192.0.2.2/24 dev eth0 && ip link set eth0 up && ip -6 addr add 2001:db8::2/64 dev eth0 nodad");
    let ipam = node.ipam(&["10.88.0.0/24", "fd88::/64"]);
    let conf = conf(&node, &json!({ "ipMasq": true, "ipam": ipam }));
    let (a, b) = (node.pod("a"), node.pod("b"));
    let result = node.add("bridge", &a, &conf);
    node.add("bridge", &b, &conf);
    for (target, source) in [("192.0.2.2:80", "192.0.2.1"), ("[2001:db8::2]:80", "2001:db8::1")] {
        traffic::serve(&peer.ns, target, 1);
        assert_eq!(a.fetch(target).as_deref(), Some(source), "{target}");
    }
    traffic::serve(&b.ns, "10.88.0.3:80", 1);
    assert_eq!(a.fetch("10.88.0.3:80").as_deref(), Some("10.88.0.2"));

    // A pod's rules go with it, even if only the network's name and the id are known; the other's stay.
    let rules = |node: &Node| {
        let all = node.sh("iptables-save -t nat; ip6tables-save -t nat");
        all.lines().filter(|line| line.starts_with("-A")).count()
    };
    assert_eq!(rules(&node), 12);
    node.del("bridge", &a, &with_prev(&conf, &result));
    assert_eq!(rules(&node), 6);
    let gone = node.call_with("bridge", "DEL", &b, &conf, &[("CNI_NETNS", "")]);
    assert!(gone.ok, "{gone:#?}");
    assert_eq!(rules(&node), 0);
    assert_eq!(node.leases("testnet"), [""; 0]);
}

#[test]
fn del_is_idempotent_and_leaves_nothing_but_the_bridge() {
    let node = Node::heddle();
    let conf = conf(&node, &json!({ "ipMasq": true }));
    let (first, pod) = (node.pod("first"), node.pod("pod"));
    // The bridge stays, as others may use it; so the inventory is taken with it there.
    node.add("bridge", &first, &conf);
    let before = inventory(&node, &pod);
    let result = node.add("bridge", &pod, &conf);
    for conf in [with_prev(&conf, &result), conf.clone(), conf.clone()] {
        node.del("bridge", &pod, &conf);
        state::assert_same(&before, &inventory(&node, &pod));
    }
    node.del("bridge", &first, &conf);
    assert_eq!(node.leases("testnet"), [""; 0]);
    assert!(node.sh("ip -o link").contains("br0"));
    assert!(!node.sh("iptables-save").contains("CNI-"));
}

#[test]
fn del_works_without_a_namespace() {
    let node = Node::heddle();
    let conf = conf(&node, &json!({}));
    let leftover = node.dir.path().join("file");
    std::fs::write(&leftover, "").unwrap();
    let cases = ["", "/run/netns/no-such-namespace", leftover.to_str().unwrap()];
    for netns in cases {
        let pod = node.pod("pod");
        node.add("bridge", &pod, &conf);
        assert_eq!(node.leases("testnet").len(), 1);
        let answer = node.call_with("bridge", "DEL", &pod, &conf, &[("CNI_NETNS", netns)]);
        assert!(answer.ok, "{netns:?}: {answer:#?}");
        assert_eq!(node.leases("testnet"), [""; 0], "{netns:?}");
    }
}

#[test]
fn del_removes_the_host_s_end_when_only_the_file_of_the_namespace_is_gone() {
    let node = Node::heddle();
    let conf = conf(&node, &json!({}));
    let pod = node.pod("pod");
    let result = node.add("bridge", &pod, &conf);
    let veth = result["interfaces"][1]["name"].as_str().unwrap();
    let gone = [("CNI_NETNS", "/run/netns/no-such-namespace")];
    let answer = node.call_with("bridge", "DEL", &pod, &with_prev(&conf, &result), &gone);
    assert!(answer.ok, "{answer:#?}");
    assert!(!node.sh("ip -o link").contains(veth));
}

type Env = &'static [(&'static str, &'static str)];

/// No iptables anywhere.
const HIDE_IPTABLES: Env = &[(node::HIDE_SBIN, "1")];

#[test]
fn a_failed_add_leaves_nothing() {
    let node = Node::heddle();
    let taken = node.pod("taken");
    taken.sh("ip link add eth0 type veth peer name other");
    node.sh("ip link add notbridge type veth peer name notbridge2");
    let full = node.ipam(&["10.89.0.0/30"]);
    node.add(
        "host-local",
        &node.pod("x"),
        &json!({
            "cniVersion": "1.1.0", "name": "full", "type": "host-local", "ipam": full,
        }),
    );
    let mut unreachable = node.ipam(&["10.88.0.0/24"]);
    unreachable["routes"] = json!([{ "dst": "10.99.0.0/16", "gw": "10.77.0.1" }]);
    let mut missing_dns = node.ipam(&["10.88.0.0/24"]);
    missing_dns["resolvConf"] = json!("/no/such/file");

    let fresh = || node.pod("pod");
    let iptables = json!({ "ipMasq": true, "ipMasqBackend": "iptables" });
    let cases: Vec<(&str, Pod, Value, Env, u64, &str)> = vec![
        ("wrong key", fresh(), json!({ "mtu": -1 }), &[], 7, "invalid MTU -1"),
        ("wrong type", fresh(), json!({ "isGateway": "yes" }), &[], 6, "isGateway"),
        (
            "no namespace",
            fresh(),
            json!({}),
            &[("CNI_NETNS", "/run/netns/none")],
            8,
            "failed to open netns",
        ),
        (
            "name of the bridge",
            fresh(),
            json!({ "bridge": "notbridge" }),
            &[],
            111,
            "\"notbridge\" already exists but is not a bridge",
        ),
        ("interface exists", taken, json!({}), &[], 111, "already exists"),
        (
            "no IPAM plugin",
            fresh(),
            json!({ "ipam": { "type": "none-such" } }),
            &[],
            0,
            "none-such",
        ),
        (
            "IPAM fails",
            fresh(),
            json!({ "name": "full", "ipam": full }),
            &[],
            101,
            "no IP addresses available",
        ),
        ("IPAM fails late", fresh(), json!({ "ipam": missing_dns }), &[], 5, "/no/such/file"),
        ("route", fresh(), json!({ "ipam": unreachable }), &[], 112, "10.99.0.0/16"),
        ("rules", fresh(), iptables, HIDE_IPTABLES, 113, "no usable iptables"),
        (
            "old version without IPAM",
            fresh(),
            json!({ "cniVersion": "0.2.0", "ipam": {} }),
            &[],
            0,
            "",
        ),
    ];
    for (name, pod, extra, env, code, msg) in cases {
        let conf = conf(&node, &extra);
        let before = inventory(&node, &pod);
        let answer = node.call_with("bridge", "ADD", &pod, &conf, env);
        let (found, text) = answer.error();
        assert!(text.contains(msg), "{name}: {answer:#?}");
        assert!(code == 0 || code == found, "{name}: {answer:#?}");
        state::assert_same(&before, &inventory(&node, &pod));
        assert!(!node.sh("ip -o link").contains("br0"), "{name}: the bridge is left");
    }
}

#[test]
fn a_failed_add_restores_a_bridge_of_somebody_else() {
    let node = Node::heddle();
    node.sh("ip link add br0 type bridge && ip addr add 10.1.1.1/24 dev br0 && ip link set br0 up");
    let conf = |extra| conf(&node, &extra);
    let pod = node.pod("pod");
    let refused = node.call("bridge", "ADD", &pod, &conf(json!({})));
    assert_error(&refused, 111, "\"br0\" already has an IP address different from 10.88.0.1/24");
    let forced = json!({ "forceAddress": true, "ipMasq": true, "ipMasqBackend": "iptables" });
    let failed = node.call_with("bridge", "ADD", &pod, &conf(forced), HIDE_IPTABLES);
    assert_error(&failed, 113, "no usable iptables");
    let addresses = node.sh("ip -o -4 addr show br0");
    assert!(addresses.contains("10.1.1.1/24") && !addresses.contains("10.88.0.1"), "{addresses}");
    assert_eq!(node.sh("ip -o link show type veth"), "");
    assert_eq!(node.leases("testnet"), [""; 0]);
    node.add("bridge", &pod, &conf(json!({ "forceAddress": true })));
    let addresses = node.sh("ip -o -4 addr show br0");
    assert!(addresses.contains("10.88.0.1/24") && !addresses.contains("10.1.1.1"), "{addresses}");
}

#[test]
fn a_failed_add_takes_nothing_from_the_pods_that_are_there() {
    let node = Node::heddle();
    let conf = conf(&node, &json!({}));
    let (a, b) = (node.pod("a"), node.pod("b"));
    node.add("bridge", &a, &conf);
    let mut wrong = conf.clone();
    wrong["ipam"]["routes"] = json!([{ "dst": "10.99.0.0/16", "gw": "10.77.0.1" }]);
    let before = inventory(&node, &b);
    assert_error(&node.call("bridge", "ADD", &b, &wrong), 112, "10.99.0.0/16");
    state::assert_same(&before, &inventory(&node, &b));
    traffic::serve(&node.ns, "10.88.0.1:80", 1);
    assert!(a.fetch("10.88.0.1:80").is_some());

    // A second ADD of the same attachment fails and leaves the first one whole.
    assert_error(&node.call("bridge", "ADD", &a, &conf), 111, "already exists");
    let again = node.pod("a");
    assert_error(
        &node.call("bridge", "ADD", &again, &conf),
        103,
        "duplicate allocation is not allowed",
    );
    assert_eq!(node.leases("testnet"), ["10.88.0.2"]);
}

#[test]
fn eight_adds_at_once_share_a_new_bridge() {
    let node = Node::heddle();
    let conf = conf(&node, &json!({ "ipMasq": true }));
    let pods: Vec<_> = (0..8).map(|n| node.pod(&format!("pod{n}"))).collect();
    let results = at_once(&node, &pods, "ADD", &conf);
    let addresses: BTreeSet<_> = results.iter().map(|answer| address(&answer.json(), 0)).collect();
    assert_eq!(addresses.len(), 8);
    assert_eq!(node.sh("ip -o link show type bridge").lines().count(), 1);
    assert_eq!(node.sh("ip -o link show master br0").lines().count(), 8);
    traffic::serve(&node.ns, "10.88.0.1:80", 8);
    for pod in &pods {
        assert!(pod.fetch("10.88.0.1:80").is_some());
    }
    at_once(&node, &pods, "DEL", &conf);
    assert_eq!(node.leases("testnet"), [""; 0]);
    assert!(!node.sh("iptables-save").contains("CNI-"));
}

/// Half of the ADDs fail at their last step and take back what they did, the bridge included if it is empty;
/// the others must not notice.
#[test]
fn failing_adds_do_not_pull_the_bridge_from_under_others() {
    let node = Node::heddle();
    let good = conf(&node, &json!({}));
    let mut bad = good.clone();
    bad["ipam"]["routes"] = json!([{ "dst": "10.99.0.0/16", "gw": "10.77.0.1" }]);
    for round in 0..3 {
        let pods: Vec<_> = (0..8).map(|n| node.pod(&format!("r{round}p{n}"))).collect();
        let confs: Vec<_> = (0..8).map(|n| if n % 2 == 0 { &good } else { &bad }).collect();
        let answers = run_at_once(&node, &pods, "ADD", &confs);
        for (n, answer) in answers.iter().enumerate() {
            assert_eq!(answer.ok, n % 2 == 0, "{answer:#?}");
        }
        assert_eq!(node.leases("testnet").len(), 4);
        traffic::serve(&node.ns, "10.88.0.1:80", 4);
        for pod in pods.iter().step_by(2) {
            assert!(pod.fetch("10.88.0.1:80").is_some());
        }
        at_once(&node, &pods, "DEL", &good);
        node.sh("ip link del br0");
    }
}

fn at_once(node: &Node, pods: &[Pod], command: &str, conf: &Value) -> Vec<Answer> {
    let answers = run_at_once(node, pods, command, &vec![conf; pods.len()]);
    assert!(answers.iter().all(|answer| answer.ok), "{answers:#?}");
    answers
}

fn run_at_once(node: &Node, pods: &[Pod], command: &str, confs: &[&Value]) -> Vec<Answer> {
    let calls: Vec<_> =
        pods.iter().zip(confs).map(|(p, c)| node.prepare("bridge", command, p, c, &[])).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = calls.into_iter().map(|call| scope.spawn(|| call.run())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn check_names_every_drift() {
    let node = Node::heddle();
    let conf = conf(&node, &json!({}));
    let pod = node.pod("pod");
    let result = node.add("bridge", &pod, &conf);
    let veth = result["interfaces"][1]["name"].as_str().unwrap();
    let conf_with_prev = with_prev(&conf, &result);
    let drifts = [
        (
            "node",
            format!("ip link set {veth} nomaster"),
            format!("ip link set {veth} master br0"),
            "not a port of bridge",
        ),
        (
            "pod",
            "ip addr del 10.88.0.2/24 dev eth0".into(),
            "ip addr add 10.88.0.2/24 dev eth0; ip route add default via 10.88.0.1".into(),
            "10.88.0.2/24 is missing",
        ),
        (
            "pod",
            "ip route del default".into(),
            "ip route add default via 10.88.0.1".into(),
            "the route 0.0.0.0/0 via 10.88.0.1 is missing",
        ),
    ];
    for (place, damage, repair, message) in drifts {
        let sh = |line: &str| if place == "node" { node.sh(line) } else { pod.sh(line) };
        assert!(node.call("bridge", "CHECK", &pod, &conf_with_prev).ok, "before {damage}");
        sh(&damage);
        let answer = node.call("bridge", "CHECK", &pod, &conf_with_prev);
        assert_error(&answer, 110, "is not as ADD left it");
        assert!(answer.stdout.contains(message), "{damage}: {answer:#?}");
        sh(&repair);
    }
    pod.sh("ip link set eth0 down && ip link set eth0 name eth9");
    let answer = node.call("bridge", "CHECK", &pod, &conf_with_prev);
    assert!(answer.json()["details"].as_str().unwrap().contains("missing in the container"));
    assert_error(&node.call("bridge", "CHECK", &pod, &conf), 7, "Required prevResult missing");
    // The lease is the IPAM plugin's to check.
    std::fs::remove_file(node.data_dir().join("testnet/10.88.0.2")).unwrap();
    let answer = node.call("bridge", "CHECK", &pod, &conf_with_prev);
    assert_error(&answer, 104, "Failed to find address added by container pod");
}

/// A delegate that is this program runs in process, another one is started: the outcome is the same.
#[test]
fn another_program_s_ipam_gives_the_same() {
    let node = Node::heddle();
    let conf = conf(&node, &json!({ "cniVersion": "1.0.0" }));
    let pod = node.pod("pod");
    let inside = node.add("bridge", &pod, &conf);
    node.del("bridge", &pod, &conf);
    std::fs::remove_file(node.data_dir().join("testnet/last_reserved_ip.0")).unwrap();
    let only_bridge = node.dir.path().join("only-bridge");
    std::fs::create_dir(&only_bridge).unwrap();
    let bridge = only_bridge.join("bridge");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_heddle-cni"), bridge).unwrap();
    let path = format!("{}:/usr/lib/cni", only_bridge.display());
    let answer = node.call_with("bridge", "ADD", &pod, &conf, &[("CNI_PATH", &path)]);
    assert!(answer.ok, "{answer:#?}");
    let outside = answer.json();
    assert_eq!((&outside["ips"], &outside["routes"]), (&inside["ips"], &inside["routes"]));
    let answer = node.call_with("bridge", "DEL", &pod, &conf, &[("CNI_PATH", &path)]);
    assert!(answer.ok, "{answer:#?}");
    assert_eq!(node.leases("testnet"), [""; 0]);
}

#[test]
fn del_goes_on_after_a_failure_and_tells_of_it() {
    let node = Node::heddle();
    let conf = conf(&node, &json!({ "ipMasq": true }));
    let pod = node.pod("pod");
    node.add("bridge", &pod, &conf);
    let mut wrong = conf.clone();
    wrong["ipam"]["type"] = json!("none-such");
    let answer = node.call("bridge", "DEL", &pod, &wrong);
    assert!(answer.error().1.contains("none-such"), "{answer:#?}");
    assert_eq!(node.sh("ip -o link show type veth"), "");
    assert!(!node.sh("iptables-save").contains("CNI-"));
    assert_eq!(node.leases("testnet").len(), 1);
    node.del("bridge", &pod, &conf);
    assert_eq!(node.leases("testnet"), [""; 0]);
}

#[test]
fn the_bridge_keeps_its_mac_whatever_its_ports_do() {
    let node = Node::heddle();
    for extra in [json!({}), json!({ "isDefaultGateway": false })] {
        let conf = conf(&node, &extra);
        let mac = || {
            let link: Value = serde_json::from_str(&node.sh("ip -j link show br0")).unwrap();
            link[0]["address"].as_str().unwrap().to_owned()
        };
        let pods: Vec<_> = (0..6).map(|n| node.pod(&format!("pod{n}"))).collect();
        let results: Vec<_> = pods.iter().map(|pod| node.add("bridge", pod, &conf)).collect();
        let first = mac();
        assert!(results.iter().all(|result| result["interfaces"][0]["mac"] == first.as_str()));
        for pod in &pods {
            node.del("bridge", pod, &conf);
            assert_eq!(mac(), first);
        }
        node.sh("ip link del br0");
    }
}

#[test]
fn layer_2_only_and_an_interface_left_down() {
    let node = Node::heddle();
    let l2 = json!({ "cniVersion": "1.1.0", "name": "l2", "type": "bridge", "bridge": "br0", "hairpinMode": true });
    let mut down = l2.clone();
    down["disableContainerInterface"] = json!(true);
    let (a, b) = (node.pod("a"), node.pod("b"));
    let result = node.add("bridge", &a, &l2);
    assert_eq!(result["interfaces"].as_array().unwrap().len(), 3);
    assert!(result.get("ips").is_none());
    assert!(a.sh("ip -o link show eth0").contains("state UP"));
    assert!(node.sh("ip -d -o link show type veth").contains("hairpin on"));
    node.add("bridge", &b, &down);
    assert!(b.sh("ip -o link show eth0").contains("state DOWN"));
    for pod in [&a, &b] {
        node.del("bridge", pod, &l2);
    }
    assert_eq!(node.sh("ip -o link show type veth"), "");
}
