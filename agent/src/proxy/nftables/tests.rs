//! Tests.

use netns_tools::testing::TestNetns;
use serde_json::{Value, json};

use super::*;
use crate::proxy::backend::Scope;
use crate::proxy::model::{Model, Node, Service, Slice};

fn service(name: &str, spec: Value) -> Service {
    let object = json!({"metadata": {"namespace": "default", "name": name}, "spec": spec});
    Service::of(&serde_json::from_value(object).unwrap()).unwrap().unwrap()
}

fn slice(owner: &str, endpoints: &[(&str, &str)]) -> Slice {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|(address, node)| json!({"addresses": [address], "nodeName": node}))
        .collect();
    let object = json!({"metadata": {"namespace": "default", "name": format!("{owner}-1"),
        "labels": {"kubernetes.io/service-name": owner}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"port": 8080}]});
    Slice::of(&serde_json::from_value(object).unwrap()).unwrap()
}

fn example() -> Model {
    let mut model = Model::new(Node::named("n1"));
    model.set_service(service("plain", json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80}]})));
    model.set_slice(slice("plain", &[("10.1.0.1", "n1"), ("10.1.1.1", "n2")]));
    model.set_service(service(
        "lb",
        json!({"type": "LoadBalancer", "clusterIP": "10.96.0.2", "externalTrafficPolicy": "Local",
            "sessionAffinity": "ClientIP", "loadBalancerSourceRanges": ["203.0.113.0/24", "10.250.0.0/13"],
            "externalIPs": ["192.0.2.9"],
            "ports": [{"port": 80, "nodePort": 30080}]}),
    ));
    model.set_slice(slice("lb", &[("10.1.0.2", "n1"), ("10.1.1.2", "n2")]));
    model
}

#[test]
fn listing() {
    let ns = TestNetns::new("pnft");
    let options = RuleOptions {
        local: crate::proxy::options::LocalTraffic::Cidrs(vec!["10.1.0.0/20".parse().unwrap()]),
        ..RuleOptions::default()
    };
    let model = example();
    for family in [Family::V4, Family::V6] {
        let mut backend = NftablesBackend::open_in(family, ns.ns()).unwrap();
        println!("{}", backend.plan(model.ports(family), &options).unwrap());
        backend.sync(model.ports(family), &options, Scope::Full).unwrap();
        let again = backend.sync(model.ports(family), &options, Scope::Full).unwrap();
        assert_eq!(again.changes, 0, "{}", backend.plan(model.ports(family), &options).unwrap());
    }
    for chain in ["services", "cluster-2", "cluster-2-for-10800s", "external-local-2-1-for-10800s"]
    {
        let out = ns.output(&["nft", "list", "chain", "ip", "heddle", chain]);
        println!("{chain} {}", String::from_utf8_lossy(&out.stdout));
        println!("{}", String::from_utf8_lossy(&out.stderr));
    }
    let out = ns.output(&["nft", "--debug=netlink", "list", "ruleset"]);
    println!("{}", String::from_utf8_lossy(&out.stdout));
    println!("{}", String::from_utf8_lossy(&out.stderr));
}
