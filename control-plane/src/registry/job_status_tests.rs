use serde_json::{Value, json};

use super::*;

const START: &str = "2026-01-01T00:00:00Z";
const END: &str = "2026-01-01T00:01:00Z";

fn told(spec: &Value, new: Value, old: Value) -> Vec<String> {
    let mut findings = Findings::default();
    let job = |status: Value| json!({"spec": spec, "status": status});
    validate(&job(new), &job(old), &mut findings);
    findings.into_vec().iter().map(ToString::to_string).collect()
}

fn conditions(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"type": name, "status": "True"})).collect()
}

/// A status with these conditions and fields.
fn status(names: &[&str], fields: Value) -> Value {
    let mut status = json!({"startTime": START, "conditions": conditions(names)});
    status.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap());
    status
}

const COMPLETE: [&str; 2] = ["SuccessCriteriaMet", "Complete"];
const FAILED: [&str; 2] = ["FailureTarget", "Failed"];

#[test]
fn a_job_begins_and_ends() {
    let plain = json!({"completions": 1, "parallelism": 1});
    let running = || status(&[], json!({"active": 1, "ready": 1}));
    let complete = || status(&COMPLETE, json!({"completionTime": END, "succeeded": 1}));
    let failed = || status(&FAILED, json!({"failed": 1}));
    assert!(told(&plain, running(), json!({})).is_empty());
    assert!(told(&plain, complete(), running()).is_empty());
    assert!(told(&plain, complete(), complete()).is_empty());
    assert!(told(&plain, failed(), running()).is_empty());
    let idle = json!({"suspend": true, "completions": 0});
    let done = json!({"conditions": conditions(&COMPLETE), "completionTime": END});
    assert!(told(&idle, done, json!({})).is_empty());
}

#[test]
fn conditions_go_together() {
    let plain = json!({"completions": 1, "parallelism": 1});
    let end = json!({"completionTime": END});
    for (names, fields, expected) in [
        (&["Complete"][..], &end, "without the SuccessCriteriaMet=true condition"),
        (&["Failed"], &json!({}), "without the FailureTarget=true condition"),
        (
            &["SuccessCriteriaMet", "FailureTarget"],
            &json!({}),
            "SuccessCriteriaMet=True and FailureTarget=true",
        ),
        (
            &COMPLETE,
            &json!({}),
            "status.completionTime: Required value: completionTime is required",
        ),
        (&[], &end, "cannot set completionTime when there is no Complete=True condition"),
        (
            &FAILED,
            &json!({"active": 1}),
            "status.active: Invalid value: 1: active>0 is invalid for finished job",
        ),
        (&FAILED, &json!({"terminating": 1}), "terminating>0 is invalid for finished job"),
        (
            &FAILED,
            &json!({"startTime": null}),
            "status.startTime: Required value: startTime is required for finished job",
        ),
        (
            &FAILED,
            &json!({"uncountedTerminatedPods": {"failed": ["u"]}}),
            "needs to be empty for finished job",
        ),
        (
            &[],
            &json!({"ready": 2, "active": 1}),
            "status.ready: Invalid value: 2: cannot set more ready pods than active",
        ),
        (
            &COMPLETE,
            &json!({"completionTime": "2025-12-31T00:00:00Z"}),
            "completionTime cannot be set before startTime",
        ),
        (
            &[],
            &json!({"active": -1}),
            "status.active: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            &[],
            &json!({"uncountedTerminatedPods": {"succeeded": ["u"], "failed": ["u"]}}),
            "failed[0]: Duplicate value: \"u\"",
        ),
        (
            &[],
            &json!({"uncountedTerminatedPods": {"succeeded": [""]}}),
            "succeeded[0]: Invalid value: \"\": must not be empty",
        ),
    ] {
        let told = told(&plain, status(names, fields.clone()), json!({}));
        assert!(told.len() == 1 && told[0].contains(expected), "{names:?} {fields}: {told:?}");
    }
    let all = status(&["Complete", "Failed", "FailureTarget", "SuccessCriteriaMet"], end);
    let told = told(&plain, all, json!({}));
    assert_eq!(
        told[0],
        "status.conditions: Invalid value: cannot set Complete=True and Failed=true conditions"
    );
    assert_eq!(told.len(), 4, "{told:?}");
}

