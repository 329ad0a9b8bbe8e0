//! Values of expressions. Those of the object are read where they stand, when they are asked for.

use std::net::IpAddr;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map as Json, Value};

use super::budget::Fault;
use super::declared::{self, Declared, Kind, Topology};
use super::functions::convert::short;
use super::functions::time;
use super::functions::url::Url;
use super::syntax::Literal;
use super::types::OPAQUE;
use crate::meta::quantity::Quantity;

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Val<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Rc<[u8]>),
    Duration(SignedDuration),
    Timestamp(Timestamp),
    Type(&'static str),
    List(List<'a>),
    Map(Map<'a>),
    Optional(Option<Rc<Val<'a>>>),
    Url(Rc<Url>),
    Quantity(Quantity),
    Ip(IpAddr),
    Cidr(IpAddr, u8),
    /// The name of a format.
    Format(&'static str),
}

/// A text, of the object or made.
#[derive(Clone, Debug)]
pub(super) enum Text<'a> {
    Written(&'a str),
    Made(Rc<str>),
}

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Written(text) => text,
            Self::Made(text) => text,
        }
    }
}

/// A list.
#[derive(Clone, Debug)]
pub(super) struct List<'a> {
    items: Items<'a>,
    /// How it is compared and added to.
    pub topology: &'a Topology,
}

#[derive(Clone, Debug)]
enum Items<'a> {
    Json(&'a [Value], &'a Declared),
    Made(Rc<Vec<Val<'a>>>),
}

/// A map.
#[derive(Clone, Debug)]
pub(super) enum Map<'a> {
    /// With the fields of a schema.
    Object(&'a Json<String, Value>, &'a declared::Object),
    /// Of a schema with `additionalProperties`.
    Json(&'a Json<String, Value>, &'a Declared),
    /// Written out in the expression, so it is small.
    Made(Rc<Vec<(Val<'a>, Val<'a>)>>),
}

pub(super) type Result<T> = std::result::Result<T, Fault>;

impl<'a> List<'a> {
    /// A list of these.
    pub fn of(items: Vec<Val<'a>>) -> Self {
        Self::with(items, &Topology::Atomic)
    }

    /// A list of these that is compared as one of the schema.
    pub fn with(items: Vec<Val<'a>>, topology: &'a Topology) -> Self {
        Self { items: Items::Made(Rc::new(items)), topology }
    }

    pub fn len(&self) -> usize {
        match &self.items {
            Items::Json(items, _) => items.len(),
            Items::Made(items) => items.len(),
        }
    }

    /// An item that is there.
    pub fn get(&self, index: usize) -> Option<Result<Val<'a>>> {
        match &self.items {
            Items::Json(items, declared) => Some(Val::of_json(items.get(index)?, declared)),
            Items::Made(items) => Some(Ok(items.get(index)?.clone())),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Result<Val<'a>>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// All items.
    pub fn to_vec(&self) -> Result<Vec<Val<'a>>> {
        self.iter().collect()
    }
}

impl<'a> Map<'a> {
    pub fn len(&self) -> usize {
        match self {
            Self::Object(fields, _) | Self::Json(fields, _) => fields.len(),
            Self::Made(entries) => entries.len(),
        }
    }

    /// The value of a key. A field that is null is not there.
    pub fn get(&self, key: &Val<'a>) -> Option<Result<Val<'a>>> {
        match (self, key) {
            (Self::Object(fields, declared), Val::String(key)) => {
                let (name, declared) = declared.fields.get(&**key)?;
                let value = fields.get(&**name).filter(|value| !value.is_null())?;
                Some(Val::of_json(value, declared))
            }
            (Self::Json(entries, declared), Val::String(key)) => {
                Some(Val::of_json(entries.get(&**key)?, declared))
            }
            (Self::Made(entries), key) => {
                let found = entries.iter().find(|(known, _)| known.same_key(key))?;
                Some(Ok(found.1.clone()))
            }
            _ => None,
        }
    }

    /// All keys.
    pub fn keys(&self) -> Vec<Val<'a>> {
        match self {
            Self::Object(fields, declared) => {
                let there = fields.iter().filter(|(_, value)| !value.is_null());
                let known = there.filter_map(|(name, _)| {
                    declared.fields.get_key_value(&*declared::escape(name)?)
                });
                known.map(|(escaped, _)| Val::text(escaped)).collect()
            }
            Self::Json(entries, _) => entries.keys().map(|key| Val::text(key)).collect(),
            Self::Made(entries) => entries.iter().map(|(key, _)| key.clone()).collect(),
        }
    }
}

