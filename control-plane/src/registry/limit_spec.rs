//! What is wrong with a limit of a `LimitRange`. Sentences are those of `k8s.io/kubernetes/pkg/apis/core/validation`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::meta::findings::{Findings, Spot};
use crate::meta::name;
use crate::meta::quantity::{Format, Quantity};

const LISTS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];
/// Pairs of lists of which the first is not above the second, which of both is told of, and what they are called.
const ORDERS: [(&str, &str, &str, &str, &str); 6] = [
    ("min", "max", "min", "min", "max"),
    ("min", "defaultRequest", "defaultRequest", "min", "default request"),
    ("defaultRequest", "max", "defaultRequest", "default request", "max"),
    ("defaultRequest", "default", "defaultRequest", "default request", "default limit"),
    ("min", "default", "default", "min", "default"),
    ("default", "max", "default", "default", "max"),
];

/// Looks at a limit.
pub fn check(limit: &Spot<'_>, findings: &mut Findings) {
    let kind = limit.field("type");
    let of_pod = kind.text() == "Pod";
    let mut resources = BTreeSet::new();
    for field in LISTS {
        let list = limit.field(field);
        if of_pod && field.starts_with("default") {
            if !list.is_empty() {
                findings.forbidden(&list, "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for (resource, amount) in list.entries() {
            check_name(kind.text(), resource, &amount, findings);
            if let Err(error) = Quantity::from_json(amount.value) {
                findings.invalid(&amount, error.to_string());
            }
            resources.insert(resource);
        }
    }
    let storage = |field: &str| limit.field(field).field("storage").is_there();
    if kind.text() == "PersistentVolumeClaim" && !storage("min") && !storage("max") {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        findings.required(&limit.field("limits"), why);
    }
    for resource in resources {
        check_order(limit, resource, of_pod, findings);
        check_ratio(limit, resource, findings);
    }
}

fn check_name(kind: &str, resource: &str, amount: &Spot<'_>, findings: &mut Findings) {
    const NODES: [&str; 3] = ["cpu", "ephemeral-storage", "memory"];
    let key = json!(resource);
    let spot = Spot::at(&key, amount.path.clone());
    let sentences = name::qualified(resource);
    let of_containers = matches!(kind, "Pod" | "Container");
    let known = NODES.contains(&resource) || resource.starts_with("hugepages-");
    if sentences.is_empty() && !resource.contains('/') && !known {
        if resource != "storage" {
            findings.invalid(&spot, "must be a standard resource type or fully qualified");
        }
        if of_containers {
            findings.invalid(&spot, "must be a standard resource for containers");
        }
    }
    findings.sentences(&spot, sentences);
}

fn amount(limit: &Spot<'_>, list: &str, resource: &str) -> Option<Quantity> {
    Quantity::from_json(limit.field(list).field(resource).value).ok()
}

/// Where an entry of a list stands, with an amount to tell of.
fn told(
    limit: &Spot<'_>,
    list: &str,
    resource: &str,
    shown: Quantity,
    why: String,
    findings: &mut Findings,
) {
    let value = Value::from(shown.to_string());
    findings.invalid(&Spot::at(&value, limit.field(list).path.key(resource)), why);
}

fn check_order(limit: &Spot<'_>, resource: &str, of_pod: bool, findings: &mut Findings) {
    for (low, high, place, small, large) in ORDERS {
        if of_pod && (low.starts_with("default") || high.starts_with("default")) {
            continue;
        }
        let (Some(least), Some(most)) =
            (amount(limit, low, resource), amount(limit, high, resource))
        else {
            continue;
        };
        if least > most {
            let why = format!("{small} value {least} is greater than {large} value {most}");
            let shown = match place {
                // of these Kubernetes shows the other amount
                "default" if low == "default" => most,
                "default" => least,
                place if place == low => least,
                _ => most,
            };
            told(limit, place, resource, shown, why, findings);
        }
    }
    let fixed = !["cpu", "ephemeral-storage", "memory"].contains(&resource)
        && !resource.contains("kubernetes.io/");
    let whole = resource.contains('/') || resource.starts_with("hugepages-");
    if let (Some(limited), Some(asked), true) = (
        amount(limit, "default", resource),
        amount(limit, "defaultRequest", resource),
        fixed && whole,
    ) && limited != asked
    {
        let why = format!(
            "default value {limited} must equal to defaultRequest value {asked} in {resource}"
        );
        told(limit, "defaultRequest", resource, asked, why, findings);
    }
}

/// A limit is at least what is asked for, and at most as many times as much as the largest limit is of the smallest.
fn check_ratio(limit: &Spot<'_>, resource: &str, findings: &mut Findings) {
    const LIST: &str = "maxLimitRequestRatio";
    let Some(ratio) = amount(limit, LIST, resource) else { return };
    if ratio < Quantity::new(1, Format::DecimalSi) {
        told(limit, LIST, resource, ratio, format!("ratio {ratio} is less than 1"), findings);
    }
    let (Some(least), Some(most)) =
        (amount(limit, "min", resource), amount(limit, "max", resource))
    else {
        return;
    };
    let whole = most.as_double() / least.as_double();
    if ratio.as_double() > whole {
        let why = format!("ratio {ratio} is greater than max/min = {whole:.6}");
        told(limit, LIST, resource, ratio, why, findings);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(limit: Value) -> Vec<String> {
        let (object, mut findings) = (json!({"l": limit}), Findings::default());
        check(&Spot::root(&object).field("l"), &mut findings);
        findings.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn limits_are_in_order() {
        let fine = json!({"type": "Container", "min": {"cpu": "1"}, "max": {"cpu": "4"}, "default": {"cpu": "3"},
            "defaultRequest": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "4"}});
        assert_eq!(found(fine), [""; 0]);
        let cases = [
            (
                json!({"min": {"cpu": "2"}, "default": {"cpu": "1"}}),
                r#"l.default[cpu]: Invalid value: "2": min value 2 is greater than default value 1"#,
            ),
            (
                json!({"max": {"cpu": "1"}, "default": {"cpu": "2"}}),
                r#"l.default[cpu]: Invalid value: "1": default value 2 is greater than max value 1"#,
            ),
            (
                json!({"default": {"cpu": "1"}, "defaultRequest": {"cpu": "2"}}),
                r#"l.defaultRequest[cpu]: Invalid value: "2": default request value 2 is greater than default limit value 1"#,
            ),
            (
                json!({"maxLimitRequestRatio": {"cpu": "500m"}}),
                r#"l.maxLimitRequestRatio[cpu]: Invalid value: "500m": ratio 500m is less than 1"#,
            ),
            (
                json!({"min": {"cpu": "1"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "3"}}),
                r#"l.maxLimitRequestRatio[cpu]: Invalid value: "3": ratio 3 is greater than max/min = 2.000000"#,
            ),
            (
                json!({"default": {"a.b/c": "2"}, "defaultRequest": {"a.b/c": "1"}}),
                r#"l.defaultRequest[a.b/c]: Invalid value: "1": default value 2 must equal to defaultRequest value 1 in a.b/c"#,
            ),
        ];
        for (mut limit, expected) in cases {
            limit["type"] = json!("Container");
            assert_eq!(found(limit.clone()), [expected], "{limit}");
        }
        assert_eq!(
            found(json!({"type": "PersistentVolumeClaim", "max": {"cpu": "1"}})),
            [
                "l.limits: Required value: either minimum or maximum storage value is required, but neither was provided"
            ]
        );
        assert_eq!(found(json!({"type": "Pod", "max": {"storage": "1"}})).len(), 1);
    }
}
