//! What a change may do to a job's spec. Sentences are those of `k8s.io/kubernetes/pkg/apis/batch/validation`.

use serde_json::{Map, Value, json};

use super::column::text;
use super::defaults::child;
use crate::meta::findings::{Findings, Spot};
use crate::meta::go_value;

/// What is wrong with a change of a job's spec.
pub fn validate(object: &Value, old: &Value, findings: &mut Findings) {
    let (root, before) = (Spot::root(object), Spot::root(old));
    check_completions(&root.field("spec"), &before.field("spec"), findings);
    let selector = root.pointer("/spec/selector").of(&go_value::LABEL_SELECTOR);
    findings.immutable(&selector, &before.pointer("/spec/selector"));
    let template = root.pointer("/spec/template");
    let mut allowed = before.pointer("/spec/template").value.clone();
    if is_unstarted(old) {
        take_scheduling(&mut allowed, template.value);
    }
    findings.immutable(&template, &Spot::root(&allowed));
    for field in
        ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        findings.immutable(&root.field("spec").field(field), &before.field("spec").field(field));
    }
}

/// How often a job is to succeed stays, but that one with indexes may grow and shrink with its parallelism.
fn check_completions(spec: &Spot<'_>, before: &Spot<'_>, findings: &mut Findings) {
    let completions = spec.field("completions");
    if spec.field("completionMode").text() != "Indexed" {
        findings.immutable(&completions, &before.field("completions"));
    } else if completions.is_there()
        && completions.value != before.field("completions").value
        && completions.value != spec.field("parallelism").value
    {
        findings.invalid(&completions, "can only be modified in tandem with spec.parallelism");
    }
}

/// No pod was made of its template yet, and none is made now.
fn is_unstarted(job: &Value) -> bool {
    job.pointer("/spec/suspend") == Some(&Value::Bool(true))
        && text(job, "/status/startTime").is_empty()
}

/// What may change as long as there are no pods: where they may run, and how they are called.
fn take_scheduling(template: &mut Value, from: &Value) {
    const PLACES: [(&str, &str); 5] = [
        ("metadata", "labels"),
        ("metadata", "annotations"),
        ("spec", "nodeSelector"),
        ("spec", "tolerations"),
        ("spec", "schedulingGates"),
    ];
    for (part, field) in PLACES {
        let Some(map) = child(template, part).and_then(Value::as_object_mut) else { continue };
        put(map, field, from.get(part).and_then(|part| part.get(field)));
    }
    take_node_affinity(template, from);
    // metadata and spec without any field are none
    if let Some(template) = template.as_object_mut() {
        template.retain(|part, value| *value != json!({}) || from.get(part).is_some());
    }
}

fn put(map: &mut Map<String, Value>, field: &str, value: Option<&Value>) {
    match value {
        Some(value) => drop(map.insert(field.to_owned(), value.clone())),
        None => drop(map.remove(field)),
    }
}

/// Of the affinity only that to nodes may change, with which all of it may come and go.
fn take_node_affinity(template: &mut Value, from: &Value) {
    let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let new = from.pointer("/spec/affinity").filter(|affinity| affinity.is_object());
    let mut kept = spec.get("affinity").and_then(Value::as_object).cloned().unwrap_or_default();
    put(&mut kept, "nodeAffinity", new.and_then(|new| new.get("nodeAffinity")));
    let gone = new.is_none() && kept.is_empty();
    put(spec, "affinity", (!gone).then_some(Value::Object(kept)).as_ref());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(new: &Value, old: &Value) -> Vec<String> {
        let mut findings = Findings::default();
        validate(new, old, &mut findings);
        findings.into_vec().iter().map(|one| format!("{}: {}", one.path, one.detail)).collect()
    }

    #[test]
    fn an_unstarted_job_may_go_elsewhere() {
        let job = |field: &str, value: Value| {
            let mut job =
                json!({"spec": {"suspend": true, "template": {"metadata": {}, "spec": {}}}});
            job["spec"]["template"].pointer_mut(field.rsplit_once('/').unwrap().0).unwrap()
                [field.rsplit_once('/').unwrap().1] = value;
            job
        };
        let nodes = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}});
        let pods = json!({"podAffinity": {}});
        let both = json!({"nodeAffinity": {}, "podAffinity": {}});
        let affinity = "/spec/affinity";
        for (field, new, old, may) in [
            ("/metadata/labels", json!({"a": "b"}), Value::Null, true),
            ("/metadata/annotations", json!({"a": "b"}), json!({"a": "c"}), true),
            ("/spec/nodeSelector", json!({"disk": "ssd"}), Value::Null, true),
            ("/spec/tolerations", json!([{"key": "a"}]), json!([]), true),
            ("/spec/schedulingGates", json!([]), json!([{"name": "a"}]), true),
            (affinity, nodes.clone(), Value::Null, true),
            (affinity, Value::Null, nodes.clone(), true),
            (affinity, nodes.clone(), both.clone(), false),
            (affinity, both.clone(), pods.clone(), true),
            (affinity, pods.clone(), both.clone(), true),
            (affinity, both, nodes, false),
            (affinity, pods.clone(), Value::Null, false),
            (affinity, Value::Null, pods, false),
            ("/spec/priorityClassName", json!("high"), Value::Null, false),
        ] {
            let (mut new, mut old) = (job(field, new), job(field, old));
            let expected: &[&str] = if may { &[] } else { &["spec.template: field is immutable"] };
            assert_eq!(told(&new, &old), expected, "{new} {old}");
            old["status"] = json!({"startTime": "2026-01-01T00:00:00Z"});
            new["spec"]["suspend"] = json!(false);
            assert_eq!(told(&new, &old).len(), 1, "started: {new} {old}");
        }
    }

    #[test]
    fn what_a_job_is_stays() {
        let old = json!({"spec": {"template": {}, "completions": 1, "selector": {"a": 1}}});
        for (field, value) in [
            ("selector", json!({})),
            ("completions", json!(2)),
            ("completionMode", json!("NonIndexed")),
            ("podFailurePolicy", json!({})),
            ("backoffLimitPerIndex", json!(1)),
            ("managedBy", json!("acme.io/jobs")),
            ("successPolicy", json!({})),
            ("template", json!({"spec": {"priority": 1}})),
        ] {
            let mut new = old.clone();
            new["spec"][field] = value;
            assert_eq!(told(&new, &old), [format!("spec.{field}: field is immutable")]);
        }
        let mut new = old.clone();
        new["spec"]["parallelism"] = json!(5);
        assert_eq!(told(&new, &old), [""; 0]);
    }

    #[test]
    fn indexes_grow_with_the_parallelism() {
        let job = |completions: i64, parallelism: i64| json!({"spec": {"completionMode": "Indexed", "completions": completions, "parallelism": parallelism}});
        assert_eq!(told(&job(3, 3), &job(2, 2)), [""; 0]);
        assert_eq!(
            told(&job(3, 2), &job(2, 2)),
            ["spec.completions: can only be modified in tandem with spec.parallelism"]
        );
    }
}
