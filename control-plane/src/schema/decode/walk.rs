//! One pass over a body beside its shape.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::super::definitions::{
    Definitions, Format, JSON_SCHEMA, JSON_SCHEMA_OR_ARRAY, JSON_SCHEMA_OR_BOOL, MICRO_TIME,
    QUANTITY, TIME,
};
use super::super::{Scalar, Shape};
use super::{DecodeError, Decoded, MOST_MISTAKES, MOST_VALUES, Target, scalar};

/// What is found on the way, and where on the way we are.
pub(super) struct Walk<'a> {
    definitions: &'a Definitions,
    values: Cell<usize>,
    path: RefCell<Vec<Step>>,
    mistakes: RefCell<Vec<String>>,
    wrong: RefCell<Option<String>>,
}

enum Step {
    Field(String),
    Key(String),
    Item(usize),
}

impl<'a> Walk<'a> {
    /// A walk past at most so many values.
    pub(super) fn new(definitions: &'a Definitions, values: usize) -> Self {
        let (path, mistakes, wrong) = Default::default();
        Self { definitions, values: Cell::new(values), path, mistakes, wrong }
    }

    pub(super) fn values_left(&self) -> usize {
        self.values.get()
    }

    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        let left = self.values.get().checked_sub(1);
        self.values.set(left.ok_or_else(|| {
            E::custom(format_args!("more than {MOST_VALUES} values in one object"))
        })?);
        Ok(())
    }

    /// What became of the body: the first wrong type is told of before all else.
    pub(super) fn finish(&self, value: Value) -> Result<Decoded, DecodeError> {
        match self.wrong.take() {
            Some(wrong) => Err(DecodeError::Type(wrong)),
            None => Ok(Decoded { value, mistakes: self.mistakes.take() }),
        }
    }

    fn within<T>(&self, step: Step, work: impl FnOnce() -> T) -> T {
        self.path.borrow_mut().push(step);
        let answer = work();
        self.path.borrow_mut().pop();
        answer
    }

    fn mistake(&self, what: &str, key: &str) {
        let mut mistakes = self.mistakes.borrow_mut();
        if mistakes.len() < MOST_MISTAKES {
            let mut path = String::new();
            for step in self.path.borrow().iter() {
                match step {
                    Step::Field(name) | Step::Key(name) => path.push_str(&format!("{name}.")),
                    Step::Item(index) => {
                        path.pop();
                        path.push_str(&format!("[{index}]."));
                    }
                }
            }
            mistakes.push(format!("{what} field {:?}", path + key));
        }
    }

    fn wrong(&self, sentence: impl FnOnce() -> String) {
        self.wrong.borrow_mut().get_or_insert_with(sentence);
    }

    /// Fields only, as Go's decoder tells where it is.
    fn go_path(&self) -> String {
        let path = self.path.borrow();
        let fields = path.iter().filter_map(|step| match step {
            Step::Field(name) => Some(name.as_str()),
            Step::Key(_) | Step::Item(_) => None,
        });
        fields.collect::<Vec<_>>().join(".")
    }
}

/// A value that is about to be read.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    walk: &'a Walk<'a>,
    shape: &'a Shape,
    /// The definition that the shape is, if it has a name.
    name: &'a str,
    /// The definition whose field it is, empty at the top.
    owner: &'a str,
    format: Option<Format>,
    custom: bool,
    or: Or,
}

/// What a schema within a schema may be instead; the published definition tells nothing of either.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Or {
    Nothing,
    Bool,
    List,
}

impl<'a> Node<'a> {
    pub(super) fn root(walk: &'a Walk<'a>, target: &Target<'a>) -> Self {
        let Target { shape, custom, .. } = *target;
        Self { walk, shape, name: "", owner: "", format: None, custom, or: Or::Nothing }.resolved()
    }

    /// A part of this value.
    fn part(&self, shape: &'a Shape) -> Self {
        Self { shape, name: "", ..*self }.resolved()
    }

