//! Conditions of a status (`meta/v1 Condition`), in the words of `k8s.io/apimachinery/pkg/apis/meta/v1/validation`.

use std::collections::BTreeSet;

use super::findings::{Findings, Spot};
use super::name;

const LONGEST_REASON: usize = 1024;
const LONGEST_MESSAGE: usize = 32 * 1024;

/// Looks at a list of conditions.
pub fn check(conditions: &Spot<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for condition in conditions.items() {
        let kind = condition.field("type");
        if !seen.insert(kind.text()) {
            findings.duplicate(&kind);
        }
        findings.sentences(&kind, name::qualified(kind.text()));
        check_one(&condition, findings);
    }
}

fn check_one(condition: &Spot<'_>, findings: &mut Findings) {
    let [status, generation, moment, reason, message] =
        ["status", "observedGeneration", "lastTransitionTime", "reason", "message"]
            .map(|field| condition.field(field));
    findings.one_of_or_empty(&status, &["False", "True", "Unknown"]);
    if generation.integer().is_some_and(|generation| generation < 0) {
        findings.invalid(&generation, "must be greater than or equal to zero");
    }
    for spot in [&moment, &reason] {
        if spot.text().is_empty() {
            findings.required(spot, "must be set");
        }
    }
    if !reason.text().is_empty() {
        findings.sentences(&reason, name::condition_reason(reason.text()));
        findings.at_most_bytes(&reason, LONGEST_REASON);
    }
    findings.at_most_bytes(&message, LONGEST_MESSAGE);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_condition_is_whole() {
        let good = json!({"type": "Ready", "status": "True", "reason": "Ok", "lastTransitionTime": "2026-01-01T00:00:00Z", "message": ""});
        let told = |change: (&str, Value)| {
            let mut one = good.clone();
            one[change.0] = change.1;
            let (list, mut findings) = (json!([one]), Findings::default());
            check(&Spot::root(&list).clone(), &mut findings);
            findings.into_vec().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for (field, value, expected) in [
            ("type", json!("a.b/Ready"), ""),
            ("type", json!("a b"), "[0].type: Invalid value: \"a b\": name part must"),
            (
                "status",
                json!("Yes"),
                "[0].status: Unsupported value: \"Yes\": supported values: \"False\", \"True\", \"Unknown\"",
            ),
            ("status", Value::Null, "[0].status: Unsupported value: \"\""),
            (
                "observedGeneration",
                json!(-1),
                "[0].observedGeneration: Invalid value: -1: must be greater than or equal to zero",
            ),
            (
                "lastTransitionTime",
                Value::Null,
                "[0].lastTransitionTime: Required value: must be set",
            ),
            ("reason", json!(""), "[0].reason: Required value: must be set"),
            ("reason", json!("A:B,c_1"), ""),
            (
                "reason",
                json!("1st"),
                "[0].reason: Invalid value: \"1st\": a condition reason must start with alphabetic character",
            ),
            ("reason", json!("A:"), "[0].reason: Invalid value"),
            (
                "reason",
                json!("a".repeat(1025)),
                "[0].reason: Too long: may not be more than 1024 bytes",
            ),
            (
                "message",
                json!("a".repeat(32769)),
                "[0].message: Too long: may not be more than 32768 bytes",
            ),
        ] {
            let told = told((field, value));
            assert_eq!(told.len(), usize::from(!expected.is_empty()), "{field}: {told:?}");
            assert!(told.iter().all(|one| one.starts_with(expected)), "{field}: {told:?}");
        }
        let (twice, mut findings) = (json!([good, good]), Findings::default());
        check(&Spot::root(&twice), &mut findings);
        assert_eq!(findings.into_vec()[0].to_string(), "[1].type: Duplicate value: \"Ready\"");
    }
}
