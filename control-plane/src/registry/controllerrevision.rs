//! Controller revisions: what a `DaemonSet` or `StatefulSet` looked like before.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::check::{Errors, immutable, not_negative};
use super::column::{age, columns, items, name, number, text};
use super::kind::Kind;
use super::strategy::Strategy;

/// `apps/v1 ControllerRevision`.
pub fn kind() -> Kind {
    Kind::new("apps", "v1", "ControllerRevision", "controllerrevisions")
        .columns(columns("Name Controller #Revision Age"))
        .behaves(ControllerRevision)
}

struct ControllerRevision;

impl Strategy for ControllerRevision {
    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        not_negative(object, "/revision", &mut errors);
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        immutable(object, old, "/data", &mut errors);
        errors
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
