//! Each feature with its rules. Comments are left out, `…` stands for the chains' hashes.

use std::net::IpAddr;

use super::*;
use crate::proxy::options::NodePortAddresses;

/// The rules of the only service, as `chain rule`, in the order of `iptables-save`.
fn rules_of(family: Family, spec: Value, endpoints: &str, options: &RuleOptions) -> String {
    let mut model = model();
    model.set_service(service("s", spec));
    if !endpoints.is_empty() {
        model.set_slice(slice("s", endpoints));
    }
    let ruleset = ruleset(family, model.ports(family), options, ABILITIES);
    assert_eq!(lint::problems(&ruleset), Vec::<String>::new());
    lines(&ruleset, "default/s").lines().map(|line| short(line) + "\n").collect()
}

/// Without comments, hashes and what every rule of a port has.
fn short(line: &str) -> String {
    let mut words = Vec::new();
    let mut all = split_words(line).into_iter();
    while let Some(word) = all.next() {
        let next = all.as_slice().first().map(String::as_str);
        match (word.as_str(), next) {
            ("-m", Some("comment")) => drop(all.nth(2)),
            ("-m", Some("tcp" | "udp" | "sctp")) => drop(all.next()),
            ("nat", _) => {}
            _ => words.push(match word.rsplit_once('-') {
                Some((kind, hash)) if hash.len() == 16 => {
                    format!("{}…", kind.trim_start_matches("KUBE-"))
                }
                _ => word,
            }),
        }
    }
    words.join(" ")
}

/// A service of one port with more fields.
fn spec(kind: &str, more: Value) -> Value {
    let mut spec = json!({"type": kind, "clusterIP": "10.96.0.1", "ports": [{"port": 80}]});
    if kind != "ClusterIP" {
        spec["ports"][0]["nodePort"] = json!(30080);
    }
    if kind == "LoadBalancer" {
        spec["ingress"] = json!([{"ip": "192.0.2.1"}]);
    }
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

const HERE: &str = "10.244.0.2@n1";
const THERE: &str = "10.244.1.2@n2";
const BOTH: &str = "10.244.0.2@n1 10.244.1.2@n2";

fn with_external_ip(mut more: Value) -> Value {
    more["externalIPs"] = json!(["198.51.100.1"]);
    more
}

#[test]
fn services() {
    let ranges = json!({"loadBalancerSourceRanges": ["203.0.113.0/24"]});
    let local = json!({"externalTrafficPolicy": "Local"});
    let both_local = json!({"externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"});
    let ranges_local = json!({"loadBalancerSourceRanges": ["203.0.113.0/24"], "externalTrafficPolicy": "Local",
        "healthCheckNodePort": 32000});
    let sticky = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}});
    let sctp = json!({"ports": [{"port": 80, "protocol": "SCTP"}]});
    let cases = [
        ("cluster address", spec("ClusterIP", json!({})), BOTH),
        ("cluster address, nobody", spec("ClusterIP", json!({})), ""),
        ("cluster address, SCTP, nobody", spec("ClusterIP", sctp), ""),
        ("node port", spec("NodePort", json!({})), HERE),
        (
            "node port and external address, nobody",
            spec("NodePort", with_external_ip(json!({}))),
            "",
        ),
        ("node port, external Local", spec("NodePort", local.clone()), BOTH),
        (
            "node port and external address, external Local, none here",
            spec("NodePort", with_external_ip(local)),
            THERE,
        ),
        ("node port, both Local, none here", spec("NodePort", both_local), THERE),
        (
            "cluster address, internal Local",
            spec("ClusterIP", json!({"internalTrafficPolicy": "Local"})),
            BOTH,
        ),
        (
            "load balancer and external address",
            spec("LoadBalancer", with_external_ip(json!({}))),
            HERE,
        ),
        ("load balancer, ranges", spec("LoadBalancer", ranges.clone()), HERE),
        ("load balancer, ranges, nobody", spec("LoadBalancer", ranges), ""),
        ("load balancer, ranges, external Local", spec("LoadBalancer", ranges_local), HERE),
        ("affinity", spec("ClusterIP", sticky), BOTH),
    ];
    let mut text = String::new();
    for (name, spec, endpoints) in cases {
        text.push_str(&format!(
            "# {name}\n{}\n",
            rules_of(Family::V4, spec, endpoints, &options())
        ));
    }
    let spec = json!({"type": "NodePort", "clusterIP": "fd00:96::1", "ports": [{"port": 80, "nodePort": 30080}],
        "sessionAffinity": "ClientIP"});
    for (name, endpoints) in [("IPv6", "fd00:10::2@n1"), ("IPv6, nobody", "")] {
        let rules = rules_of(Family::V6, spec.clone(), endpoints, &options());
        text.push_str(&format!("# {name}\n{rules}\n"));
    }
    if std::env::var_os("UPDATE_RULES").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/proxy/iptables/fixtures/features.txt");
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(text, include_str!("../fixtures/features.txt"), "{text}");
}

