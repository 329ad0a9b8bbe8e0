use serde_json::{Value, json};

use super::*;
use crate::testcall::with_call;

fn parse(extra: &Value) -> Result<Conf, Error> {
    let mut conf = json!({ "cniVersion": "1.1.0", "name": "net", "type": "portmap" });
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    with_call("", &conf, Conf::parse)
}

#[test]
fn defaults() {
    let conf = parse(&json!({})).unwrap();
    assert!(conf.snat && !conf.masquerade_all && conf.backend.is_none());
    assert_eq!(conf.mark, SetMark::Bit(13));
    assert!(conf.mappings.is_empty() && conf.containers.is_empty());
}

#[test]
fn mappings_are_read_as_runtimes_write_them() {
    let conf = parse(&json!({ "runtimeConfig": { "portMappings": [
        { "hostPort": 1, "containerPort": 2, "protocol": "TCP", "hostIP": "" },
        { "hostPort": 3, "containerPort": 4, "protocol": "udp", "hostIP": "0.0.0.0" },
        { "hostPort": 5, "containerPort": 6, "protocol": "Sctp", "hostIP": "::ffff:192.0.2.1", "more": 1 },
        { "hostPort": 7, "containerPort": 8 },
    ] } }))
    .unwrap();
    let mapping = |host_port, container_port, protocol, host_ip| Mapping {
        host_port,
        container_port,
        protocol,
        host_ip,
    };
    assert_eq!(
        conf.mappings,
        [
            mapping(1, 2, Protocol::Tcp, HostIp::Any),
            mapping(3, 4, Protocol::Udp, HostIp::AnyOf(Family::V4)),
            mapping(5, 6, Protocol::Sctp, HostIp::One("192.0.2.1".parse().unwrap())),
            mapping(7, 8, Protocol::Tcp, HostIp::Any),
        ]
    );
}

#[test]
fn an_error_names_the_mapping() {
    let error = parse(&json!({ "runtimeConfig": { "portMappings": [
        { "hostPort": 1, "containerPort": 2 }, { "hostPort": 1, "containerPort": 0 },
    ] } }))
    .unwrap_err();
    assert_eq!(error.msg, "Invalid container port number: 0");
    assert!(error.details.starts_with("runtimeConfig.portMappings[1]; "), "{}", error.details);
}

/// Not the reference's quirk, which takes a negated iptables condition for one of nftables.
#[test]
fn a_negated_condition_is_iptables_language() {
    let negated = json!({ "backend": "iptables", "conditionsV4": ["!", "-i", "eth0"] });
    assert_eq!(parse(&negated).unwrap().conditions(Family::V4), ["!", "-i", "eth0"]);
    let empty = json!({ "backend": "nftables", "conditionsV4": [""], "conditionsV6": [] });
    assert!(parse(&empty).unwrap().conditions(Family::V4).is_empty());
}

#[test]
fn the_container_s_addresses_are_those_of_its_interface() {
    let result = |value: Value| CniResult::from_json(&value, cni::Version::V1_1_0).unwrap();
    let of = |value: Value| {
        let nets = containers(Some(&result(value)), "eth0");
        nets.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let interfaces = json!([
        { "name": "eth0" },
        { "name": "eth0", "sandbox": "/run/netns/x" },
        { "name": "eth1", "sandbox": "/run/netns/x" },
    ]);
    let ips = json!([
        { "address": "10.0.0.1/24", "interface": 0 },
        { "address": "10.0.0.2/24", "interface": 2 },
        { "address": "fd00::3/64", "interface": 1 },
        { "address": "10.0.0.4/24", "interface": 1 },
        { "address": "10.0.0.5/24" },
        { "address": "fd00::6/64" },
    ]);
    assert_eq!(of(json!({ "interfaces": interfaces, "ips": ips })), ["10.0.0.4/24", "fd00::3/64"]);
    assert_eq!(of(json!({ "ips": [{ "address": "10.0.0.5/24" }] })), ["10.0.0.5/24"]);
    assert_eq!(of(json!({})), [""; 0]);
}
