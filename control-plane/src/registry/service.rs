//! Services.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, columns, items, labels, map, name, number, or_none, text};
use super::defaults::{child, default, each};
use super::kind::{Kind, Subresource};
use super::strategy::Strategy;
use crate::meta::field_error::{FieldError, FieldPath, Mistake};
use crate::meta::findings::{Findings, Spot};
use crate::meta::name::{dns_1035_label, dns_label, dns_subdomain};

/// `v1 Service`.
pub fn kind() -> Kind {
    Kind::new("", "v1", "Service", "services")
        .stored_as("services/specs")
        .short(&["svc"])
        .in_all()
        .with(&[Subresource::Status])
        .named(dns_1035_label)
        .select_by(&["spec.clusterIP", "spec.type"])
        .columns(columns("Name Type Cluster-IP External-IP Port(s) Age +Selector"))
        .behaves(Service)
}

struct Service;

impl Strategy for Service {
    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else { return };
        default(spec, "sessionAffinity", "None");
        default(spec, "type", "ClusterIP");
        for port in each(spec, "ports") {
            default(port, "protocol", "TCP");
            let number = port.get("port").cloned().unwrap_or_default();
            if let Some(map) = port.as_object_mut() {
                // an empty name and 0 are what typed clients send for nothing
                map.retain(|field, value| {
                    field != "targetPort" || (*value != json!(0) && *value != json!(""))
                });
            }
            default(port, "targetPort", number);
        }
        let of = text(spec, "/type").to_owned();
        if of != "ExternalName" {
            default(spec, "internalTrafficPolicy", "Cluster");
        }
        if of == "NodePort" || of == "LoadBalancer" {
            default(spec, "externalTrafficPolicy", "Cluster");
        }
        if of == "LoadBalancer" {
            default(spec, "allocateLoadBalancerNodePorts", true);
        }
        if text(spec, "/sessionAffinity") == "ClientIP"
            && let Some(client) =
                child(spec, "sessionAffinityConfig").and_then(|config| child(config, "clientIP"))
        {
            default(client, "timeoutSeconds", 10_800);
        }
    }

    fn first_status(&self, _: &Value) -> Option<Value> {
        Some(json!({"loadBalancer": {}}))
    }

    /// Addresses stay when an update leaves them out.
    fn keep(&self, object: &mut Value, old: &Value) {
        if text(object, "/spec/type") == "ExternalName" {
            return;
        }
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            let unset = matches!(object["spec"].get(field), None | Some(Value::Null))
                || object["spec"][field] == json!("");
            if unset
                && let Some(value) = old["spec"].get(field)
                && object["spec"].is_object()
            {
                object["spec"][field] = value.clone();
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let of = text(object, "/spec/type");
        let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
        let spec = Spot::root(object).field("spec");
        findings.one_of_if_set(&spec.field("type"), &types);
        findings.one_of_if_set(&spec.field("sessionAffinity"), &["ClientIP", "None"]);
        for policy in ["internalTrafficPolicy", "externalTrafficPolicy"] {
            findings.one_of_if_set(&spec.field(policy), &["Cluster", "Local"]);
        }
        let headless = text(object, "/spec/clusterIP") == "None";
        let ports = spec.field("ports");
        if ports.is_empty() && !headless && of != "ExternalName" {
            findings.required(&ports, "");
        }
        check_ports(&ports, &mut findings);
        if of == "ExternalName" {
            let name = spec.field("externalName");
            match name.text() {
                "" => findings.required(&name, ""),
                text => findings.sentences(&name, dns_subdomain(text.trim_end_matches('.'))),
            }
        }
        let address = text(object, "/spec/clusterIP");
        if !address.is_empty() && !headless && address.parse::<std::net::IpAddr>().is_err() {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            findings.add(FieldError::invalid(first_address(), &json!(address), why));
        }
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let (now, before) = (text(object, "/spec/clusterIP"), text(old, "/spec/clusterIP"));
        let external = |object| text(object, "/spec/type") == "ExternalName";
        if before.is_empty() || now == before || external(object) || external(old) {
            return Vec::new();
        }
        vec![FieldError::invalid(first_address(), &json!(now), "may not change once set")]
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let first = items(object, "/spec/clusterIPs").first().and_then(Value::as_str);
        let address = first.unwrap_or_else(|| text(object, "/spec/clusterIP"));
        vec![
            json!(name(object)),
            json!(text(object, "/spec/type")),
            json!(or_none(address)),
            json!(external(object)),
            json!(ports(object)),
            json!(age(object, now)),
            json!(labels(map(object, "/spec/selector"))),
        ]
    }
}

