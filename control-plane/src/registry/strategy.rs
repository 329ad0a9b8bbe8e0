//! How a kind behaves where kinds differ.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column;
use crate::meta::field_error::FieldError;

/// How a kind behaves. The machinery has dealt with metadata, subresources and generation when it asks.
pub trait Strategy: Send + Sync + 'static {
    /// Fills in what the caller left out.
    fn default(&self, object: &mut Value) {
        let _ = object;
    }

    /// Fills in what only a new object is given, before its defaults: a later write has to bring it along.
    fn prepare_create(&self, object: &mut Value) {
        let _ = object;
    }

    /// Takes out of an object that is written what this server does not do, as Kubernetes does with fields of features that are off;
    /// `old` is `None` when the object is made. It is asked before [`default`](Self::default).
    fn drop_disabled(&self, object: &mut Value, old: Option<&Value>) {
        let _ = (object, old);
    }

    /// The status of a new object, for kinds with one of their own; `None` removes what the caller sent.
    fn first_status(&self, object: &Value) -> Option<Value> {
        let _ = object;
        None
    }

    /// Puts into an object that is made, after it was looked at, what follows from it.
    fn complete(&self, object: &mut Value) {
        let _ = object;
    }

    /// Puts right what a write of the status says, before it is looked at.
    fn settle_status(&self, object: &mut Value, old: &Value) {
        let _ = (object, old);
    }

    /// Puts back what a write of the object itself may not change, besides metadata and status.
    fn keep(&self, object: &mut Value, old: &Value) {
        let _ = (object, old);
    }

    /// What is wrong with an object.
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let _ = object;
        Vec::new()
    }

    /// What is wrong with an object that is made, and would not be later; [`validate`](Self::validate) is asked as well.
    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let _ = object;
        Vec::new()
    }

    /// What is wrong with a change; [`validate`](Self::validate) is asked as well.
    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let _ = (object, old);
        Vec::new()
    }

    /// What is wrong with a change of the status.
    fn validate_status(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let _ = (object, old);
        Vec::new()
    }

    /// What the caller should hear of a write that is let in; `old` is `None` when the object is made. Writes of the status have none.
    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let _ = (object, old);
        Vec::new()
    }

    /// How many seconds an object stays after a deletion, given what the caller asks for; `None`: it goes at once, as most do.
    fn grace(&self, object: &Value, asked: Option<u64>) -> Option<u64> {
        let _ = (object, asked);
        None
    }

    /// What `kubectl get` shows: as many cells as the kind has columns.
    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        vec![json!(column::name(object)), json!(column::age(object, now))]
    }
}

/// A kind without anything of its own.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl Strategy for Plain {}