impl<'a> Val<'a> {
    /// A text that stands in the object or the expression.
    pub fn text(text: &'a str) -> Self {
        Self::String(Text::Written(text))
    }

    /// A text that was made.
    pub fn made(text: impl Into<Rc<str>>) -> Self {
        Self::String(Text::Made(text.into()))
    }

    pub fn list(items: Vec<Self>) -> Self {
        Self::List(List::of(items))
    }

    pub fn some(value: Self) -> Self {
        Self::Optional(Some(Rc::new(value)))
    }

    /// A number of things.
    pub fn count(count: usize) -> Self {
        Self::Int(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// A value written out.
    pub fn of_literal(literal: &'a Literal) -> Self {
        match literal {
            Literal::Null => Self::Null,
            Literal::Bool(flag) => Self::Bool(*flag),
            Literal::Int(number) => Self::Int(*number),
            Literal::Uint(number) => Self::Uint(*number),
            Literal::Double(number) => Self::Double(*number),
            Literal::String(text) => Self::text(text),
            Literal::Bytes(bytes) => Self::Bytes(bytes.as_ref().into()),
        }
    }

    /// A part of an object.
    pub fn of_json(value: &'a Value, declared: &'a Declared) -> Result<Self> {
        let wrong = |expected: &str| Fault::error(format!("invalid data, expected {expected}"));
        let malformed = |kind: &str, text: &str| {
            Fault::error(format!("Invalid {kind} formatted string {}", short(text)))
        };
        match (&declared.kind, value) {
            (_, Value::Null) if declared.nullable => Ok(Self::Null),
            (_, Value::Null) => {
                Fault::error("invalid data, got null for schema with nullable=false")
            }
            (Kind::Bool, Value::Bool(flag)) => Ok(Self::Bool(*flag)),
            (Kind::Int | Kind::IntOrString, Value::Number(number)) => {
                whole(number).map_or_else(|| wrong("int"), |number| Ok(Self::Int(number)))
            }
            (Kind::Double, Value::Number(number)) => {
                Ok(Self::Double(number.as_f64().unwrap_or_default()))
            }
            (Kind::String | Kind::IntOrString, Value::String(text)) => Ok(Self::text(text)),
            (Kind::Bytes, Value::String(text)) => STANDARD
                .decode(text)
                .map_or_else(|_| malformed("byte", text), |bytes| Ok(Self::Bytes(bytes.into()))),
            (Kind::Duration, Value::String(text)) => moment(text, time::duration)
                .map_or_else(|| malformed("duration", text), |span| Ok(Self::Duration(span))),
            (Kind::Date, Value::String(text)) => {
                moment(text, |text| time::timestamp(&format!("{text}T00:00:00Z")))
                    .map_or_else(|| malformed("date", text), |at| Ok(Self::Timestamp(at)))
            }
            (Kind::Timestamp, Value::String(text)) => moment(text, time::timestamp)
                .map_or_else(|| malformed("date-time", text), |at| Ok(Self::Timestamp(at))),
            (Kind::List(list), Value::Array(items)) => Ok(Self::List(List {
                items: Items::Json(items, &list.item),
                topology: &list.topology,
            })),
            (Kind::Map(entry), Value::Object(entries)) => Ok(Self::Map(Map::Json(entries, entry))),
            (Kind::Object(object), Value::Object(fields)) => {
                Ok(Self::Map(Map::Object(fields, object)))
            }
            (kind, _) => wrong(match kind {
                Kind::Bool => "bool",
                Kind::Int => "int",
                Kind::Double => "float",
                Kind::List(_) => "an array for the provided schema with type=array",
                Kind::Map(_) | Kind::Object(_) => "a map for the provided schema with type=object",
                Kind::IntOrString => "XIntOrString value to be either a string or integer",
                _ => "string",
            }),
        }
    }

    /// How many bytes of text or data it has itself.
    pub fn bytes(&self) -> usize {
        match self {
            Self::String(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Url(url) => url.text().len(),
            _ => 0,
        }
    }

    /// The name of its type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Type(_) => "type",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Optional(_) => "optional_type",
            Self::Url(_) => OPAQUE[0],
            Self::Quantity(_) => OPAQUE[1],
            Self::Ip(_) => OPAQUE[2],
            Self::Cidr(..) => OPAQUE[3],
            Self::Format(_) => OPAQUE[4],
        }
    }

    /// Nothing, zero, empty.
    pub fn is_zero(&self) -> bool {
        match self {
            Self::Null | Self::Bool(false) | Self::Int(0) | Self::Uint(0) => true,
            Self::Double(number) => *number == 0.0,
            Self::String(text) => text.is_empty(),
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Duration(span) => span.is_zero(),
            Self::List(list) => list.len() == 0,
            Self::Map(map) => map.len() == 0,
            Self::Optional(value) => value.is_none(),
            Self::Quantity(quantity) => quantity.is_zero(),
            _ => false,
        }
    }

    /// Whether two keys of a map are the same; numbers are when they are equal.
    pub fn same_key(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::String(one), Self::String(other)) => **one == **other,
            (Self::Bool(one), Self::Bool(other)) => one == other,
            _ => match (self.as_number(), other.as_number()) {
                (Some(one), Some(other)) => one.compare(other) == Some(std::cmp::Ordering::Equal),
                _ => false,
            },
        }
    }

    /// The number, whatever its type.
    pub fn as_number(&self) -> Option<Number> {
        match self {
            Self::Int(number) => Some(Number::Whole(i128::from(*number))),
            Self::Uint(number) => Some(Number::Whole(i128::from(*number))),
            Self::Double(number) => Some(Number::Double(*number)),
            _ => None,
        }
    }
}

