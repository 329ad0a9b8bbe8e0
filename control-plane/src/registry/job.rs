//! Jobs.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{
    age, between, columns, containers, has_condition, human, name, number, selector, text,
};
use super::defaults::{child, default, default_text, each};
use super::kind::{Kind, Subresource};
use super::podspec::{default_template, drop_disabled_of};
use super::strategy::Strategy;
use super::template::{Selecting, is_news, name_warning, selector_of_template};
use super::{job_spec, job_status, job_update};
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};
use crate::meta::go_value;
use crate::meta::name::dns_label;
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
    // of a job that counts the failures of each index those of all are not counted
    let per_index = spec.get("backoffLimitPerIndex").is_some_and(|limit| !limit.is_null());
    default(spec, "backoffLimit", if per_index { i32::MAX } else { 6 });
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    let policy = if spec.get("podFailurePolicy").is_some_and(|policy| !policy.is_null()) {
        "Failed"
    } else {
        "TerminatingOrFailed"
    };
    default(spec, "podReplacementPolicy", policy);
    default_parts(spec);
}

/// Fills in what belongs to parts of a job's spec; that is all that a `CronJob` fills in of its template.
pub fn default_parts(spec: &mut Value) {
    if let Some(policy) = spec.get_mut("podFailurePolicy") {
        for rule in each(policy, "rules") {
            for condition in each(rule, "onPodConditions") {
                default_text(condition, "status", "True");
            }
        }
    }
    default_template(spec.get_mut("template"));
}

const SELECTING: Selecting = Selecting { required: true, everything: None, broken: None };

