//! Ingresses and their classes: kept for those who serve them.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::address::NO_ADDRESS;
use super::column::{age, columns, items, name, or_none, text};
use super::ingress_class;
use super::kind::{Kind, Subresource};
use super::strategy::Strategy;
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};
use crate::meta::go_value::{self, GoType};
use crate::meta::name as names;
use crate::meta::object::Meta;

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
        ingress_class::kind(),
    ]
}

struct Ingress;

const CLASS: &str = "kubernetes.io/ingress.class";
const NO_NAME: &str = "must be a DNS name, not an IP address";

impl Strategy for Ingress {
    fn first_status(&self, _: &Value) -> Option<Value> {
        Some(json!({"loadBalancer": {}}))
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let spec = Spot::root(object).field("spec");
        let (rules, fallback) = (spec.field("rules"), spec.field("defaultBackend"));
        if rules.is_empty() && fallback.is_absent() {
            let rules = Spot::at(rules.value, spec.path.clone()).of(&go_value::INGRESS_RULES);
            findings.invalid(&rules, "either `defaultBackend` or `rules` must be specified");
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
        for tls in spec.field("tls").items() {
            tls.field("hosts").items().for_each(|host| check_name(&host, &mut findings));
            let secret = tls.field("secretName");
            if !secret.is_empty() {
                findings.sentences(&secret, names::dns_subdomain(secret.text()));
            }
        }
        let class = spec.field("ingressClassName");
        if class.is_there() {
            findings.sentences(&class, names::dns_subdomain(class.text()));
        }
        findings.into_vec()
    }

    /// The class may also stand in the annotation that came before the field.
    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let root = Spot::root(object);
        let class = root.pointer("/spec/ingressClassName");
        let old = root.pointer("/metadata/annotations").field(CLASS);
        if old.is_there() && class.is_there() && old.text() != class.text() {
            let place = Spot { path: root.field("annotations").field(CLASS).path, ..old };
            findings.invalid(&place, "must match `ingressClassName` when both are specified");
        }
        findings.into_vec()
    }

