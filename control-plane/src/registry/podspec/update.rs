//! What may change in the spec of a pod that exists: little, because it may run already.

use serde_json::Value;

use super::profile::APPARMOR;
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};

/// What is wrong with a pod's change. Ephemeral containers and the node have verbs of their own.
pub fn update_mistakes(pod: &Value, old: &Value) -> Vec<FieldError> {
    let mut findings = Findings::default();
    let nothing = Value::Null;
    check_annotations(&Spot::root(pod), old, &mut findings);
    validate_update(
        &Spot::root(pod).field("spec"),
        old.get("spec").unwrap_or(&nothing),
        &mut findings,
    );
    findings.into_vec()
}

fn validate_update(new: &Spot<'_>, old: &Value, findings: &mut Findings) {
    for list in ["containers", "initContainers"] {
        let count = |spec: &Value| items(spec, list).map_or(0, Vec::len);
        if count(new.value) != count(old) {
            findings.forbidden(&new.field(list), "pod updates may not add or remove containers");
            return;
        }
    }
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

/// Whose copy a pod is, and under which profile it runs, is said once.
pub(in crate::registry) fn check_annotations(pod: &Spot<'_>, old: &Value, findings: &mut Findings) {
    const MIRROR: &str = "kubernetes.io/config.mirror";
    let (new, none) = (pod.field("metadata").field("annotations"), Value::Null);
    let old = old.pointer("/metadata/annotations").unwrap_or(&none);
    let what = |key: &str| {
        let profile = key.starts_with(APPARMOR).then_some("AppArmor annotations");
        profile.or((key == MIRROR).then_some("mirror pod annotation"))
    };
    for (key, value) in old.as_object().into_iter().flatten() {
        if let (Some(what), true) = (what(key), new.value.get(key) != Some(value)) {
            let spot = Spot::at(value, new.path.key(key));
            findings.forbidden(&spot, format!("may not remove or update {what}"));
        }
    }
    for (key, spot) in new.entries().filter(|(key, _)| old.get(key).is_none()) {
        if let Some(what) = what(key) {
            findings.forbidden(&spot, format!("may not add {what}"));
        }
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
    take_gates_back(rest, old, findings, new);
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
fn take_gates_back(rest: &mut Value, old: &Value, findings: &mut Findings, new: &Spot<'_>) {
    let earlier: Vec<&Value> =
        items(old, "schedulingGates").into_iter().flatten().map(|gate| &gate["name"]).collect();
    for gate in new.field("schedulingGates").items() {
        let own = gate.field("name");
        if !earlier.contains(&own.value) {
            let text = own.text();
            let why = format!("only deletion is allowed, but found new scheduling gate '{text}'");
            findings.forbidden(&own, why);
        }
    }
    copy_field(rest, old, "schedulingGates");
    if !earlier.is_empty() {
        take_nodes_back(rest, old, findings, new);
    }
}

/// While gates hold a pod back, fewer nodes may be left for it to run on.
fn take_nodes_back(rest: &mut Value, old: &Value, findings: &mut Findings, new: &Spot<'_>) {
    let (selector, none) = (new.field("nodeSelector"), Value::Null);
    let before = old.get("nodeSelector").unwrap_or(&none);
    let mut kept = before.as_object().into_iter().flatten();
    if kept.any(|(label, value)| selector.value.get(label) != Some(value)) {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        findings.invalid(&selector, why);
    }
    copy_field(rest, old, "nodeSelector");
    let affinity = new.field("affinity").field("nodeAffinity");
    let was = old.pointer("/affinity/nodeAffinity").unwrap_or(&none);
    check_fewer_nodes(&affinity, was, findings);
    if affinity.is_absent() && was.is_null() {
        return;
    }
    let Some(spec) = rest.as_object_mut() else { return };
    let map = spec.entry("affinity").or_insert(Value::Null);
    if let Some(map) = map.as_object_mut() {
        map.remove("nodeAffinity");
        if !was.is_null() {
            map.insert("nodeAffinity".to_owned(), was.clone());
        }
        if map.is_empty() && old.get("affinity").is_none_or(Value::is_null) {
            spec.remove("affinity");
        }
    }
}

fn check_fewer_nodes(affinity: &Spot<'_>, was: &Value, findings: &mut Findings) {
    const TERMS: &str = "/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let terms = affinity.pointer(TERMS);
    let Some(before) = was.pointer(TERMS).and_then(Value::as_array) else { return };
    if before.is_empty() {
        return;
    }
    if terms.len() != before.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        findings.invalid(&terms, why);
        return;
    }
    for (term, old) in terms.items().zip(before) {
        let only_more = ["matchExpressions", "matchFields"].iter().all(|list| {
            let (new, old) = (items(term.value, list), items(old, list));
            let (new, old) =
                (new.map_or(&[][..], Vec::as_slice), old.map_or(&[][..], Vec::as_slice));
            new.starts_with(old)
        });
        let empty = |term: &Value| {
            ["matchExpressions", "matchFields"]
                .iter()
                .all(|list| items(term, list).is_none_or(Vec::is_empty))
        };
        if !only_more || (empty(old) && !empty(term.value)) {
            findings.invalid(&term, "only additions are allowed (no mutations or deletions)");
        }
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
                r#"spec.activeDeadlineSeconds: Invalid value: "null": must not update from a positive integer to nil value"#
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

    #[test]
    fn a_pod_that_waits_may_be_left_fewer_nodes() {
        let gate = json!([{"name": "g"}]);
        let old = json!({"schedulingGates": gate, "nodeSelector": {"a": "b"}});
        let more = json!({"schedulingGates": gate, "nodeSelector": {"a": "b", "c": "d"}});
        assert!(mistakes(more.clone(), old.clone()).is_empty());
        assert_eq!(
            mistakes(old.clone(), more.clone()),
            [
                r#"spec.nodeSelector: Invalid value: {"a":"b"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)"#
            ]
        );
        let mut near = old.clone();
        near["affinity"] =
            json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}});
        assert!(mistakes(near, old).is_empty());
        let (free, other) =
            (json!({"nodeSelector": {"a": "b"}}), json!({"nodeSelector": {"a": "c"}}));
        assert_eq!(mistakes(other, free).len(), 1);
    }

    #[test]
    fn what_runs_stays_and_what_is_said_of_it() {
        let two = json!({"containers": [{"name": "a"}, {"name": "b"}]});
        assert_eq!(
            mistakes(two, json!({"containers": [{"name": "a"}]})),
            ["spec.containers: Forbidden: pod updates may not add or remove containers"]
        );
        let of = |annotations: Value| json!({"metadata": {"annotations": annotations}});
        let mirror = of(json!({"kubernetes.io/config.mirror": "x"}));
        let told = |new: &Value, old: &Value| {
            update_mistakes(new, old).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let place = "metadata.annotations[kubernetes.io/config.mirror]: Forbidden";
        assert_eq!(
            told(&mirror, &of(json!({}))),
            [format!("{place}: may not add mirror pod annotation")]
        );
        assert_eq!(
            told(&of(json!({})), &mirror),
            [format!("{place}: may not remove or update mirror pod annotation")]
        );
    }
}
