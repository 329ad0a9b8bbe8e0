//! Whether values are what their schema says.
//!
//! What stays as it is in a change is not looked at: a schema may have become narrower since it was written
//! (<https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-ratcheting>). Items of
//! lists are the same before and after by their keys; those of other lists are looked at unless the whole list stays.

use serde_json::{Map, Value, json};

use super::before::Before;
use super::{Schema, format};
use crate::meta::field_error::{FieldError, FieldPath, Mistake};
use crate::meta::go_value::GoType;

/// The mistakes in an object, which may have been this one before.
pub(super) fn object(schema: &Schema, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut found = Found { mistakes: Vec::new() };
    found.value(schema, object, old, &FieldPath::default());
    found.mistakes
}

/// The mistakes in a value that stands here.
pub(super) fn value(schema: &Schema, value: &Value, path: &FieldPath) -> Vec<FieldError> {
    let mut found = Found { mistakes: Vec::new() };
    found.value(schema, value, None, path);
    found.mistakes
}

struct Found {
    mistakes: Vec<FieldError>,
}

/// The type of a value in the words of JSON Schema.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_of(value: &Value, kind: &str) -> bool {
    match (value, kind) {
        (Value::Number(_), "number") => true,
        // 1.0 is whole in JSON
        (Value::Number(number), "integer") => {
            number.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        (value, kind) => type_of(value) == kind,
    }
}

/// How many there may be, if there are more.
fn too_many(found: usize, most: Option<u64>) -> Option<usize> {
    usize::try_from(most?).ok().filter(|most| found > *most)
}

impl Found {
    fn push(&mut self, path: &FieldPath, mistake: Mistake, detail: impl Into<String>) {
        self.mistakes.push(FieldError::new(path.clone(), mistake, detail).of(&GoType::Any));
    }

    /// A value that its schema narrows too far for it.
    fn refuse(&mut self, path: &FieldPath, value: &Value, what: &str) {
        self.push(path, Mistake::Invalid(value.clone()), format!("{path} in body {what}"));
    }

    fn value(&mut self, schema: &Schema, value: &Value, old: Option<&Value>, path: &FieldPath) {
        if old == Some(value) || value.is_null() && schema.nullable {
            return;
        }
        if !self.kind(schema, value, path) {
            return;
        }
        match value {
            Value::String(text) => self.text(schema, text, path),
            Value::Number(number) => {
                self.number(schema, number.as_f64().unwrap_or_default(), value, path);
            }
            Value::Array(items) => self.items(schema, items, old, path),
            Value::Object(object) => self.fields(schema, object, old, path),
            Value::Null | Value::Bool(_) => {}
        }
        if let Some(format) =
            schema.format.as_deref().filter(|format| !format::holds(format, value))
        {
            self.refuse(path, value, &format!("must be of type {format}: {value}"));
        }
        if let Some(values) = schema.one_of_values.as_ref().filter(|values| !values.contains(value))
        {
            let shown =
                |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let supported = values.iter().map(shown).collect();
            self.push(path, Mistake::NotSupported(value.clone(), supported), "");
        }
        self.juncts(schema, value, path);
    }

    /// Whether the type is right; the rest need not be looked at if it is not.
    fn kind(&mut self, schema: &Schema, value: &Value, path: &FieldPath) -> bool {
        let (right, expected) = match schema.kind.as_deref() {
            _ if schema.int_or_string => {
                (is_of(value, "integer") || value.is_string(), "integer,string")
            }
            Some(kind) if !kind.is_empty() => (is_of(value, kind), kind),
            _ => (true, ""),
        };
        if !right {
            let found = type_of(value);
            let detail = format!("{path} in body must be of type {expected}: {found:?}");
            self.push(path, Mistake::TypeInvalid(json!(found)), detail);
        }
        right
    }

    fn text(&mut self, schema: &Schema, text: &str, path: &FieldPath) {
        let value = || Value::from(text);
        if schema.max_length.is_some() || schema.min_length.is_some() {
            let length = text.chars().count() as u64;
            if let Some(most) = schema.max_length.filter(|most| length > *most) {
                self.push(path, Mistake::TooLong(usize::try_from(most).unwrap_or(usize::MAX)), "");
            }
            if let Some(least) = schema.min_length.filter(|least| length < *least) {
                self.refuse(path, &value(), &format!("should be at least {least} chars long"));
            }
        }
        if let Some(pattern) = &schema.pattern
            && let Ok(regex) = &pattern.regex
            && !regex.is_match(text)
        {
            self.refuse(path, &value(), &format!("should match '{}'", pattern.text));
        }
    }

