//! Walking an object while looking for mistakes.
//!
//! Validation reads JSON whose types the schema has already proven: a [`Spot`] is a value with its path, absent fields are
//! `null`, and what is not of the type that was asked for counts as absent. [`Findings`] collects, because all the mistakes of an
//! object are told at once.

use std::collections::BTreeSet;

use serde_json::Value;

use super::field_error::{FieldError, FieldPath, Mistake};
use super::go_value::GoType;

static NOTHING: Value = Value::Null;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Spot<'a> {
    /// The value; `null` when it is absent.
    pub value: &'a Value,
    /// Where it stands.
    pub path: FieldPath,
    /// What it is in Go, where that shows in what is told of it.
    pub of: Option<&'static GoType>,
}

impl<'a> Spot<'a> {
    /// An object as a whole.
    pub fn root(value: &'a Value) -> Self {
        Self::at(value, FieldPath::default())
    }

    /// A value somewhere.
    pub fn at(value: &'a Value, path: FieldPath) -> Self {
        Self { value, path, of: None }
    }

    /// The same, with its value shown as one of a type of Go in what is told of it.
    #[must_use]
    pub fn of(self, of: &'static GoType) -> Self {
        Self { of: Some(of), ..self }
    }

    /// A field of this map.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        Self::at(self.value.get(name).unwrap_or(&NOTHING), self.path.field(name))
    }

    /// What a JSON pointer leads to that names fields only.
    #[must_use]
    pub fn pointer(&self, pointer: &str) -> Self {
        let parts = pointer.split('/').filter(|part| !part.is_empty());
        parts.fold(self.clone(), |spot, part| spot.field(part))
    }

    /// The items of this list; none when it is absent.
    pub fn items(&self) -> impl Iterator<Item = Self> + use<'a> {
        let path = self.path.clone();
        let list = self.value.as_array().map_or(&[][..], Vec::as_slice);
        list.iter().enumerate().map(move |(index, value)| Self::at(value, path.index(index)))
    }

    /// The entries of this map, each at `path[key]`; none when it is absent.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, Self)> + use<'a> {
        let path = self.path.clone();
        self.value.as_object().into_iter().flatten().map(move |(key, value)| {
            let spot = Self::at(value, path.key(key));
            (key.as_str(), spot)
        })
    }

    /// Whether nothing stands here.
    pub fn is_absent(&self) -> bool {
        self.value.is_null()
    }

    /// Whether something stands here.
    pub fn is_there(&self) -> bool {
        !self.value.is_null()
    }

    /// Whether nothing stands here, or an empty text, list or map: what Go's encoding leaves out.
    pub fn is_empty(&self) -> bool {
        match self.value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        }
    }

    /// The text that stands here; `""` when there is none, as in Go.
    pub fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or_default()
    }

    /// The whole number that stands here.
    pub fn integer(&self) -> Option<i64> {
        self.value.as_i64()
    }

    /// Whether `true` stands here.
    pub fn is_true(&self) -> bool {
        self.value.as_bool().unwrap_or_default()
    }

    /// How many items or entries.
    pub fn len(&self) -> usize {
        match self.value {
            Value::Array(list) => list.len(),
            Value::Object(map) => map.len(),
            _ => 0,
        }
    }
}

/// Whether values say the same: an absent list is an empty one, which clients of Kubernetes leave out.
pub fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let stays =
                |(field, value)| same(value, other.get::<String>(field).unwrap_or(&NOTHING));
            let is_new = |(field, _): &(&String, &Value)| !one.contains_key::<String>(field);
            one.iter().all(stays)
                && other.iter().filter(is_new).all(|(_, value)| same(value, &NOTHING))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Null, Value::Array(list)) | (Value::Array(list), Value::Null) => list.is_empty(),
        _ => one == other,
    }
}

/// The mistakes of an object.
#[derive(Debug, Default)]
pub struct Findings(Vec<FieldError>);

impl Findings {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are, to see whether a part of the work found one.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them, in the order in which they were found.
    pub fn into_vec(self) -> Vec<FieldError> {
        self.0
    }

    /// One more.
    pub fn add(&mut self, error: FieldError) {
        self.0.push(error);
    }

    /// What another check found.
    pub fn extend(&mut self, errors: impl IntoIterator<Item = FieldError>) {
        self.0.extend(errors);
    }

    /// It must be there.
    pub fn required(&mut self, spot: &Spot<'_>, detail: impl Into<String>) {
        self.add(FieldError::new(spot.path.clone(), Mistake::Required, detail));
    }

    /// Its value cannot be.
    pub fn invalid(&mut self, spot: &Spot<'_>, detail: impl Into<String>) {
        let mistake = Mistake::Invalid(spot.value.clone());
        self.add(FieldError::new(spot.path.clone(), mistake, detail).of(spot.of));
    }

