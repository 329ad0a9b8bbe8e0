//! What is wrong with a job's spec; that of a `CronJob`'s template is one as well. Sentences are those of
//! `k8s.io/kubernetes/pkg/apis/batch/validation`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::podspec::{Whose, template_mistakes};
use crate::meta::findings::{Findings, Spot};

/// How many pods of a job with indexes may run at once.
const MOST_PARALLEL: i64 = 100_000;
/// How many rules a policy may have, and how many values one of them.
const MOST_RULES: usize = 20;
const MOST_VALUES: usize = 255;

/// What is wrong with the spec at a JSON pointer of names.
pub fn validate(object: &Value, pointer: &str, findings: &mut Findings) {
    let spec = Spot::root(object).pointer(pointer);
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        findings.not_negative(&spec.field(field));
    }
    check_indexes(&spec, findings);
    let failures = spec.field("podFailurePolicy");
    if failures.is_there() {
        check_failures(&failures, &spec.pointer("/template/spec"), findings);
    }
    check_success(&spec, findings);
    let replacing: &[&str] =
        if failures.is_there() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    findings.one_of(&spec.field("podReplacementPolicy"), replacing);
    findings.extend(template_mistakes(object, &format!("{pointer}/template"), Whose::Template));
    check_restart(&spec, findings);
}

fn is_indexed(spec: &Spot<'_>) -> bool {
    spec.field("completionMode").text() == "Indexed"
}

fn check_indexes(spec: &Spot<'_>, findings: &mut Findings) {
    findings.one_of(&spec.field("completionMode"), &["NonIndexed", "Indexed"]);
    let [each, most] = ["backoffLimitPerIndex", "maxFailedIndexes"].map(|field| spec.field(field));
    if most.is_there() && each.is_absent() {
        findings.required(&each, "when maxFailedIndexes is specified");
    }
    if !is_indexed(spec) {
        for field in [each, most].iter().filter(|field| field.is_there()) {
            findings.invalid(field, "requires indexed completion mode");
        }
        return;
    }
    let (completions, parallel) = (spec.field("completions"), spec.field("parallelism"));
    if completions.is_absent() {
        findings.required(&completions, "when completion mode is Indexed");
    }
    if parallel.integer().is_some_and(|count| count > MOST_PARALLEL) {
        let why = format!(
            "must be less than or equal to {MOST_PARALLEL} when completion mode is Indexed"
        );
        findings.invalid(&parallel, why);
    }
}