#[test]
fn nothing_is_taken_back() {
    let plain = json!({"completions": 1, "parallelism": 1});
    let end = json!({"completionTime": END});
    let later = json!({"completionTime": "2026-01-01T00:02:00Z"});
    for (new, old, expected) in [
        (
            status(&[], json!({})),
            status(&COMPLETE, end.clone()),
            "cannot disable the terminal Complete=True condition",
        ),
        (
            status(&["FailureTarget"], json!({})),
            status(&FAILED, json!({})),
            "cannot disable the terminal Failed=True",
        ),
        (
            status(&[], json!({})),
            status(&["FailureTarget"], json!({})),
            "cannot disable the terminal FailureTarget=True",
        ),
        (
            status(&[], json!({})),
            status(&["SuccessCriteriaMet"], json!({})),
            "cannot disable the SuccessCriteriaMet=True",
        ),
        (
            status(&COMPLETE, later),
            status(&COMPLETE, end.clone()),
            "completionTime cannot be mutated",
        ),
        (
            status(&[], json!({})),
            status(&[], json!({"failed": 1})),
            "cannot decrease the failed counter",
        ),
        (
            status(&[], json!({})),
            status(&[], json!({"succeeded": 1})),
            "cannot decrease the succeeded counter",
        ),
        (json!({}), status(&[], json!({})), "startTime cannot be removed for unsuspended job"),
        (
            status(&COMPLETE, end.clone()),
            status(&["Complete"], end),
            "for Job already has Complete=true conditions",
        ),
    ] {
        let told = told(&plain, new.clone(), old.clone());
        assert!(told.iter().any(|one| one.contains(expected)), "{new} {old}: {told:?}");
    }
    let elastic = json!({"completionMode": "Indexed", "completions": 1, "parallelism": 1});
    let (new, old) = (status(&[], json!({"succeeded": 1})), status(&[], json!({"succeeded": 2})));
    assert!(told(&elastic, new, old).is_empty());
    let suspended = json!({"suspend": true});
    assert!(told(&suspended, json!({}), status(&[], json!({}))).is_empty());
}

#[test]
fn indexes_fit_the_job() {
    let indexed = json!({"completionMode": "Indexed", "completions": 3, "backoffLimitPerIndex": 1});
    let plain = json!({"completions": 3});
    for (spec, fields, expected) in [
        (&indexed, json!({"completedIndexes": "0,2", "failedIndexes": "1"}), ""),
        (
            &indexed,
            json!({"completedIndexes": "3"}),
            "error parsing completedIndexes: too large index: \"3\"",
        ),
        (&indexed, json!({"failedIndexes": "x"}), "error parsing failedIndexes: cannot convert"),
        (&indexed, json!({"completedIndexes": "0-1", "failedIndexes": "1"}), "overlap at index: 1"),
        (&plain, json!({"completedIndexes": "0"}), "when non-indexed completion mode"),
        (&plain, json!({"failedIndexes": ""}), "when backoffLimitPerIndex is null"),
    ] {
        let told = told(spec, status(&[], fields.clone()), json!({}));
        assert_eq!(told.len(), usize::from(!expected.is_empty()), "{fields}: {told:?}");
        assert!(told.iter().all(|one| one.contains(expected)), "{fields}: {told:?}");
        // what stays is not looked at, so that a job that shrank can be brought in order
        assert!(
            super::tests::told(spec, status(&[], fields.clone()), status(&[], fields)).is_empty()
        );
    }
}