    /// Its value cannot be, and is not shown.
    pub fn invalid_unshown(&mut self, spot: &Spot<'_>, detail: impl Into<String>) {
        self.add(FieldError::new(spot.path.clone(), Mistake::InvalidUnshown, detail));
    }

    /// It must not be set.
    pub fn forbidden(&mut self, spot: &Spot<'_>, detail: impl Into<String>) {
        self.add(FieldError::new(spot.path.clone(), Mistake::Forbidden, detail));
    }

    /// Another one has the same value already.
    pub fn duplicate(&mut self, spot: &Spot<'_>) {
        let mistake = Mistake::Duplicate(spot.value.clone());
        self.add(FieldError::new(spot.path.clone(), mistake, "").of(spot.of));
    }

    /// What it names does not exist.
    pub fn not_found(&mut self, spot: &Spot<'_>) {
        self.add(FieldError::new(spot.path.clone(), Mistake::NotFound(spot.value.clone()), ""));
    }

    /// A text that is one of these, if it is there; `allowed` is in the order in which it is told.
    pub fn one_of(&mut self, spot: &Spot<'_>, allowed: &[&str]) {
        if spot.is_there() && !allowed.contains(&spot.text()) {
            let allowed = allowed.iter().map(|&name| name.to_owned()).collect();
            self.add(FieldError::new(
                spot.path.clone(),
                Mistake::NotSupported(spot.value.clone(), allowed),
                "",
            ));
        }
    }

    /// A text that is one of these, if it is there and not empty.
    pub fn one_of_if_set(&mut self, spot: &Spot<'_>, allowed: &[&str]) {
        if !spot.text().is_empty() {
            self.one_of(spot, allowed);
        }
    }

    /// A text that must be there and be one of these.
    pub fn required_one_of(&mut self, spot: &Spot<'_>, allowed: &[&str]) {
        match spot.text() {
            "" => self.required(spot, ""),
            _ => self.one_of(spot, allowed),
        }
    }

    /// A text that is one of these; one that is absent is the empty one.
    pub fn one_of_or_empty(&mut self, spot: &Spot<'_>, allowed: &[&str]) {
        let empty = Value::from("");
        let found =
            if spot.is_absent() { Spot { value: &empty, ..spot.clone() } } else { spot.clone() };
        self.one_of(&found, allowed);
    }

    /// A number that is not negative, if it is there.
    pub fn not_negative(&mut self, spot: &Spot<'_>) {
        if spot.integer().is_some_and(|number| number < 0) {
            self.invalid(spot, "must be greater than or equal to 0");
        }
    }

    /// A port, which must be there.
    pub fn port(&mut self, spot: &Spot<'_>) {
        if !spot.integer().is_some_and(|port| (1..=65535).contains(&port)) {
            self.invalid(spot, "must be between 1 and 65535, inclusive");
        }
    }

    /// No two items of a list have the same text in a field.
    pub fn unique(&mut self, list: &Spot<'_>, field: &str) {
        let mut seen = BTreeSet::new();
        for spot in list.items().map(|item| item.field(field)) {
            if !spot.text().is_empty() && !seen.insert(spot.text()) {
                self.duplicate(&spot);
            }
        }
    }

    /// It is what it was.
    pub fn immutable(&mut self, spot: &Spot<'_>, before: &Spot<'_>) {
        if !same(spot.value, before.value) {
            self.invalid(spot, "field is immutable");
        }
    }

    /// More items than may be.
    pub fn at_most(&mut self, spot: &Spot<'_>, most: usize) {
        if spot.len() > most {
            self.too_many(spot, spot.len(), most);
        }
    }

    /// A text with more bytes than may be.
    pub fn at_most_bytes(&mut self, spot: &Spot<'_>, most: usize) {
        if spot.text().len() > most {
            self.add(FieldError::new(spot.path.clone(), Mistake::TooLong(most), ""));
        }
    }

    /// More of something than may be, where that is not the length of a list.
    pub fn too_many(&mut self, spot: &Spot<'_>, found: usize, most: usize) {
        self.add(FieldError::new(spot.path.clone(), Mistake::TooMany(found, most), ""));
    }

    /// What a check of a value alone found, one sentence per mistake.
    pub fn sentences(&mut self, spot: &Spot<'_>, sentences: impl IntoIterator<Item = String>) {
        for sentence in sentences {
            self.invalid(spot, sentence);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_empty_list_is_none() {
        for (one, other, expected) in [
            (json!({"a": 1}), json!({"a": 1, "b": [], "c": null}), true),
            (json!({"a": {"b": [{"c": []}]}}), json!({"a": {"b": [{}]}}), true),
            (json!({"a": {}}), json!({}), false),
            (json!({"a": ""}), json!({}), false),
            (json!([1]), json!([1, 2]), false),
            (json!({"a": 1}), json!({"a": 2}), false),
        ] {
            assert_eq!(same(&one, &other), expected, "{one} {other}");
            assert_eq!(same(&other, &one), expected, "{other} {one}");
        }
    }
}
