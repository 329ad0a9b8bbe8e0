//! Jobs.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{
    age, between, columns, containers, has_condition, human, name, number, selector, text,
};
use super::defaults::{child, default};
use super::job_spec;
use super::kind::{Kind, Subresource};
use super::podspec::default_template;
use super::strategy::Strategy;
use super::template::selector_of_template;
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};
use crate::meta::selector::Selector;

/// `batch/v1 Job`.
pub fn kind() -> Kind {
    Kind::new("batch", "v1", "Job", "jobs")
        .in_all()
        .with(&[Subresource::Status])
        .with_generation()
        .select_by(&["status.successful"])
        .columns(columns("Name Status Completions Duration Age +Containers +Images +Selector"))
        .behaves(Job)
}

struct Job;

/// Fills in a job's spec, as far as it does not depend on the object; a `CronJob`'s template has one as well.
pub fn default_spec(spec: &mut Value) {
    if spec.get("completions").is_none_or(Value::is_null)
        && spec.get("parallelism").is_none_or(Value::is_null)
    {
        default(spec, "completions", 1);
    }
    default(spec, "parallelism", 1);
    default(spec, "backoffLimit", 6);
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    let policy =
        if spec.get("podFailurePolicy").is_some() { "Failed" } else { "TerminatingOrFailed" };
    default(spec, "podReplacementPolicy", policy);
    default_template(spec.get_mut("template"));
}

