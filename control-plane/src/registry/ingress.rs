//! Ingresses and their classes: kept for those who serve them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, columns, items, name, or_none, text};
use super::kind::{Kind, Subresource};
use super::strategy::Strategy;
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};
use crate::meta::name as names;

/// `networking.k8s.io/v1 Ingress`, `networking.k8s.io/v1 IngressClass`.
pub fn kinds() -> [Kind; 2] {
    let group = "networking.k8s.io";
    [
        Kind::new(group, "v1", "Ingress", "ingresses")
            .stored_as("ingress")
            .short(&["ing"])
            .with(&[Subresource::Status])
            .with_generation()
            .columns(columns("Name Class Hosts Address Ports Age"))
            .behaves(Ingress),
        Kind::new(group, "v1", "IngressClass", "ingressclasses")
            .cluster_scoped()
            .with_generation()
            .columns(columns("Name Controller Parameters Age"))
            .behaves(Class),
    ]
}

struct Ingress;

impl Strategy for Ingress {
    fn first_status(&self, _: &Value) -> Option<Value> {
        Some(json!({"loadBalancer": {}}))
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let spec = Spot::root(object).field("spec");
        let (rules, fallback) = (spec.field("rules"), spec.field("defaultBackend"));
        if rules.is_empty() && fallback.is_absent() {
            findings.invalid(&spec, "either `defaultBackend` or `rules` must be specified");
        }
        if fallback.is_there() {
            check_backend(&fallback, &mut findings);
        }
        for rule in rules.items() {
            check_host(&rule.field("host"), &mut findings);
            let paths = rule.field("http").field("paths");
            if rule.field("http").is_there() && paths.is_empty() {
                findings.required(&paths, "");
            }
            paths.items().for_each(|path| check_path(&path, &mut findings));
        }
        for host in spec.field("tls").items().flat_map(|tls| tls.field("hosts").items()) {
            check_host(&host, &mut findings);
        }
        let class = spec.field("ingressClassName");
        if class.is_there() {
            findings.sentences(&class, names::dns_subdomain(class.text()));
        }
        findings.into_vec()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let addresses: Vec<&str> = items(object, "/status/loadBalancer/ingress")
            .iter()
            .map(|one| {
                if text(one, "/ip").is_empty() { text(one, "/hostname") } else { text(one, "/ip") }
            })
            .collect();
        let ports = if items(object, "/spec/tls").is_empty() { "80" } else { "80, 443" };
        vec![
            json!(name(object)),
            json!(or_none(text(object, "/spec/ingressClassName"))),
            json!(hosts(items(object, "/spec/rules"))),
            json!(addresses.join(",")),
            json!(ports),
            json!(age(object, now)),
        ]
    }
}

/// At most three hosts, and how many more there are.
fn hosts(rules: &[Value]) -> String {
    let all: Vec<&str> =
        rules.iter().map(|rule| text(rule, "/host")).filter(|host| !host.is_empty()).collect();
    match all.len() {
        0 => "*".to_owned(),
        few @ 1..=3 => all[..few].join(","),
        many => format!("{} + {} more...", all[..3].join(","), many - 3),
    }
}

fn check_host(host: &Spot<'_>, findings: &mut Findings) {
    match host.text() {
        "" => {}
        text if text.parse::<std::net::IpAddr>().is_ok() => {
            findings.invalid(host, "must be a DNS name, not an IP address");
        }
        text if text.contains('*') => findings.sentences(host, names::wildcard_subdomain(text)),
        text => findings.sentences(host, names::dns_subdomain(text)),
    }
}