/// A number of any type.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Whole(i128),
    Double(f64),
}

impl Number {
    /// Compares exactly; `None` if one is not a number.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "what is lost is looked at in the branches"
    )]
    pub fn compare(self, other: Self) -> Option<std::cmp::Ordering> {
        match (self, other) {
            (Self::Whole(one), Self::Whole(other)) => Some(one.cmp(&other)),
            (Self::Double(one), Self::Double(other)) => one.partial_cmp(&other),
            (Self::Double(_), Self::Whole(_)) => {
                other.compare(self).map(std::cmp::Ordering::reverse)
            }
            (Self::Whole(one), Self::Double(other)) => {
                if other.abs() < 1e30 {
                    // its whole part is exact, and what is left decides when that is equal
                    let ordering = one.cmp(&(other.trunc() as i128));
                    Some(ordering.then(0.0.partial_cmp(&other.fract())?))
                } else {
                    (one as f64).partial_cmp(&other)
                }
            }
        }
    }
}

/// Reads a text that is short if it is right: it is read whenever it is asked for.
fn moment<T>(text: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    if text.len() > 256 { None } else { read(text) }
}

/// A whole number of JSON, which may be written as `1.0`.
fn whole(number: &serde_json::Number) -> Option<i64> {
    number.as_i64().or_else(|| {
        let double = number.as_f64().filter(|number| number.fract() == 0.0)?;
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and within the range")]
        (double.abs() < 9.2e18).then_some(double as i64)
    })
}
