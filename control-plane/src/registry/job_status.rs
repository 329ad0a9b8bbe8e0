//! What a job's status may say, and become. Sentences are those of `k8s.io/kubernetes/pkg/apis/batch/validation`.
//!
//! Controllers of others may run a job (`managedBy`), and clients go by what its status promises. What a change leaves as it was is
//! mostly not looked at: a status from before these rules can still be written.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::column::has_condition;
use super::job_indexes::{count, overlap};
use crate::meta::findings::{Findings, Spot, same};

/// What is wrong with a change of a job's status.
pub fn validate(object: &Value, old: &Value, findings: &mut Findings) {
    let change = Change {
        spec: Spot::root(object).field("spec"),
        new: Spot::root(object).field("status"),
        old: Spot::root(old).field("status"),
        is: Conditions::of(object),
        was: Conditions::of(old),
    };
    check_counts(&change.new, findings);
    check_uncounted(&change.new.field("uncountedTerminatedPods"), findings);
    change.conditions(findings);
    change.moments(findings);
    change.pods(findings);
    change.indexes(findings);
    change.steps_back(findings);
}

/// The conditions that are true.
#[expect(clippy::struct_excessive_bools, reason = "each is a condition of its own")]
struct Conditions {
    complete: bool,
    failed: bool,
    failing: bool,
    succeeding: bool,
}

impl Conditions {
    fn of(job: &Value) -> Self {
        Self {
            complete: has_condition(job, "Complete"),
            failed: has_condition(job, "Failed"),
            failing: has_condition(job, "FailureTarget"),
            succeeding: has_condition(job, "SuccessCriteriaMet"),
        }
    }

    fn finished(&self) -> bool {
        self.complete || self.failed
    }
}

fn check_counts(status: &Spot<'_>, findings: &mut Findings) {
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        findings.not_negative(&status.field(field));
    }
}

fn check_uncounted(pods: &Spot<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    let lists = ["succeeded", "failed"].map(|field| pods.field(field));
    for uid in lists.iter().flat_map(Spot::items) {
        if uid.text().is_empty() {
            findings.invalid(&uid, "must not be empty");
        } else if !seen.insert(uid.text()) {
            findings.duplicate(&uid);
        }
    }
}

struct Change<'a> {
    spec: Spot<'a>,
    new: Spot<'a>,
    old: Spot<'a>,
    is: Conditions,
    was: Conditions,
}

fn moment(spot: &Spot<'_>) -> Option<Timestamp> {
    spot.text().parse().ok()
}

fn number(spot: &Spot<'_>) -> i64 {
    spot.integer().unwrap_or_default()
}

