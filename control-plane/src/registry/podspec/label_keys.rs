//! Affinity to pods "of the same revision": keys of which the pod's own labels say the values. They become a part of the selector when the
//! pod is made, once for all; a later change of the labels changes nothing.
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#matchlabelkeys>

use serde_json::{Value, json};

use crate::registry::defaults::{child, each};

/// Adds what the keys of a new pod's terms mean to their selectors.
pub fn merge_label_keys(pod: &mut Value) {
    let labels = pod.pointer("/metadata/labels").cloned().unwrap_or_default();
    let Some(affinity) = pod.pointer_mut("/spec/affinity") else { return };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(kind) = child(affinity, kind) else { continue };
        for term in each(kind, "requiredDuringSchedulingIgnoredDuringExecution") {
            merge(term, &labels);
        }
        for weighted in each(kind, "preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(term) = child(weighted, "podAffinityTerm") {
                merge(term, &labels);
            }
        }
    }
}

/// A term without a selector chooses nobody, and a label that the pod has not says nothing.
fn merge(term: &mut Value, labels: &Value) {
    let mut found = Vec::new();
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        let keys = term.get(field).and_then(Value::as_array).into_iter().flatten();
        let known = keys.filter_map(|key| Some((key, labels.get(key.as_str()?)?)));
        found.extend(
            known.map(|(key, value)| json!({"key": key, "operator": operator, "values": [value]})),
        );
    }
    let Some(selector) = term.get_mut("labelSelector").and_then(Value::as_object_mut) else {
        return;
    };
    if found.is_empty() {
        return;
    }
    let expressions = selector.entry("matchExpressions").or_insert_with(|| json!([]));
    match expressions.as_array_mut() {
        Some(expressions) => expressions.extend(found),
        None => *expressions = Value::Array(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_a_part_of_the_selector() {
        let made = |term: Value| {
            let mut pod = json!({"metadata": {"labels": {"app": "web", "hash": "1"}}, "spec": {"affinity": {
                "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]},
                "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term}]}}}});
            merge_label_keys(&mut pod);
            let affinity = &pod["spec"]["affinity"];
            let required = affinity.pointer(
                "/podAffinity/requiredDuringSchedulingIgnoredDuringExecution/0/labelSelector",
            );
            let preferred = affinity.pointer("/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/podAffinityTerm/labelSelector");
            assert_eq!(required, preferred);
            required.cloned()
        };
        let is = |key: &str, operator: &str, value: &str| json!({"key": key, "operator": operator, "values": [value]});
        let before = is("tier", "In", "a");
        for (term, expected) in [
            (json!({"labelSelector": {}}), Some(json!({}))),
            (json!({"matchLabelKeys": ["hash"]}), None),
            (json!({"labelSelector": {}, "matchLabelKeys": ["absent"]}), Some(json!({}))),
            (
                json!({"labelSelector": {"matchExpressions": [before]}, "matchLabelKeys": ["hash"], "mismatchLabelKeys": ["app"]}),
                Some(
                    json!({"matchExpressions": [before, is("hash", "In", "1"), is("app", "NotIn", "web")]}),
                ),
            ),
            (
                json!({"labelSelector": {"matchLabels": {"a": "b"}, "matchExpressions": null}, "matchLabelKeys": ["hash"]}),
                Some(
                    json!({"matchLabels": {"a": "b"}, "matchExpressions": [is("hash", "In", "1")]}),
                ),
            ),
        ] {
            assert_eq!(made(term.clone()), expected, "{term}");
        }
        let mut bare = json!({"spec": {}});
        merge_label_keys(&mut bare);
        assert_eq!(bare, json!({"spec": {}}));
    }
}
