//! Lists that a strategic merge patch merges: maps by a key, scalars as a set. Everything is found by an index over keys, so that a
//! long list costs no more than its length.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::{
    DIRECTIVE, Merger, PatchError, malformed, no_merge_key, rejected, shown, unknown_directive,
};
use crate::schema::Shape;

/// By what an item is the same as another: its JSON, or that of its merge key.
type Key = String;

/// At which place of a list a key stands first.
pub(super) type Places = HashMap<Key, usize>;

/// The items of a patch, by what they ask for.
struct Change {
    merge: Vec<Map<String, Value>>,
    delete: Vec<Key>,
    replace: bool,
}

impl<'a> Merger<'a> {
    /// A live list merged with that of a patch.
    pub(super) fn list(
        self,
        original: Vec<Value>,
        patch: Vec<Value>,
        items: &'a Shape,
        key: Option<&str>,
    ) -> Result<Vec<Value>, PatchError> {
        let Some(first) = original.first().or(patch.first()) else { return Ok(original) };
        let maps = first.is_object();
        if original.iter().chain(&patch).any(Value::is_array) {
            return rejected("lists of lists are not supported".to_owned());
        }
        if original.iter().chain(&patch).any(|item| item.is_object() != maps) {
            return rejected(format!(
                "list element types are not identical: [{} {}]",
                shown(&original.into()),
                shown(&patch.into())
            ));
        }
        match (maps, key) {
            (false, _) => merge_scalars(original, patch),
            (true, Some(key)) => self.merge_maps(original, patch, items, key),
            (true, None) => {
                rejected("cannot merge lists without merge key for type map".to_owned())
            }
        }
    }

    fn merge_maps(
        self,
        mut original: Vec<Value>,
        patch: Vec<Value>,
        items: &'a Shape,
        key: &str,
    ) -> Result<Vec<Value>, PatchError> {
        let change = sorted_out(patch, key)?;
        if change.replace {
            let fresh = change.merge.into_iter();
            return fresh.map(|item| self.fresh(item.into(), items)).collect();
        }
        if !change.delete.is_empty() {
            let gone: HashSet<&Key> = change.delete.iter().collect();
            original.retain(|item| {
                !item.get(key).is_some_and(|value| gone.contains(&value.to_string()))
            });
        }
        let live = keys(&original, Some(key))?;
        let mut places = live.clone();
        let mut order = Places::new();
        for item in change.merge {
            let name = item.get(key).map(Value::to_string).unwrap_or_default();
            let next = order.len();
            order.entry(name.clone()).or_insert(next);
            if let Some(place) = places.get(&name) {
                let found = std::mem::take(&mut original[*place]);
                let Value::Object(found) = found else {
                    return no_merge_key(&found, key);
                };
                original[*place] = self.map(found, item, items)?.into();
            } else {
                places.insert(name, original.len());
                original.push(self.fresh(item.into(), items)?);
            }
        }
        in_order(original, &order, &live, Some(key))
    }
}

fn sorted_out(patch: Vec<Value>, key: &str) -> Result<Change, PatchError> {
    let mut change = Change { merge: Vec::new(), delete: Vec::new(), replace: false };
    for item in patch {
        let Value::Object(map) = &item else { continue };
        match map.get(DIRECTIVE).cloned() {
            None => {
                if !map.contains_key(key) {
                    return no_merge_key(&item, key);
                }
                if let Value::Object(map) = item {
                    change.merge.push(map);
                }
            }
            Some(Value::String(text)) if text == "replace" => change.replace = true,
            Some(Value::String(text)) if text == "delete" => match map.get(key) {
                Some(value) => change.delete.push(value.to_string()),
                None => return no_merge_key(&item, key),
            },
            Some(Value::String(text)) if text == "merge" => {
                return rejected("merging lists cannot yet be specified in the patch".to_owned());
            }
            Some(other) => return unknown_directive(&other, map.clone()),
        }
    }
    Ok(change)
}

/// Both lists as a set.
fn merge_scalars(original: Vec<Value>, patch: Vec<Value>) -> Result<Vec<Value>, PatchError> {
    let (live, order) = (keys(&original, None)?, keys(&patch, None)?);
    let mut seen = HashSet::new();
    let both = original.into_iter().chain(patch);
    let merged = both.filter(|item| seen.insert(item.to_string())).collect();
    in_order(merged, &order, &live, None)
}

/// Takes the values of a `$deleteFromPrimitiveList` away from a field.
pub(super) fn delete_scalars(
    map: &mut Map<String, Value>,
    field: &str,
    values: Value,
) -> Result<(), PatchError> {
    let values = match values {
        Value::Null => return Ok(()),
        Value::Array(values) => values,
        _ => return malformed("invalid patch format of primitive list"),
    };
    if let Some(Value::Array(items)) = map.get_mut(field) {
        let gone = keys(&values, None)?;
        items.retain(|item| !gone.contains_key(&item.to_string()));
    }
    Ok(())
}

/// Where each key of a list stands.
pub(super) fn keys(items: &[Value], key: Option<&str>) -> Result<Places, PatchError> {
    let mut places = Places::with_capacity(items.len());
    for (place, item) in items.iter().enumerate() {
        places.entry(key_of(item, key)?).or_insert(place);
    }
    Ok(places)
}

fn key_of(item: &Value, key: Option<&str>) -> Result<Key, PatchError> {
    match key {
        None => Ok(item.to_string()),
        Some(key) => match item.get(key) {
            Some(value) => Ok(value.to_string()),
            None => no_merge_key(item, key),
        },
    }
}

/// The items that `order` names in its order, with the others in between: each of them stands before the first one that it stood
/// before in the live list.
pub(super) fn in_order(
    items: Vec<Value>,
    order: &Places,
    live: &Places,
    key: Option<&str>,
) -> Result<Vec<Value>, PatchError> {
    let (mut named, mut others) = (Vec::new(), Vec::new());
    for item in items {
        let name = key_of(&item, key)?;
        let place = live.get(&name).copied();
        match order.get(&name) {
            Some(wanted) => named.push((*wanted, place, item)),
            None => others.push((place.unwrap_or(usize::MAX), item)),
        }
    }
    named.sort_by_key(|(wanted, ..)| *wanted);
    others.sort_by_key(|(place, _)| *place);
    let mut sorted = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for (_, place, item) in named {
        // what the live list does not have goes before the others, as everything of the patch does
        while let Some((_, other)) =
            others.next_if(|(other, _)| place.is_some_and(|place| *other < place))
        {
            sorted.push(other);
        }
        sorted.push(item);
    }
    sorted.extend(others.map(|(_, item)| item));
    Ok(sorted)
}

/// Refuses a list of a patch whose items `$setElementOrder` does not have, or has in another order.
pub(super) fn check_order(
    patch: &[Value],
    order: &[Value],
    key: Option<&str>,
) -> Result<(), PatchError> {
    if order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in patch.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        let wanted = key_of(item, key)?;
        let mut found = false;
        for candidate in rest.by_ref() {
            if key_of(candidate, key)? == wanted {
                found = true;
                break;
            }
        }
        if !found {
            let (patch, order) = (shown(&patch.into()), shown(&order.into()));
            return rejected(format!(
                "The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n"
            ));
        }
    }
    Ok(())
}
