//! JSON patch, RFC 6902: a list of operations, all or none of which are done.
//!
//! Ours, not a library's: Kubernetes bounds the number of operations and what `copy` may make of a small patch, gives each failure
//! its sentence, and counts from the end of a list with negative indices.

use serde_json::{Map, Value};

use super::{PatchError, check_depth};
use crate::schema::decode::go_kind;

/// How many operations a patch may have.
pub const OPERATIONS_MAX: usize = 10_000;
/// How many bytes of JSON all `copy` operations of a patch may copy: as many as a request may have.
pub const COPY_MAX: usize = 3 * 1024 * 1024;

/// More mistakes are not told of.
const MISTAKES_MAX: usize = 100;
/// How many list items all operations of a patch may move to another place: each insertion at the front of a list moves all of it.
pub const MOVED_MAX: usize = 50_000_000;

/// What the operations of a patch have cost so far.
#[derive(Default)]
struct Spent {
    /// Bytes of JSON that were copied.
    copied: usize,
    /// List items that had to move.
    moved: usize,
}

impl Spent {
    fn copy(&mut self, found: &Value) -> Result<(), PatchError> {
        self.copied += found.to_string().len();
        if self.copied > COPY_MAX {
            let copied = self.copied;
            return rejected(format!(
                "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {COPY_MAX}"
            ));
        }
        Ok(())
    }

    fn shift(&mut self, items: usize) -> Result<(), PatchError> {
        self.moved += items;
        if self.moved > MOVED_MAX {
            return Err(PatchError::TooLarge(format!(
                "the operations of the patch move more than {MOVED_MAX} list items; replace the list instead"
            )));
        }
        Ok(())
    }
}

/// What an object is after a patch.
pub fn apply(mut object: Value, patch: &Value) -> Result<Value, PatchError> {
    let operations = match patch {
        Value::Null => &[][..],
        Value::Array(operations) => operations,
        other => return not_of(other, "value", "[]handlers.jsonPatchOp"),
    };
    if operations.len() > OPERATIONS_MAX {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            operations.len()
        )));
    }
    let mut spent = Spent::default();
    // nothing is done before all of it has been read
    for operation in operations {
        match operation {
            Value::Object(operation) => check_types(operation)?,
            Value::Null => {}
            other => return not_of(other, "value", "handlers.jsonPatchOp"),
        }
    }
    for operation in operations {
        let none = Map::new();
        let operation = operation.as_object().unwrap_or(&none);
        step(&mut object, operation, &mut spent)?;
    }
    check_depth(&object)?;
    Ok(object)
}

/// A sentence for each field that an operation does not have.
pub fn unknown_fields(patch: &Value) -> Vec<String> {
    let operations = patch.as_array().into_iter().flatten().enumerate();
    let fields = operations.flat_map(|(index, operation)| {
        let names = operation.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        names.map(move |name| (index, name))
    });
    let unknown = fields.filter(|(_, name)| !matches!(*name, "op" | "path" | "from" | "value"));
    let told =
        unknown.map(|(index, name)| format!(r#"json patch unknown field "[{index}].{name}""#));
    told.take(MISTAKES_MAX).collect()
}

/// The fields that are texts.
fn check_types(operation: &Map<String, Value>) -> Result<(), PatchError> {
    for field in ["op", "path", "from"] {
        match operation.get(field) {
            None | Some(Value::Null | Value::String(_)) => {}
            Some(other) => {
                return not_of(other, &format!("struct field jsonPatchOp.{field}"), "string");
            }
        }
    }
    Ok(())
}

/// A part of a patch that is not of its type.
fn not_of<T>(found: &Value, place: &str, wanted: &str) -> Result<T, PatchError> {
    let kind = go_kind(found);
    Err(PatchError::Malformed(format!(
        "error decoding patch: json: cannot unmarshal {kind} into Go {place} of type {wanted}"
    )))
}

fn step(
    object: &mut Value,
    operation: &Map<String, Value>,
    spent: &mut Spent,
) -> Result<(), PatchError> {
    let kind = operation.get("op").and_then(Value::as_str).unwrap_or("unknown");
    match kind {
        "add" => {
            add(object, pointer(operation, kind, "path")?, value(operation, kind)?, kind, spent)
        }
        "remove" => remove(object, pointer(operation, kind, "path")?, kind, spent).map(drop),
        "replace" => replace(object, pointer(operation, kind, "path")?, value(operation, kind)?),
        "move" => {
            let from = pointer(operation, kind, "from")?;
            let to = pointer(operation, kind, "path")?;
            if to.strip_prefix(from).is_some_and(|rest| rest.starts_with('/')) {
                return rejected(format!(
                    "move operation does not apply: {from} cannot be moved into itself: {to}"
                ));
            }
            let moved = remove(object, from, kind, spent)?;
            add(object, to, moved, kind, spent)
        }
        "copy" => {
            let from = pointer(operation, kind, "from")?;
            let found = find(object, from).ok_or_else(|| missing(kind, from))?;
            spent.copy(found)?;
            let copy = found.clone();
            add(object, pointer(operation, kind, "path")?, copy, kind, spent)
        }
        "test" => test(object, pointer(operation, kind, "path")?, operation.get("value")),
        other => rejected(format!("Unexpected kind: {other}")),
    }
}

fn test(object: &Value, path: &str, value: Option<&Value>) -> Result<(), PatchError> {
    let wanted = value.unwrap_or(&Value::Null);
    // an absent field is equal to null, as for Kubernetes; but its parent must be there
    let found = match find(object, path) {
        Some(found) => found,
        None if split(path)
            .and_then(|(parent, _)| find(object, parent))
            .is_some_and(Value::is_object) =>
        {
            &Value::Null
        }
        None => return Err(missing("test", path)),
    };
    if equal(found, wanted) {
        Ok(())
    } else {
        rejected(format!("testing value {path} failed: test failed"))
    }
}

/// Equal as RFC 6902 has it: numbers by their value, maps without regard to order.
pub(crate) fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            // whole numbers are not compared as floats, which would take neighbours for the same
            let floats = one.is_f64() || other.is_f64();
            one == other || floats && one.as_f64().is_some_and(|one| Some(one) == other.as_f64())
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| equal(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(name, one)| other.get(name).is_some_and(|other| equal(one, other)))
        }
        _ => one == other,
    }
}

