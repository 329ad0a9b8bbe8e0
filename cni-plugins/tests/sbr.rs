//! `sbr` after `bridge`, with the real binary, real packets and the reference beside it.

mod node;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use node::faults::{Scene, prove};
use node::oracle::{DUAL, V4, V6};
use node::{Node, Pod, Suite, state, with_prev};
use serde_json::{Value, json};

fn bridge(node: &Node, version: &str, subnets: &[&str]) -> Value {
    let mut ipam = node.ipam(subnets);
    let default = |subnet: &&str| if subnet.contains(':') { "::/0" } else { "0.0.0.0/0" };
    ipam["routes"] = subnets.iter().map(|subnet| json!({ "dst": default(subnet) })).collect();
    json!({
        "cniVersion": version, "name": "testnet", "type": "bridge", "bridge": "br0", "isGateway": true, "ipam": ipam,
    })
}

fn conf(version: &str, extra: &Value) -> Value {
    let mut conf = json!({ "cniVersion": version, "name": "testnet", "type": "sbr" });
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    conf
}

/// A node with a pod whose `eth0` is on its bridge, and what bridge answered.
fn attached(suite: Suite, version: &str, subnets: &[&str]) -> (Node, Pod, Value) {
    let node = Node::new(suite);
    node.sh("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
    let pod = node.pod("aaa");
    let result = node.add("bridge", &pod, &bridge(&node, version, subnets));
    (node, pod, result)
}

/// Rules and routes of a pod, without what the kernel answers by itself.
fn routing(pod: &Pod) -> Value {
    let mut state = state::of(&pod.ns);
    let of = |family| pod.ns.json(&["ip", "-j", family, "rule"]);
    let mut all = json!({ "4 rules": of("-4"), "6 rules": of("-6") });
    for family in ["-4 route show table all", "-6 route show table all"] {
        let mut routes = state.remove(family).unwrap();
        routes.as_array_mut().unwrap().retain(|route| route["table"] != "local");
        all[family] = routes;
    }
    all
}

#[test]
fn routes_move_to_tables_of_their_own_and_back() {
    for subnets in [V4, V6, DUAL] {
        let (node, pod, prev) = attached(Suite::Heddle, "1.1.0", subnets);
        let before = routing(&pod);
        let conf = with_prev(&conf("1.1.0", &json!({})), &prev);
        assert_eq!(node.add("sbr", &pod, &conf), prev, "the result is passed on");
        let main = pod.sh("ip -4 route show; ip -6 route show | grep -v ^fe80; true");
        assert_eq!(main.trim(), "");
        for (number, subnet) in subnets.iter().enumerate() {
            let (family, gateway) =
                if subnet.contains(':') { ("-6", "fd88::1") } else { ("-4", "10.88.0.1") };
            let table = 100 + number;
            let shown = pod.sh(&format!("ip {family} route show table {table}"));
            assert!(shown.contains(&format!("default via {gateway} dev eth0")), "{shown}");
            assert!(shown.contains(&format!("{subnet} dev eth0")), "{shown}");
            let address =
                prev["ips"][number]["address"].as_str().unwrap().split('/').next().unwrap();
            let rules = pod.sh(&format!("ip {family} rule"));
            assert!(rules.contains(&format!("from {address} lookup {table}")), "{rules}");
        }
        let check = node.call("sbr", "CHECK", &pod, &conf);
        assert!(check.ok, "{check:#?}");
        for _ in 0..2 {
            node.del("sbr", &pod, &conf);
            assert_eq!(routing(&pod), before);
        }
        let (code, msg) = node.call("sbr", "CHECK", &pod, &conf).error();
        assert_eq!(
            (code, msg.as_str()),
            (110, "the source routing of interface \"eth0\" is not as ADD left it")
        );
    }
}

#[test]
fn a_given_table_gets_rules_only() {
    let (node, pod, prev) = attached(Suite::Heddle, "1.1.0", DUAL);
    let before = routing(&pod);
    let conf = with_prev(&conf("1.1.0", &json!({ "table": 5001 })), &prev);
    pod.sh("ip route add 10.9.0.0/16 via 10.88.0.1 table 5001");
    node.add("sbr", &pod, &conf);
    let after = routing(&pod);
    assert_eq!(after["6 rules"][1]["table"], "5001");
    assert_eq!(
        (&after["4 rules"][1]["src"], &after["4 rules"][1]["table"]),
        (&json!("10.88.0.2"), &json!("5001"))
    );
    assert!(node.call("sbr", "CHECK", &pod, &conf).ok);
    let other = with_prev(&self::conf("1.1.0", &json!({ "table": 5002 })), &prev);
    assert_eq!(node.call("sbr", "CHECK", &pod, &other).error().0, 110);
    node.del("sbr", &pod, &conf);
    let after = routing(&pod);
    assert_eq!((&after["4 rules"], &after["6 rules"]), (&before["4 rules"], &before["6 rules"]));
    assert!(pod.sh("ip route show table 5001").contains("10.9.0.0/16"), "its routes are not ours");
}

#[test]
fn configured_gateways_and_hints() {
    let (node, pod, prev) = attached(Suite::Heddle, "1.1.0", DUAL);
    let before = routing(&pod);
    let extra = json!({ "gateways": ["10.88.0.99", "fd88::99"], "addSourceHints": true });
    let conf = with_prev(&conf("1.1.0", &extra), &prev);
    node.add("sbr", &pod, &conf);
    assert!(pod.sh("ip -4 route show table 100").contains("default via 10.88.0.99"));
    assert!(pod.sh("ip -6 route show table 101").contains("default via fd88::99"));
    let main = pod.sh("ip -4 route; ip -6 route");
    for line in
        ["default via 10.88.0.1 dev eth0 src 10.88.0.2", "default via fd88::1 dev eth0 src fd88::2"]
    {
        assert!(main.contains(line), "{line:?} is not in {main}");
    }
    let check = node.call("sbr", "CHECK", &pod, &conf);
    assert!(check.ok, "{check:#?}");
    pod.sh("ip route replace default via 10.88.0.1 dev eth0");
    let drift = node.call("sbr", "CHECK", &pod, &conf).json();
    assert!(drift["details"].as_str().unwrap().contains("has no source hint"), "{drift}");
    pod.sh("ip route replace default via 10.88.0.1 dev eth0 src 10.88.0.2");
    node.del("sbr", &pod, &conf);
    assert_eq!(routing(&pod), before);
}

#[test]
fn every_drift_is_found() {
    let conf = conf("1.1.0", &json!({}));
    for (damage, told) in [
        ("ip rule del from 10.88.0.2", "the policy rule from 10.88.0.2/32 is missing"),
        (
            "ip route del default table 100",
            "the route 0.0.0.0/0 via 10.88.0.1 is missing in table 100",
        ),
        (
            "ip route replace default via 10.88.0.7 table 100",
            "the route 0.0.0.0/0 via 10.88.0.1 is missing in table 100",
        ),
        ("ip route del 10.88.0.0/24 table 100", "the route 10.88.0.0/24 is missing in table 100"),
        ("ip route add 10.9.0.0/16 dev eth0", "is in the main table"),
    ] {
        let (node, pod, prev) = attached(Suite::Heddle, "1.1.0", V4);
        let mut prev = prev;
        prev["routes"][0]["gw"] = "10.88.0.1".into();
        let conf = with_prev(&conf, &prev);
        node.add("sbr", &pod, &conf);
        pod.sh(damage);
        let answer = node.call("sbr", "CHECK", &pod, &conf);
        assert_eq!(answer.error().0, 110, "{damage}");
        let details = answer.json()["details"].as_str().unwrap().to_owned();
        assert!(details.contains(told), "{damage}: {details}");
        node.del("sbr", &pod, &conf);
    }
}

#[test]
fn what_is_refused_changes_nothing() {
    let (node, pod, prev) = attached(Suite::Heddle, "1.1.0", V4);
    let before = routing(&pod);
    let good = conf("1.1.0", &json!({}));
    let mut gone = node.pod("aaa");
    gone.ifname = "eth0".into();
    let without = |key: &str| {
        let mut prev = prev.clone();
        prev.as_object_mut().unwrap().remove(key);
        with_prev(&good, &prev)
    };
    let full = with_prev(&good, &prev);
    let bad = with_prev(&conf("1.1.0", &json!({ "gateways": ["10.88.0.1", "10.88.0.2"] })), &prev);
    for (pod, conf, code, msg) in [
        (&pod, &good, 7, "This plugin must be called as chained plugin"),
        (&pod, &without("ips"), 7, "No IP addresses supplied on interface: eth0"),
        (&pod, &bad, 7, "gateways: at most one IPv4 and one IPv6 address"),
        (&gone, &full, 111, "Cannot find network interface eth0"),
    ] {
        assert_eq!(node.call("sbr", "ADD", pod, conf).error(), (code, msg.into()));
    }
    assert_eq!(routing(&pod), before);
    node.add("sbr", &pod, &full);
    let once = routing(&pod);
    let (code, msg) = node.call("sbr", "ADD", &pod, &full).error();
    assert!(
        code == 111 && msg.starts_with("there is a policy rule for this address already"),
        "{msg}"
    );
    assert_eq!(routing(&pod), once);

    // DEL without the interface, without the namespace, and with a configuration that ADD would refuse.
    node.del("sbr", &gone, &full);
    let missing = [("CNI_NETNS", "/run/netns/no-such-namespace")];
    assert!(node.call_with("sbr", "DEL", &pod, &full, &missing).ok);
    let mut odd = bad.clone();
    odd["table"] = "nonsense".into();
    odd["prevResult"] = json!({ "ips": 7 });
    assert!(node.call("sbr", "DEL", &pod, &odd).ok);
    assert_eq!(routing(&pod)["4 rules"], before["4 rules"], "the interface's own addresses tell");
    let status = node.call("sbr", "STATUS", &pod, &good);
    assert!(status.ok, "{status:#?}");
}

#[test]
fn all_or_nothing() {
    let scene = |subnets: &'static [&'static str], extra: Value| {
        move || {
            let (node, pod, prev) = attached(Suite::Heddle, "1.1.0", subnets);
            // The kernel is done with its own addresses and routes before the inventory is taken.
            state::of(&node.ns);
            state::of(&pod.ns);
            Scene { node, pod, conf: with_prev(&conf("1.1.0", &extra), &prev) }
        }
    };
    prove("sbr", scene(V4, json!({})), |_| false);
    prove("sbr", scene(DUAL, json!({ "addSourceHints": true })), |_| false);
    prove("sbr", scene(V4, json!({ "table": 5001 })), |_| false);
}