impl Strategy for Job {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = child(object, "spec") {
            default_spec(spec);
            default(spec, "manualSelector", false);
        }
        label_as_template(object);
    }

    /// The selector and the labels that it asks for are made from the uid, so that no two jobs take each other's pods.
    fn prepare_create(&self, object: &mut Value) {
        let (own_name, uid) = (name(object).to_owned(), text(object, "/metadata/uid").to_owned());
        let Some(spec) = child(object, "spec") else { return };
        if spec.get("manualSelector") != Some(&json!(true)) {
            generate_selector(spec, &own_name, &uid);
        }
    }

    fn drop_disabled(&self, object: &mut Value, old: Option<&Value>) {
        drop_disabled_of(object, old, "/spec/template/spec");
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        check_generated(object, &mut findings);
        selector_of_template(object, SELECTING, &mut findings);
        job_spec::validate(object, "/spec", &mut findings);
        check_hostnames(object, &mut findings);
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        job_update::validate(object, old, &mut findings);
        findings.into_vec()
    }

    fn validate_status(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        job_status::validate(object, old, &mut findings);
        findings.into_vec()
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let mut told: Vec<String> =
            old.is_none().then(|| name_warning(object)).flatten().into_iter().collect();
        if is_news(object, old) {
            told.extend(job_spec::warnings(&Spot::root(object).field("spec")));
        }
        told
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

fn generate_selector(spec: &mut Value, own_name: &str, uid: &str) {
    let selected = child(spec, "selector").and_then(|selector| child(selector, "matchLabels"));
    if let Some(selected) = selected {
        default(selected, CONTROLLER, uid);
    }
    let labels = child(spec, "template")
        .and_then(|template| child(template, "metadata"))
        .and_then(|metadata| child(metadata, "labels"));
    if let Some(labels) = labels {
        for prefix in ["batch.kubernetes.io/", ""] {
            default(labels, &format!("{prefix}controller-uid"), uid);
            default(labels, &format!("{prefix}job-name"), own_name);
        }
    }
}

/// A job without labels has those of its pods.
fn label_as_template(object: &mut Value) {
    let labels = object.pointer("/spec/template/metadata/labels").filter(|map| **map != json!({}));
    let Some(labels) = labels.filter(|map| map.is_object()).cloned() else { return };
    let Some(metadata) = child(object, "metadata").and_then(Value::as_object_mut) else { return };
    if metadata.get("labels").is_none_or(|own| own.is_null() || *own == json!({})) {
        metadata.insert("labels".to_owned(), labels);
    }
}

/// The label by which a job knows its pods.
const CONTROLLER: &str = "batch.kubernetes.io/controller-uid";

/// A selector and labels that the caller sent, perhaps those of another job, are not those of this one.
fn check_generated(object: &Value, findings: &mut Findings) {
    let root = Spot::root(object);
    let selector = root.pointer("/spec/selector").of(&go_value::LABEL_SELECTOR);
    let uid = text(object, "/metadata/uid");
    if root.pointer("/spec/manualSelector").is_true() || selector.is_absent() || uid.is_empty() {
        return;
    }
    let labels = root.pointer("/spec/template/metadata/labels");
    for prefix in ["", "batch.kubernetes.io/"] {
        for (label, expected) in [("controller-uid", uid), ("job-name", name(object))] {
            let label = format!("{prefix}{label}");
            let found = labels.field(&label);
            let spot = Spot::at(labels.value, labels.path.key(&label)).of(&go_value::LABELS);
            if found.is_absent() {
                findings.required(&spot, format!("must be '{expected}'"));
            } else if found.text() != expected {
                findings.invalid(&spot, format!("must be '{expected}'"));
            }
        }
    }
    let own = json!({CONTROLLER: uid, "controller-uid": uid,
        "batch.kubernetes.io/job-name": name(object), "job-name": name(object)});
    if Selector::from_object(selector.value).is_ok_and(|selector| !selector.matches_labels(&own)) {
        findings.invalid(&selector, "`selector` not auto-generated");
    }
}

/// Pods with an index are called like it, the last one has the longest name.
fn check_hostnames(object: &Value, findings: &mut Findings) {
    let spec = Spot::root(object).field("spec");
    let completions = spec.field("completions").integer().filter(|completions| *completions > 0);
    let Some(completions) = completions else { return };
    let last = format!("{}-{}", name(object), completions - 1);
    if spec.field("completionMode").text() == "Indexed" && !dns_label(&last).is_empty() {
        let why = format!("will not able to create pod with invalid DNS label: {last}");
        findings.invalid(&Spot::root(object).pointer("/metadata/name"), why);
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
        Job.prepare_create(&mut job);
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
                r#"spec.template.metadata.labels[controller-uid]: Invalid value: map[string]string{"batch.kubernetes.io/controller-uid":"u-1", "batch.kubernetes.io/job-name":"pi", "controller-uid":"u-0", "job-name":"pi"}: must be 'u-1'"#,
                r#"spec.selector: Invalid value: v1.LabelSelector{MatchLabels:map[string]string{"batch.kubernetes.io/controller-uid":"u-1", "controller-uid":"u-0"}, MatchExpressions:[]v1.LabelSelectorRequirement(nil)}: `selector` not auto-generated"#,
            ]
        );
    }

    #[test]
    fn what_a_job_leaves_open_is_filled_in() {
        let of =
            |spec: Value| made(json!({"metadata": {"name": "pi", "uid": "u-1"}, "spec": spec}));
        let plain = of(json!({}));
        for (field, expected) in [
            ("completions", json!(1)),
            ("parallelism", json!(1)),
            ("backoffLimit", json!(6)),
            ("completionMode", json!("NonIndexed")),
            ("suspend", json!(false)),
            ("manualSelector", json!(false)),
            ("podReplacementPolicy", json!("TerminatingOrFailed")),
        ] {
            assert_eq!(plain["spec"][field], expected, "{field}");
        }
        assert_eq!(plain["metadata"]["labels"]["job-name"], "pi");
        assert_eq!(plain["metadata"]["labels"], plain["spec"]["template"]["metadata"]["labels"]);
        let conditions = json!([{"type": "DisruptionTarget"}]);
        let other = of(json!({"backoffLimitPerIndex": 1, "parallelism": 2,
            "podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": conditions}]}}));
        assert_eq!(other["spec"]["backoffLimit"], json!(i32::MAX));
        assert_eq!(other["spec"]["completions"], Value::Null);
        assert_eq!(other["spec"]["podReplacementPolicy"], "Failed");
        let rule = &other["spec"]["podFailurePolicy"]["rules"][0];
        assert_eq!(rule["onPodConditions"][0]["status"], "True");
        let own = made(json!({"metadata": {"labels": {"a": "b"}, "uid": "u-1"}, "spec": {}}));
        assert_eq!(own["metadata"]["labels"], json!({"a": "b"}));
    }

    #[test]
    fn the_last_pod_has_a_name() {
        let job = |name: &str, completions: i64| {
            made(
                json!({"metadata": {"name": name, "uid": "u-1"}, "spec": {"completionMode": "Indexed",
                "completions": completions, "template": {"spec": {"restartPolicy": "Never",
                "containers": [{"name": "pi", "image": "pi:1"}]}}}}),
            )
        };
        assert_eq!(Job.validate(&job(&"n".repeat(61), 10)), []);
        let long = "n".repeat(61);
        assert_eq!(
            told(&Job.validate(&job(&long, 11))),
            [format!(
                "metadata.name: Invalid value: {long:?}: will not able to create pod with invalid DNS label: {long}-10"
            )]
        );
    }

    #[test]
    fn a_job_selects_its_own_pods() {
        let mut again = json!({"metadata": {"name": "pi", "uid": "u-1"}, "spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "pi", "image": "pi:1"}],
        }}}});
        let job = made(again.clone());
        assert_eq!(job["spec"]["template"]["metadata"]["labels"]["job-name"], "pi");
        assert_eq!(Job.validate(&job), []);
        assert_eq!(
            Job.row(&job, Timestamp::UNIX_EPOCH)[1..4],
            [json!("Running"), json!("0/1"), json!("")]
        );
        // who replaces it has to bring along what was made for it
        Job.default(&mut again);
        let told = [told(&Job.validate(&again)), told(&Job.validate_update(&again, &job))].concat();
        assert_eq!(told.len(), 4, "{told:#?}");
        for (one, expected) in told.iter().zip([
            "spec.selector: Required value",
            "spec.template.metadata.labels: Invalid value: ",
            "spec.selector: Invalid value: ",
            "spec.template: Invalid value: ",
        ]) {
            assert!(one.starts_with(expected), "{told:#?}");
        }
    }
}
