//! `ptp` with `host-local` in namespaces: real binary, real packets, every fault, and the reference as an oracle.

mod node;

use node::faults::{Scene, prove, scene};
use node::oracle::{self, DUAL, Meant, V4, V6};
use node::{Node, Pod, Suite, state, traffic, with_prev};
use serde_json::{Value, json};

fn conf(node: &Node, subnets: &[&str], extra: &Value) -> Value {
    let mut conf = json!({
        "cniVersion": "1.1.0", "name": "testnet", "type": "ptp", "ipam": node.ipam(subnets),
    });
    for (key, value) in extra.as_object().unwrap() {
        conf[key] = value.clone();
    }
    conf
}

/// The configuration with default routes of both families.
fn routed(node: &Node, extra: &Value) -> Value {
    let mut conf = conf(node, DUAL, extra);
    conf["ipam"]["routes"] = json!([{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]);
    conf
}

fn peer(node: &Node) -> Pod {
    let peer = node.pod("peer");
    node.sh(&format!(
        "ip link add up0 type veth peer name eth0 netns {} && ip addr add 192.0.2.1/24 dev up0 && ip link set up0 up \
         && ip -6 addr add 2001:db8::1/64 dev up0 nodad",
        peer.ns.name()
    ));
    peer.sh("ip addr add 192.0.2.2/24 dev eth0 && ip link set eth0 up && ip -6 addr add 2001:db8::2/64 dev eth0 nodad");
    peer
}

fn check(node: &Node, pod: &Pod, conf: &Value, result: &Value) {
    let answer = node.call("ptp", "CHECK", pod, &with_prev(conf, result));
    assert!(answer.ok, "{answer:#?}");
}

#[test]
fn pods_talk_through_the_host_and_are_masqueraded_to_the_world() {
    let node = Node::heddle();
    let peer = peer(&node);
    let conf = routed(&node, &json!({ "ipMasq": true, "mtu": 1400 }));
    let (a, b) = (node.pod("a"), node.pod("b"));
    let (result_a, result_b) = (node.add("ptp", &a, &conf), node.add("ptp", &b, &conf));
    for (v6, gateway, one, two) in
        [(false, "10.88.0.1", "10.88.0.2", "10.88.0.3"), (true, "fd88::1", "fd88::2", "fd88::3")]
    {
        let at = |ip: &str| if v6 { format!("[{ip}]:80") } else { format!("{ip}:80") };
        traffic::serve(&b.ns, &at(two), 2);
        traffic::serve(&node.ns, &at(gateway), 1);
        assert_eq!(a.fetch(&at(two)).as_deref(), Some(one), "pod to pod");
        assert_eq!(traffic::fetch(&node.ns, &at(two)).as_deref(), Some(gateway), "node to pod");
        assert_eq!(a.fetch(&at(gateway)).as_deref(), Some(one), "pod to gateway");
    }
    for (target, source) in [("192.0.2.2:80", "192.0.2.1"), ("[2001:db8::2]:80", "2001:db8::1")] {
        traffic::serve(&peer.ns, target, 1);
        assert_eq!(a.fetch(target).as_deref(), Some(source), "{target}");
    }
    assert!(a.sh("ip link show eth0").contains("mtu 1400"));
    for (pod, result) in [(&a, &result_a), (&b, &result_b)] {
        check(&node, pod, &conf, result);
        assert_eq!(result["interfaces"].as_array().unwrap().len(), 2);
        assert_eq!(result["ips"][1]["interface"], 1);
        node.del("ptp", pod, &with_prev(&conf, result));
        node.del("ptp", pod, &conf);
    }
    assert_eq!(node.leases("testnet"), [""; 0]);
    assert_eq!(node.sh("ip -o link show type veth | grep -v up0 || true"), "");
    assert!(!node.sh("iptables-save; ip6tables-save").contains("CNI-"));
}

#[test]
fn check_names_every_drift() {
    let node = Node::heddle();
    let conf = conf(&node, V4, &json!({}));
    let pod = node.pod("pod");
    let result = node.add("ptp", &pod, &conf);
    let veth = result["interfaces"][0]["name"].as_str().unwrap();
    let drifts = [
        (
            "node",
            format!("ip route del 10.88.0.2/32 dev {veth}"),
            "the host has no route 10.88.0.2/32",
        ),
        ("node", format!("ip addr del 10.88.0.1/32 dev {veth}"), "gateway's address 10.88.0.1/32"),
        ("pod", "ip route del 10.88.0.0/24".into(), "the route to 10.88.0.0/24 is missing"),
        ("pod", "ip addr del 10.88.0.2/24 dev eth0".into(), "address 10.88.0.2/24 is missing"),
    ];
    check(&node, &pod, &conf, &result);
    for (place, damage, message) in drifts {
        if place == "node" {
            node.sh(&damage)
        } else {
            pod.sh(&damage)
        };
        let answer = node.call("ptp", "CHECK", &pod, &with_prev(&conf, &result));
        assert_eq!(answer.error().0, 110);
        assert!(answer.stdout.contains(message), "{damage}: {answer:#?}");
    }
}

#[test]
fn del_works_without_a_namespace_and_removes_what_is_left_on_the_host() {
    let node = Node::heddle();
    let conf = conf(&node, V4, &json!({ "ipMasq": true }));
    let gone = [("CNI_NETNS", "/run/netns/no-such-namespace")];
    for with_result in [true, false] {
        let pod = node.pod("pod");
        let result = node.add("ptp", &pod, &conf);
        let conf = if with_result { with_prev(&conf, &result) } else { conf.clone() };
        let answer = node.call_with("ptp", "DEL", &pod, &conf, &gone);
        assert!(answer.ok, "{answer:#?}");
        // The namespace is still there, only its file seems gone.
        assert_eq!(node.sh("ip -o link show type veth"), "", "{with_result}");
        assert_eq!(node.leases("testnet"), [""; 0]);
        assert!(!node.sh("iptables-save").contains("CNI-"));
    }
}

#[test]
fn errors_come_before_anything_is_done() {
    let node = Node::heddle();
    let mut no_gateway = conf(&node, V4, &json!({}));
    no_gateway["ipam"] = json!({ "type": "none-such" });
    let cases = [
        (conf(&node, V4, &json!({ "mtu": 5 })), 7, "invalid MTU 5"),
        (conf(&node, V4, &json!({ "ipam": {} })), 7, "ptp requires an IPAM configuration"),
        (no_gateway, 7, "none-such"),
    ];
    for (conf, code, message) in cases {
        let pod = node.pod("pod");
        let (found, text) = node.call("ptp", "ADD", &pod, &conf).error();
        assert!(found == code && text.contains(message), "{found} {text}");
        assert_eq!(node.sh("ip -o link show type veth"), "");
        assert_eq!(node.leases("testnet"), [""; 0]);
    }
    // Two times the same attachment: the second one fails, the first stays whole.
    let (conf, pod) = (conf(&node, V4, &json!({})), node.pod("pod"));
    let result = node.add("ptp", &pod, &conf);
    assert_eq!(node.call("ptp", "ADD", &pod, &conf).error().0, 111);
    check(&node, &pod, &conf, &result);
}

#[test]
fn status_tells_what_an_add_lacks() {
    let node = Node::heddle();
    let pod = node.pod("pod");
    let conf = |extra| conf(&node, &["10.88.0.0/30"], &extra);
    assert!(node.call("ptp", "STATUS", &pod, &conf(json!({ "ipMasq": true }))).ok);
    let hidden = [(node::HIDE_SBIN, "1")];
    let asked = |backend| conf(json!({ "ipMasq": true, "ipMasqBackend": backend }));
    for backend in ["", "nftables"] {
        assert!(node.call_with("ptp", "STATUS", &pod, &asked(backend), &hidden).ok, "{backend}");
    }
    let answer = node.call_with("ptp", "STATUS", &pod, &asked("iptables"), &hidden);
    assert_eq!(answer.error(), (50, "cannot set up ipMasq: no usable iptables found".into()));
    assert!(node.call_with("ptp", "STATUS", &pod, &conf(json!({})), &hidden).ok);
    node.add("ptp", &pod, &conf(json!({})));
    let full = node.call("ptp", "STATUS", &pod, &conf(json!({})));
    assert_eq!(full.error().0, 50);
}

fn fault_scene(extra: &Value) -> Scene {
    scene(|node: &Node| {
        let mut conf = routed(node, &json!({}));
        conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        conf
    })
}

#[test]
fn all_or_nothing() {
    prove("ptp", || fault_scene(&json!({})), |_| false);
}

#[test]
fn all_or_nothing_with_masquerading() {
    prove("ptp", || fault_scene(&json!({ "ipMasq": true })), |_| false);
}

/// Differences from the reference (Debian, 1.1.1) that are meant.
const MEANT: [Meant; 5] = [
    oracle::TXQLEN,
    oracle::KEEP_ADDR,
    oracle::NODAD,
    (
        &["accept_dad:0", "accept_dad:1"],
        "nobody else is on the link: detection of duplicates costs a second and finds nothing",
    ),
    oracle::TAG,
];

struct Case {
    name: &'static str,
    subnets: &'static [&'static str],
    version: &'static str,
    extra: Value,
    routes: Value,
}