    fn field(&self, shape: &'a Shape, field: &str) -> Self {
        let format = self.walk.definitions.format(self.name, field);
        Self { owner: self.name, format, ..*self }.part(shape)
    }

    /// What is named in a shape is a kind of Kubernetes' own, also within a custom one.
    fn resolved(mut self) -> Self {
        self.or = Or::Nothing;
        if let Shape::Named(name) = self.shape {
            let schemas = self.walk.definitions.schemas();
            self.shape = schemas.resolve(self.shape);
            self.name = name;
            self.custom = false;
            self.or = match self.name {
                JSON_SCHEMA_OR_BOOL => Or::Bool,
                JSON_SCHEMA_OR_ARRAY => Or::List,
                _ => return self,
            };
            self.shape = schemas.named(JSON_SCHEMA).unwrap_or(&Shape::Any);
            self.name = JSON_SCHEMA;
        }
        self
    }

    /// A value of the wrong type: `found` is Go's word for it.
    fn refuse(&self, found: &str) -> Value {
        self.walk.wrong(|| {
            let expected = scalar::go_type(self.shape, self.name, self.format);
            let path = self.walk.go_path();
            match scalar::short(self.owner) {
                "" => format!("json: cannot unmarshal {found} into Go value of type {expected}"),
                owner => format!("json: cannot unmarshal {found} into Go struct field {owner}.{path} of type {expected}"),
            }
        });
        Value::Null
    }

    fn checked(&self, value: Result<Value, String>) -> Value {
        value.unwrap_or_else(|error| {
            self.walk.wrong(|| error);
            Value::Null
        })
    }

    fn text(&self, text: &str) -> Value {
        match (self.shape, self.name) {
            _ if self.custom => text.into(),
            (Shape::Scalar(_), TIME) => self.checked(scalar::time(text, 0)),
            (Shape::Scalar(_), MICRO_TIME) => self.checked(scalar::time(text, 6)),
            (Shape::Scalar(_), QUANTITY) => self.checked(scalar::quantity(text)),
            (Shape::Scalar(Scalar::String), _) if self.format == Some(Format::Bytes) => {
                self.checked(scalar::bytes(text))
            }
            (Shape::Scalar(Scalar::String | Scalar::IntOrString) | Shape::Any, _) => text.into(),
            _ => self.refuse("string"),
        }
    }

    fn number(&self, number: Number) -> Value {
        let whole = number.is_i64() || number.is_u64();
        let fits = |format| match format {
            Some(Format::Int64) => number.is_i64(),
            _ => number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        };
        match (self.shape, self.name) {
            _ if self.custom => number.into(),
            (Shape::Scalar(Scalar::IntOrString), QUANTITY) => number.to_string().into(),
            (Shape::Scalar(Scalar::Integer), _) if whole && fits(self.format) => number.into(),
            (Shape::Scalar(Scalar::IntOrString), _) if whole && fits(None) => number.into(),
            (Shape::Scalar(Scalar::Integer), _) => self.refuse(&format!("number {number}")),
            (Shape::Scalar(Scalar::IntOrString), _) => self.checked(Err(format!(
                "json: cannot unmarshal number {number} into Go value of type int32"
            ))),
            (Shape::Scalar(Scalar::Number) | Shape::Any, _) => number.into(),
            _ => self.refuse("number"),
        }
    }

    fn boolean(&self, value: bool) -> Value {
        match self.shape {
            _ if self.custom => value.into(),
            _ if self.or == Or::Bool => value.into(),
            Shape::Scalar(Scalar::Boolean) | Shape::Any => value.into(),
            Shape::Scalar(Scalar::IntOrString) if self.name != QUANTITY => self
                .checked(Err("json: cannot unmarshal bool into Go value of type int32".to_owned())),
            _ => self.refuse("bool"),
        }
    }

