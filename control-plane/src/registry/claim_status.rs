//! What is told of how a claim is made larger. Sentences are those of `k8s.io/kubernetes/pkg/apis/core/validation`.

use serde_json::{Value, json};

use crate::meta::field_error::{FieldError, FieldPath, Mistake};
use crate::meta::findings::{Findings, Spot};
use crate::meta::name;
use crate::meta::quantity::Quantity;

/// How far a resize is.
const STATUSES: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

/// What is wrong with the status of a claim.
pub fn mistakes(object: &Value) -> Vec<FieldError> {
    let mut findings = Findings::default();
    let status = Spot::root(object).field("status");
    for (_, amount) in status.field("capacity").entries() {
        check_amount(&amount, &mut findings);
    }
    // so is it called there
    let place = status.path.field("allocatedResourceStatus");
    for (key, found) in status.field("allocatedResourceStatuses").entries() {
        check_key(key, &place, &mut findings);
        if !STATUSES.contains(&found.text()) {
            not_supported(key, &place, &STATUSES, &mut findings);
        }
    }
    let allocated = status.field("allocatedResources");
    for (key, amount) in allocated.entries() {
        if check_key(key, &allocated.path, &mut findings) {
            check_amount(&amount, &mut findings);
        }
    }
    findings.into_vec()
}

fn check_amount(amount: &Spot<'_>, findings: &mut Findings) {
    let Ok(size) = Quantity::from_json(amount.value) else { return };
    if size.value() < 0 {
        let told = json!(size.value());
        findings
            .invalid(&Spot::at(&told, amount.path.clone()), "must be a valid resource quantity");
    }
}

/// Whether a claim may have such a resource: of Kubernetes' own only `storage`.
fn check_key(key: &str, place: &FieldPath, findings: &mut Findings) -> bool {
    let before = findings.len();
    let told = json!(key);
    findings.sentences(&Spot::at(&told, place.clone()), name::qualified(key));
    let native = !key.contains('/') || key.contains("kubernetes.io/");
    if findings.len() == before && native && key != "storage" {
        not_supported(key, place, &["storage"], findings);
    }
    findings.len() == before
}

fn not_supported(key: &str, place: &FieldPath, known: &[&str], findings: &mut Findings) {
    let known = known.iter().map(|&one| one.to_owned()).collect();
    findings.add(FieldError::new(place.clone(), Mistake::NotSupported(json!(key), known), ""));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_steps_are_looked_at() {
        let told = |status: Value| -> Vec<String> {
            mistakes(&json!({"status": status})).iter().map(ToString::to_string).collect()
        };
        let good = json!({"capacity": {"storage": "1Gi"}, "allocatedResources": {"storage": "2Gi", "x.io/y": "1"},
            "allocatedResourceStatuses": {"storage": "NodeResizePending"}});
        assert!(told(good).is_empty());
        assert_eq!(
            told(json!({"capacity": {"storage": "-1"}, "allocatedResources": {"cpu": "-1", "storage": "-2"},
                "allocatedResourceStatuses": {"storage": "Soon", "a b": "NodeResizePending"}}))
            .iter()
            .map(|line| line.split(" name part").next().unwrap_or_default())
            .collect::<Vec<_>>(),
            [
                "status.capacity[storage]: Invalid value: -1: must be a valid resource quantity",
                r#"status.allocatedResourceStatus: Invalid value: "a b":"#,
                r#"status.allocatedResourceStatus: Unsupported value: "storage": supported values: "ControllerResizeInProgress", "ControllerResizeInfeasible", "NodeResizeInProgress", "NodeResizeInfeasible", "NodeResizePending""#,
                r#"status.allocatedResources: Unsupported value: "cpu": supported values: "storage""#,
                "status.allocatedResources[storage]: Invalid value: -2: must be a valid resource quantity",
            ]
        );
    }
}