fn check_path(path: &Spot<'_>, findings: &mut Findings) {
    let (kind, place) = (path.field("pathType"), path.field("path"));
    match kind.text() {
        "" => findings.required(&kind, "pathType must be specified"),
        "Exact" | "Prefix" => {
            if !place.text().starts_with('/') {
                findings.invalid(&place, "must be an absolute path");
            }
            for sequence in ["//", "/./", "/../", "%2f", "%2F"] {
                if place.text().contains(sequence) {
                    findings.invalid(&place, format!("must not contain '{sequence}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !place.is_empty() && !place.text().starts_with('/') {
                findings.invalid(&place, "must be an absolute path");
            }
        }
        _ => findings.one_of(&kind, &["Exact", "ImplementationSpecific", "Prefix"]),
    }
    check_backend(&path.field("backend"), findings);
}

fn check_backend(backend: &Spot<'_>, findings: &mut Findings) {
    let (resource, service) = (backend.field("resource"), backend.field("service"));
    match (resource.is_there(), service.is_there()) {
        (true, true) => findings.invalid(backend, "cannot set both resource and service backends"),
        (false, false) => findings.required(backend, "resource or service backend is required"),
        (true, false) => {
            for field in ["kind", "name"] {
                if resource.field(field).is_empty() {
                    findings.required(&resource.field(field), format!("{field} is required"));
                }
            }
        }
        (false, true) => check_service(&service, findings),
    }
}

fn check_service(service: &Spot<'_>, findings: &mut Findings) {
    match service.field("name").text() {
        "" => findings.required(&service.field("name"), ""),
        text => findings.sentences(&service.field("name"), names::dns_1035_label(text)),
    }
    let port = service.field("port");
    let (number, port_name) = (port.field("number"), port.field("name"));
    let has_number = number.integer().is_some_and(|number| number != 0);
    match (has_number, port_name.is_empty()) {
        (true, false) => findings.invalid(&port, "cannot set both port name & port number"),
        (false, true) => findings.required(&port, "port name or number is required"),
        (false, false) => findings.sentences(&port_name, names::port(port_name.text())),
        (true, true) if !number.integer().is_some_and(|number| (1..=65535).contains(&number)) => {
            findings.invalid(&number, "must be between 1 and 65535, inclusive");
        }
        (true, true) => {}
    }
}

struct Class;

impl Strategy for Class {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let spec = Spot::root(object).field("spec");
        let controller = spec.field("controller");
        if controller.is_empty() {
            findings.required(&controller, "");
        } else if controller.text().len() > 250 || !is_domain_path(controller.text()) {
            findings
                .invalid(&controller, "must be a domain-prefixed path (such as \"acme.io/foo\")");
        }
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let (root, before) = (Spot::root(object), Spot::root(old));
        findings.immutable(&root.pointer("/spec/controller"), &before.pointer("/spec/controller"));
        findings.into_vec()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let of = |field: &str| text(object, &format!("/spec/parameters/{field}"));
        let parameters = match (of("apiGroup"), of("kind")) {
            (_, "") => "<none>".to_owned(),
            ("", kind) => format!("{kind}/{}", of("name")),
            (group, kind) => format!("{kind}.{group}/{}", of("name")),
        };
        vec![
            json!(name(object)),
            json!(text(object, "/spec/controller")),
            json!(parameters),
            json!(age(object, now)),
        ]
    }
}

fn is_domain_path(text: &str) -> bool {
    text.split_once('/')
        .is_some_and(|(domain, path)| names::dns_subdomain(domain).is_empty() && !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_ingress_leads_somewhere() {
        let good = json!({"spec": {"rules": [{"host": "*.example.com", "http": {"paths": [
            {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]}});
        assert!(Ingress.validate(&good).is_empty());
        assert_eq!(
            told(&Ingress.validate(&json!({"spec": {}}))),
            ["spec: Invalid value: {}: either `defaultBackend` or `rules` must be specified"]
        );
        let wrong = json!({"spec": {"rules": [{"host": "10.0.0.1", "http": {"paths": [
            {"path": "a", "pathType": "Exact", "backend": {"service": {"name": "web", "port": {}}}}, {"path": "/", "backend": {}}]}}]}});
        assert_eq!(
            told(&Ingress.validate(&wrong)),
            [
                r#"spec.rules[0].host: Invalid value: "10.0.0.1": must be a DNS name, not an IP address"#,
                r#"spec.rules[0].http.paths[0].path: Invalid value: "a": must be an absolute path"#,
                "spec.rules[0].http.paths[0].backend.service.port: Required value: port name or number is required",
                "spec.rules[0].http.paths[1].pathType: Required value: pathType must be specified",
                "spec.rules[0].http.paths[1].backend: Required value: resource or service backend is required",
            ]
        );
    }

    #[test]
    fn rows() {
        let rules: Vec<Value> =
            ["a", "b", "c", "d"].iter().map(|host| json!({"host": host})).collect();
        assert_eq!(hosts(&rules), "a,b,c + 1 more...");
        assert_eq!(hosts(&[json!({})]), "*");
        let class = json!({"spec": {"controller": "a.io/b", "parameters": {"kind": "P", "name": "n", "apiGroup": "a.io"}}});
        assert!(Class.validate(&class).is_empty());
        assert_eq!(Class.row(&class, Timestamp::UNIX_EPOCH)[2], "P.a.io/n");
        assert_eq!(Class.validate(&json!({"spec": {"controller": "b"}})).len(), 1);
        for kind in kinds() {
            assert_eq!(
                kind.columns.len(),
                kind.strategy.row(&json!({}), Timestamp::UNIX_EPOCH).len(),
                "{kind:?}"
            );
        }
    }
}
