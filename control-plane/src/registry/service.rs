//! Services.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, columns, items, labels, map, name, number, or_none, text};
use super::defaults::{child, default, default_text, each};
use super::kind::{Kind, Subresource};
use super::service_spec;
use super::service_warnings;
use super::strategy::Strategy;
use crate::allocate::change;
use crate::meta::field_error::{FieldError, FieldPath};
use crate::meta::findings::{Findings, Spot};
use crate::meta::name::dns_1035_label;

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
        default_text(spec, "sessionAffinity", "None");
        default_text(spec, "type", "ClusterIP");
        for port in each(spec, "ports") {
            default_text(port, "protocol", "TCP");
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
        if service_spec::is_external(spec) {
            default_text(spec, "externalTrafficPolicy", "Cluster");
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

    /// Addresses stay when an update leaves them out, and what only the former type had goes with it.
    fn keep(&self, object: &mut Value, old: &Value) {
        leave_type(object, old);
        if [&*object, old].iter().any(|one| text(one, "/spec/type") == "ExternalName") {
            return;
        }
        let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) else { return };
        settle_addresses(spec, &old["spec"]);
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if let Some(value) = old["spec"].get(field)
                && spec.get(field).is_none_or(Value::is_null)
            {
                spec[field] = value.clone();
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let root = Spot::root(object);
        let headless = text(object, "/spec/clusterIP") == "None";
        service_spec::check_annotations(&root, &mut findings);
        service_spec::validate(&root.field("spec"), &mut findings);
        let address = text(object, "/spec/clusterIP");
        if !address.is_empty() && !headless && address.parse::<std::net::IpAddr>().is_err() {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            findings.add(FieldError::invalid(first_address(), &json!(address), why));
        }
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let (spec, before) = (Spot::root(object).field("spec"), Spot::root(old).field("spec"));
        findings.extend(change::mistakes(spec.value, before.value));
        let both = |is: fn(&Value) -> bool| is(spec.value) && is(before.value);
        let class = spec.field("loadBalancerClass");
        if both(|spec| spec["type"] == "LoadBalancer")
            && class.value != before.field("loadBalancerClass").value
        {
            findings.invalid(&class, "may not change once set");
        }
        let health = spec.field("healthCheckNodePort");
        if both(service_spec::is_asked_for_health)
            && health.value != before.field("healthCheckNodePort").value
        {
            findings.forbidden(&health, "field is immutable");
        }
        findings.into_vec()
    }

    /// Who says nothing else means an address that packets are sent to.
    fn settle_status(&self, object: &mut Value, _: &Value) {
        if text(object, "/spec/type") != "LoadBalancer" {
            return;
        }
        let Some(balancer) = object.pointer_mut("/status/loadBalancer") else { return };
        for one in each(balancer, "ingress").filter(|one| !text(one, "/ip").is_empty()) {
            default(one, "ipMode", "VIP");
        }
    }

    fn validate_status(&self, object: &Value, _: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        service_spec::check_balancer_status(&Spot::root(object), &mut findings);
        findings.into_vec()
    }

    fn warnings(&self, object: &Value, _: Option<&Value>) -> Vec<String> {
        service_warnings::warnings(object)
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

/// Whoever changes the type of a service does not have to take back what came with the former one.
fn leave_type(object: &mut Value, old: &Value) {
    let Some(spec) = object.get_mut("spec") else { return };
    let balanced = spec["type"] == "LoadBalancer";
    let gone = [
        ("allocateLoadBalancerNodePorts", !balanced),
        ("loadBalancerClass", !balanced),
        ("externalTrafficPolicy", !service_spec::is_external(spec)),
        ("healthCheckNodePort", !service_spec::is_asked_for_health(spec)),
    ];
    let Some(map) = spec.as_object_mut() else { return };
    for (field, _) in gone.iter().filter(|(_, gone)| *gone) {
        if map.get(*field) == old["spec"].get(*field) {
            map.remove(*field);
        }
    }
}

/// `clusterIP` is the first of `clusterIPs`: who leaves one of them out, or changes only the first, means both.
fn settle_addresses(spec: &mut Value, before: &Value) {
    let first = |spec: &Value| text(spec, "/clusterIP").to_owned();
    let all = |spec: &Value| spec.get("clusterIPs").filter(|all| *all != &json!([])).cloned();
    if first(spec).is_empty()
        && let Some(address) = before.get("clusterIP")
    {
        spec["clusterIP"] = address.clone();
    }
    let (now, had) = (all(spec).filter(Value::is_array), all(before));
    let (address, same) = (first(spec), first(spec) == first(before));
    match had {
        Some(had) if now.is_none() && same => spec["clusterIPs"] = had,
        Some(had) if now.as_ref() == Some(&had) && !same => spec["clusterIPs"] = json!([address]),
        _ => {}
    }
}

/// Where Kubernetes shows a mistake in the address of a service.
fn first_address() -> FieldPath {
    FieldPath::of_pointer("/spec/clusterIPs").index(0)
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
    fn an_empty_text_is_none() {
        let mut service = json!({"spec": {"type": "", "sessionAffinity": "", "ports": [{"port": 80, "protocol": ""}]}});
        Service.default(&mut service);
        assert_eq!(
            service["spec"],
            json!({"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
                "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]})
        );
    }

    #[test]
    fn an_address_of_a_balancer_is_virtual_unless_it_says_otherwise() {
        let ingress = json!([{"ip": "192.0.2.1"}, {"ip": "192.0.2.2", "ipMode": "Proxy"}, {"hostname": "a.b"}]);
        for (of, mode) in [("LoadBalancer", json!("VIP")), ("ClusterIP", Value::Null)] {
            let mut service =
                json!({"spec": {"type": of}, "status": {"loadBalancer": {"ingress": ingress}}});
            Service.settle_status(&mut service, &json!({}));
            let found = &service["status"]["loadBalancer"]["ingress"];
            assert_eq!([&found[0]["ipMode"], &found[1]["ipMode"]], [&mode, &json!("Proxy")]);
            assert!(found[2].get("ipMode").is_none());
        }
    }

    #[test]
    fn what_came_with_a_type_goes_with_it() {
        let old = json!({"spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": true,
            "externalTrafficPolicy": "Local", "healthCheckNodePort": 30001}});
        let mut new = old.clone();
        new["spec"]["type"] = json!("ClusterIP");
        let mut wanted = new.clone();
        Service.keep(&mut new, &old);
        assert_eq!(new["spec"], json!({"type": "ClusterIP"}));
        wanted["spec"]["externalTrafficPolicy"] = json!("Cluster");
        Service.keep(&mut wanted, &old);
        assert_eq!(wanted["spec"]["externalTrafficPolicy"], "Cluster", "that is a mistake to tell");
    }

    #[test]
    fn an_update_without_addresses_keeps_them() {
        let old = json!({"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}});
        let mut new = json!({"spec": {"type": "ClusterIP", "clusterIP": ""}});
        Service.keep(&mut new, &old);
        assert_eq!(new["spec"]["clusterIPs"], json!(["10.0.0.1"]));
        assert!(Service.validate_update(&new, &old).is_empty());
        new["spec"]["clusterIP"] = json!("10.0.0.2");
        Service.keep(&mut new, &old);
        assert_eq!(
            Service.validate_update(&new, &old)[0].to_string(),
            r#"spec.clusterIPs[0]: Invalid value: ["10.0.0.2"]: may not change once set"#
        );
        let of =
            |class: &str| json!({"spec": {"type": "LoadBalancer", "loadBalancerClass": class}});
        assert_eq!(
            Service.validate_update(&of("a.b/c"), &of("a.b/d"))[0].to_string(),
            r#"spec.loadBalancerClass: Invalid value: "a.b/c": may not change once set"#
        );
    }
}