fn add(
    object: &mut Value,
    path: &str,
    value: Value,
    kind: &str,
    spent: &mut Spent,
) -> Result<(), PatchError> {
    let Some((parent, key)) = split(path) else {
        *object = value;
        return Ok(());
    };
    match find_mut(object, parent) {
        Some(Value::Object(fields)) => {
            fields.insert(key, value);
        }
        Some(Value::Array(items)) if key == "-" => items.push(value),
        Some(Value::Array(items)) => {
            let index = index(&key, items.len() + 1).map_err(|why| at(kind, path, &why))?;
            spent.shift(items.len() - index)?;
            items.insert(index, value);
        }
        _ => return Err(missing(kind, path)),
    }
    Ok(())
}

fn remove(
    object: &mut Value,
    path: &str,
    kind: &str,
    spent: &mut Spent,
) -> Result<Value, PatchError> {
    let Some((parent, key)) = split(path) else {
        return rejected(format!("{kind} operation does not apply: the object itself cannot go"));
    };
    match find_mut(object, parent) {
        Some(Value::Object(fields)) => fields.remove(&key).ok_or_else(|| {
            at(kind, path, &format!("Unable to remove nonexistent key: {key}: missing value"))
        }),
        Some(Value::Array(items)) => {
            let index = index(&key, items.len()).map_err(|why| at(kind, path, &why))?;
            spent.shift(items.len() - index)?;
            Ok(items.remove(index))
        }
        _ => Err(missing(kind, path)),
    }
}

fn replace(object: &mut Value, path: &str, value: Value) -> Result<(), PatchError> {
    let Some((parent, key)) = split(path) else {
        *object = value;
        return Ok(());
    };
    let absent = || {
        PatchError::Rejected(format!(
            "replace operation does not apply: doc is missing key: {path}: missing value"
        ))
    };
    match find_mut(object, parent) {
        Some(Value::Object(fields)) => *fields.get_mut(&key).ok_or_else(absent)? = value,
        Some(Value::Array(items)) => {
            let index = index(&key, items.len()).map_err(|_| absent())?;
            items[index] = value;
        }
        _ => return Err(missing("replace", path)),
    }
    Ok(())
}

/// The pointer to the parent, and the name or index within it; `None` for the pointer to the whole.
fn split(path: &str) -> Option<(&str, String)> {
    let (parent, key) = path.rsplit_once('/')?;
    Some((parent, key.replace("~1", "/").replace("~0", "~")))
}

/// What stands at a pointer (RFC 6901).
fn find<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    parts(path).try_fold(object, |value, key| match value {
        Value::Object(fields) => fields.get(&key),
        Value::Array(items) => items.get(index(&key, items.len()).ok()?),
        _ => None,
    })
}

fn find_mut<'a>(object: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    parts(path).try_fold(object, |value, key| match value {
        Value::Object(fields) => fields.get_mut(&key),
        Value::Array(items) => {
            let index = index(&key, items.len()).ok()?;
            items.get_mut(index)
        }
        _ => None,
    })
}

fn parts(path: &str) -> impl Iterator<Item = String> {
    path.split('/').skip(1).map(|key| key.replace("~1", "/").replace("~0", "~"))
}

/// An index below `end`; negative ones count from there.
fn index(key: &str, end: usize) -> Result<usize, String> {
    let number: i64 =
        key.parse().map_err(|_| format!("value was not a proper array index: '{key}'"))?;
    let end_number = i64::try_from(end).unwrap_or(i64::MAX);
    let index = if number < 0 { number + end_number } else { number };
    usize::try_from(index).ok().filter(|index| *index < end).ok_or_else(|| {
        format!("Unable to access invalid index: {number}: invalid index referenced")
    })
}

/// A pointer of an operation: empty, or it begins with `/`.
fn pointer<'a>(
    operation: &'a Map<String, Value>,
    kind: &str,
    field: &str,
) -> Result<&'a str, PatchError> {
    let Some(path) = operation.get(field).and_then(Value::as_str) else {
        return rejected(format!(
            "{kind} operation failed to decode {field}: operation missing {field} field: missing value"
        ));
    };
    if path.is_empty() || path.starts_with('/') { Ok(path) } else { Err(missing(kind, path)) }
}

fn value(operation: &Map<String, Value>, kind: &str) -> Result<Value, PatchError> {
    operation.get("value").cloned().ok_or_else(|| {
        PatchError::Rejected(format!(
            "{kind} operation failed to decode value: operation missing value field: missing value"
        ))
    })
}

fn missing(kind: &str, path: &str) -> PatchError {
    PatchError::Rejected(format!(
        "{kind} operation does not apply: doc is missing path: \"{path}\": missing value"
    ))
}

fn at(kind: &str, path: &str, why: &str) -> PatchError {
    PatchError::Rejected(format!("error in {kind} for path: '{path}': {why}"))
}

fn rejected<T>(sentence: String) -> Result<T, PatchError> {
    Err(PatchError::Rejected(sentence))
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
