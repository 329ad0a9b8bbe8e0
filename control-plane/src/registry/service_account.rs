//! Service accounts.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, columns, items, name};
use super::kind::{Kind, Subresource};
use super::strategy::Strategy;
use crate::meta::object::Meta;

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
    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        const OLD: &str = "kubernetes.io/enforce-mountable-secrets";
        let has = |object| Meta::of(object).annotation(OLD).is_some();
        if !has(object) || old.is_some_and(has) {
            return Vec::new();
        }
        vec![format!(
            "metadata.annotations[{OLD}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
        )]
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![json!(name(object)), json!(items(object, "/secrets").len()), json!(age(object, now))]
    }
}
