//! Cron jobs.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, columns, containers, items, name, or_none, since, text};
use super::defaults::{child, default, default_text};
use super::kind::{Kind, Subresource};
use super::podspec::drop_disabled_of;
use super::strategy::Strategy;
use super::template::{is_news, name_warning};
use super::{job, job_spec, schedule};
use crate::meta::field_error::{FieldError, Mistake};
use crate::meta::findings::{Findings, Spot};
use crate::meta::{go_value, time_zone};

/// `batch/v1 CronJob`.
pub fn kind() -> Kind {
    Kind::new("batch", "v1", "CronJob", "cronjobs")
        .short(&["cj"])
        .in_all()
        .with(&[Subresource::Status])
        .with_generation()
        .columns(columns(
            "Name Schedule Timezone Suspend #Active Last_Schedule Age +Containers +Images +Selector",
        ))
        .behaves(CronJob)
}

struct CronJob;

const LONGEST_NAME: usize = 52;

impl Strategy for CronJob {
    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else { return };
        default_text(spec, "concurrencyPolicy", "Allow");
        default(spec, "suspend", false);
        default(spec, "successfulJobsHistoryLimit", 3);
        default(spec, "failedJobsHistoryLimit", 1);
        if let Some(template) = spec.pointer_mut("/jobTemplate/spec") {
            job::default_parts(template);
        }
    }

    /// Jobs are called like their schedule, with eleven signs more.
    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let own_name = Spot::root(object).pointer("/metadata/name");
        if own_name.text().len() > LONGEST_NAME {
            findings.invalid(&own_name, format!("must be no more than {LONGEST_NAME} characters"));
        }
        check_time_zone(&Spot::root(object).pointer("/spec/timeZone"), &mut findings);
        findings.into_vec()
    }

    /// A zone that has been stored stays, whether it is known to this version of the database or not.
    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let zone = "/spec/timeZone";
        if object.pointer(zone) != old.pointer(zone) {
            check_time_zone(&Spot::root(object).pointer(zone), &mut findings);
        }
        findings.into_vec()
    }

    fn drop_disabled(&self, object: &mut Value, old: Option<&Value>) {
        drop_disabled_of(object, old, "/spec/jobTemplate/spec/template/spec");
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let root = Spot::root(object);
        let schedule = root.pointer("/spec/schedule");
        if schedule.text().is_empty() {
            findings.required(&schedule, "");
        } else if let Err(why) = schedule::check(schedule.text()) {
            findings.invalid(&schedule, why);
        }
        check_schedule_zone(&schedule, &mut findings);
        let policies = ["Allow", "Forbid", "Replace"];
        findings.required_one_of(&root.pointer("/spec/concurrencyPolicy"), &policies);
        for field in
            ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"]
        {
            findings.not_negative(&root.pointer(&format!("/spec/{field}")));
        }
        check_template(&root.pointer("/spec/jobTemplate/spec"), &mut findings);
        job_spec::validate(object, "/spec/jobTemplate/spec", &mut findings);
        findings.into_vec()
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let root = Spot::root(object);
        let mut told: Vec<String> =
            old.is_none().then(|| name_warning(object)).flatten().into_iter().collect();
        if is_news(object, old) {
            told.extend(job_spec::warnings(&root.pointer("/spec/jobTemplate/spec")));
        }
        if old.is_some() && root.pointer("/spec/schedule").text().contains("TZ") {
            told.push("cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details".to_owned());
        }
        told
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let [names, images] = containers(&object["spec"]["jobTemplate"]["spec"]["template"]);
        let last = text(object, "/status/lastScheduleTime");
        let suspended = object.pointer("/spec/suspend").and_then(Value::as_bool);
        vec![
            json!(name(object)),
            json!(text(object, "/spec/schedule")),
            json!(or_none(text(object, "/spec/timeZone"))),
            json!(suspended.map_or("<unset>", |on| if on { "True" } else { "False" })),
            json!(items(object, "/status/active").len()),
            json!(if last.is_empty() { "<none>".to_owned() } else { since(last, now) }),
            json!(age(object, now)),
            names,
            images,
            json!("<none>"),
        ]
    }
}

/// The jobs that a schedule makes select their pods by themselves.
fn check_template(spec: &Spot<'_>, findings: &mut Findings) {
    let (selector, manual) =
        (spec.field("selector").of(&go_value::LABEL_SELECTOR), spec.field("manualSelector"));
    if selector.is_there() {
        findings.invalid(&selector, "`selector` will be auto-generated");
    }
    if manual.is_true() {
        let why = vec!["nil".to_owned(), "false".to_owned()];
        let mistake = Mistake::NotSupported(manual.value.clone(), why);
        findings.add(FieldError::new(manual.path, mistake, ""));
    }
}

