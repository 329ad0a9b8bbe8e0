//! Priority classes.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, columns, name, number, text};
use super::defaults::default;
use super::kind::Kind;
use super::strategy::Strategy;
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};

/// What users may give; above it are the classes of the system.
const HIGHEST: i64 = 1_000_000_000;

/// `scheduling.k8s.io/v1 PriorityClass`.
pub fn kind() -> Kind {
    Kind::new("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses")
        .cluster_scoped()
        .short(&["pc"])
        .columns(columns("Name #Value Global-Default Age PreemptionPolicy"))
        .behaves(Class)
}

struct Class;

impl Strategy for Class {
    fn default(&self, object: &mut Value) {
        default(object, "preemptionPolicy", "PreemptLowerPriority");
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let root = Spot::root(object);
        let (class_name, value) = (root.field("metadata").field("name"), root.field("value"));
        let of_system = matches!(
            (class_name.text(), value.integer()),
            ("system-node-critical", Some(2_000_001_000))
                | ("system-cluster-critical", Some(2_000_000_000))
        );
        if class_name.text().starts_with("system-") && !of_system {
            findings.forbidden(
                &class_name,
                "priority class names with 'system-' prefix are reserved for system use only. error: \
                 only the system priority classes that Kubernetes documents may have such a name",
            );
        }
        if value.integer().is_some_and(|value| value > HIGHEST) && !of_system {
            findings.forbidden(
                &value,
                format!("maximum allowed value of a user defined priority is {HIGHEST}"),
            );
        }
        findings.one_of(&root.field("preemptionPolicy"), &["Never", "PreemptLowerPriority"]);
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let root = Spot::root(object);
        for field in ["value", "preemptionPolicy"] {
            if object.get(field) != old.get(field) {
                findings.forbidden(&root.field(field), "may not be changed in an update.");
            }
        }
        findings.into_vec()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let is_default = object.get("globalDefault").and_then(Value::as_bool).unwrap_or_default();
        vec![
            json!(name(object)),
            json!(number(object, "/value")),
            json!(is_default),
            json!(age(object, now)),
            json!(text(object, "/preemptionPolicy")),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_priorities_are_the_systems() {
        let class = |name: &str, value: i64| json!({"metadata": {"name": name}, "value": value});
        assert!(Class.validate(&class("mine", HIGHEST)).is_empty());
        assert!(Class.validate(&class("system-node-critical", 2_000_001_000)).is_empty());
        assert_eq!(Class.validate(&class("mine", HIGHEST + 1)).len(), 1);
        assert_eq!(Class.validate(&class("system-mine", 1)).len(), 1);
        let errors = Class.validate_update(&class("mine", 2), &class("mine", 1));
        assert_eq!(errors[0].to_string(), "value: Forbidden: may not be changed in an update.");
    }
}
