//! Quotas and limit ranges: kept and shown; nothing enforces them yet.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, columns, items, map, name, text};
use super::kind::{Kind, Subresource};
use super::strategy::Strategy;
use super::{limit_spec, quota_spec};
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};
use crate::meta::name as names;

/// `v1 ResourceQuota`, `v1 LimitRange`.
pub fn kinds() -> [Kind; 2] {
    [
        Kind::new("", "v1", "ResourceQuota", "resourcequotas")
            .short(&["quota"])
            .with(&[Subresource::Status])
            .columns(columns("Name Request Limit Age"))
            .behaves(Quota),
        Kind::new("", "v1", "LimitRange", "limitranges")
            .short(&["limits"])
            .columns(columns("Name Created_At"))
            .behaves(Limits),
    ]
}

struct Quota;

impl Strategy for Quota {
    fn first_status(&self, _: &Value) -> Option<Value> {
        Some(json!({}))
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let spec = Spot::root(object).field("spec");
        quota_spec::check_amounts(&spec.field("hard"), &mut findings);
        quota_spec::check_scopes(&spec, &mut findings);
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let scopes = |object| -> BTreeSet<&str> {
            items(object, "/spec/scopes").iter().filter_map(Value::as_str).collect()
        };
        if scopes(object) != scopes(old) {
            findings.invalid(&Spot::root(object).pointer("/spec/scopes"), "field is immutable");
        }
        findings.into_vec()
    }

    fn validate_status(&self, object: &Value, _: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        for list in ["/status/hard", "/status/used"] {
            quota_spec::check_amounts(&Spot::root(object).pointer(list), &mut findings);
        }
        findings.into_vec()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (resource, hard) in map(object, "/status/hard").into_iter().flatten() {
            let used =
                map(object, "/status/used").and_then(|used| used.get(resource)).map_or("0", shown);
            let cell = format!("{resource}: {used}/{}", shown(hard));
            if resource.starts_with("limits.") { limits.push(cell) } else { requests.push(cell) }
        }
        vec![
            json!(name(object)),
            json!(requests.join(", ")),
            json!(limits.join(", ")),
            json!(age(object, now)),
        ]
    }
}

fn shown(amount: &Value) -> &str {
    amount.as_str().unwrap_or_default()
}

struct Limits;

impl Strategy for Limits {
    /// What a limit is by default is the most there may be; what is asked for by default is the limit.
    fn default(&self, object: &mut Value) {
        let limits = object.pointer_mut("/spec/limits").and_then(Value::as_array_mut);
        for limit in limits.into_iter().flatten().filter(|limit| limit["type"] == "Container") {
            for (field, from) in
                [("default", &["max"][..]), ("defaultRequest", &["default", "min"])]
            {
                for source in from {
                    fill(limit, field, source);
                }
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let mut kinds = Vec::new();
        for limit in Spot::root(object).field("spec").field("limits").items() {
            let kind = limit.field("type");
            let sentences = names::qualified(kind.text());
            let known = ["Container", "PersistentVolumeClaim", "Pod"].contains(&kind.text());
            if sentences.is_empty() && !kind.text().contains('/') && !known {
                findings.invalid(&kind, "must be a standard limit type or fully qualified");
            }
            findings.sentences(&kind, sentences);
            if kinds.contains(&kind.text()) {
                findings.duplicate(&kind);
            }
            kinds.push(kind.text());
            limit_spec::check(&limit, &mut findings);
        }
        findings.into_vec()
    }

    fn row(&self, object: &Value, _: Timestamp) -> Vec<Value> {
        vec![json!(name(object)), json!(text(object, "/metadata/creationTimestamp"))]
    }
}

/// Gives a map the entries of another one that it lacks.
fn fill(limit: &mut Value, field: &str, from: &str) {
    let Some(source) = limit.get(from).and_then(Value::as_object).cloned() else { return };
    let Some(map) = limit.as_object_mut() else { return };
    if let Some(target) = map.entry(field).or_insert_with(|| json!({})).as_object_mut() {
        for (resource, amount) in source {
            target.entry(resource).or_insert(amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_quota_shows_what_is_used_of_what() {
        let quota = json!({"metadata": {"name": "q"}, "status": {"hard": {"pods": "10", "limits.cpu": "2"}, "used": {"pods": "3"}}});
        let row = Quota.row(&quota, Timestamp::UNIX_EPOCH);
        assert_eq!((&row[1], &row[2]), (&json!("pods: 3/10"), &json!("limits.cpu: 0/2")));
    }

    #[test]
    fn amounts_are_quantities() {
        let quota = json!({"spec": {"hard": {"pods": "-1", "cpu": "x"}, "scopes": ["Terminating", "NotTerminating", "Sometimes"]}});
        assert_eq!(
            told(&Quota.validate(&quota)),
            [
                r#"spec.hard[cpu]: Invalid value: "x": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"#,
                r#"spec.hard[pods]: Invalid value: "-1": must be greater than or equal to 0"#,
                r#"spec.scopes: Invalid value: []core.ResourceQuotaScope{"Terminating", "NotTerminating", "Sometimes"}: unsupported scope"#,
                r#"spec.scopes: Invalid value: []core.ResourceQuotaScope{"Terminating", "NotTerminating", "Sometimes"}: conflicting scopes"#,
            ]
        );
    }

    #[test]
    fn limits_default_from_the_most_down() {
        let mut limits = json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}]}});
        Limits.default(&mut limits);
        assert_eq!(limits["spec"]["limits"][0]["default"], json!({"cpu": "2"}));
        assert_eq!(
            limits["spec"]["limits"][0]["defaultRequest"],
            json!({"cpu": "2", "memory": "1Mi"})
        );
        assert!(Limits.validate(&limits).is_empty());
        let wrong = json!({"spec": {"limits": [{"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "1"}, "default": {"cpu": "1"}}]}});
        assert_eq!(
            told(&Limits.validate(&wrong)),
            [
                "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
                r#"spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1"#,
            ]
        );
    }
}