/// A pod with two interfaces in two networks, each with a router and a host behind it that is reached the same way.
struct TwoNetworks {
    node: Node,
    pod: Pod,
    outside: Pod,
}

impl TwoNetworks {
    /// `outside` has an address in a network of its own and a leg in each of the pod's two networks; it knows the pod's
    /// addresses by the leg that they are behind.
    fn new() -> (Self, Value) {
        let node = Node::heddle();
        let (pod, outside) = (node.pod("aaa"), node.pod("outside"));
        for (number, ifname) in [(1, "eth0"), (2, "net1")] {
            pod.sh(&format!(
                "ip link add {ifname} type veth peer name leg{number} netns {} && ip link set {ifname} up && ip addr add 10.{number}.0.2/24 dev {ifname}",
                outside.ns.name()
            ));
            outside.sh(&format!(
                "ip link set leg{number} up && ip addr add 10.{number}.0.1/24 dev leg{number}"
            ));
        }
        outside.sh("ip link set lo up && ip addr add 192.0.2.1/32 dev lo");
        // A router that takes only what comes by the way that it would answer.
        outside.sh("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 > $f; done");
        // It calls from the far address, wherever it sends to.
        for number in [1, 2] {
            outside
                .sh(&format!("ip route replace 10.{number}.0.0/24 dev leg{number} src 192.0.2.1"));
        }
        pod.sh("ip link set lo up && ip route add default via 10.1.0.1");
        pod.sh("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done");
        let result = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{ "name": "net1", "sandbox": pod.path() }],
            "ips": [{ "interface": 0, "address": "10.2.0.2/24", "gateway": "10.2.0.1" }],
        });
        (Self { node, pod, outside }, result)
    }

    /// Whether the pod answers at an address when it is asked from the far address; and by which interface it does so.
    fn asked_at(&self, target: &str, port: u16) -> bool {
        let target: SocketAddr = format!("{target}:{port}").parse().unwrap();
        let listener = self.pod.ns.run(move || TcpListener::bind(target).unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"here").unwrap();
        });
        self.outside.ns.run(move || {
            let patience = Duration::from_secs(2);
            let Ok(mut stream) = TcpStream::connect_timeout(&target, patience) else {
                return false;
            };
            let mut text = String::new();
            stream.read_to_string(&mut text).is_ok() && text == "here"
        })
    }

    fn sent_by(&self, ifname: &str) -> u64 {
        let statistics = &self.pod.ns.json(&["ip", "-j", "-s", "link", "show", ifname])[0];
        statistics["stats64"]["tx"]["packets"].as_u64().unwrap()
    }
}

