//! Services.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::check::{Errors, invalid, one_of, path, port, required, unique};
use super::column::{age, columns, items, labels, map, name, number, or_none, text};
use super::defaults::{child, default, each};
use super::kind::{Kind, Subresource};
use super::strategy::Strategy;
use crate::meta::field_error::{FieldError, Mistake};
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

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let of = text(object, "/spec/type");
        let types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
        one_of(object, "/spec/type", &path("/spec/type"), &types, &mut errors);
        one_of(
            object,
            "/spec/sessionAffinity",
            &path("/spec/sessionAffinity"),
            &["ClientIP", "None"],
            &mut errors,
        );
        for policy in ["/spec/internalTrafficPolicy", "/spec/externalTrafficPolicy"] {
            one_of(object, policy, &path(policy), &["Cluster", "Local"], &mut errors);
        }
        let headless = text(object, "/spec/clusterIP") == "None";
        let ports = items(object, "/spec/ports");
        if ports.is_empty() && !headless && of != "ExternalName" {
            errors.push(required(&path("/spec/ports"), ""));
        }
        validate_ports(ports, &mut errors);
        if of == "ExternalName" {
            match text(object, "/spec/externalName") {
                "" => errors.push(required(&path("/spec/externalName"), "")),
                name => errors.extend(
                    dns_subdomain(name.trim_end_matches('.'))
                        .into_iter()
                        .map(|why| invalid(&path("/spec/externalName"), &json!(name), why)),
                ),
            }
        }
        let address = text(object, "/spec/clusterIP");
        if !address.is_empty() && !headless && address.parse::<std::net::IpAddr>().is_err() {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.push(invalid(&path("/spec/clusterIPs").index(0), &json!(address), why));
        }
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Errors {
        let (now, before) = (text(object, "/spec/clusterIP"), text(old, "/spec/clusterIP"));
        let external = |object| text(object, "/spec/type") == "ExternalName";
        if before.is_empty() || now == before || external(object) || external(old) {
            return Errors::new();
        }
        vec![invalid(&path("/spec/clusterIPs").index(0), &json!(now), "may not change once set")]
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

fn validate_ports(ports: &[Value], errors: &mut Errors) {
    let at = path("/spec/ports");
    for (index, one) in ports.iter().enumerate() {
        let at = at.index(index);
        port(one.get("port").unwrap_or(&Value::Null), &at.field("port"), errors);
        one_of(one, "/protocol", &at.field("protocol"), &["SCTP", "TCP", "UDP"], errors);
        match text(one, "/name") {
            "" if ports.len() > 1 => errors.push(required(&at.field("name"), "")),
            "" => {}
            name => errors.extend(
                dns_label(name)
                    .into_iter()
                    .map(|why| invalid(&at.field("name"), &json!(name), why)),
            ),
        }
        match one.get("targetPort") {
            Some(target @ Value::Number(_)) => port(target, &at.field("targetPort"), errors),
            Some(Value::String(name)) => {
                errors.extend(
                    crate::meta::name::port(name)
                        .into_iter()
                        .map(|why| invalid(&at.field("targetPort"), &json!(name), why)),
                );
            }
            _ => {}
        }
        let same = |other: &&Value| {
            other.get("port") == one.get("port") && other.get("protocol") == one.get("protocol")
        };
        if ports[..index].iter().any(|other| same(&other)) {
            let value = json!({"port": one.get("port"), "protocol": one.get("protocol")});
            errors.push(FieldError::new(at, Mistake::Duplicate(value), ""));
        }
    }
    unique(ports, "/name", &at, errors);
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