impl Change<'_> {
    fn changed(&self, field: &str) -> bool {
        let (new, old) = (self.new.field(field), self.old.field(field));
        match (new.value, old.value) {
            // counts that are absent are none
            (Value::Null, Value::Number(_)) | (Value::Number(_), Value::Null) => {
                number(&new) != number(&old)
            }
            (new, old) => !same(new, old),
        }
    }

    fn is_indexed(&self) -> bool {
        self.spec.field("completionMode").text() == "Indexed"
    }

    fn conditions(&self, findings: &mut Findings) {
        let (is, was) = (&self.is, &self.was);
        let (completed, failed) = (is.complete != was.complete, is.failed != was.failed);
        let conditions = self.new.field("conditions");
        for (looked_at, wrong, why) in [
            (
                completed || failed,
                is.complete && is.failed,
                "cannot set Complete=True and Failed=true conditions",
            ),
            (
                completed || is.failing != was.failing,
                is.complete && is.failing,
                "cannot set Complete=True and FailureTarget=true conditions",
            ),
            (
                failed || self.changed("failedIndexes"),
                is.failed && !is.failing,
                "cannot set Failed=True condition without the FailureTarget=true condition",
            ),
            (
                completed || is.succeeding != was.succeeding,
                is.complete && !is.succeeding,
                "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
            ),
            (
                true,
                is.succeeding && is.failed,
                "cannot set SuccessCriteriaMet=True and Failed=true conditions",
            ),
            (
                true,
                is.succeeding && is.failing,
                "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
            ),
            (
                self.spec.field("successPolicy").is_there(),
                !is.succeeding && is.complete,
                "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
            ),
        ] {
            if looked_at && wrong {
                findings.invalid_unshown(&conditions, why);
            }
        }
    }

    fn moments(&self, findings: &mut Findings) {
        let [start, end] = ["startTime", "completionTime"].map(|field| self.new.field(field));
        let [started, ended] = ["startTime", "completionTime"].map(|field| self.changed(field));
        let completed = self.is.complete != self.was.complete;
        if (completed || ended) && end.is_there() && !self.is.complete {
            findings.invalid(
                &end,
                "cannot set completionTime when there is no Complete=True condition",
            );
        }
        if (completed || ended) && end.is_absent() && self.is.complete {
            findings.required(&end, "completionTime is required for Complete jobs");
        }
        let backwards = moment(&start).zip(moment(&end)).is_some_and(|(start, end)| end < start);
        if (started || ended) && backwards {
            findings.invalid(&end, "completionTime cannot be set before startTime");
        }
        if ended && end.is_there() && self.old.field("completionTime").is_there() {
            findings.invalid(&end, "completionTime cannot be mutated");
        }
        // a suspended job that is to do nothing is complete without ever having begun
        let suspended = self.spec.field("suspend").is_true();
        let idle = suspended && self.spec.field("completions").integer() == Some(0);
        let finished = self.is.finished() != self.was.finished();
        if (finished || started) && start.is_absent() && self.is.finished() && !idle {
            findings.required(&start, "startTime is required for finished job");
        }
        if started && self.old.field("startTime").is_there() && !suspended {
            findings.required(&start, "startTime cannot be removed for unsuspended job");
        }
    }

    /// The pods of a job that is finished are gone, and are counted.
    fn pods(&self, findings: &mut Findings) {
        let now_finished = self.is.finished();
        let finished = now_finished != self.was.finished();
        for (field, why) in [
            ("active", "active>0 is invalid for finished job"),
            ("terminating", "terminating>0 is invalid for finished job"),
        ] {
            let pods = self.new.field(field);
            if (finished || self.changed(field)) && number(&pods) > 0 && now_finished {
                findings.invalid(&pods, why);
            }
        }
        let uncounted = self.new.field("uncountedTerminatedPods");
        let any = ["succeeded", "failed"].iter().any(|list| !uncounted.field(list).is_empty());
        if (finished || self.changed("uncountedTerminatedPods")) && any && now_finished {
            let why = "uncountedTerminatedPods needs to be empty for finished job";
            findings.invalid(&uncounted, why);
        }
        let ready = self.new.field("ready");
        let changed = self.changed("ready") || self.changed("active");
        if changed && ready.is_there() && number(&ready) > number(&self.new.field("active")) {
            findings.invalid(&ready, "cannot set more ready pods than active");
        }
    }

    fn indexes(&self, findings: &mut Findings) {
        let [done, failed] =
            ["completedIndexes", "failedIndexes"].map(|field| self.new.field(field));
        let [done_changed, failed_changed] =
            ["completedIndexes", "failedIndexes"].map(|field| self.changed(field));
        let completions = self.spec.field("completions").integer();
        let limit = self.spec.field("backoffLimitPerIndex");
        if let Some(completions) = completions {
            if done_changed && let Err(why) = count(done.text(), completions) {
                findings.invalid(&done, format!("error parsing completedIndexes: {why}"));
            }
            if failed_changed
                && limit.is_there()
                && let Err(why) = count(failed.text(), completions)
            {
                findings.invalid(&failed, format!("error parsing failedIndexes: {why}"));
            }
        }
        if done_changed && !done.is_empty() && !self.is_indexed() {
            let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
            findings.invalid(&done, why);
        }
        if failed_changed && failed.is_there() && limit.is_absent() {
            let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            findings.invalid(&failed, why);
        }
        let both = completions
            .filter(|_| done_changed || failed_changed)
            .and_then(|completions| overlap(done.text(), failed.text(), completions));
        if let Some(index) = both {
            let why = format!("failedIndexes and completedIndexes overlap at index: {index}");
            findings.invalid(&failed, why);
        }
    }

    /// What was said of a job is not taken back.
    fn steps_back(&self, findings: &mut Findings) {
        let (is, was) = (&self.is, &self.was);
        let conditions = self.new.field("conditions");
        for (was, is, name) in [
            (was.failed, is.failed, "Failed"),
            (was.complete, is.complete, "Complete"),
            (was.failing, is.failing, "FailureTarget"),
        ] {
            if was && !is {
                let why = format!("cannot disable the terminal {name}=True condition");
                findings.invalid_unshown(&conditions, why);
            }
        }
        // those of a job that shrinks are no longer counted
        let elastic = self.is_indexed()
            && self.spec.field("completions").value == self.spec.field("parallelism").value;
        for (field, may) in [("failed", false), ("succeeded", elastic)] {
            let counter = self.new.field(field);
            if !may && number(&counter) < number(&self.old.field(field)) {
                findings.invalid(&counter, format!("cannot decrease the {field} counter"));
            }
        }
        if was.succeeding && !is.succeeding {
            let why = "cannot disable the SuccessCriteriaMet=True condition";
            findings.invalid_unshown(&conditions, why);
        }
        if was.complete && !was.succeeding && is.succeeding {
            let why =
                "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
            findings.invalid_unshown(&conditions, why);
        }
    }
}

#[cfg(test)]
#[path = "job_status_tests.rs"]
mod tests;