#[test]
fn a_pod_answers_on_the_interface_that_was_asked() {
    let (nets, prev) = TwoNetworks::new();
    assert!(nets.asked_at("10.1.0.2", 5001), "the first interface has the default route");
    assert!(
        !nets.asked_at("10.2.0.2", 5002),
        "without sbr the answer leaves by the first interface, and is refused"
    );
    let conf = with_prev(&conf("1.0.0", &json!({})), &prev);
    let env = [("CNI_IFNAME", "net1")];
    let answer = nets.node.call_with("sbr", "ADD", &nets.pod, &conf, &env);
    assert!(answer.ok, "{answer:#?}");
    let check = nets.node.call_with("sbr", "CHECK", &nets.pod, &conf, &env);
    assert!(check.ok, "{check:#?}");
    let before = (nets.sent_by("eth0"), nets.sent_by("net1"));
    assert!(nets.asked_at("10.2.0.2", 5003), "with sbr it is answered");
    assert!(nets.sent_by("net1") >= before.1 + 3, "by the interface that was asked");
    assert!(nets.sent_by("eth0") <= before.0 + 1, "and not by the other");
    assert!(nets.asked_at("10.1.0.2", 5004), "the first interface still answers");
    // And what the pod itself sends from that address.
    nets.pod.sh("busybox ping -c 1 -W 5 -I 10.2.0.2 192.0.2.1");
    assert!(nets.node.call_with("sbr", "DEL", &nets.pod, &conf, &env).ok);
    assert!(!nets.asked_at("10.2.0.2", 5005), "and without it as before");
}

