//! Disruption budgets: how many pods of a kind may be evicted.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::amount;
use super::column::{age, columns, name, number};
use super::kind::{Kind, Subresource};
use super::strategy::Strategy;
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};
use crate::meta::{condition, go_value, selector};

/// `policy/v1 PodDisruptionBudget`.
pub fn kind() -> Kind {
    Kind::new("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
        .short(&["pdb"])
        .with(&[Subresource::Status])
        .with_generation()
        .columns(columns("Name Min_Available Max_Unavailable #Allowed_Disruptions Age"))
        .behaves(Budget)
}

struct Budget;

impl Strategy for Budget {
    fn first_status(&self, _: &Value) -> Option<Value> {
        Some(
            json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}),
        )
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let spec = Spot::root(object).field("spec").of(&go_value::BUDGET);
        let (least, most) = (spec.field("minAvailable"), spec.field("maxUnavailable"));
        if least.is_there() && most.is_there() {
            findings.invalid(&spec, "minAvailable and maxUnavailable cannot be both set");
        }
        for amount in [least, most] {
            amount::check(&amount, &mut findings);
            amount::at_most_all(&amount, &mut findings);
        }
        let pods = spec.field("selector");
        findings.extend(selector::validate(pods.value, &pods.path));
        findings
            .one_of(&spec.field("unhealthyPodEvictionPolicy"), &["AlwaysAllow", "IfHealthyBudget"]);
        findings.into_vec()
    }

    fn validate_status(&self, object: &Value, _: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let status = Spot::root(object).field("status");
        condition::check(&status.field("conditions"), &mut findings);
        for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            findings.not_negative(&status.field(field));
        }
        findings.into_vec()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let cell = |pointer| match object.pointer(pointer) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => "N/A".to_owned(),
        };
        vec![
            json!(name(object)),
            json!(cell("/spec/minAvailable")),
            json!(cell("/spec/maxUnavailable")),
            json!(number(object, "/status/disruptionsAllowed")),
            json!(age(object, now)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_count_or_a_part() {
        let told = |spec: Value| {
            let errors = Budget.validate(&json!({"spec": spec}));
            errors
                .iter()
                .map(|error| format!("{}: {}", error.path, error.detail))
                .collect::<Vec<_>>()
        };
        assert!(
            told(json!({"minAvailable": "50%", "selector": {"matchLabels": {"a": "b"}}}))
                .is_empty()
        );
        assert!(told(json!({"maxUnavailable": 1})).is_empty());
        assert_eq!(
            told(json!({"maxUnavailable": "101%"})),
            ["spec.maxUnavailable: must not be greater than 100%"]
        );
        assert_eq!(
            told(json!({"maxUnavailable": -1})),
            ["spec.maxUnavailable: must be greater than or equal to 0"]
        );
        assert_eq!(
            told(json!({"maxUnavailable": 1, "minAvailable": 1})),
            ["spec: minAvailable and maxUnavailable cannot be both set"]
        );
        assert_eq!(
            told(json!({"unhealthyPodEvictionPolicy": "Never", "selector": {"matchLabels": {"a b": ""}}})).len(),
            2
        );
        let status = json!({"status": {"expectedPods": -1, "conditions": [{"type": "a"}]}});
        let paths: Vec<String> =
            Budget.validate_status(&status, &status).iter().map(|e| e.path.to_string()).collect();
        assert_eq!(
            paths,
            [
                "status.conditions[0].status",
                "status.conditions[0].lastTransitionTime",
                "status.conditions[0].reason",
                "status.expectedPods",
            ]
        );
        let both = Budget.validate(&json!({"spec": {"maxUnavailable": 1, "minAvailable": "1%"}}));
        assert_eq!(
            both[0].body(),
            r#"Invalid value: policy.PodDisruptionBudgetSpec{MinAvailable:(*intstr.IntOrString)(intstr.IntOrString{Type:1, IntVal:0, StrVal:"1%"}), Selector:(*v1.LabelSelector)(nil), MaxUnavailable:(*intstr.IntOrString)(intstr.IntOrString{Type:0, IntVal:1, StrVal:""}), UnhealthyPodEvictionPolicy:(*policy.UnhealthyPodEvictionPolicyType)(nil)}: minAvailable and maxUnavailable cannot be both set"#
        );
        let row = Budget.row(&json!({"spec": {"minAvailable": 2}}), Timestamp::UNIX_EPOCH);
        assert_eq!(
            (&row[1], &row[2], row.len()),
            (&json!("2"), &json!("N/A"), kind().columns.len())
        );
    }
}
