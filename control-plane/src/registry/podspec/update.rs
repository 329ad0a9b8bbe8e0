//! What may change in the spec of a pod that exists: little, because it may run already.

use serde_json::Value;

use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};

/// What is wrong with a pod's change. Ephemeral containers and the node have verbs of their own.
pub fn update_mistakes(pod: &Value, old: &Value) -> Vec<FieldError> {
    let mut findings = Findings::default();
    let nothing = Value::Null;
    validate_update(
        &Spot::root(pod).field("spec"),
        old.get("spec").unwrap_or(&nothing),
        &mut findings,
    );
    findings.into_vec()
}

fn validate_update(new: &Spot<'_>, old: &Value, findings: &mut Findings) {
    check_deadline(new, old, findings);
    let mut rest = new.value.clone();
    take_changes_back(&mut rest, old, findings, new);
    if rest != *old {
        findings.forbidden(
            new,
            format!(
                "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
                 `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
                 `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n{}",
                differing(&rest, old).join("\n")
            ),
        );
    }
}

/// The deadline may come nearer, not go away nor further off.
fn check_deadline(new: &Spot<'_>, old: &Value, findings: &mut Findings) {
    let deadline = new.field("activeDeadlineSeconds");
    match (deadline.integer(), old.get("activeDeadlineSeconds").and_then(Value::as_i64)) {
        (Some(later), Some(earlier)) if later > earlier => {
            findings.invalid(&deadline, "must be less than or equal to previous value");
        }
        (None, Some(_)) => {
            findings.invalid(&deadline, "must not update from a positive integer to nil value");
        }
        _ => {}
    }
}

/// Puts the old values in the place of what may change: what is different then may not.
fn take_changes_back(rest: &mut Value, old: &Value, findings: &mut Findings, new: &Spot<'_>) {
    for list in ["containers", "initContainers"] {
        let (Some(new), Some(old)) = (items_mut(rest, list), items(old, list)) else { continue };
        for (new, old) in new.iter_mut().zip(old) {
            copy_field(new, old, "image");
        }
    }
    copy_field(rest, old, "activeDeadlineSeconds");
    if old
        .get("terminationGracePeriodSeconds")
        .and_then(Value::as_i64)
        .is_some_and(|seconds| seconds < 0)
        && rest.get("terminationGracePeriodSeconds") == Some(&Value::from(1))
    {
        copy_field(rest, old, "terminationGracePeriodSeconds");
    }
    take_tolerations_back(rest, old, findings, new);
    take_gates_back(rest, old);
}

fn items<'a>(spec: &'a Value, list: &str) -> Option<&'a Vec<Value>> {
    spec.get(list).and_then(Value::as_array)
}

fn items_mut<'a>(spec: &'a mut Value, list: &str) -> Option<&'a mut Vec<Value>> {
    spec.get_mut(list).and_then(Value::as_array_mut)
}

fn copy_field(to: &mut Value, from: &Value, field: &str) {
    let Some(map) = to.as_object_mut() else { return };
    match from.get(field) {
        Some(value) => drop(map.insert(field.to_owned(), value.clone())),
        None => drop(map.remove(field)),
    }
}

fn take_tolerations_back(rest: &mut Value, old: &Value, findings: &mut Findings, new: &Spot<'_>) {
    let empty = Vec::new();
    let (later, earlier) =
        (items(rest, "tolerations").unwrap_or(&empty), items(old, "tolerations").unwrap_or(&empty));
    // how long one is tolerated may change
    let same = |one: &Value, other: &Value| {
        ["key", "operator", "value", "effect"]
            .iter()
            .all(|field| one.get(field) == other.get(field))
    };
    if earlier.iter().all(|toleration| later.iter().any(|other| same(other, toleration))) {
        copy_field(rest, old, "tolerations");
    } else {
        findings.forbidden(
            &new.field("tolerations"),
            "existing toleration can not be modified except its tolerationSeconds",
        );
        copy_field(rest, old, "tolerations");
    }
}

/// Scheduling gates may be taken away, none may be added.
fn take_gates_back(rest: &mut Value, old: &Value) {
    let empty = Vec::new();
    let earlier = items(old, "schedulingGates").unwrap_or(&empty);
    if items(rest, "schedulingGates").unwrap_or(&empty).iter().all(|gate| earlier.contains(gate)) {
        copy_field(rest, old, "schedulingGates");
    }
}

/// Which fields differ, old and new, a line each.
fn differing(new: &Value, old: &Value) -> Vec<String> {
    let none = serde_json::Map::new();
    let (new, old) = (new.as_object().unwrap_or(&none), old.as_object().unwrap_or(&none));
    let mut names: Vec<&String> = new.keys().chain(old.keys()).collect();
    names.sort();
    names.dedup();
    let shown =
        |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    names
        .into_iter()
        .filter(|name| new.get(*name) != old.get(*name))
        .map(|name| format!("  {name}: was {}, is {}", shown(old.get(name)), shown(new.get(name))))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::meta::field_error::FieldPath;

    fn mistakes(new: Value, old: Value) -> Vec<String> {
        let mut findings = Findings::default();
        validate_update(&Spot::at(&new, FieldPath::root("spec")), &old, &mut findings);
        findings.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_image_may_change_a_command_not() {
        let old = json!({"containers": [{"name": "a", "image": "a:1"}]});
        assert!(
            mistakes(json!({"containers": [{"name": "a", "image": "a:2"}]}), old.clone())
                .is_empty()
        );
        let found =
            mistakes(json!({"containers": [{"name": "a", "image": "a:2", "command": ["b"]}]}), old);
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("spec: Forbidden: pod updates may not change fields other than"),
            "{found:?}"
        );
        assert!(found[0].contains("containers: was"), "{found:?}");
    }

    #[test]
    fn a_deadline_only_comes_nearer() {
        let old = json!({"activeDeadlineSeconds": 10});
        assert!(mistakes(json!({"activeDeadlineSeconds": 5}), old.clone()).is_empty());
        assert_eq!(
            mistakes(json!({"activeDeadlineSeconds": 11}), old.clone()),
            [
                "spec.activeDeadlineSeconds: Invalid value: 11: must be less than or equal to previous value"
            ]
        );
        assert_eq!(
            mistakes(json!({}), old),
            [
                "spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value"
            ]
        );
    }

    #[test]
    fn tolerations_are_only_added_and_gates_only_taken_away() {
        let toleration = json!({"key": "a", "operator": "Exists", "effect": "NoExecute"});
        let old = json!({"tolerations": [toleration], "schedulingGates": [{"name": "g"}]});
        let more = json!({"tolerations": [toleration, {"operator": "Exists"}]});
        assert!(mistakes(more, old.clone()).is_empty());
        assert_eq!(
            mistakes(json!({"tolerations": [], "schedulingGates": [{"name": "g"}]}), old.clone()),
            [
                "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"
            ]
        );
        let gate =
            json!({"tolerations": [toleration], "schedulingGates": [{"name": "g"}, {"name": "h"}]});
        assert_eq!(mistakes(gate, old).len(), 1);
    }
}
