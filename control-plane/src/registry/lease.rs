//! Leases: who leads, and which node is alive.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, columns, name, text};
use super::kind::Kind;
use super::strategy::Strategy;
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};

/// `coordination.k8s.io/v1 Lease`.
pub fn kind() -> Kind {
    let mut kind = Kind::new("coordination.k8s.io", "v1", "Lease", "leases")
        .columns(columns("Name Holder Age"))
        .behaves(Lease);
    kind.create_on_update = true;
    kind.unconditional_update = false;
    kind
}

struct Lease;

impl Strategy for Lease {
    /// Fields of a gate that is off (`CoordinatedLeaderElection`) are dropped.
    fn default(&self, object: &mut Value) {
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
            spec.retain(|field, _| !matches!(&**field, "strategy" | "preferredHolder"));
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let root = Spot::root(object);
        let duration = root.pointer("/spec/leaseDurationSeconds");
        if duration.integer().is_some_and(|seconds| seconds <= 0) {
            findings.invalid(&duration, "must be greater than 0");
        }
        findings.not_negative(&root.pointer("/spec/leaseTransitions"));
        findings.into_vec()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            json!(name(object)),
            json!(text(object, "/spec/holderIdentity")),
            json!(age(object, now)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_lasts() {
        for (spec, expected) in [
            (json!({"leaseDurationSeconds": 1, "leaseTransitions": 0}), ""),
            (
                json!({"leaseDurationSeconds": 0}),
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
            ),
            (
                json!({"leaseTransitions": -1}),
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
            ),
        ] {
            let errors = Lease.validate(&json!({"spec": spec}));
            let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(told.join(""), expected);
        }
        let mut lease = json!({"spec": {"holderIdentity": "a", "strategy": "OldestEmulationVersion", "preferredHolder": "b"}});
        Lease.default(&mut lease);
        assert_eq!(lease["spec"], json!({"holderIdentity": "a"}));
    }
}
