//! JSON patch, JSON merge patch and strategic merge patch: what an object is after somebody asked for a change.
//!
//! A patch is a JSON value that was read already, with the limit of depth that reading has; these functions know nothing of
//! versions, owners or kinds. Server-side apply, the fourth way, is in [`apply`](crate::apply).

pub mod json;
pub mod merge;
pub mod strategic;
#[cfg(test)]
pub(crate) mod testing;

use serde_json::Value;

use crate::schema::decode::go_kind;

/// How deep maps and lists may stand within each other in what a patch makes: what is stored has to be read again.
pub const DEPTH_MAX: usize = 120;

/// A patch that does not apply. The sentences of the variants are Kubernetes' where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// It is not a patch of its kind: a bad request (400).
    #[error("{0}")]
    Malformed(String),
    /// It cannot be applied to this object: unprocessable (422). Kubernetes says "the server rejected our request due to an
    /// error in our request" and keeps this sentence to itself.
    #[error("{0}")]
    Rejected(String),
    /// It asks for too much: 413.
    #[error("{0}")]
    TooLarge(String),
}

/// Refuses a value in which maps and lists stand too deep within each other.
pub(crate) fn check_depth(value: &Value) -> Result<(), PatchError> {
    if deeper_than(value, DEPTH_MAX) {
        Err(PatchError::Rejected(format!(
            "the patched object would have more than {DEPTH_MAX} maps and lists within each other"
        )))
    } else {
        Ok(())
    }
}

/// A patch that should be a map, and is not.
fn no_map(found: &Value) -> String {
    let kind = go_kind(found);
    format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")
}

fn deeper_than(value: &Value, most: usize) -> bool {
    let deeper = |value: &Value| most == 0 || deeper_than(value, most - 1);
    match value {
        Value::Array(items) => most == 0 || items.iter().any(deeper),
        Value::Object(fields) => most == 0 || fields.values().any(deeper),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> Value {
        (0..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]))
    }

    #[test]
    fn depth_is_counted_in_maps_and_lists() {
        assert_eq!(check_depth(&nested(DEPTH_MAX)), Ok(()));
        assert!(matches!(check_depth(&nested(DEPTH_MAX + 1)), Err(PatchError::Rejected(_))));
    }
}
