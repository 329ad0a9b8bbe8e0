//! Jobs.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{
    age, between, columns, containers, human, items, name, number, selector, text,
};
use super::defaults::{child, default};
use super::kind::{Kind, Subresource};
use super::podspec::{Whose, default_template, template_mistakes};
use super::strategy::Strategy;
use super::template::selector_of_template;
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};

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

/// What is wrong with a job's spec.
pub fn validate_spec(object: &Value, pointer: &str, findings: &mut Findings) {
    let spec = Spot::root(object).pointer(pointer);
    for field in [
        "parallelism",
        "completions",
        "backoffLimit",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
    ] {
        findings.not_negative(&spec.field(field));
    }
    findings.one_of_if_set(&spec.field("completionMode"), &["Indexed", "NonIndexed"]);
    findings.extend(template_mistakes(object, &format!("{pointer}/template"), Whose::Job));
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
        default(
            spec,
            "selector",
            json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}),
        );
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
        selector_of_template(object, &mut findings);
        validate_spec(object, "/spec", &mut findings);
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let (root, before) = (Spot::root(object), Spot::root(old));
        for field in ["/spec/selector", "/spec/completionMode", "/spec/podFailurePolicy"] {
            findings.immutable(&root.pointer(field), &before.pointer(field));
        }
        if object.pointer("/spec/completionMode") != Some(&json!("Indexed")) {
            findings.immutable(
                &root.pointer("/spec/completions"),
                &before.pointer("/spec/completions"),
            );
        }
        let suspended = old.pointer("/spec/suspend") == Some(&json!(true))
            && old.pointer("/status/startTime").is_none();
        if !suspended {
            findings.immutable(&root.pointer("/spec/template"), &before.pointer("/spec/template"));
        }
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

fn status(object: &Value) -> &'static str {
    let has = |of: &str| {
        items(object, "/status/conditions")
            .iter()
            .any(|one| text(one, "/type") == of && text(one, "/status") == "True")
    };
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
