//! Ingress classes: who serves which ingresses.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, columns, name, text};
use super::defaults::default;
use super::ingress::check_reference;
use super::kind::Kind;
use super::strategy::Strategy;
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};
use crate::meta::{domain_path, name as names};

/// `networking.k8s.io/v1 IngressClass`.
pub fn kind() -> Kind {
    Kind::new("networking.k8s.io", "v1", "IngressClass", "ingressclasses")
        .cluster_scoped()
        .with_generation()
        .columns(columns("Name Controller Parameters Age"))
        .behaves(Class)
}

struct Class;

const LONGEST_CONTROLLER: usize = 250;

fn check_parameters(parameters: &Spot<'_>, findings: &mut Findings) {
    check_reference(parameters, findings);
    let (scope, namespace) = (parameters.field("scope"), parameters.field("namespace"));
    findings.one_of(&scope, &["Cluster", "Namespace"]);
    match (scope.text(), namespace.is_there()) {
        ("Namespace", false) => {
            findings.required(&namespace, "`parameters.scope` is set to 'Namespace'");
        }
        ("Namespace", true) => {
            findings.sentences(&namespace, names::dns_label(namespace.text()));
        }
        ("Cluster", true) => {
            findings.forbidden(&namespace, "`parameters.scope` is set to 'Cluster'");
        }
        _ => {}
    }
}

impl Strategy for Class {
    fn default(&self, object: &mut Value) {
        if let Some(parameters) = object.pointer_mut("/spec/parameters") {
            default(parameters, "scope", "Cluster");
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let spec = Spot::root(object).field("spec");
        let controller = spec.field("controller");
        findings.at_most_bytes(&controller, LONGEST_CONTROLLER);
        domain_path::check(&controller, &mut findings);
        let parameters = spec.field("parameters");
        if parameters.is_there() {
            check_parameters(&parameters, &mut findings);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn told(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn parameters_of_a_class() {
        let class = |parameters: Value| {
            let mut class =
                json!({"spec": {"controller": "a.io/b", "parameters": {"kind": "P", "name": "n"}}});
            class["spec"]["parameters"]
                .as_object_mut()
                .unwrap()
                .extend(parameters.as_object().cloned().unwrap());
            Class.default(&mut class);
            told(&Class.validate(&class))
        };
        for (parameters, expected) in [
            (json!({}), ""),
            (json!({"scope": "Namespace", "namespace": "dev"}), ""),
            (
                json!({"scope": "Namespace"}),
                "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
            ),
            (
                json!({"namespace": "dev"}),
                "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'",
            ),
            (
                json!({"scope": "All"}),
                "spec.parameters.scope: Unsupported value: \"All\": supported values: \"Cluster\", \"Namespace\"",
            ),
            (json!({"name": ""}), "spec.parameters.name: Required value: name is required"),
        ] {
            assert_eq!(class(parameters).join(""), expected);
        }
    }

    #[test]
    fn its_parameters_are_shown_and_its_controller_stays() {
        let class = json!({"spec": {"controller": "a.io/b", "parameters": {"kind": "P", "name": "n", "apiGroup": "a.io", "scope": "Cluster"}}});
        assert!(Class.validate(&class).is_empty());
        assert_eq!(Class.row(&class, Timestamp::UNIX_EPOCH)[2], "P.a.io/n");
        assert_eq!(Class.validate(&json!({"spec": {"controller": "b"}})).len(), 1);
        let other = json!({"spec": {"controller": "a.io/c"}});
        assert_eq!(Class.validate_update(&other, &class).len(), 1);
    }
}
