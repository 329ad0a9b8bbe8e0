//! Namespaces.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, columns, name, text};
use super::defaults::child;
use super::kind::{Kind, Subresource};
use super::strategy::Strategy;
use crate::meta::name::dns_label;

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

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![json!(name(object)), json!(text(object, "/status/phase")), json!(age(object, now))]
    }
}
