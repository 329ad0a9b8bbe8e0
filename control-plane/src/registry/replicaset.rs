//! Replica sets.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::amount;
use super::column::{age, columns, containers, name, number, selector};
use super::defaults::{child, default};
use super::kind::{Kind, Subresource};
use super::podspec::{Whose, default_template, drop_disabled_of, template_mistakes};
use super::strategy::Strategy;
use super::template::{Selecting, selector_of_template, selector_stays, workload_warnings};
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};

/// `apps/v1 ReplicaSet`.
pub fn kind() -> Kind {
    let kind = Kind::new("apps", "v1", "ReplicaSet", "replicasets").short(&["rs"]);
    of_replicas(kind).behaves(ReplicaSet)
}

/// A kind that keeps replicas of pods.
pub(super) fn of_replicas(kind: Kind) -> Kind {
    kind.in_all()
        .with(&[Subresource::Scale, Subresource::Status])
        .with_generation()
        .select_by(&["status.replicas"])
        .columns(columns("Name #Desired #Current #Ready Age +Containers +Images +Selector"))
}

/// What is wrong with what is counted of replicas.
pub(super) fn status_mistakes(object: &Value) -> Vec<FieldError> {
    let mut findings = Findings::default();
    amount::check_counts(object, &amount::OF_REPLICAS, &mut findings);
    findings.into_vec()
}

struct ReplicaSet;

// "deployment" is what Kubernetes says here, too
const SELECTING: Selecting = Selecting {
    required: true,
    everything: Some("deployment"),
    broken: Some("invalid label selector"),
};

impl Strategy for ReplicaSet {
    fn default(&self, object: &mut Value) {
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
        let root = Spot::root(object);
        for field in ["/spec/replicas", "/spec/minReadySeconds"] {
            findings.not_negative(&root.pointer(field));
        }
        selector_of_template(object, SELECTING, &mut findings);
        findings.extend(template_mistakes(object, "/spec/template", Whose::Keeper("ReplicaSet")));
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        selector_stays(object, old)
    }

    fn validate_status(&self, object: &Value, _: &Value) -> Vec<FieldError> {
        status_mistakes(object)
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        workload_warnings(object, old)
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        row(object, now, &selector(object.pointer("/spec/selector")))
    }
}

/// The row of what keeps replicas, with its selector in words.
pub(super) fn row(object: &Value, now: Timestamp, selector: &str) -> Vec<Value> {
    let [names, images] = containers(&object["spec"]["template"]);
    vec![
        json!(name(object)),
        json!(number(object, "/spec/replicas")),
        json!(number(object, "/status/replicas")),
        json!(number(object, "/status/readyReplicas")),
        json!(age(object, now)),
        names,
        images,
        json!(selector),
    ]
}