fn case(name: &'static str, subnets: &'static [&'static str], extra: Value) -> Case {
    Case { name, subnets, version: "1.0.0", extra, routes: Value::Null }
}

fn of_case(node: &Node, case: &Case) -> Value {
    let mut conf = conf(node, case.subnets, &case.extra);
    conf["cniVersion"] = json!(case.version);
    if !case.routes.is_null() {
        conf["ipam"]["routes"] = case.routes.clone();
    }
    conf
}

/// Two pods come and go on a node; everything that can be seen of it.
fn story(suite: Suite, case: &Case) -> Value {
    let node = Node::new(suite);
    node.sh("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
    let conf = of_case(&node, case);
    let (a, b) = (node.pod("aaa"), node.pod("bbb"));
    let mut told: Vec<_> = [&a, &b].map(|pod| node.add("ptp", pod, &conf)).into();
    let result = told[0].clone();
    let mut names = state::Names::default();
    for result in &mut told {
        // 1.1.1 prints an empty dns; newer ones do not.
        result.as_object_mut().unwrap().retain(|_, value| *value != json!({}));
        names.normalise(result);
    }
    let up = json!({ "node": state::of(&node.ns), "a": state::of(&a.ns), "leases": node.leases("testnet") });
    if case.version >= "0.4.0" {
        // The reference's CHECK does not find routes that it added without a gateway.
        if suite == Suite::Heddle || case.routes.is_null() {
            check(&node, &a, &conf, &result);
        }
    }
    for pod in [&a, &b] {
        node.del("ptp", pod, &conf);
    }
    let down = json!({ "node": state::of(&node.ns), "a": state::of(&a.ns), "leases": node.leases("testnet") });
    json!({ "results": told, "up": up, "down": down })
}

fn compare(cases: &[Case]) {
    oracle::compare(cases, &MEANT, |case| case.name.to_owned(), story);
}

#[test]
fn oracle_addresses_and_routes() {
    compare(&[
        case("v4", V4, json!({})),
        case("v6", V6, json!({})),
        case("dual", DUAL, json!({})),
        Case { routes: json!([{ "dst": "0.0.0.0/0" }]), ..case("default route", V4, json!({})) },
        Case {
            routes: json!([{ "dst": "10.9.0.0/16", "gw": "10.88.0.9" }, { "dst": "0.0.0.0/0" }]),
            ..case("another gateway", V4, json!({}))
        },
    ]);
}

#[test]
fn oracle_options() {
    compare(&[
        case("mtu", V4, json!({ "mtu": 1400 })),
        case("masquerade", DUAL, json!({ "ipMasq": true })),
        case("dns", V4, json!({ "dns": { "nameservers": ["10.96.0.10"] } })),
    ]);
}

#[test]
fn oracle_versions() {
    let of = |version| Case { version, ..case(version, DUAL, json!({})) };
    compare(&["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"].map(of));
}

#[test]
fn each_deletes_what_the_other_added() {
    for (adds, deletes) in [(Suite::Heddle, Suite::Reference), (Suite::Reference, Suite::Heddle)] {
        let node = Node::new(adds);
        let conf = of_case(&node, &case("masquerade", DUAL, json!({ "ipMasq": true })));
        let pod = node.pod("aaa");
        let result = node.add("ptp", &pod, &conf);
        let node = node.with_suite(deletes);
        check(&node, &pod, &conf, &result);
        node.del("ptp", &pod, &with_prev(&conf, &result));
        assert_eq!(node.leases("testnet"), [""; 0], "{adds:?} then {deletes:?}");
        let rules = node.sh("iptables-save; ip6tables-save");
        assert!(!rules.contains("CNI-"), "{adds:?} then {deletes:?}");
        assert_eq!(node.sh("ip -o link show type veth"), "", "{adds:?} then {deletes:?}");
    }
}
