//! The table without a kernel, then the same in one.

mod kernel;
mod random;
mod traffic;

use std::time::Duration;

use netns_tools::nftables::Field;
use serde_json::{Value, json};

use super::fake::{FakeKernel, lint};
use super::*;
use crate::proxy::model::{Event, FAMILIES, Model, Node, Service, ServiceName, Slice};
use crate::proxy::options::{LocalTraffic, NodePortAddresses};

pub(super) fn service(name: &str, spec: Value) -> Service {
    let object = json!({"metadata": {"namespace": "default", "name": name}, "spec": spec});
    Service::of(&serde_json::from_value(object).unwrap()).unwrap().unwrap()
}

/// Endpoints as `address@node`, all at port 8080.
pub(super) fn slice(owner: &str, endpoints: &[&str]) -> Slice {
    let endpoint = |text: &&str| {
        let (address, node) = text.split_once('@').unwrap();
        json!({"addresses": [address], "nodeName": node})
    };
    let endpoints: Vec<_> = endpoints.iter().map(endpoint).collect();
    let v6 = endpoints.iter().any(|e| e["addresses"][0].as_str().unwrap().contains(':'));
    let object = json!({"metadata": {"namespace": "default", "name": format!("{owner}-1"),
        "labels": {"kubernetes.io/service-name": owner}},
        "addressType": if v6 { "IPv6" } else { "IPv4" },
        "endpoints": endpoints, "ports": [{"port": 8080}]});
    Slice::of(&serde_json::from_value(object).unwrap()).unwrap()
}

pub(super) fn options() -> RuleOptions {
    let local =
        LocalTraffic::Cidrs(vec!["10.1.0.0/16".parse().unwrap(), "fd01::/64".parse().unwrap()]);
    RuleOptions { local, ..RuleOptions::default() }
}

/// A service with these endpoints: its part of the table, as text.
fn part(spec: Value, endpoints: &[&str], options: &RuleOptions) -> String {
    let mut model = Model::new(Node::named("n1"));
    model.set_service(service("s", spec));
    model.set_slice(slice("s", endpoints));
    let family = Family::V4;
    let (mut state, fresh) = State::begin(family, &Ports::new(), options);
    let mut kernel = FakeKernel::default();
    kernel.commit(&fresh).unwrap();
    let changes = model.take_changes();
    let change = state.follow(model.ports(family), &changes.v4);
    kernel.commit(&change).unwrap();
    assert_eq!(lint(family, &kernel.objects), [""; 0]);
    let text = text::transaction(family, &change);
    text.replace("add ", "").replace("ip heddle ", "").replace("element ", "")
}

fn golden(spec: Value, endpoints: &[&str], expected: &[&str]) {
    let found = part(spec, endpoints, &options());
    assert_eq!(found.trim_end().lines().collect::<Vec<_>>(), expected, "\n{found}");
}

const MARK: &str = "meta mark set meta mark | 0x00004000";

#[test]
fn a_cluster_address() {
    golden(
        json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}),
        &["10.1.0.1@n1", "10.1.1.1@n2"],
        &[
            "chain cluster-2",
            &format!("rule cluster-2 ip saddr != 10.1.0.0/16 {MARK}"),
            "rule cluster-2 dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 2 map @backends",
            "services { 10.96.0.1 . tcp . 80 : goto cluster-2 }",
            "backends { 10.96.0.1 . tcp . 80 . 0x00000000 : 10.1.0.1 . 8080 }",
            "backends { 10.96.0.1 . tcp . 80 . 0x00000001 : 10.1.1.1 . 8080 }",
            "cluster-ips { 10.96.0.1 }",
            "hairpins { 10.1.0.1 . 10.1.0.1 }",
        ],
    );
}