impl Strategy for Job {
    /// The selector and the labels that it asks for are made from the uid, so that no two jobs take each other's pods.
    fn default(&self, object: &mut Value) {
        let (own_name, uid) = (name(object).to_owned(), text(object, "/metadata/uid").to_owned());
        let Some(spec) = child(object, "spec") else { return };
        default_spec(spec);
        if spec["manualSelector"] == json!(true) || uid.is_empty() {
            return;
        }
        let selected = child(spec, "selector").and_then(|selector| child(selector, "matchLabels"));
        if let Some(selected) = selected {
            default(selected, CONTROLLER, uid.as_str());
        }
        let labels = child(spec, "template")
            .and_then(|template| child(template, "metadata"))
            .and_then(|metadata| child(metadata, "labels"));
        if let Some(labels) = labels {
            for prefix in ["batch.kubernetes.io/", ""] {
                default(labels, &format!("{prefix}controller-uid"), uid.as_str());
                default(labels, &format!("{prefix}job-name"), own_name.as_str());
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        check_generated(object, &mut findings);
        selector_of_template(object, &mut findings);
        job_spec::validate(object, "/spec", &mut findings);
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let (root, before) = (Spot::root(object), Spot::root(old));
        for field in [
            "/spec/selector",
            "/spec/completionMode",
            "/spec/podFailurePolicy",
            "/spec/backoffLimitPerIndex",
            "/spec/managedBy",
            "/spec/successPolicy",
        ] {
            findings.immutable(&root.pointer(field), &before.pointer(field));
        }
        check_completions(&root.field("spec"), &before.field("spec"), &mut findings);
        let template = "/spec/template";
        let mut allowed = before.pointer(template).value.clone();
        if is_unstarted(old) {
            take_scheduling(&mut allowed, root.pointer(template).value);
        }
        findings.immutable(&root.pointer(template), &Spot::root(&allowed));
        findings.into_vec()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let [names, images] = containers(&object["spec"]["template"]);
        vec![
            json!(name(object)),
            json!(status(object)),
            json!(completions(object)),
            json!(duration(object, now)),
            json!(age(object, now)),
            names,
            images,
            json!(selector(object.pointer("/spec/selector"))),
        ]
    }
}

/// The label by which a job knows its pods.
const CONTROLLER: &str = "batch.kubernetes.io/controller-uid";

/// A selector and labels that the caller sent, perhaps those of another job, are not those of this one.
fn check_generated(object: &Value, findings: &mut Findings) {
    let root = Spot::root(object);
    if root.pointer("/spec/manualSelector").is_true() || text(object, "/metadata/uid").is_empty() {
        return;
    }
    let labels = root.pointer("/spec/template/metadata/labels");
    for prefix in ["batch.kubernetes.io/", ""] {
        for (label, pointer) in
            [("controller-uid", "/metadata/uid"), ("job-name", "/metadata/name")]
        {
            let (label, expected) = (format!("{prefix}{label}"), text(object, pointer));
            let found = labels.field(&label);
            if found.text() != expected {
                let spot = Spot { path: labels.path.key(&label), ..found };
                findings.invalid(&spot, format!("must be '{expected}'"));
            }
        }
    }
    let selector = root.pointer("/spec/selector");
    let own = json!({CONTROLLER: text(object, "/metadata/uid"), "controller-uid": text(object, "/metadata/uid"),
        "batch.kubernetes.io/job-name": name(object), "job-name": name(object)});
    if Selector::from_object(selector.value).is_ok_and(|selector| !selector.matches_labels(&own)) {
        findings.invalid(&selector, "`selector` not auto-generated");
    }
}

/// How often a job is to succeed stays, but that one with indexes may grow and shrink with its parallelism.
fn check_completions(spec: &Spot<'_>, before: &Spot<'_>, findings: &mut Findings) {
    let completions = spec.field("completions");
    if spec.field("completionMode").text() != "Indexed" {
        findings.immutable(&completions, &before.field("completions"));
    } else if completions.value != before.field("completions").value
        && completions.value != spec.field("parallelism").value
    {
        findings.invalid(&completions, "can only be modified in tandem with spec.parallelism");
    }
}

/// No pod was made of its template yet, and none is made now.
fn is_unstarted(job: &Value) -> bool {
    job.pointer("/spec/suspend") == Some(&json!(true)) && text(job, "/status/startTime").is_empty()
}

/// What may change as long as there are no pods: where they may run, and how they are called.
fn take_scheduling(template: &mut Value, from: &Value) {
    const PLACES: [(&str, &str); 6] = [
        ("metadata", "labels"),
        ("metadata", "annotations"),
        ("spec", "nodeSelector"),
        ("spec", "tolerations"),
        ("spec", "schedulingGates"),
        ("spec", "affinity"),
    ];
    for (part, field) in PLACES {
        let Some(map) = child(template, part).and_then(Value::as_object_mut) else { continue };
        match from.get(part).and_then(|part| part.get(field)) {
            Some(value) => drop(map.insert(field.to_owned(), value.clone())),
            None => drop(map.remove(field)),
        }
    }
}

fn status(object: &Value) -> &'static str {
    let has = |of: &str| has_condition(object, of);
    match () {
        () if has("Complete") => "Complete",
        () if has("Failed") => "Failed",
        () if !text(object, "/metadata/deletionTimestamp").is_empty() => "Terminating",
        () if has("Suspended") => "Suspended",
        () if has("FailureTarget") => "FailureTarget",
        () if has("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(object: &Value) -> String {
    let done = number(object, "/status/succeeded");
    match (
        object.pointer("/spec/completions").and_then(Value::as_i64),
        number(object, "/spec/parallelism"),
    ) {
        (Some(wanted), _) => format!("{done}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{done}/1 of {parallel}"),
        (None, _) => format!("{done}/1"),
    }
}

fn duration(object: &Value, now: Timestamp) -> String {
    let start = text(object, "/status/startTime");
    let end = match text(object, "/status/completionTime") {
        "" => now.to_string(),
        end => end.to_owned(),
    };
    between(start, &end).map(human).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(mut job: Value) -> Value {
        Job.default(&mut job);
        job
    }

    fn told(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_selector_of_another_job_is_refused() {
        let template = json!({"metadata": {"labels": {"controller-uid": "u-0"}}, "spec": {
            "restartPolicy": "Never", "containers": [{"name": "pi", "image": "pi:1"}]}});
        let copy = made(json!({"metadata": {"name": "pi", "uid": "u-1"}, "spec": {
            "selector": {"matchLabels": {"controller-uid": "u-0"}}, "template": template}}));
        assert_eq!(
            told(&Job.validate(&copy)),
            [
                r#"spec.template.metadata.labels[controller-uid]: Invalid value: "u-0": must be 'u-1'"#,
                r#"spec.selector: Invalid value: {"matchLabels":{"batch.kubernetes.io/controller-uid":"u-1","controller-uid":"u-0"}}: `selector` not auto-generated"#,
            ]
        );
    }

    #[test]
    fn what_pods_were_made_of_stays() {
        let job = |suspend: bool| {
            made(
                json!({"metadata": {"name": "pi", "uid": "u-1"}, "spec": {"suspend": suspend, "template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "pi", "image": "pi:1"}]}}}}),
            )
        };
        let placed = |mut job: Value| {
            job["spec"]["template"]["spec"]["nodeSelector"] = json!({"disk": "ssd"});
            job
        };
        assert_eq!(Job.validate_update(&placed(job(true)), &job(true)), []);
        assert_eq!(Job.validate_update(&placed(job(false)), &job(false)).len(), 1);
        let mut other = job(true);
        other["spec"]["template"]["spec"]["containers"][0]["image"] = json!("pi:2");
        assert_eq!(Job.validate_update(&other, &job(true)).len(), 1);

        let indexed = |completions: i64, parallelism: i64| json!({"spec": {"completionMode": "Indexed", "completions": completions, "parallelism": parallelism}});
        assert_eq!(Job.validate_update(&indexed(3, 3), &indexed(2, 2)), []);
        assert_eq!(
            told(&Job.validate_update(&indexed(3, 2), &indexed(2, 2))),
            [
                "spec.completions: Invalid value: 3: can only be modified in tandem with spec.parallelism"
            ]
        );
    }

    #[test]
    fn a_job_selects_its_own_pods() {
        let mut job = json!({"metadata": {"name": "pi", "uid": "u-1"}, "spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "pi", "image": "pi:1"}],
        }}}});
        Job.default(&mut job);
        assert_eq!(job["spec"]["template"]["metadata"]["labels"]["job-name"], "pi");
        assert_eq!(Job.validate(&job), []);
        assert_eq!(
            Job.row(&job, Timestamp::UNIX_EPOCH)[1..4],
            [json!("Running"), json!("0/1"), json!("")]
        );
    }
}
