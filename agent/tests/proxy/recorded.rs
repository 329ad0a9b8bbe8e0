//! kube-proxy's own rules, recorded with the objects that they were made of: they must do the same as ours, and what the oracle
//! says. That also shows that tracer and oracle were not made to fit our rules.

use std::net::IpAddr;

use heddle_agent::proxy::iptables;
use heddle_agent::proxy::model::{Event, Model, Node, Protocol, Service, Slice};
use heddle_agent::proxy::options::{LocalTraffic, RuleOptions};
use heddle_agent::proxy::tracer::iptables::IptablesRules;
use heddle_agent::proxy::tracer::{Arrival, Host, Interface, Memory, Packet, Verdict, trace};
use netns_tools::iptables::{Family, Ruleset};
use serde_json::Value;

use crate::modes::ABILITIES;
use crate::oracle::{Mode, Oracle};

const OBJECTS: &str = include_str!("../../src/proxy/iptables/fixtures/objects.json");
const INITIAL: &str = include_str!("../../src/proxy/iptables/fixtures/iptables-initial.txt");
const CHANGED: &str =
    include_str!("../../src/proxy/iptables/fixtures/iptables-after-endpoint-change.txt");

fn read<T: serde::de::DeserializeOwned>(object: &Value) -> T {
    serde_json::from_value(object.clone()).unwrap()
}

fn apply(model: &mut Model, objects: &Value) {
    for object in objects.as_array().unwrap() {
        match object["kind"].as_str().unwrap() {
            "Node" => model.apply(Event::Node(Node::of(&read(object)))),
            "Service" => model.apply(Event::Service(Service::of(&read(object)).unwrap().unwrap())),
            "EndpointSlice" => model.apply(Event::Slice(Slice::of(&read(object)).unwrap())),
            "ServiceCIDR" => {}
            other => panic!("a recorded {other}"),
        }
    }
}

/// The machine of the recording: kube-proxy knew pods by 10.240.0.0/12.
fn host() -> Host {
    let interface = |name: &str, net: &str| Interface {
        name: name.to_owned(),
        addresses: vec![net.parse().unwrap()],
    };
    Host {
        interfaces: vec![interface("eth0", "10.99.1.1/24"), interface("cni0", "10.244.1.254/24")],
        routes: vec![("0.0.0.0/0".parse().unwrap(), "eth0".to_owned())],
    }
}

fn options() -> RuleOptions {
    RuleOptions {
        local: LocalTraffic::Cidrs(vec!["10.240.0.0/12".parse().unwrap()]),
        node_ips: vec!["10.99.1.1".parse().unwrap()],
        ..RuleOptions::default()
    }
}

/// Pods (an endpoint, another), this node, another node, outside within the ranges of `lb`, and not.
const SENDERS: [(&str, &str); 6] = [
    ("cni0", "10.244.1.1"),
    ("cni0", "10.244.1.200"),
    ("", ""),
    ("eth0", "10.99.1.2"),
    ("eth0", "203.0.113.5"),
    ("eth0", "198.18.0.9"),
];

fn packets(model: &Model) -> Vec<Packet> {
    let mut doors: Vec<(IpAddr, Protocol, u16)> = Vec::new();
    for port in model.ports(Family::V4).values() {
        let addresses = port.external_ips.iter().chain(&port.load_balancer_ips);
        for address in addresses.chain([&port.cluster_ip]) {
            doors.extend([port.port, 81].map(|number| (*address, port.id.protocol, number)));
        }
        for address in ["10.99.1.1", "10.244.1.254", "127.0.0.1"] {
            let at = |number| (address.parse().unwrap(), port.id.protocol, number);
            doors.extend(port.node_port.map(at));
            doors.extend(port.health_check_node_port.map(at));
        }
    }
    let sent = |(address, protocol, number): (IpAddr, Protocol, u16)| {
        SENDERS.map(|(interface, source)| {
            let here = interface.is_empty();
            Packet {
                arrival: if here { Arrival::Here } else { Arrival::by(interface) },
                source: source.parse().unwrap_or_else(|_| host().source_for(address).unwrap()),
                destination: address,
                protocol,
                port: number,
            }
        })
    };
    doors.into_iter().flat_map(sent).collect()
}

#[track_caller]
fn same(model: &Model, recorded: &str) {
    let recorded = IptablesRules::new(&Ruleset::parse(recorded).unwrap(), Family::V4).unwrap();
    let (ports, options, host) = (model.ports(Family::V4), options(), host());
    let ours = iptables::ruleset(Family::V4, ports, &options, ABILITIES);
    let ours = IptablesRules::new(&ours, Family::V4).unwrap();
    let oracle = Oracle { ports, options: &options, host: &host, mode: Mode::Iptables };
    let packets = packets(model);
    assert!(packets.len() > 150, "{} packets are not all", packets.len());
    for packet in packets {
        let follow = |rules: &IptablesRules| -> Verdict {
            let paths = trace(rules, &host, &packet, &Memory::default());
            paths.unwrap_or_else(|error| panic!("{packet:?}: {error}")).into_iter().collect()
        };
        let (theirs, ours) = (follow(&recorded), follow(&ours));
        assert!(
            theirs == oracle.expect(&packet),
            "{packet:?}:\n  kube-proxy: {theirs}\n  oracle: {}",
            oracle.expect(&packet)
        );
        assert!(theirs == ours, "{packet:?}:\n  kube-proxy: {theirs}\n  ours: {ours}");
    }
}

#[test]
fn kube_proxy_does_the_same() {
    let objects: Value = serde_json::from_str(OBJECTS).unwrap();
    let mut model = Model::default();
    apply(&mut model, &objects["initial"]);
    same(&model, INITIAL);
    apply(&mut model, &objects["then"]["after-endpoint-change"]);
    same(&model, CHANGED);
}