    fn validate_status(&self, object: &Value, _: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        for one in Spot::root(object).pointer("/status/loadBalancer/ingress").items() {
            let (ip, host) = (one.field("ip"), one.field("hostname"));
            if !ip.is_empty() && ip.text().parse::<IpAddr>().is_err() {
                findings.invalid(&ip, NO_ADDRESS);
            }
            if !host.is_empty() {
                findings.sentences(&host, names::dns_subdomain(host.text()));
                if host.text().parse::<IpAddr>().is_ok() {
                    findings.invalid(&host, NO_NAME);
                }
            }
        }
        findings.into_vec()
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let class = Meta::of(object).annotation("kubernetes.io/ingress.class");
        if old.is_some() || class.is_none() {
            return Vec::new();
        }
        vec![r#"annotation "kubernetes.io/ingress.class" is deprecated, please use 'spec.ingressClassName' instead"#.to_owned()]
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

/// A name, or one for all below a domain.
fn check_name(host: &Spot<'_>, findings: &mut Findings) {
    let text = host.text();
    let rule = if text.contains('*') { names::wildcard_subdomain } else { names::dns_subdomain };
    findings.sentences(host, rule(text));
}

fn check_host(host: &Spot<'_>, findings: &mut Findings) {
    if host.is_empty() {
        return;
    }
    if host.text().parse::<IpAddr>().is_ok() {
        findings.invalid(host, NO_NAME);
    }
    check_name(host, findings);
}

fn check_path(path: &Spot<'_>, findings: &mut Findings) {
    let (kind, place) = (path.field("pathType"), path.field("path").of(&GoType::Text));
    let text = place.text();
    if kind.is_absent() {
        findings.required(&kind, "pathType must be specified");
        return;
    }
    let exact = matches!(kind.text(), "Exact" | "Prefix");
    if exact || kind.text() == "ImplementationSpecific" {
        if !text.starts_with('/') && (exact || !text.is_empty()) {
            findings.invalid(&place, "must be an absolute path");
        }
    } else {
        findings.one_of(&kind, &["Exact", "ImplementationSpecific", "Prefix"]);
    }
    if exact {
        for sequence in ["//", "/./", "/../", "%2f", "%2F"] {
            if text.contains(sequence) {
                findings.invalid(&place, format!("must not contain '{sequence}'"));
            }
        }
        for end in ["/..", "/."] {
            if text.ends_with(end) {
                findings.invalid(&place, format!("cannot end with '{end}'"));
            }
        }
    }
    check_backend(&path.field("backend"), findings);
}

fn check_backend(backend: &Spot<'_>, findings: &mut Findings) {
    let (resource, service) = (backend.field("resource"), backend.field("service"));
    let nothing = json!("");
    let whole = Spot::at(&nothing, backend.path.clone());
    match (resource.is_there(), service.is_there()) {
        (true, true) => findings.invalid(&whole, "cannot set both resource and service backends"),
        (false, false) => findings.invalid(&whole, "resource or service backend is required"),
        (true, false) => check_reference(&resource, findings),
        (false, true) => check_service(&service, &whole, findings),
    }
}

/// An object of any kind, by its name.
pub(super) fn check_reference(object: &Spot<'_>, findings: &mut Findings) {
    let group = object.field("apiGroup");
    if group.is_there() {
        findings.sentences(&group, names::dns_subdomain(group.text()));
    }
    for field in ["kind", "name"] {
        let part = object.field(field);
        if part.is_empty() {
            findings.required(&part, format!("{field} is required"));
        } else {
            findings.sentences(&part, names::path_segment(part.text()));
        }
    }
}

/// What is said of the port as a whole is said of the backend.
fn check_service(service: &Spot<'_>, backend: &Spot<'_>, findings: &mut Findings) {
    match service.field("name").text() {
        "" => findings.required(&service.field("name"), ""),
        text => findings.sentences(&service.field("name"), names::dns_1035_label(text)),
    }
    let port = service.field("port");
    let (number, port_name) = (port.field("number"), port.field("name"));
    let has_number = number.integer().is_some_and(|number| number != 0);
    match (has_number, port_name.is_empty()) {
        (true, false) => findings.invalid(backend, "cannot set both port name & port number"),
        (false, true) => findings.required(backend, "port name or number is required"),
        (false, false) => findings.sentences(&port_name, names::port(port_name.text())),
        (true, true) => findings.port(&number),
    }
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
            [
                "spec: Invalid value: []networking.IngressRule(nil): either `defaultBackend` or `rules` must be specified"
            ]
        );
        let wrong = json!({"spec": {"rules": [{"host": "10.0.0.1", "http": {"paths": [
            {"path": "a", "pathType": "Exact", "backend": {"service": {"name": "web", "port": {}}}}, {"path": "/", "backend": {}}, {"path": "/", "pathType": "Exact", "backend": {}},
            {"pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"name": "a", "number": 1}}}}]}}]}});
        assert_eq!(
            told(&Ingress.validate(&wrong)),
            [
                r#"spec.rules[0].host: Invalid value: "10.0.0.1": must be a DNS name, not an IP address"#,
                r#"spec.rules[0].http.paths[0].path: Invalid value: "a": must be an absolute path"#,
                "spec.rules[0].http.paths[0].backend: Required value: port name or number is required",
                "spec.rules[0].http.paths[1].pathType: Required value: pathType must be specified",
                r#"spec.rules[0].http.paths[2].backend: Invalid value: "": resource or service backend is required"#,
                r#"spec.rules[0].http.paths[3].path: Invalid value: "": must be an absolute path"#,
                r#"spec.rules[0].http.paths[3].backend: Invalid value: "": cannot set both port name & port number"#,
            ]
        );
    }

    #[test]
    fn where_a_path_leads() {
        let path = |path: Value| json!({"spec": {"rules": [{"http": {"paths": [path]}}]}});
        let to =
            |backend: Value| path(json!({"pathType": "Exact", "path": "/", "backend": backend}));
        let at = |kind: &str, place: &str| {
            let backend = json!({"service": {"name": "a", "port": {"number": 80}}});
            path(json!({"pathType": kind, "path": place, "backend": backend}))
        };
        let tls = |tls: Value| json!({"spec": {"defaultBackend": {"resource": {"kind": "A", "name": "b"}}, "tls": [tls]}});
        for (object, expected) in [
            (at("Prefix", "/a/b"), ""),
            (at("ImplementationSpecific", ""), ""),
            (
                at("ImplementationSpecific", "a"),
                ".path: Invalid value: \"a\": must be an absolute path",
            ),
            (at("Exact", "/a//b"), "must not contain '//'"),
            (at("Exact", "/a/.."), "cannot end with '/..'"),
            (at("Prefix", "/."), "cannot end with '/.'"),
            (
                at("Any", "a"),
                "Unsupported value: \"Any\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\"",
            ),
            (
                to(json!({})),
                "backend: Invalid value: \"\": resource or service backend is required",
            ),
            (
                to(json!({"resource": {}, "service": {}})),
                "backend: Invalid value: \"\": cannot set both resource",
            ),
            (
                to(json!({"resource": {"kind": "A/B", "name": "b"}})),
                "backend.resource.kind: Invalid value: \"A/B\": may not contain '/'",
            ),
            (
                to(json!({"resource": {"apiGroup": "A", "kind": "B", "name": "b"}})),
                "backend.resource.apiGroup: Invalid value",
            ),
            (
                to(json!({"service": {"name": "a", "port": {"name": "b", "number": 1}}})),
                "backend: Invalid value: \"\": cannot set both port name & port number",
            ),
            (
                to(json!({"service": {"name": "a", "port": {"number": -1}}})),
                "service.port.number: Invalid value: -1",
            ),
            (tls(json!({"hosts": ["*.a.b", "a.b"], "secretName": "a"})), ""),
            (tls(json!({"hosts": [""]})), "spec.tls[0].hosts[0]: Invalid value: \"\""),
            (tls(json!({"secretName": "A"})), "spec.tls[0].secretName: Invalid value: \"A\""),
        ] {
            let told = told(&Ingress.validate(&object));
            assert_eq!(told.len(), usize::from(!expected.is_empty()), "{object}: {told:?}");
            assert!(told.iter().all(|one| one.contains(expected)), "{object}: {told:?}");
        }
    }

    #[test]
    fn what_is_told_otherwise_is_told_alike() {
        let of = |annotation: &str| json!({"metadata": {"annotations": {CLASS: annotation}}, "spec": {"ingressClassName": "a"}});
        assert_eq!(Ingress.validate_create(&of("a")), []);
        assert_eq!(
            told(&Ingress.validate_create(&of("b"))),
            [
                r#"annotations.kubernetes.io/ingress.class: Invalid value: "b": must match `ingressClassName` when both are specified"#
            ]
        );
        let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1", "hostname": "a.b"}, {"ip": "a", "hostname": "10.0.0.1"}]}}});
        assert_eq!(
            told(&Ingress.validate_status(&status, &status)),
            [
                r#"status.loadBalancer.ingress[1].ip: Invalid value: "a": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
                r#"status.loadBalancer.ingress[1].hostname: Invalid value: "10.0.0.1": must be a DNS name, not an IP address"#,
            ]
        );
    }

    #[test]
    fn rows() {
        let rules: Vec<Value> =
            ["a", "b", "c", "d"].iter().map(|host| json!({"host": host})).collect();
        assert_eq!(hosts(&rules), "a,b,c + 1 more...");
        assert_eq!(hosts(&[json!({})]), "*");
        for kind in kinds() {
            assert_eq!(
                kind.columns.len(),
                kind.strategy.row(&json!({}), Timestamp::UNIX_EPOCH).len(),
                "{kind:?}"
            );
        }
    }
}
