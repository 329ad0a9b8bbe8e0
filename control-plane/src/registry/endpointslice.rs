//! Endpoint slices: a part of a service's endpoints.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::address;
use super::column::{age, columns, items, name, text};
use super::defaults::{default, each};
use super::endpoints::{first_three, is_of_server};
use super::kind::Kind;
use super::strategy::Strategy;
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};
use crate::meta::{domain_path, name as names};

const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20_000;
const MAX_ADDRESSES: usize = 100;
const MAX_ZONES: usize = 8;

/// `discovery.k8s.io/v1 EndpointSlice`.
pub fn kind() -> Kind {
    Kind::new("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
        .with_generation()
        .columns(columns("Name AddressType Ports Endpoints Age"))
        .behaves(EndpointSlice)
}

struct EndpointSlice;

impl Strategy for EndpointSlice {
    fn default(&self, object: &mut Value) {
        for port in each(object, "ports") {
            default(port, "name", "");
            default(port, "protocol", "TCP");
        }
        for endpoint in each(object, "endpoints").filter_map(Value::as_object_mut) {
            // only the form before `v1` says more of the topology than the zone
            endpoint.remove("deprecatedTopology");
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let root = Spot::root(object);
        let family = root.field("addressType");
        findings.required_one_of(&family, &["FQDN", "IPv4", "IPv6"]);
        let service = text(object, "/metadata/labels/kubernetes.io~1service-name");
        let own = is_of_server(object, service);
        let (endpoints, ports) = (root.field("endpoints"), root.field("ports"));
        findings.at_most(&endpoints, MAX_ENDPOINTS);
        // of lists that are too long the items are not looked at
        let few = endpoints.len() <= MAX_ENDPOINTS;
        for endpoint in endpoints.items().filter(|_| few) {
            check_addresses(&endpoint.field("addresses"), family.text(), own, &mut findings);
            let (host, node) = (endpoint.field("hostname"), endpoint.field("nodeName"));
            if host.is_there() {
                findings.sentences(&host, names::dns_label(host.text()));
            }
            if node.is_there() {
                findings.sentences(&node, names::dns_subdomain(node.text()));
            }
            check_zones(&endpoint.pointer("/hints/forZones"), &mut findings);
        }
        findings.at_most(&ports, MAX_PORTS);
        if ports.len() <= MAX_PORTS {
            check_ports(&ports, &mut findings);
        }
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let (root, before) = (Spot::root(object), Spot::root(old));
        findings.immutable(&root.pointer("/addressType"), &before.pointer("/addressType"));
        findings.into_vec()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let ports: Vec<String> = items(object, "/ports").iter().map(port).collect();
        let all: Vec<String> = items(object, "/endpoints")
            .iter()
            .flat_map(|endpoint| items(endpoint, "/addresses"))
            .map(|address| address.as_str().unwrap_or_default().to_owned())
            .collect();
        vec![
            json!(name(object)),
            json!(text(object, "/addressType")),
            json!(first_three(&ports, "<unset>")),
            json!(first_three(&all, "<unset>")),
            json!(age(object, now)),
        ]
    }
}

fn check_zones(zones: &Spot<'_>, findings: &mut Findings) {
    findings.at_most(zones, MAX_ZONES);
    if zones.len() > MAX_ZONES {
        return;
    }
    let mut seen = BTreeSet::new();
    for zone in zones.items().map(|zone| zone.field("name")) {
        if !seen.insert(zone.text()) {
            findings.duplicate(&zone);
        }
        findings.sentences(&zone, names::label_value(zone.text()));
    }
}

fn check_ports(ports: &Spot<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for port in ports.items() {
        // one port at most has no name
        if !seen.insert(port.field("name").text()) {
            let unnamed = json!(port.field("name").text());
            findings.duplicate(&Spot::at(&unnamed, port.field("name").path));
        }
        check_port(&port, findings);
    }
}

/// Kubernetes takes any number.
fn check_port(port: &Spot<'_>, findings: &mut Findings) {
    let [name, protocol] = ["name", "protocol"].map(|field| port.field(field));
    if !name.is_empty() {
        findings.sentences(&name, names::dns_label(name.text()));
    }
    findings.one_of(&protocol, &["SCTP", "TCP", "UDP"]);
    let inner = port.field("appProtocol");
    if inner.is_there() {
        findings.sentences(&inner, names::qualified(inner.text()));
    }
}

fn check_addresses(addresses: &Spot<'_>, family: &str, own: bool, findings: &mut Findings) {
    if addresses.is_empty() {
        findings.required(addresses, "must contain at least 1 address");
    }
    findings.at_most(addresses, MAX_ADDRESSES);
    for address in addresses.items() {
        let text = address.text();
        let wrong = match family {
            "IPv4" => text
                .parse::<std::net::Ipv4Addr>()
                .is_err()
                .then_some("must be a valid IPv4 address"),
            "IPv6" => text
                .parse::<std::net::Ipv6Addr>()
                .is_err()
                .then_some("must be a valid IPv6 address"),
            "FQDN" => {
                domain_path::check_host(&address, findings);
                continue;
            }
            _ => continue,
        };
        match wrong {
            Some(why) => findings.invalid(&address, why),
            None if own => {}
            None => address::check(&address, findings),
        }
    }
}

fn port(port: &Value) -> String {
    match (port.get("port").and_then(Value::as_i64), text(port, "/name")) {
        (Some(number), _) => number.to_string(),
        (None, "") => "*".to_owned(),
        (None, name) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_the_slice_family() {
        let slice = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["fd00::1"]}, {"addresses": []}]});
        let sentences: Vec<_> =
            EndpointSlice.validate(&slice).iter().map(ToString::to_string).collect();
        assert_eq!(
            sentences,
            [
                r#"endpoints[0].addresses[0]: Invalid value: "fd00::1": must be a valid IPv4 address"#,
                "endpoints[1].addresses: Required value: must contain at least 1 address",
            ]
        );
        let odd = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"], "hostname": "A"}],
            "ports": [{"name": "A_b", "protocol": "HTTP", "port": 99_999}, {"name": "all"}]});
        let mut own = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"]}],
            "metadata": {"namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}}});
        assert!(EndpointSlice.validate(&own).is_empty(), "a server of a lab");
        own["metadata"]["namespace"] = json!("dev");
        assert_eq!(EndpointSlice.validate(&own).len(), 1);
        let paths: Vec<_> =
            EndpointSlice.validate(&odd).iter().map(|error| error.path.to_string()).collect();
        assert_eq!(
            paths,
            [
                "endpoints[0].addresses[0]",
                "endpoints[0].hostname",
                "ports[0].name",
                "ports[0].protocol",
            ]
        );
    }

    #[test]
    fn slices_have_limits() {
        let zones =
            |names: &[&str]| -> Value { names.iter().map(|name| json!({"name": name})).collect() };
        let hinted = |zones: Value| json!({"endpoints": [{"addresses": ["10.0.0.1"], "hints": {"forZones": zones}}]});
        let host =
            |name: &str| json!({"addressType": "FQDN", "endpoints": [{"addresses": [name]}]});
        let many = |count: usize, item: &Value| Value::from(vec![item.clone(); count]);
        for (fields, expected) in [
            (hinted(zones(&["a", "b"])), ""),
            (
                hinted(zones(&["a", "a"])),
                "endpoints[0].hints.forZones[1].name: Duplicate value: \"a\"",
            ),
            (
                hinted(zones(&["a b"])),
                "endpoints[0].hints.forZones[0].name: Invalid value: \"a b\": a valid label",
            ),
            (
                hinted(zones(&["a"; 9])),
                "endpoints[0].hints.forZones: Too many: 9: must have at most 8 items",
            ),
            (host("www.example.com"), ""),
            (
                host("www"),
                "endpoints[0].addresses[0]: Invalid value: \"www\": should be a domain with at least two segments",
            ),
            (
                json!({"addressType": "IP"}),
                "addressType: Unsupported value: \"IP\": supported values: \"FQDN\", \"IPv4\", \"IPv6\"",
            ),
            (json!({"addressType": ""}), "addressType: Required value"),
            (
                json!({"ports": [{"port": 80}, {"port": 81}]}),
                "ports[1].name: Duplicate value: \"\"",
            ),
            (
                json!({"ports": [{"appProtocol": "a b"}]}),
                "ports[0].appProtocol: Invalid value: \"a b\": name part",
            ),
            (
                json!({"endpoints": many(1001, &json!({}))}),
                "endpoints: Too many: 1001: must have at most 1000 items",
            ),
            (
                json!({"ports": many(20_001, &json!({}))}),
                "ports: Too many: 20001: must have at most 20000 items",
            ),
            (
                json!({"endpoints": [{"addresses": many(101, &json!("10.0.0.1"))}]}),
                "endpoints[0].addresses: Too many: 101",
            ),
            (
                json!({"endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "A"}]}),
                "endpoints[0].nodeName: Invalid value: \"A\"",
            ),
        ] {
            let mut slice = json!({"addressType": "IPv4"});
            slice.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap());
            let told: Vec<String> =
                EndpointSlice.validate(&slice).iter().map(ToString::to_string).collect();
            assert_eq!(told.len(), usize::from(!expected.is_empty()), "{told:?}");
            assert!(told.iter().all(|one| one.starts_with(expected)), "{told:?}");
        }
        let mut slice = json!({"endpoints": [{"addresses": [], "deprecatedTopology": {"a": "b"}, "zone": "z"}]});
        EndpointSlice.default(&mut slice);
        assert_eq!(slice["endpoints"][0], json!({"addresses": [], "zone": "z"}));
        let errors = EndpointSlice
            .validate_update(&json!({"addressType": "IPv6"}), &json!({"addressType": "IPv4"}));
        assert_eq!(
            errors[0].to_string(),
            r#"addressType: Invalid value: "IPv6": field is immutable"#
        );
    }
}