/// Pods of a job end: nothing else says what becomes of them than this policy, which has to be chosen.
fn check_restart(spec: &Spot<'_>, findings: &mut Findings) {
    let policy = spec.pointer("/template/spec/restartPolicy");
    match policy.text() {
        "" | "Always" => findings.required(&policy, r#"valid values: "OnFailure", "Never""#),
        "OnFailure" if spec.field("podFailurePolicy").is_there() => {
            findings.invalid(
                &policy,
                r#"only "Never" is supported when podFailurePolicy is specified"#,
            );
        }
        _ => findings.one_of(&policy, &["OnFailure", "Never"]),
    }
}

fn check_failures(policy: &Spot<'_>, pod: &Spot<'_>, findings: &mut Findings) {
    let rules = policy.field("rules");
    findings.at_most(&rules, MOST_RULES);
    let lists = ["containers", "initContainers"].map(|field| pod.field(field));
    let names: BTreeSet<&str> =
        lists.iter().flat_map(Spot::items).map(|one| one.field("name").text()).collect();
    for rule in rules.items() {
        let actions = ["Count", "FailIndex", "FailJob", "Ignore"];
        findings.required_one_of(&rule.field("action"), &actions);
        let (codes, conditions) = (rule.field("onExitCodes"), rule.field("onPodConditions"));
        if codes.is_there() {
            check_exit_codes(&codes, &names, findings);
        }
        for condition in conditions.items() {
            let (kind, status) = (condition.field("type"), condition.field("status"));
            findings.sentences(&kind, crate::meta::name::qualified(kind.text()));
            findings.required_one_of(&status, &["False", "True", "Unknown"]);
        }
        match (codes.is_there(), !conditions.is_empty()) {
            (true, true) => findings
                .invalid(&rule, "specifying both OnExitCodes and OnPodConditions is not supported"),
            (false, false) => findings
                .invalid(&rule, "specifying one of OnExitCodes and OnPodConditions is required"),
            _ => {}
        }
    }
}

fn check_exit_codes(codes: &Spot<'_>, names: &BTreeSet<&str>, findings: &mut Findings) {
    let operator = codes.field("operator");
    findings.required_one_of(&operator, &["In", "NotIn"]);
    let container = codes.field("containerName");
    if container.is_there() && !names.contains(container.text()) {
        findings.invalid(
            &container,
            "must be one of the container or initContainer names in the pod template",
        );
    }
    let values = codes.field("values");
    if values.is_empty() {
        findings.invalid(&values, "at least one value is required");
    }
    findings.at_most(&values, MOST_VALUES);
    let mut seen = BTreeSet::new();
    for value in values.items() {
        if !seen.insert(value.integer()) {
            findings.duplicate(&value);
        }
        if value.integer() == Some(0) && operator.text() == "In" {
            findings.invalid(&value, "must not be 0 for the In operator");
        }
    }
    let given: Vec<_> = values.items().map(|value| value.integer()).collect();
    if !given.is_sorted() {
        findings.invalid(&values, "must be ordered");
    }
}

fn check_success(spec: &Spot<'_>, findings: &mut Findings) {
    let policy = spec.field("successPolicy");
    if policy.is_absent() {
        return;
    }
    if !is_indexed(spec) {
        findings.invalid(&policy, "requires indexed completion mode");
        return;
    }
    let rules = policy.field("rules");
    if rules.is_empty() {
        findings.required(
            &rules,
            "at least one rules must be specified when the successPolicy is specified",
        );
    }
    findings.at_most(&rules, MOST_RULES);
    for rule in rules.items() {
        let (count, indexes) = (rule.field("succeededCount"), rule.field("succeededIndexes"));
        if count.is_absent() && indexes.is_absent() {
            findings.required(
                &rule,
                "at least one of succeededCount or succeededIndexes must be specified",
            );
        }
        findings.not_negative(&count);
        if count.integer() > spec.field("completions").integer() {
            let why = format!(
                "must be less than or equal to {} (the number of specified completions)",
                spec.field("completions").integer().unwrap_or_default()
            );
            findings.invalid(&count, why);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The mistakes of a job whose pods run one container, with fields of its own.
    fn told(own: Value, pod: Value) -> Vec<String> {
        let mut spec = json!({"template": {"spec": {
            "restartPolicy": "Never", "dnsPolicy": "Default",
            "containers": [{"name": "a", "image": "a:1", "imagePullPolicy": "Always", "terminationMessagePolicy": "File"}],
        }}});
        for (to, from) in [("", own), ("/template/spec", pod)] {
            let to = spec.pointer_mut(to).unwrap().as_object_mut().unwrap();
            to.extend(from.as_object().cloned().unwrap());
        }
        let mut findings = Findings::default();
        validate(&json!({"spec": spec}), "/spec", &mut findings);
        findings.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn how_pods_restart_has_to_be_said() {
        assert!(told(json!({}), json!({})).is_empty());
        assert_eq!(
            told(json!({}), json!({"restartPolicy": "Always"})),
            [
                r#"spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never""#
            ]
        );
        let policy = json!({"podFailurePolicy": {"rules": []}});
        assert_eq!(
            told(policy, json!({"restartPolicy": "OnFailure"})),
            [
                r#"spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is specified"#
            ]
        );
    }

    #[test]
    fn indexes_have_rules_of_their_own() {
        assert_eq!(
            told(json!({"completionMode": "Indexed"}), json!({})),
            ["spec.completions: Required value: when completion mode is Indexed"]
        );
        assert_eq!(
            told(json!({"maxFailedIndexes": 1}), json!({})),
            [
                "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
                "spec.maxFailedIndexes: Invalid value: 1: requires indexed completion mode",
            ]
        );
        assert_eq!(
            told(json!({"successPolicy": {"rules": [{"succeededCount": 1}]}}), json!({})).len(),
            1
        );
        let good = json!({"completionMode": "Indexed", "completions": 3,
            "successPolicy": {"rules": [{"succeededCount": 1}]}});
        assert!(told(good, json!({})).is_empty());
    }

    #[test]
    fn a_failure_policy_says_when_and_what() {
        let rules = json!([
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1, 42], "containerName": "a"}},
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        ]);
        assert!(told(json!({"podFailurePolicy": {"rules": rules}}), json!({})).is_empty());
        let rules = json!([
            {"action": "Stop", "onExitCodes": {"operator": "In", "values": [0], "containerName": "b"}},
            {"action": "Count"},
        ]);
        let found = told(
            json!({"podFailurePolicy": {"rules": rules}, "podReplacementPolicy": "TerminatingOrFailed"}),
            json!({}),
        );
        let paths: Vec<&str> =
            found.iter().filter_map(|one| Some(one.split_once(": ")?.0)).collect();
        assert_eq!(
            paths,
            [
                "spec.podFailurePolicy.rules[0].action",
                "spec.podFailurePolicy.rules[0].onExitCodes.containerName",
                "spec.podFailurePolicy.rules[0].onExitCodes.values[0]",
                "spec.podFailurePolicy.rules[1]",
                "spec.podReplacementPolicy",
            ]
        );
    }
}