#[test]
fn nobody_serves_or_nobody_here() {
    let ports = json!([{"port": 80, "nodePort": 30080}]);
    golden(
        json!({"type": "NodePort", "clusterIP": "10.96.0.1", "ports": ports}),
        &[],
        &[
            "cluster-ips { 10.96.0.1 }",
            "rejected { 10.96.0.1 . tcp . 80 }",
            "rejected-nodeports { tcp . 30080 }",
        ],
    );
    golden(
        json!({"clusterIP": "10.96.0.1", "internalTrafficPolicy": "Local", "ports": [{"port": 80}]}),
        &["10.1.1.1@n2"],
        &["cluster-ips { 10.96.0.1 }", "dropped { 10.96.0.1 . tcp . 80 }"],
    );
    // what pods and this node still find is dropped for others
    let found = part(
        json!({"type": "NodePort", "clusterIP": "10.96.0.1", "externalTrafficPolicy": "Local", "ports": ports}),
        &["10.1.1.1@n2"],
        &options(),
    );
    for line in [
        "rule external-local-1-0 ip saddr 10.1.0.0/16 goto pick-1",
        "rule external-local-1-0 fib saddr type local goto pick-1",
        "nodeports { tcp . 30080 : goto external-local-1-0 }",
        "dropped-nodeports { tcp . 30080 }",
    ] {
        assert!(found.contains(line), "{line}\n{found}");
    }
}

#[test]
fn a_load_balancer_under_the_policy_local() {
    let found = part(
        json!({"type": "LoadBalancer", "clusterIP": "10.96.0.1", "externalTrafficPolicy": "Local",
            "externalIPs": ["192.0.2.9"], "ports": [{"port": 80}]}),
        &["10.1.0.1@n1", "10.1.1.1@n2"],
        &options(),
    );
    for line in [
        &*format!("rule external-local-2-1 fib saddr type local {MARK}"),
        "rule external-local-2-1 dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 1 offset 65536 map @backends",
        "services { 192.0.2.9 . tcp . 80 : goto external-local-2-1 }",
        "backends { 192.0.2.9 . tcp . 80 . 0x00000001 : 10.1.1.1 . 8080 }",
        "backends { 192.0.2.9 . tcp . 80 . 0x00010000 : 10.1.0.1 . 8080 }",
    ] {
        assert!(found.contains(line), "{line}\n{found}");
    }
}

#[test]
fn a_service_that_remembers_its_clients() {
    let found = part(
        json!({"type": "NodePort", "clusterIP": "10.96.0.1", "externalTrafficPolicy": "Local", "sessionAffinity": "ClientIP",
            "ports": [{"port": 80, "nodePort": 30080}]}),
        &["10.1.0.1@n1", "10.1.1.1@n2"],
        &options(),
    );
    let [here, there] = ["10.1.0.1", "10.1.1.1"].map(|ip| format!("default/s/tcp/__{ip}/8080"));
    let port = "default/s/tcp/";
    // hashes must stay what they are: sets are adopted by their names
    let expected = [
        format!(
            "set affinity-A-{here} {{ type ipv4_addr; flags dynamic,timeout; timeout 10800s; }}"
        ),
        format!("rule endpoint-B-{here} update @affinity-A-{here} {{ ip saddr }}"),
        format!("rule endpoint-B-{here} meta l4proto tcp dnat to 10.1.0.1:8080"),
        format!("rule pick-C-{port} ip saddr @affinity-A-{here} goto endpoint-B-{here}"),
        format!("rule pick-C-{port} ip saddr @affinity-D-{there} goto endpoint-E-{there}"),
        format!("rule pick-C-{port} numgen random mod 2 0 goto endpoint-B-{here}"),
        format!("rule pick-C-{port} goto endpoint-E-{there}"),
        format!("rule pick-local-C-{port} ip saddr @affinity-A-{here} goto endpoint-B-{here}"),
        format!("rule pick-local-C-{port} goto endpoint-B-{here}"),
        format!("rule cluster-C-{port} ip saddr != 10.1.0.0/16 {MARK}"),
        format!("rule cluster-C-{port} goto pick-C-{port}"),
        format!("rule external-local-C-{port} ip saddr 10.1.0.0/16 goto pick-C-{port}"),
        format!("rule external-local-C-{port} fib saddr type local goto pick-C-{port}"),
        format!("rule external-local-C-{port} goto pick-local-C-{port}"),
        format!("services {{ 10.96.0.1 . tcp . 80 : goto cluster-C-{port} }}"),
        format!("nodeports {{ tcp . 30080 : goto external-local-C-{port} }}"),
    ];
    for line in expected.map(|line| hashed(&line)) {
        assert!(found.lines().any(|found| found == line), "{line}\n{found}");
    }
    assert!(!found.contains("backends"), "{found}");
}

