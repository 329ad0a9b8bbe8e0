//! Amounts of pods: a count, or a part in percent. Sentences are those of `k8s.io/kubernetes/pkg/apis/apps/validation`.

use serde_json::Value;

use crate::meta::findings::{Findings, Spot};
use crate::meta::go_value::GoType;

const NO_PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

fn percent(amount: &Spot<'_>) -> Option<u32> {
    let digits = amount.text().strip_suffix('%')?;
    // more digits than fit are more than the whole, too
    let number = digits.bytes().all(|digit| digit.is_ascii_digit()) && !digits.is_empty();
    number.then(|| digits.parse().unwrap_or(u32::MAX))
}

/// A count that is not negative, or a part.
pub fn check(amount: &Spot<'_>, findings: &mut Findings) {
    findings.not_negative(amount);
    if matches!(amount.value, Value::String(_)) && percent(amount).is_none() {
        findings.invalid(&amount.clone().of(&GoType::IntOrString), NO_PERCENT);
    }
}

/// A part is not more than the whole.
pub fn at_most_all(amount: &Spot<'_>, findings: &mut Findings) {
    if percent(amount).is_some_and(|percent| percent > 100) {
        findings.invalid(&amount.clone().of(&GoType::IntOrString), "must not be greater than 100%");
    }
}

/// Nothing at all, as a count or as a part.
pub fn is_nothing(amount: &Spot<'_>) -> bool {
    amount.integer().unwrap_or_default() == 0 && percent(amount).unwrap_or_default() == 0
}

/// What is a part of what in a status, and how the whole is called in the message.
pub type Part = (&'static str, &'static str, &'static str);

/// What is counted of the pods of a replica set.
pub const OF_REPLICAS: [Part; 4] = [
    ("fullyLabeledReplicas", "replicas", "status.replicas"),
    ("readyReplicas", "replicas", "status.replicas"),
    ("availableReplicas", "replicas", "status.replicas"),
    ("availableReplicas", "readyReplicas", "readyReplicas"),
];

/// Counts of a status are not negative, and no more than what they are a part of.
pub fn check_counts(object: &Value, parts: &[Part], findings: &mut Findings) {
    let status = Spot::root(object).field("status");
    let mut seen = std::collections::BTreeSet::new();
    let counted = parts.iter().flat_map(|(part, whole, _)| [*whole, *part]);
    for field in counted.chain(["observedGeneration"]) {
        if seen.insert(field) {
            findings.not_negative(&status.field(field));
        }
    }
    for (part, whole, called) in parts {
        let count = |field: &str| status.field(field).integer().unwrap_or_default();
        if count(part) > count(whole) {
            findings.invalid(&status.field(part), format!("cannot be greater than {called}"));
        }
    }
}

/// How often the name of a revision was taken already is counted for good.
pub fn check_collisions(object: &Value, old: &Value, findings: &mut Findings) {
    let of = |object| Spot::root(object).field("status").field("collisionCount");
    let (now, before) = (of(object), of(old));
    findings.not_negative(&now);
    let lost = match (now.integer(), before.integer()) {
        (Some(now), Some(before)) => now < before,
        (now, before) => now.is_none() && before.is_some(),
    };
    if lost {
        let count = Value::from(now.integer().unwrap_or_default());
        findings.invalid(&Spot::at(&count, now.path), "cannot be decremented");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_amount_is_a_count_or_a_part() {
        let told = |value: Value| {
            let mut findings = Findings::default();
            let spot = Spot::root(&value);
            check(&spot, &mut findings);
            at_most_all(&spot, &mut findings);
            findings.into_vec().into_iter().map(|error| error.detail).collect::<Vec<_>>()
        };
        assert!(told(json!(3)).is_empty() && told(json!("100%")).is_empty());
        assert_eq!(told(json!(-1)), ["must be greater than or equal to 0"]);
        assert_eq!(told(json!("101%")), ["must not be greater than 100%"]);
        assert_eq!(told(json!("99999999999%")), ["must not be greater than 100%"]);
        for text in ["3", "+3%", "%", "-1%"] {
            assert_eq!(told(json!(text)), [NO_PERCENT], "{text}");
        }
        let nothing = |value: Value| is_nothing(&Spot::root(&value));
        assert!(nothing(json!(0)) && nothing(json!("0%")) && nothing(json!(null)));
        assert!(!nothing(json!(1)) && !nothing(json!("1%")));
    }

    #[test]
    fn a_part_is_no_more_than_the_whole() {
        let mut findings = Findings::default();
        let object =
            json!({"status": {"replicas": 2, "readyReplicas": 3, "availableReplicas": -1}});
        let parts = [
            ("readyReplicas", "replicas", "status.replicas"),
            ("availableReplicas", "readyReplicas", "readyReplicas"),
        ];
        check_counts(&object, &parts, &mut findings);
        let told: Vec<String> = findings.into_vec().iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "status.availableReplicas: Invalid value: -1: must be greater than or equal to 0",
                "status.readyReplicas: Invalid value: 3: cannot be greater than status.replicas",
            ]
        );
    }

    #[test]
    fn collisions_are_counted_for_good() {
        let told = |now: Value, before: Value| {
            let status = |count: Value| json!({"status": {"collisionCount": count}});
            let mut findings = Findings::default();
            check_collisions(&status(now), &status(before), &mut findings);
            findings.into_vec().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(told(json!(2), json!(1)).is_empty() && told(json!(0), Value::Null).is_empty());
        for (now, shown) in [(json!(1), 1), (Value::Null, 0)] {
            let expected =
                format!("status.collisionCount: Invalid value: {shown}: cannot be decremented");
            assert_eq!(told(now, json!(2)), [expected]);
        }
    }
}
