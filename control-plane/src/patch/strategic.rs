//! Strategic merge patch: a merge patch that knows which lists are merged and by which key.
//! <https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md>
//!
//! Directives within a patch: `$patch: replace|delete|merge` for a map or an item of a list, `$retainKeys: [names]` for what may
//! stay in a map, `$deleteFromPrimitiveList/field: [values]`, and `$setElementOrder/field: [items]` for the order of a merged list.
//! The order of a merged list is that of `$setElementOrder`, then that of the patch, then that of the live list.
//!
//! It only exists for built-in kinds; that a custom one is asked for it is for the caller to refuse (415).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{PatchError, check_depth, no_map};
use crate::schema::{PatchStrategy, Schemas, Shape};

mod list;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList";
const ORDER_PREFIX: &str = "$setElementOrder";

/// What an object of this shape is after a strategic merge patch.
pub fn apply(
    object: Value,
    patch: Value,
    shape: &Shape,
    schemas: &Schemas,
) -> Result<Value, PatchError> {
    let patch = match patch {
        Value::Object(patch) => patch,
        Value::Null => Map::new(),
        other => return Err(PatchError::Malformed(no_map(&other))),
    };
    let Value::Object(object) = object else {
        return malformed("invalid JSON document");
    };
    let merged = Value::Object(Merger { schemas }.map(object, patch, shape)?);
    check_depth(&merged)?;
    Ok(merged)
}

/// What stays the same on the way down.
#[derive(Clone, Copy)]
struct Merger<'a> {
    schemas: &'a Schemas,
}

/// What the schema says of a field.
struct Known<'a> {
    shape: &'a Shape,
    strategy: Option<&'a PatchStrategy>,
}

impl<'a> Merger<'a> {
    /// What the schema says of a field of a map.
    fn field(self, map: &'a Shape, name: &str) -> Known<'a> {
        let Shape::Object(object) = self.schemas.resolve(map) else {
            return Known { shape: &Shape::Any, strategy: None };
        };
        match object.fields.get(name) {
            Some(field) => Known { shape: &field.shape, strategy: Some(&field.patch) },
            None => Known { shape: object.others.as_ref().unwrap_or(&Shape::Any), strategy: None },
        }
    }

    /// What the items of a list are.
    fn items(self, list: &'a Shape) -> &'a Shape {
        match self.schemas.resolve(list) {
            Shape::List(list) => &list.items,
            _ => &Shape::Any,
        }
    }

    fn map(
        self,
        mut original: Map<String, Value>,
        mut patch: Map<String, Value>,
        shape: &'a Shape,
    ) -> Result<Map<String, Value>, PatchError> {
        match patch.remove(DIRECTIVE) {
            None => {}
            Some(Value::String(text)) if text == "merge" => {}
            Some(Value::String(text)) if text == "replace" => return self.fresh_map(patch, shape),
            Some(Value::String(text)) if text == "delete" => return Ok(Map::new()),
            Some(other) => return unknown_directive(&other, patch),
        }
        retain_keys(&mut original, &mut patch)?;
        let patch = self.ordered_lists(&mut original, patch, shape)?;
        for (name, value) in patch {
            if let Some(field) = directive_field(&name, DELETE_PREFIX)? {
                list::delete_scalars(&mut original, field, value)?;
            } else if value.is_null() {
                original.remove(&name);
            } else {
                let merged = match original.remove(&name) {
                    Some(found) => self.value(found, value, &self.field(shape, &name))?,
                    None => self.fresh(value, self.field(shape, &name).shape)?,
                };
                original.insert(name, merged);
            }
        }
        Ok(original)
    }

    fn value(self, original: Value, patch: Value, known: &Known<'a>) -> Result<Value, PatchError> {
        match (original, patch) {
            (Value::Object(original), Value::Object(patch)) => {
                self.map(original, patch, known.shape).map(Value::Object)
            }
            (Value::Array(original), Value::Array(patch)) => match known.strategy {
                Some(strategy) if strategy.merge => {
                    let key = strategy.merge_key.as_deref();
                    self.list(original, patch, self.items(known.shape), key).map(Value::Array)
                }
                _ => self.fresh(Value::Array(patch), known.shape),
            },
            (_, patch) => self.fresh(patch, known.shape),
        }
    }

    /// A part of a patch that meets nothing: without directives and nulls, which mean nothing then.
    fn fresh(self, patch: Value, shape: &'a Shape) -> Result<Value, PatchError> {
        match patch {
            Value::Object(patch) => self.map(Map::new(), patch, shape).map(Value::Object),
            Value::Array(items) => {
                let directive = |item: &Value| item.get(DIRECTIVE).is_some();
                let shape = self.items(shape);
                let items = items.into_iter().filter(|item| !directive(item));
                items.map(|item| self.fresh(item, shape)).collect()
            }
            scalar => Ok(scalar),
        }
    }

    fn fresh_map(
        self,
        patch: Map<String, Value>,
        shape: &'a Shape,
    ) -> Result<Map<String, Value>, PatchError> {
        self.map(Map::new(), patch, shape)
    }

    /// Does all that `$setElementOrder` directives and their lists ask for, and answers with the rest of the patch.
    fn ordered_lists(
        self,
        original: &mut Map<String, Value>,
        mut patch: Map<String, Value>,
        shape: &'a Shape,
    ) -> Result<Map<String, Value>, PatchError> {
        let names: Vec<String> =
            patch.keys().filter(|name| name.starts_with(ORDER_PREFIX)).cloned().collect();
        for name in names {
            let order = patch.remove(&name).unwrap_or_default();
            let Some(field) = directive_field(&name, ORDER_PREFIX)? else { continue };
            let Value::Array(order) = order else {
                return malformed("invalid patch format of setElementOrder list");
            };
            let known = self.field(shape, field);
            // a list that is replaced has the order of the patch
            let Some(strategy) = known.strategy.filter(|strategy| strategy.merge) else { continue };
            // nor is there an order of what goes
            if patch.get(field).is_some_and(Value::is_null) {
                continue;
            }
            let key = strategy.merge_key.as_deref();
            let (live, change) = (take_list(original, field)?, take_list(&mut patch, field)?);
            if live.is_none() && change.is_none() {
                continue;
            }
            list::check_order(change.as_deref().unwrap_or_default(), &order, key)?;
            let live_keys = list::keys(live.as_deref().unwrap_or_default(), key)?;
            let items = self.items(known.shape);
            let merged = match (live, change) {
                (Some(live), Some(change)) => self.list(live, change, items, key)?,
                (Some(live), None) => live,
                (None, change) => {
                    match self.fresh(change.unwrap_or_default().into(), known.shape)? {
                        Value::Array(items) => items,
                        _ => Vec::new(),
                    }
                }
            };
            let order = list::keys(&order, key)?;
            let sorted = list::in_order(merged, &order, &live_keys, key)?;
            original.insert(field.to_owned(), sorted.into());
        }
        Ok(patch)
    }
}

/// The field that a directive such as `$setElementOrder/containers` is about; `None` when it is not this directive.
fn directive_field<'a>(name: &'a str, prefix: &str) -> Result<Option<&'a str>, PatchError> {
    let Some(rest) = name.strip_prefix(prefix) else { return Ok(None) };
    match rest.strip_prefix('/') {
        Some(field) if !field.is_empty() => Ok(Some(field)),
        _ if prefix == DELETE_PREFIX => malformed("invalid patch format of primitive list"),
        _ => malformed("invalid patch format of setElementOrder list"),
    }
}

