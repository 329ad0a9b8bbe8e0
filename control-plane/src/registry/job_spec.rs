//! What is wrong with a job's spec; that of a `CronJob`'s template is one as well. Sentences are those of
//! `k8s.io/kubernetes/pkg/apis/batch/validation`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::job_indexes;
use super::podspec::{Whose, template_mistakes};
use crate::meta::domain_path;
use crate::meta::findings::{Findings, Spot};

/// How many pods of a job with indexes may run at once.
const MOST_PARALLEL: i64 = 100_000;
/// How many rules a policy may have, and how many values one of them.
const MOST_RULES: usize = 20;
const MOST_VALUES: usize = 255;
/// How long the name of a controller may be, and a list of indexes.
const LONGEST_MANAGER: usize = 63;
const LONGEST_INDEXES: usize = 64 * 1024;
/// With more completions than this, what a limit for each index counts is bounded.
const MANY: i64 = 100_000;
const MOST_OF_MANY: i64 = 10_000;

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
    let manager = spec.field("managedBy");
    if manager.is_there() {
        domain_path::check(&manager, findings);
        findings.at_most_bytes(&manager, LONGEST_MANAGER);
    }
    check_indexes(&spec, findings);
    let failures = spec.field("podFailurePolicy");
    if failures.is_there() {
        check_failures(&spec, findings);
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
    let over = |spot: &Spot<'_>, most: i64| spot.integer().is_some_and(|count| count > most);
    if over(&parallel, MOST_PARALLEL) {
        let why = format!(
            "must be less than or equal to {MOST_PARALLEL} when completion mode is Indexed"
        );
        findings.invalid(&parallel, why);
    }
    if completions.integer().is_some_and(|completions| over(&most, completions)) {
        findings.invalid(&most, "must be less than or equal to completions");
    }
    if over(&most, MANY) {
        findings.invalid(&most, format!("must be less than or equal to {MANY}"));
    }
    if over(&completions, MANY) && each.is_there() {
        if most.is_absent() {
            let why = format!("must be specified when completions is above {MANY}");
            findings.required(&most, why);
        }
        for spot in [parallel, most].iter().filter(|spot| over(spot, MOST_OF_MANY)) {
            let why = format!(
                "must be less than or equal to {MOST_OF_MANY} when completions are above {MANY} and used with backoff limit per index"
            );
            findings.invalid(spot, why);
        }
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

fn check_failures(spec: &Spot<'_>, findings: &mut Findings) {
    let (rules, pod) = (spec.pointer("/podFailurePolicy/rules"), spec.pointer("/template/spec"));
    findings.at_most(&rules, MOST_RULES);
    let lists = ["containers", "initContainers"].map(|field| pod.field(field));
    let names: BTreeSet<&str> =
        lists.iter().flat_map(Spot::items).map(|one| one.field("name").text()).collect();
    for rule in rules.items() {
        let action = rule.field("action");
        told_one_of(&action, &["Count", "FailIndex", "FailJob", "Ignore"], findings);
        if action.text() == "FailIndex" && spec.field("backoffLimitPerIndex").is_absent() {
            findings.invalid(&action, "requires the backoffLimitPerIndex to be set");
        }
        let (codes, conditions) = (rule.field("onExitCodes"), rule.field("onPodConditions"));
        if codes.is_there() {
            check_exit_codes(&codes, &names, findings);
        }
        findings.at_most(&conditions, MOST_RULES);
        for condition in conditions.items() {
            let (kind, status) = (condition.field("type"), condition.field("status"));
            findings.sentences(&kind, crate::meta::name::qualified(kind.text()));
            told_one_of(&status, &["False", "True", "Unknown"], findings);
        }
        match (codes.is_there(), !conditions.is_empty()) {
            (true, true) => findings.invalid_unshown(
                &rule,
                "specifying both OnExitCodes and OnPodConditions is not supported",
            ),
            (false, false) => findings.invalid_unshown(
                &rule,
                "specifying one of OnExitCodes and OnPodConditions is required",
            ),
            _ => {}
        }
    }
}

/// Like [`Findings::required_one_of`], with the values told of one that is absent, too.
fn told_one_of(spot: &Spot<'_>, allowed: &[&str], findings: &mut Findings) {
    if spot.is_empty() {
        let values: Vec<String> = allowed.iter().map(|value| format!("{value:?}")).collect();
        findings.required(spot, format!("valid values: [{}]", values.join(" ")));
    } else {
        findings.one_of(spot, allowed);
    }
}

fn check_exit_codes(codes: &Spot<'_>, names: &BTreeSet<&str>, findings: &mut Findings) {
    let operator = codes.field("operator");
    told_one_of(&operator, &["In", "NotIn"], findings);
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
        let named = check_named(&indexes, spec, findings);
        findings.not_negative(&count);
        if count.integer() > spec.field("completions").integer() {
            let why = format!(
                "must be less than or equal to {} (the number of specified completions)",
                spec.field("completions").integer().unwrap_or_default()
            );
            findings.invalid(&count, why);
        }
        if indexes.is_there() && count.integer() > Some(named) {
            let why = format!(
                "must be less than or equal to {named} (the number of indexes in the specified succeededIndexes field)"
            );
            findings.invalid(&count, why);
        }
    }
}

/// How many indexes a rule names.
fn check_named(indexes: &Spot<'_>, spec: &Spot<'_>, findings: &mut Findings) -> i64 {
    findings.at_most_bytes(indexes, LONGEST_INDEXES);
    let completions = spec.field("completions").integer().unwrap_or_default();
    job_indexes::count(indexes.text(), completions).unwrap_or_else(|why| {
        findings.invalid(indexes, format!("error parsing succeededIndexes: {why}"));
        0
    })
}

/// As much as the status of a job with indexes can tell of reliably.
const RELIABLE: (i64, i64) = (100_000, 10_000);

/// What there is to tell of the spec of a job that is new.
pub fn warnings(spec: &Spot<'_>) -> Vec<String> {
    let count = |field: &str| spec.field(field).integer().unwrap_or_default();
    let indexed = spec.field("completionMode").text() == "Indexed";
    let many = indexed && count("completions") > RELIABLE.0 && count("parallelism") > RELIABLE.1;
    let told = many.then(|| {
        format!("{}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail", spec.path)
    });
    told.into_iter().chain(super::podspec::warnings(&spec.field("template"))).collect()
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
    fn limits_of_indexes() {
        let indexed = |more: Value| {
            let mut spec = json!({"completionMode": "Indexed", "completions": 3, "parallelism": 1});
            spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
            told(spec, json!({}))
        };
        let success = |rule: Value| json!({"successPolicy": {"rules": [rule]}});
        for (more, expected) in [
            (json!({"managedBy": "acme.io/jobs"}), ""),
            (
                json!({"managedBy": "jobs"}),
                "spec.managedBy: Invalid value: \"jobs\": must be a domain-prefixed path",
            ),
            (
                json!({"managedBy": format!("acme.io/{}", "x".repeat(63))}),
                "spec.managedBy: Too long: may not be more than 63 bytes",
            ),
            (json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 3}), ""),
            (
                json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 4}),
                "spec.maxFailedIndexes: Invalid value: 4: must be less than or equal to completions",
            ),
            (
                json!({"parallelism": 100_001}),
                "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when",
            ),
            (
                json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 100_001, "completions": 100_001, "parallelism": 1}),
                "must be less than or equal to 10",
            ),
            (json!({"completions": 100_001}), ""),
            (
                json!({"completions": 100_001, "backoffLimitPerIndex": 1}),
                "spec.maxFailedIndexes: Required value: must be specified when completions is above 100000",
            ),
            (
                json!({"completions": 100_001, "backoffLimitPerIndex": 1, "maxFailedIndexes": 1, "parallelism": 10_001}),
                "spec.parallelism: Invalid value: 10001: must be less than or equal to 10000 when completions are above 100000",
            ),
            (success(json!({"succeededIndexes": "0,2"})), ""),
            (success(json!({"succeededIndexes": "0,2", "succeededCount": 2})), ""),
            (
                success(json!({"succeededIndexes": "0,2", "succeededCount": 3})),
                "must be less than or equal to 2 (the number of indexes in",
            ),
            (
                success(json!({"succeededIndexes": "3"})),
                "succeededIndexes: Invalid value: \"3\": error parsing succeededIndexes: too large index",
            ),
            (
                success(json!({"succeededCount": 4})),
                "must be less than or equal to 3 (the number of specified completions)",
            ),
            (success(json!({})), "spec.successPolicy.rules[0]: Required value: at least one of"),
            (json!({"successPolicy": {"rules": []}}), "spec.successPolicy.rules: Required value"),
        ] {
            let told = indexed(more.clone());
            assert_eq!(told.is_empty(), expected.is_empty(), "{more}: {told:?}");
            assert!(told.iter().all(|one| one.contains(expected)), "{more}: {told:?}");
        }
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
        let lone =
            json!([{"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [1]}}, {}]);
        assert_eq!(
            told(json!({"podFailurePolicy": {"rules": lone}}), json!({})),
            [
                r#"spec.podFailurePolicy.rules[0].action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set"#,
                r#"spec.podFailurePolicy.rules[1].action: Required value: valid values: ["Count" "FailIndex" "FailJob" "Ignore"]"#,
                "spec.podFailurePolicy.rules[1]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
            ]
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