/// A load balancer's address may be this node's too: then a connection from here to it comes from it.
#[test]
fn a_range_with_this_node_lets_in_the_balancers_own_address() {
    let ranges = || spec("LoadBalancer", json!({"loadBalancerSourceRanges": ["203.0.113.0/24"]}));
    for (ip, expected) in [("203.0.113.5", 1), ("203.0.114.5", 0)] {
        let options = RuleOptions { node_ips: vec![ip.parse::<IpAddr>().unwrap()], ..options() };
        let rules = rules_of(Family::V4, ranges(), HERE, &options);
        assert_eq!(rules.matches("FW… -s 192.0.2.1/32 -j EXT…\n").count(), expected, "{rules}");
    }
}

const TO: &str = "-p tcp --dport 80 -j KUBE-MARK-MASQ";
const REST: &str = "EXT… -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ\nEXT… -m addrtype --src-type LOCAL -j SVC…\nEXT… -j SVL…";

#[test]
fn who_is_masqueraded() {
    let chain = |options: &RuleOptions| {
        let spec = spec("NodePort", json!({"externalTrafficPolicy": "Local"}));
        let rules = rules_of(Family::V4, spec, HERE, options);
        let of = |line: &&str| {
            line.starts_with("SVC… ") && line.contains("MASQ") || line.starts_with("EXT… -")
        };
        rules.lines().filter(of).map(str::to_owned).collect::<Vec<_>>().join("\n")
    };
    let of = |local| RuleOptions { local, ..RuleOptions::default() };
    let cases = [
        (of(LocalTraffic::Unknown), REST.to_owned()),
        (of(LocalTraffic::Cidrs(vec!["fd00::/64".parse().unwrap()])), REST.to_owned()),
        (
            options(),
            format!(
                "EXT… -s 10.240.0.0/12 -j SVC…\n{REST}\nSVC… ! -s 10.240.0.0/12 -d 10.96.0.1/32 {TO}"
            ),
        ),
        (
            of(LocalTraffic::Bridge("cni0".into())),
            format!("EXT… -i cni0 -j SVC…\n{REST}\nSVC… -d 10.96.0.1/32 ! -i cni0 {TO}"),
        ),
        (
            of(LocalTraffic::InterfacePrefix("veth".into())),
            format!("EXT… -i veth+ -j SVC…\n{REST}\nSVC… -d 10.96.0.1/32 ! -i veth+ {TO}"),
        ),
        (
            RuleOptions { masquerade_all: true, ..RuleOptions::default() },
            format!("{REST}\nSVC… -d 10.96.0.1/32 {TO}"),
        ),
    ];
    for (options, expected) in cases {
        assert_eq!(chain(&options), expected);
    }
}

#[test]
fn where_node_ports_answer() {
    let jumps = |family, node_ports, localhost_node_ports| {
        let options = RuleOptions { node_ports, localhost_node_ports, ..options() };
        let ruleset = ruleset(family, &Ports::new(), &options, ABILITIES);
        assert_eq!(lint::problems(&ruleset), Vec::<String>::new());
        let firewall = ruleset.tables["filter"].chains.contains_key(fixed::FIREWALL);
        let rules = ruleset.tables["nat"].rules("KUBE-SERVICES");
        (rules.iter().map(|rule| short(rule)).collect::<Vec<_>>(), firewall)
    };
    let listed = |ips: &[&str]| {
        NodePortAddresses::Listed(ips.iter().map(|ip| ip.parse().unwrap()).collect())
    };
    let any = "-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS";
    let to = |text: &str| format!("{text} -j KUBE-NODEPORTS");
    let v4 = || listed(&["10.0.0.1", "127.0.0.1", "fd00::1"]);
    let cases = [
        (jumps(Family::V4, NodePortAddresses::Any, true), (vec![any.to_owned()], true)),
        (
            jumps(Family::V4, NodePortAddresses::Any, false),
            (vec![format!("! -d 127.0.0.0/8 {any}")], false),
        ),
        (
            jumps(Family::V6, NodePortAddresses::Any, true),
            (vec![format!("! -d ::1/128 {any}")], false),
        ),
        (jumps(Family::V4, v4(), true), (vec![to("-d 10.0.0.1/32"), to("-d 127.0.0.1/32")], true)),
        (jumps(Family::V4, v4(), false), (vec![to("-d 10.0.0.1/32")], false)),
        (jumps(Family::V6, listed(&["fd00::1", "::1"]), true), (vec![to("-d fd00::1/128")], false)),
    ];
    for (found, expected) in cases {
        assert_eq!(found, expected);
    }
}

#[test]
fn the_mark_invalid_packets_and_random_ports() {
    let options = RuleOptions { masquerade_bit: 5, drop_invalid: false, ..options() };
    let ruleset = ruleset(Family::V6, &Ports::new(), &options, Abilities::default());
    let rules = |table: &str, chain: &str| {
        ruleset.tables[table].rules(chain).iter().map(|rule| short(rule)).collect::<Vec<_>>()
    };
    assert_eq!(rules("nat", "KUBE-MARK-MASQ"), ["-j MARK --set-xmark 0x20/0x20"]);
    assert_eq!(
        rules("nat", "KUBE-POSTROUTING"),
        ["-m mark ! --mark 0x20/0x20 -j RETURN", "-j MARK --set-xmark 0x20/0x0", "-j MASQUERADE"]
    );
    assert_eq!(
        rules("filter", "KUBE-FORWARD"),
        [
            "-m mark --mark 0x20/0x20 -j ACCEPT",
            "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
        ]
    );
}