fn take_list(map: &mut Map<String, Value>, field: &str) -> Result<Option<Vec<Value>>, PatchError> {
    match map.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items)),
        Some(other) => {
            rejected(format!("expected a list in {field}, but received: {}", shown(&other)))
        }
    }
}

/// `$retainKeys`: what it does not name goes, and the patch sets nothing else.
fn retain_keys(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
) -> Result<(), PatchError> {
    let Some(names) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let names: Option<BTreeSet<&str>> =
        names.as_array().and_then(|names| names.iter().map(Value::as_str).collect());
    let Some(names) = names else {
        return malformed("invalid patch format of retainKeys");
    };
    let stray = patch.iter().any(|(name, value)| {
        let about_lists = name.starts_with(DELETE_PREFIX) || name.starts_with(ORDER_PREFIX);
        !value.is_null() && !about_lists && !names.contains(name.as_str())
    });
    if stray {
        return malformed("invalid patch format of retainKeys");
    }
    original.retain(|name, _| names.contains(name.as_str()));
    Ok(())
}

fn unknown_directive<T>(directive: &Value, mut map: Map<String, Value>) -> Result<T, PatchError> {
    map.insert(DIRECTIVE.to_owned(), directive.clone());
    let map = shown(&Value::Object(map));
    rejected(format!("unknown patch type: {} in map: {map}", shown(directive)))
}

fn no_merge_key<T>(map: &Value, key: &str) -> Result<T, PatchError> {
    rejected(format!("map: {} does not contain declared merge key: {key}", shown(map)))
}

/// A value as Go prints it, which is what Kubernetes' sentences show.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" "))
        }
        Value::Object(fields) => {
            let mut entries: Vec<String> =
                fields.iter().map(|(name, value)| format!("{name}:{}", shown(value))).collect();
            entries.sort();
            format!("map[{}]", entries.join(" "))
        }
        scalar => scalar.to_string(),
    }
}

fn malformed<T>(sentence: &str) -> Result<T, PatchError> {
    Err(PatchError::Malformed(sentence.to_owned()))
}

fn rejected<T>(sentence: String) -> Result<T, PatchError> {
    Err(PatchError::Rejected(sentence))
}

#[cfg(test)]
#[path = "strategic_tests.rs"]
mod tests;
