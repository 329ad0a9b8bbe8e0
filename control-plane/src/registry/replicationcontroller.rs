//! Replication controllers, what came before replica sets: kept, because kubectl asks for them among others (`apply --prune`,
//! `cluster-info dump`).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{labels, map};
use super::defaults::{child, default};
use super::kind::Kind;
use super::podspec::{Whose, default_template, drop_disabled_of, template_mistakes};
use super::replicaset;
use super::strategy::Strategy;
use super::template::workload_warnings;
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};
use crate::meta::go_value;

/// `v1 ReplicationController`.
pub fn kind() -> Kind {
    let kind = Kind::new("", "v1", "ReplicationController", "replicationcontrollers")
        .stored_as("controllers")
        .short(&["rc"]);
    replicaset::of_replicas(kind).behaves(ReplicationController)
}

struct ReplicationController;

impl Strategy for ReplicationController {
    /// What the template is labelled with is what is selected, and what the controller is labelled with.
    fn default(&self, object: &mut Value) {
        let own = object.pointer("/spec/template/metadata/labels").cloned();
        if let Some(own) = own.filter(|own| own.as_object().is_some_and(|map| !map.is_empty())) {
            if let Some(spec) = child(object, "spec") {
                default(spec, "selector", own.clone());
            }
            if let Some(metadata) = child(object, "metadata") {
                default(metadata, "labels", own);
            }
        }
        let Some(spec) = child(object, "spec") else { return };
        default(spec, "replicas", 1);
        default_template(spec.get_mut("template"));
    }

    fn drop_disabled(&self, object: &mut Value, old: Option<&Value>) {
        drop_disabled_of(object, old, "/spec/template/spec");
    }

    fn first_status(&self, _: &Value) -> Option<Value> {
        Some(json!({"replicas": 0}))
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let spec = Spot::root(object).field("spec");
        for field in ["minReadySeconds", "replicas"] {
            findings.not_negative(&spec.field(field));
        }
        let (selector, template) = (spec.field("selector"), spec.field("template"));
        if selector.is_empty() {
            findings.required(&selector, "");
        }
        if template.is_absent() {
            findings.required(&template, "");
            return findings.into_vec();
        }
        let found = template.field("metadata").field("labels").of(&go_value::LABELS);
        if selector.entries().any(|(key, value)| found.field(key).value != value.value) {
            findings.invalid(&found, "`selector` does not match template `labels`");
        }
        let whose = Whose::Keeper("ReplicationController");
        findings.extend(template_mistakes(object, "/spec/template", whose));
        findings.into_vec()
    }

    fn validate_status(&self, object: &Value, _: &Value) -> Vec<FieldError> {
        replicaset::status_mistakes(object)
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        workload_warnings(object, old)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        replicaset::row(object, now, &labels(map(object, "/spec/selector")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_selects_what_its_template_makes() {
        let mut object = json!({"metadata": {"name": "old"}, "spec": {"template": {"metadata": {"labels": {"app": "old"}},
            "spec": {"containers": [{"name": "a", "image": "a:1"}]}}}});
        ReplicationController.default(&mut object);
        assert_eq!(ReplicationController.validate(&object), []);
        assert_eq!(object["metadata"]["labels"], json!({"app": "old"}));
        let row = ReplicationController.row(&object, Timestamp::UNIX_EPOCH);
        assert_eq!(
            (&row[1], &row[7], row.len()),
            (&json!(1), &json!("app=old"), kind().columns.len())
        );
        object["spec"]["selector"] = json!({"app": "other"});
        let errors = ReplicationController.validate(&object);
        assert_eq!(errors[0].detail, "`selector` does not match template `labels`");
        let empty = ReplicationController.validate(&json!({"spec": {}}));
        assert_eq!(empty.len(), 2);
    }
}
