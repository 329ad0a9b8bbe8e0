//! Leases: who leads, and which node is alive.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::check::{Errors, invalid, path};
use super::column::{age, columns, name, text};
use super::kind::Kind;
use super::strategy::Strategy;

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
    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        if let Some(value) = object.pointer("/spec/leaseDurationSeconds")
            && value.as_i64().is_some_and(|seconds| seconds <= 0)
        {
            errors.push(invalid(
                &path("/spec/leaseDurationSeconds"),
                value,
                "must be greater than 0",
            ));
        }
        super::check::not_negative(object, "/spec/leaseTransitions", &mut errors);
        errors
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            json!(name(object)),
            json!(text(object, "/spec/holderIdentity")),
            json!(age(object, now)),
        ]
    }
}