    fn number(&mut self, schema: &Schema, number: f64, value: &Value, path: &FieldPath) {
        match (schema.minimum, schema.exclusive_minimum) {
            (Some(least), false) if number < least => {
                self.refuse(path, value, &format!("should be greater than or equal to {least}"));
            }
            (Some(least), true) if number <= least => {
                self.refuse(path, value, &format!("should be greater than {least}"));
            }
            _ => {}
        }
        match (schema.maximum, schema.exclusive_maximum) {
            (Some(most), false) if number > most => {
                self.refuse(path, value, &format!("should be less than or equal to {most}"));
            }
            (Some(most), true) if number >= most => {
                self.refuse(path, value, &format!("should be less than {most}"));
            }
            _ => {}
        }
        if let Some(step) =
            schema.multiple_of.filter(|step| *step > 0.0 && (number / step).fract() != 0.0)
        {
            self.refuse(path, value, &format!("should be a multiple of {step}"));
        }
    }

    /// The list is also given as it was.
    fn items(&mut self, schema: &Schema, items: &[Value], old: Option<&Value>, path: &FieldPath) {
        if let Some(most) = too_many(items.len(), schema.max_items) {
            self.push(path, Mistake::TooMany(items.len(), most), "");
        }
        if let Some(least) = schema.min_items.filter(|least| (items.len() as u64) < *least) {
            let what = format!("should have at least {least} items");
            self.refuse(path, &json!(items.len()), &what);
        }
        if let Some(item) = schema.item() {
            let keys = (schema.list_type.as_deref() == Some("map")).then_some(&*schema.list_keys);
            let before = Before::new(keys, old);
            for (index, value) in items.iter().enumerate() {
                self.value(item, value, before.of(value), &path.index(index));
            }
        }
        self.unique(schema, items, path);
    }

    /// Items of sets and of lists with keys are there once.
    fn unique(&mut self, schema: &Schema, items: &[Value], path: &FieldPath) {
        let identity = |item: &Value| match schema.list_type.as_deref() {
            Some("set") => Some(item.clone()),
            Some("map") => {
                let keys = schema.list_keys.iter().map(AsRef::as_ref);
                let of = |key: &str| Some((key.to_owned(), item.get(key)?.clone()));
                let keys: Map<String, Value> = keys.filter_map(of).collect();
                // without all its keys an item has a mistake of its own
                (keys.len() == schema.list_keys.len()).then_some(keys.into())
            }
            _ => None,
        };
        let mut seen = std::collections::BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let Some(identity) = identity(item) else { continue };
            if !seen.insert(identity.to_string()) {
                self.push(&path.index(index), Mistake::Duplicate(identity), "");
            }
        }
    }

    /// The object is also given as it was.
    fn fields(
        &mut self,
        schema: &Schema,
        object: &Map<String, Value>,
        old: Option<&Value>,
        path: &FieldPath,
    ) {
        if let Some(most) = too_many(object.len(), schema.max_properties) {
            self.push(path, Mistake::TooMany(object.len(), most), "");
        }
        if let Some(least) = schema.min_properties.filter(|least| (object.len() as u64) < *least) {
            let what = format!("should have at least {least} properties");
            self.refuse(path, &json!(object.len()), &what);
        }
        for name in schema.required.iter().filter(|name| !object.contains_key(&***name)) {
            self.push(&path.field(name), Mistake::Required, "");
        }
        if schema.embedded_resource {
            for name in ["apiVersion", "kind"] {
                if object.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
                    self.push(&path.field(name), Mistake::Required, "must not be empty");
                }
            }
        }
        for (name, value) in object {
            let old = old.and_then(|old| old.get(name));
            match (schema.properties.get(name.as_str()), schema.other()) {
                (Some(field), _) => self.value(field, value, old, &path.field(name)),
                (None, Some(other)) => self.value(other, value, old, &path.key(name)),
                (None, None) => {}
            }
        }
    }

    fn juncts(&mut self, schema: &Schema, found: &Value, path: &FieldPath) {
        for narrower in &schema.all_of {
            self.value(narrower, found, None, path);
        }
        let valid = |schema: &Schema| value(schema, found, path).is_empty();
        let shown = format!("{:?}", path.to_string());
        let mut refuse = |what: String| {
            self.push(path, Mistake::Invalid(found.clone()), format!("{shown} {what}"));
        };
        if !schema.any_of.is_empty() && !schema.any_of.iter().any(valid) {
            refuse("must validate at least one schema (anyOf)".to_owned());
        }
        if !schema.one_of.is_empty() {
            match schema.one_of.iter().filter(|schema| valid(schema)).count() {
                1 => {}
                0 => refuse(
                    "must validate one and only one schema (oneOf). Found none valid".to_owned(),
                ),
                many => refuse(format!(
                    "must validate one and only one schema (oneOf). Found {many} valid alternatives"
                )),
            }
        }
        if schema.not.as_deref().is_some_and(valid) {
            refuse("must not validate the schema (not)".to_owned());
        }
    }
}