    /// What Go has where a list or a map holds `null`.
    fn zero(&self) -> Value {
        match self.shape {
            Shape::Object(_) if !self.custom => Map::new().into(),
            Shape::Scalar(scalar) if !self.custom => match (scalar, self.name) {
                (_, TIME | MICRO_TIME) => Value::Null,
                (_, QUANTITY) => "0".into(),
                (Scalar::Boolean, _) => false.into(),
                (Scalar::Integer | Scalar::Number | Scalar::IntOrString, _) => 0.into(),
                (Scalar::String, _) => "".into(),
            },
            _ => Value::Null,
        }
    }

    /// The whole body: `null` is an empty object to Go, and an object of a custom kind must be a map.
    pub(super) fn whole(&self, value: Value) -> Value {
        match (self.shape, &value) {
            (Shape::Object(_), Value::Object(_)) => value,
            (Shape::Object(_), other) if self.custom => {
                let found = scalar::go_kind(other);
                self.checked(Err(format!(
                    "json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
                )))
            }
            (Shape::Object(_), Value::Null) => Map::new().into(),
            _ => value,
        }
    }

    /// The value of a list's item or of a map's entry.
    fn held(&self, value: Value) -> Value {
        if value.is_null() { self.zero() } else { value }
    }

    /// How a key of this value goes on: what is known of it, and as what it stands in paths.
    fn entry(&self, key: &str) -> Entry<'a> {
        match self.shape {
            Shape::Object(object) => match (object.fields.get(key), &object.others) {
                (Some(field), _) => Entry::Field(self.field(&field.shape, key)),
                (None, Some(others)) => Entry::Other(self.part(others)),
                (None, None) if object.keep_unknown => Entry::Other(self.part(&Shape::Any)),
                (None, None) => Entry::Unknown,
            },
            _ => Entry::Other(self.part(&Shape::Any)),
        }
    }
}

enum Entry<'a> {
    Field(Node<'a>),
    Other(Node<'a>),
    Unknown,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Value, D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(self.boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(self.number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(self.number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value);
        number
            .map(|number| self.number(number))
            .ok_or_else(|| E::custom("a number that JSON does not have"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(self.text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut source: A) -> Result<Value, A::Error> {
        let item = match self.shape {
            Shape::List(list) => self.part(&list.items),
            Shape::Any => self,
            // its own kind without the other form
            _ if self.or == Or::List => Self { or: Or::Nothing, ..self },
            _ if self.custom => self.part(&Shape::Any),
            _ => {
                while source.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(self.refuse("array"));
            }
        };
        let mut items = Vec::new();
        while let Some(value) =
            self.walk.within(Step::Item(items.len()), || source.next_element_seed(item))?
        {
            self.walk.count()?;
            items.push(item.held(value));
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut source: A) -> Result<Value, A::Error> {
        if !self.custom && !matches!(self.shape, Shape::Object(_) | Shape::Any) {
            while source.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(self.refuse("object"));
        }
        let mut object = Map::new();
        let mut absent = BTreeSet::new();
        while let Some(key) = source.next_key::<String>()? {
            self.walk.count()?;
            if object.contains_key(&key) || absent.contains(&key) {
                self.walk.mistake("duplicate", &key);
            }
            let value = match self.entry(&key) {
                Entry::Unknown => {
                    self.walk.mistake("unknown", &key);
                    source.next_value::<IgnoredAny>()?;
                    None
                }
                Entry::Field(node) => {
                    let value = self
                        .walk
                        .within(Step::Field(key.clone()), || source.next_value_seed(node))?;
                    (self.custom || !value.is_null()).then_some(value)
                }
                Entry::Other(node) => {
                    let value = self
                        .walk
                        .within(Step::Key(key.clone()), || source.next_value_seed(node))?;
                    Some(node.held(value))
                }
            };
            if let Some(value) = value {
                object.insert(key, value);
            } else {
                // the last one counts, also when it says that there is none
                object.remove(&key);
                absent.insert(key);
            }
        }
        Ok(object.into())
    }
}
