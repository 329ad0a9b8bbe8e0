//! Service accounts.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, columns, items, name};
use super::kind::{Kind, Subresource};
use super::strategy::Strategy;

/// `v1 ServiceAccount`.
pub fn kind() -> Kind {
    Kind::new("", "v1", "ServiceAccount", "serviceaccounts")
        .short(&["sa"])
        .with(&[Subresource::Token])
        .columns(columns("Name Secrets Age"))
        .behaves(ServiceAccount)
}

struct ServiceAccount;

impl Strategy for ServiceAccount {
    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![json!(name(object)), json!(items(object, "/secrets").len()), json!(age(object, now))]
    }
}
