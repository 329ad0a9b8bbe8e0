//! What a cluster adds to a pod, and refuses, beside what the pod's own fields say.
//!
//! These are the parts of kube-apiserver's admission plugins that every cluster has on
//! (<https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/>): pure functions of the pod and of what
//! it names. They run after defaulting and before validation.

pub mod account;
pub mod addresses;
pub mod guard;
pub mod pods;
pub mod priority;
pub mod tolerations;

use serde_json::Value;

/// What can be left out, by the names that kube-apiserver has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
#[expect(missing_docs, reason = "Kubernetes' own words")]
pub enum Plugin {
    ServiceAccount,
    Priority,
    DefaultTolerationSeconds,
    NodeRestriction,
}

/// The list at a field of a map, made when it is absent; `None` when something else stands there.
fn list<'a>(object: &'a mut Value, field: &str) -> Option<&'a mut Vec<Value>> {
    let slot = object.as_object_mut()?.entry(field).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Array(Vec::new());
    }
    slot.as_array_mut()
}