/// With the hashes that the letters stand for.
fn hashed(line: &str) -> String {
    let hashes = [
        ("-A-", "-34NTHI5K-"),
        ("-B-", "-U6RAECY7-"),
        ("-C-", "-XEKRKQOB-"),
        ("-D-", "-M2GVF6RC-"),
        ("-E-", "-JSKGKGQD-"),
    ];
    hashes.iter().fold(line.to_owned(), |line, (letter, hash)| line.replace(letter, hash))
}

#[test]
fn detectors() {
    let spec = || json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80}]});
    let with = |local: LocalTraffic, masquerade_all: bool| {
        let options = RuleOptions { masquerade_all, local, ..options() };
        let text = part(spec(), &["10.1.0.1@n1"], &options);
        text.lines()
            .filter(|line| line.contains("rule cluster-1 "))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let first = |local, all| with(local, all)[0].replace("rule cluster-1 ", "");
    assert_eq!(
        first(LocalTraffic::Bridge("cni0".into()), false),
        format!("iifname != \"cni0\" {MARK}")
    );
    assert_eq!(
        first(LocalTraffic::InterfacePrefix("veth".into()), false),
        format!("iifname != \"veth*\" {MARK}")
    );
    assert_eq!(first(LocalTraffic::Unknown, true), MARK);
    assert_eq!(with(LocalTraffic::Unknown, false).len(), 1);
}

#[test]
fn node_ports_answer_where_they_should() {
    let rule = |node_ports| {
        let options = RuleOptions { node_ports, ..options() };
        let table = objects(Family::V4, &Ports::new(), &options);
        text::rule(Family::V4, &table.chains["services"].rules[1])
    };
    assert!(
        rule(NodePortAddresses::Any).starts_with("fib daddr type local ip daddr != 127.0.0.0/8 ")
    );
    let listed = ["10.0.0.1", "127.0.0.1", "fd00::1"].map(|ip| ip.parse().unwrap());
    let listed = NodePortAddresses::Listed(listed.into());
    assert!(rule(listed.clone()).starts_with("ip daddr @nodeport-ips "));
    let table =
        objects(Family::V4, &Ports::new(), &RuleOptions { node_ports: listed, ..options() });
    let ips = table.sets[&SetName::NodePortIps].keys().map(|key| key.as_slice().to_vec());
    assert_eq!(ips.collect::<Vec<_>>(), [[10, 0, 0, 1]]);
}

#[test]
fn a_changed_endpoint_touches_nothing_else() {
    let mut model = Model::new(Node::named("n1"));
    for number in 0..100 {
        let name = format!("s{number}");
        let spec = json!({"clusterIP": format!("10.96.0.{number}"), "ports": [{"port": 80}]});
        model.set_service(service(&name, spec));
        model.set_slice(slice(&name, &["10.1.1.1@n2", "10.1.1.2@n2"]));
    }
    model.take_changes();
    let (mut state, _) = State::begin(Family::V4, model.ports(Family::V4), &options());
    model.set_slice(slice("s7", &["10.1.1.1@n2", "10.1.1.3@n2"]));
    let changes = model.take_changes();
    let change = state.follow(model.ports(Family::V4), &changes.v4);
    let text = text::transaction(Family::V4, &change);
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [
            "delete element ip heddle backends { 10.96.0.7 . tcp . 80 . 0x00000001 }",
            "add element ip heddle backends { 10.96.0.7 . tcp . 80 . 0x00000001 : 10.1.1.3 . 8080 }",
        ]
    );
}