/// Where a schedule says in which zone it is meant; `TZ=` in the schedule itself is of old.
fn check_schedule_zone(schedule: &Spot<'_>, findings: &mut Findings) {
    if schedule.text().contains("TZ") {
        findings
            .invalid(schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
    }
}

/// A zone of the database, and never that of the machine.
fn check_time_zone(zone: &Spot<'_>, findings: &mut Findings) {
    if zone.is_absent() {
        return;
    }
    let name = zone.text();
    if name.is_empty() {
        findings.invalid(zone, "timeZone must be nil or non-empty string");
        return;
    }
    let unknown = format!("unknown time zone {name}");
    if !name.split('/').all(is_part_of_zone) {
        findings.invalid(zone, unknown);
        return;
    }
    if name.eq_ignore_ascii_case("Local") {
        findings.invalid(
            zone,
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        );
    }
    // "Local" itself is a zone to Kubernetes, which has been refused already
    if name != "Local" && time_zone::named(name).is_none() {
        findings.invalid(zone, unknown);
    }
}

/// What may stand between the slashes of a zone's name.
/// <https://data.iana.org/time-zones/theory.html#naming>
fn is_part_of_zone(part: &str) -> bool {
    let allowed = |sign: char| sign.is_ascii_alphanumeric() || ".-_+".contains(sign);
    (1..=14).contains(&part.len())
        && part.chars().all(allowed)
        && !part.starts_with('-')
        && !matches!(part, "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_templates_fit_the_jobs_that_come_of_them() {
        let long = json!({"metadata": {"name": "n".repeat(53)}});
        assert_eq!(CronJob.validate_create(&long)[0].detail, "must be no more than 52 characters");
        let mut findings = Findings::default();
        check_template(
            &Spot::root(&json!({"manualSelector": true, "selector": {}})),
            &mut findings,
        );
        assert_eq!(findings.len(), 2);
    }

    #[test]
    fn what_a_schedule_makes_is_looked_at() {
        let mut object = json!({"metadata": {"name": "a"}, "spec": {"schedule": "0 * * *", "concurrencyPolicy": "",
            "jobTemplate": {"spec": {"manualSelector": true, "template": {"spec": {"containers": [{"name": "a", "image": "a:1"}]}}}}}});
        CronJob.default(&mut object);
        assert_eq!(object["spec"]["concurrencyPolicy"], "Allow");
        assert_eq!(object["spec"]["jobTemplate"]["spec"]["backoffLimit"], Value::Null);
        let told: Vec<String> = CronJob.validate(&object).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                r#"spec.schedule: Invalid value: "0 * * *": expected exactly 5 fields, found 4: [0 * * *]"#,
                r#"spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: "nil", "false""#,
                r#"spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never""#,
            ]
        );
    }

    #[test]
    fn zones_are_those_of_the_database() {
        let local =
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        for (zone, expected) in [
            (json!("Europe/Paris"), vec![]),
            (json!("Etc/GMT+5"), vec![]),
            (json!("UTC"), vec![]),
            (Value::Null, vec![]),
            (json!(""), vec!["timeZone must be nil or non-empty string"]),
            (json!(" "), vec!["unknown time zone  "]),
            (json!("Europe/Atlantis"), vec!["unknown time zone Europe/Atlantis"]),
            (json!("europe/paris"), vec!["unknown time zone europe/paris"]),
            (json!("Europe/../UTC"), vec!["unknown time zone Europe/../UTC"]),
            (json!("/UTC"), vec!["unknown time zone /UTC"]),
            (json!("Local"), vec![local]),
            (json!("local"), vec![local, "unknown time zone local"]),
        ] {
            let object = json!({"spec": {"schedule": "* * * * *", "timeZone": zone}});
            let told = |errors: Vec<FieldError>| {
                errors.into_iter().map(|error| error.detail).collect::<Vec<_>>()
            };
            assert_eq!(told(CronJob.validate_create(&object)), expected, "{zone}");
            let old = json!({"spec": {"timeZone": "Europe/Berlin"}});
            assert_eq!(told(CronJob.validate_update(&object, &old)), expected, "{zone}");
            assert!(CronJob.validate_update(&object, &object).is_empty(), "{zone}");
        }
        let mut findings = Findings::default();
        check_schedule_zone(&Spot::root(&json!("TZ=UTC * * * * *")), &mut findings);
        assert_eq!(findings.len(), 1);
    }
}
