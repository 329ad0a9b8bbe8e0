//! Controller revisions: what a `DaemonSet` or `StatefulSet` looked like before.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, columns, items, name, number, text};
use super::kind::Kind;
use super::strategy::Strategy;
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};

/// `apps/v1 ControllerRevision`.
pub fn kind() -> Kind {
    Kind::new("apps", "v1", "ControllerRevision", "controllerrevisions")
        .columns(columns("Name Controller #Revision Age"))
        .behaves(ControllerRevision)
}

struct ControllerRevision;

impl Strategy for ControllerRevision {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let root = Spot::root(object);
        if root.field("data").is_absent() {
            findings.required(&root.field("data"), "data is mandatory");
        }
        findings.not_negative(&root.pointer("/revision"));
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let (root, before) = (Spot::root(object), Spot::root(old));
        findings.immutable(&root.pointer("/data"), &before.pointer("/data"));
        findings.into_vec()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            json!(name(object)),
            json!(controller(object)),
            json!(number(object, "/revision")),
            json!(age(object, now)),
        ]
    }
}

/// The object that controls this one, as `kind.group/name`.
fn controller(object: &Value) -> String {
    let owners = items(object, "/metadata/ownerReferences");
    let Some(owner) = owners.iter().find(|owner| owner["controller"] == json!(true)) else {
        return "<none>".to_owned();
    };
    let kind = text(owner, "/kind").to_lowercase();
    match text(owner, "/apiVersion").split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{}", text(owner, "/name")),
        None => format!("{kind}/{}", text(owner, "/name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stays() {
        let revision = |data: Value, number: i64| json!({"data": data, "revision": number});
        let old = revision(json!({"spec": {}}), 1);
        assert_eq!(ControllerRevision.validate(&old), []);
        assert_eq!(ControllerRevision.validate_update(&revision(json!({"spec": {}}), 2), &old), []);
        for (errors, expected) in [
            (
                ControllerRevision.validate(&revision(Value::Null, 1)),
                "data: Required value: data is mandatory",
            ),
            (
                ControllerRevision.validate(&revision(json!({}), -1)),
                "revision: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                ControllerRevision.validate_update(&revision(json!({}), 1), &old),
                "data: Invalid value: {}: field is immutable",
            ),
        ] {
            assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
        }
    }
}
