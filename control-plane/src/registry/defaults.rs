//! Filling in defaults.

use serde_json::{Map, Value};

/// Gives a field of a map its default, unless it has a value. What is not a map stays as it is.
pub fn default(object: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(map) = object.as_object_mut()
        && map.get(field).is_none_or(Value::is_null)
    {
        map.insert(field.to_owned(), value.into());
    }
}

/// Gives a field of a map its default, unless it has a text: an empty one is none.
pub fn default_text(object: &mut Value, field: &str, value: &str) {
    if object.get(field).is_some_and(|text| *text == "") {
        object[field] = Value::Null;
    }
    default(object, field, value);
}

/// The map at a field, made when it is absent; `None` when something else stands there.
pub fn child<'a>(object: &'a mut Value, field: &str) -> Option<&'a mut Value> {
    let map = object.as_object_mut()?;
    let slot = map.entry(field).or_insert(Value::Null);
    if slot.is_null() {
        *slot = Value::Object(Map::new());
    }
    slot.is_object().then_some(slot)
}

/// The items of a list, or none.
pub fn each<'a>(object: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    object.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten()
}