#[test]
fn the_fake_refuses_what_the_kernel_would() {
    let (_, fresh) = State::begin(Family::V4, &Ports::new(), &options());
    let mut kernel = FakeKernel::default();
    kernel.commit(&fresh).unwrap();
    let before = kernel.objects.clone();
    let one = |change: Change| Transaction { changes: vec![change] };
    for wrong in [
        Change::DeleteChain("services".into()),
        Change::DeleteChain("none".into()),
        Change::AddRule { chain: "none".into(), rule: layout::table(Family::V4).rule().drop() },
        Change::AddRule {
            chain: "services".into(),
            rule: layout::table(Family::V4).rule().goto("none"),
        },
        Change::DeleteElement {
            set: SetName::Rejected,
            key: layout::node_port_key(crate::proxy::model::Protocol::Tcp, 1),
        },
        Change::DeleteSet("affinity-none".into()),
        Change::AddRule {
            chain: "services".into(),
            rule: layout::table(Family::V4).rule().in_set(&[Field::IpSaddr], "affinity-none"),
        },
    ] {
        kernel.commit(&one(wrong)).unwrap_err();
    }
    assert_eq!(kernel.objects, before);
    let clients =
        || Change::AddClients { name: "affinity-a".into(), timeout: Duration::from_secs(1) };
    let rule = layout::table(Family::V4).rule().in_set(&[Field::IpSaddr], "affinity-a");
    kernel.commit(&one(clients())).unwrap();
    kernel.commit(&one(clients())).unwrap_err();
    kernel.commit(&one(Change::AddRule { chain: "services".into(), rule })).unwrap();
    kernel.commit(&one(Change::DeleteSet("affinity-a".into()))).unwrap_err();
}

/// Whatever the objects of a manifest are called, the kernel's names are short enough, of its letters, and differ.
#[test]
fn names_are_the_kernels() {
    use super::affinity::{StickyEndpoint, StickyPort};
    let endpoint = |name: &str, seconds: u32| {
        let id = PortId {
            service: ServiceName::new("default", name),
            port: "".into(),
            protocol: crate::proxy::model::Protocol::Tcp,
        };
        StickyEndpoint {
            port: StickyPort { id, seconds },
            address: "[fd01::1]:80".parse().unwrap(),
        }
    };
    let long = "n".repeat(500);
    let (one, other) = (endpoint(&format!("{long}1"), 9), endpoint(&format!("{long}2"), 9));
    assert_ne!(one.chain(), other.chain());
    assert_ne!(one.set(), other.set());
    let odd = endpoint("a b\n\"é;{", 9);
    for name in [one.chain(), one.set(), odd.chain(), odd.set()] {
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/-_.".contains(letter);
        assert!(name.len() < 256 && name.chars().all(is_plain), "{name}");
    }
    let short = endpoint("web", 9);
    assert!(short.set().ends_with("-default/web/tcp/__fd01..1/80"), "{}", short.set());
    // the same chain, another set
    assert_eq!(short.chain(), endpoint("web", 8).chain());
    assert_ne!(short.set(), endpoint("web", 8).set());
}

/// A node that may use a balancer's address may do so also from that address, if it is its own.
#[test]
fn source_ranges_that_hold_this_node() {
    let object = json!({"metadata": {"namespace": "default", "name": "lb"},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.1", "loadBalancerSourceRanges": ["192.0.2.0/24"],
            "ports": [{"port": 80}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}}});
    let mut model = Model::new(Node::named("n1"));
    model.set_service(Service::of(&serde_json::from_value(object).unwrap()).unwrap().unwrap());
    for (node, expected) in [
        (
            "192.0.2.1",
            &["ip saddr 192.0.2.0/24 return", "ip saddr 198.51.100.1 return", "drop"][..],
        ),
        ("203.0.113.1", &["ip saddr 192.0.2.0/24 return", "drop"]),
    ] {
        let options = RuleOptions { node_ips: vec![node.parse().unwrap()], ..options() };
        let table = objects(Family::V4, model.ports(Family::V4), &options);
        let chain = table.chains.iter().find(|(name, _)| name.starts_with("sources-")).unwrap();
        let rules = chain.1.rules.iter().map(|rule| text::rule(Family::V4, rule));
        assert_eq!(rules.collect::<Vec<_>>(), expected);
    }
}