/// Where Kubernetes shows a mistake in the address of a service.
fn first_address() -> FieldPath {
    FieldPath::of_pointer("/spec/clusterIPs").index(0)
}

fn check_ports(ports: &Spot<'_>, findings: &mut Findings) {
    let mut before: Vec<(&Value, &Value)> = Vec::new();
    for one in ports.items() {
        let (port, protocol) = (one.field("port"), one.field("protocol"));
        findings.port(&port);
        findings.one_of_if_set(&protocol, &["SCTP", "TCP", "UDP"]);
        let name = one.field("name");
        match name.text() {
            "" if ports.len() > 1 => findings.required(&name, ""),
            "" => {}
            text => findings.sentences(&name, dns_label(text)),
        }
        let target = one.field("targetPort");
        match target.value {
            Value::Number(_) => findings.port(&target),
            Value::String(text) => findings.sentences(&target, crate::meta::name::port(text)),
            _ => {}
        }
        let own = (port.value, protocol.value);
        if before.contains(&own) {
            let value = json!({"port": own.0, "protocol": own.1});
            findings.add(FieldError::new(one.path.clone(), Mistake::Duplicate(value), ""));
        }
        before.push(own);
    }
    findings.unique(ports, "name");
}

fn external(object: &Value) -> String {
    let given: Vec<&str> =
        items(object, "/spec/externalIPs").iter().filter_map(Value::as_str).collect();
    match text(object, "/spec/type") {
        "ExternalName" => text(object, "/spec/externalName").to_owned(),
        "LoadBalancer" => {
            let balancer =
                items(object, "/status/loadBalancer/ingress").iter().map(|one| {
                    match text(one, "/ip") {
                        "" => text(one, "/hostname"),
                        ip => ip,
                    }
                });
            let all: Vec<&str> = balancer.chain(given).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        _ => or_none(&given.join(",")),
    }
}

fn ports(object: &Value) -> String {
    let shown: Vec<String> = items(object, "/spec/ports")
        .iter()
        .map(|port| match (number(port, "/port"), number(port, "/nodePort")) {
            (own, 0) => format!("{own}/{}", text(port, "/protocol")),
            (own, node) => format!("{own}:{node}/{}", text(port, "/protocol")),
        })
        .collect();
    or_none(&shown.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_addresses_and_ports() {
        let row = |spec: Value| {
            let row = Service
                .row(&json!({"metadata": {"name": "s"}, "spec": spec}), Timestamp::UNIX_EPOCH);
            row.iter().map(|cell| cell.as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let node_port = json!({
            "type": "NodePort", "clusterIP": "10.0.0.1", "selector": {"app": "web"},
            "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
        });
        assert_eq!(
            row(node_port),
            ["s", "NodePort", "10.0.0.1", "<none>", "80:30080/TCP,53/UDP", "<unknown>", "app=web"]
        );
        assert_eq!(row(json!({"type": "LoadBalancer"}))[3], "<pending>");
        assert_eq!(
            row(json!({"type": "ExternalName", "externalName": "a.b"}))[2..5],
            ["<none>", "a.b", "<none>"]
        );
    }

    #[test]
    fn an_update_without_addresses_keeps_them() {
        let old = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}});
        let mut new = json!({"spec": {"type": "ClusterIP", "clusterIP": ""}});
        Service.keep(&mut new, &old);
        assert_eq!(new["spec"]["clusterIPs"], json!(["10.0.0.1"]));
        assert!(Service.validate_update(&new, &old).is_empty());
        new["spec"]["clusterIP"] = json!("10.0.0.2");
        assert_eq!(
            Service.validate_update(&new, &old)[0].to_string(),
            r#"spec.clusterIPs[0]: Invalid value: "10.0.0.2": may not change once set"#
        );
    }

    #[test]
    fn several_ports_need_names() {
        let service = json!({"spec": {"ports": [{"port": 80, "protocol": "TCP"}, {"port": 80, "protocol": "TCP", "name": "b"}]}});
        let paths: Vec<_> = Service.validate(&service).iter().map(|e| e.path.to_string()).collect();
        assert_eq!(paths, ["spec.ports[0].name", "spec.ports[1]"]);
    }
}
