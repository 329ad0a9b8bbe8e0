//! Namespaces.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, columns, name, text};
use super::defaults::child;
use super::kind::{Kind, Subresource};
use super::strategy::Strategy;
use crate::meta::field_error::{FieldError, FieldPath};
use crate::meta::findings::{Findings, Spot};
use crate::meta::name::{dns_label, qualified};
use crate::meta::object::{FINALIZER_FOREGROUND, FINALIZER_ORPHAN, Meta};

/// `v1 Namespace`.
pub fn kind() -> Kind {
    let mut kind = Kind::new("", "v1", "Namespace", "namespaces")
        .cluster_scoped()
        .short(&["ns"])
        .with(&[Subresource::Status, Subresource::Finalize])
        .named(dns_label)
        .select_by(&["status.phase"])
        .columns(columns("Name Status Age"))
        .behaves(Namespace);
    // a namespace is emptied before it goes, so a set of them cannot be deleted in one step
    kind.verbs.retain(|verb| verb != "deletecollection");
    kind
}

struct Namespace;

impl Strategy for Namespace {
    /// The finalizer that keeps a namespace until it is empty, and the label that selectors find it by.
    fn default(&self, object: &mut Value) {
        let own_name = name(object).to_owned();
        if let Some(labels) =
            child(object, "metadata").and_then(|metadata| child(metadata, "labels"))
            && !own_name.is_empty()
        {
            labels["kubernetes.io/metadata.name"] = json!(own_name);
        }
        if let Some(spec) = child(object, "spec")
            && spec.get("finalizers").is_none_or(Value::is_null)
        {
            spec["finalizers"] = json!(["kubernetes"]);
        }
    }

    fn first_status(&self, _: &Value) -> Option<Value> {
        Some(json!({"phase": "Active"}))
    }

    /// Finalizers of the spec change through `/finalize` only.
    fn keep(&self, object: &mut Value, old: &Value) {
        object["spec"] = old["spec"].clone();
    }

    /// What keeps a namespace has a domain, or is Kubernetes' own.
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        const WHY: &str = "name is neither a standard finalizer name nor is it fully qualified";
        let mut findings = Findings::default();
        let all = Spot::root(object).pointer("/spec/finalizers");
        for one in all.items().map(|one| Spot::at(one.value, all.path.clone())) {
            findings.sentences(&one, qualified(one.text()));
            let known = ["kubernetes", FINALIZER_ORPHAN, FINALIZER_FOREGROUND];
            if !one.text().contains('/') && !known.contains(&one.text()) {
                findings.invalid(&one, WHY);
            }
        }
        findings.into_vec()
    }

    fn validate_status(&self, object: &Value, _: &Value) -> Vec<FieldError> {
        let phase = text(object, "/status/phase");
        let (wanted, why) = match Meta::of(object).deletion_timestamp() {
            None => ("Active", "may only be 'Active' if `deletionTimestamp` is empty"),
            Some(_) => {
                ("Terminating", "may only be 'Terminating' if `deletionTimestamp` is not empty")
            }
        };
        if phase == wanted {
            return Vec::new();
        }
        let at = FieldPath::root("status").field("Phase");
        vec![FieldError::invalid(at, &json!(phase), why)]
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![json!(name(object)), json!(text(object, "/status/phase")), json!(age(object, now))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finalizers_have_a_domain_and_phases_their_time() {
        let told = |errors: Vec<FieldError>| -> Vec<String> {
            errors.iter().map(ToString::to_string).collect()
        };
        let object = json!({"spec": {"finalizers": ["kubernetes", "a.b/c", "mine"]}});
        assert_eq!(
            told(Namespace.validate(&object)),
            [
                r#"spec.finalizers: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified"#
            ]
        );
        let mut leaving = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Active"}});
        assert_eq!(
            told(Namespace.validate_status(&leaving, &object)),
            [
                r#"status.Phase: Invalid value: "Active": may only be 'Terminating' if `deletionTimestamp` is not empty"#
            ]
        );
        leaving["metadata"] = json!({});
        assert!(Namespace.validate_status(&leaving, &object).is_empty());
    }
}
