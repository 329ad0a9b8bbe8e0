//! JSON merge patch, RFC 7386: maps are merged, null removes, everything else is replaced.

use serde_json::{Map, Value};

use super::{PatchError, check_depth, no_map};

/// What an object is after a merge patch, which must be a map.
pub fn apply(mut object: Value, patch: Value) -> Result<Value, PatchError> {
    match &patch {
        Value::Object(_) => {}
        Value::Null => return Err(PatchError::Malformed("Invalid JSON Patch".to_owned())),
        other => {
            return Err(PatchError::Malformed(format!("error decoding patch: {}", no_map(other))));
        }
    }
    merge(&mut object, patch);
    check_depth(&object)?;
    Ok(object)
}

fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(&name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The examples of RFC 7386, appendix A, whose patch is a map.
    #[test]
    fn the_examples_of_the_rfc_hold() {
        for (object, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            assert_eq!(apply(object, patch), Ok(result));
        }
    }

    #[test]
    fn what_is_no_map_is_no_patch_of_an_object() {
        const MAP: &str = "into Go value of type map[string]interface {}";
        for (patch, words) in [
            (json!(null), "Invalid JSON Patch".to_owned()),
            (json!([]), format!("error decoding patch: json: cannot unmarshal array {MAP}")),
            (json!("a"), format!("error decoding patch: json: cannot unmarshal string {MAP}")),
        ] {
            assert_eq!(apply(json!({}), patch), Err(PatchError::Malformed(words)));
        }
    }
}