/// Differences from the reference (1.1.1) that are meant. Of each, what the reference leaves differently.
fn without_quirks(mut routing: Value) -> Value {
    for family in ["-4 route show table all", "-6 route show table all"] {
        routing[family].as_array_mut().unwrap().retain(|route| {
            // The reference also takes the link-local route out of the main table, puts it and every other route without a
            // gateway into the tables of all addresses, also of the other family: no rule looks for them there.
            let link_local = route["dst"] == "LINK-LOCAL";
            let other_family = match (family.starts_with("-4"), route["table"].as_str()) {
                (true, Some("101")) | (false, Some("100")) => routing_is_dual(route),
                _ => false,
            };
            !link_local && !other_family
        });
    }
    routing
}

/// In the dual-stack cases the first address is the IPv4 one.
fn routing_is_dual(route: &Value) -> bool {
    route["dst"] != "default"
}

#[test]
fn the_reference_does_the_same() {
    let mut wrong = Vec::new();
    for (name, version, subnets) in [
        ("v4", "0.3.1", V4),
        ("v4", "1.0.0", V4),
        ("dual", "0.4.0", DUAL),
        ("dual", "1.0.0", DUAL),
        ("old", "0.2.0", V4),
        ("old", "0.1.0", DUAL),
    ] {
        let [ours, theirs] = [Suite::Heddle, Suite::Reference].map(|suite| {
            let (node, pod, prev) = attached(suite, version, subnets);
            let conf = with_prev(&conf(version, &json!({})), &prev);
            let mut result = node.add("sbr", &pod, &conf);
            result.as_object_mut().unwrap().retain(|_, value| *value != json!({}));
            state::Names::default().normalise(&mut result);
            let up = without_quirks(routing(&pod));
            node.del("sbr", &pod, &conf);
            let down = routing(&pod);
            json!({ "result": result, "up": up, "rules after DEL": [down["4 rules"], down["6 rules"]] })
        });
        let found = state::differences("", &ours, &theirs).into_iter();
        wrong.extend(found.map(|line| format!("{name} {version}: {line}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_deletes_what_the_other_added() {
    for (adds, deletes) in [(Suite::Heddle, Suite::Reference), (Suite::Reference, Suite::Heddle)] {
        let (node, pod, prev) = attached(adds, "1.0.0", DUAL);
        let before = routing(&pod);
        let conf = with_prev(&conf("1.0.0", &json!({})), &prev);
        node.add("sbr", &pod, &conf);
        let node = node.with_suite(deletes);
        node.del("sbr", &pod, &conf);
        let after = routing(&pod);
        for rules in ["4 rules", "6 rules"] {
            assert_eq!(after[rules], before[rules], "{adds:?} then {deletes:?}");
        }
    }
}
