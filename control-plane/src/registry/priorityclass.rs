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

/// Whether a class is one of those that every cluster has.
fn is_of_system(name: &str, class: &Spot<'_>) -> Result<(), String> {
    let known =
        [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];
    let Some((_, value)) = known.iter().find(|(known, _)| *known == name) else {
        return Err(format!("{name} is not a known system priority class"));
    };
    if class.field("value").integer() != Some(*value) {
        return Err(format!("value of {name} PriorityClass must be {value}"));
    }
    if class.field("globalDefault").is_true() {
        return Err(format!("globalDefault of {name} PriorityClass must be false"));
    }
    Ok(())
}

impl Strategy for Class {
    fn default(&self, object: &mut Value) {
        default(object, "preemptionPolicy", "PreemptLowerPriority");
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let root = Spot::root(object);
        let (class_name, value) = (root.field("metadata").field("name"), root.field("value"));
        if class_name.text().starts_with("system-") {
            if let Err(why) = is_of_system(class_name.text(), &root) {
                let why = format!(
                    "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
                );
                findings.forbidden(&class_name, why);
            }
        } else if value.integer().is_some_and(|value| value > HIGHEST) {
            findings.forbidden(
                &value,
                format!("maximum allowed value of a user defined priority is {HIGHEST}"),
            );
        }
        findings.one_of(&root.field("preemptionPolicy"), &["PreemptLowerPriority", "Never"]);
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let (root, before) = (Spot::root(object), Spot::root(old));
        if number(object, "/value") != number(old, "/value") {
            findings.forbidden(&root.field("value"), "may not be changed in an update.");
        }
        let policy = "preemptionPolicy";
        findings.immutable(&root.field(policy), &before.field(policy));
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
        let mut global = class("system-node-critical", 2_000_001_000);
        global["globalDefault"] = json!(true);
        for (class, why) in [
            (class("system-mine", 1), "system-mine is not a known system priority class"),
            (
                class("system-node-critical", 1),
                "value of system-node-critical PriorityClass must be 2000001000",
            ),
            (global, "globalDefault of system-node-critical PriorityClass must be false"),
        ] {
            let errors = Class.validate(&class);
            assert!(errors.len() == 1 && errors[0].detail.ends_with(why), "{errors:?}");
        }
        let mut never = class("mine", 1);
        never["preemptionPolicy"] = json!("Never");
        let errors = Class.validate_update(&never, &class("mine", 1));
        assert_eq!(
            errors[0].to_string(),
            r#"preemptionPolicy: Invalid value: "Never": field is immutable"#
        );
        let errors = Class.validate_update(&class("mine", 2), &class("mine", 1));
        assert_eq!(errors[0].to_string(), "value: Forbidden: may not be changed in an update.");
    }
}
