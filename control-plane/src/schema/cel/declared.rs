//! What an object's parts are to expressions, by their schema.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lexer::RESERVED;
use super::types::Type;

/// A part of an object. Parts of which nothing is known are not declared, and not visible.
#[derive(Clone, Debug)]
pub struct Declared {
    /// What it is.
    pub kind: Kind,
    /// It may be null.
    pub nullable: bool,
}

/// What a part is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A text or a whole number (`x-kubernetes-int-or-string`).
    IntOrString,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// Any number.
    Double,
    /// A text.
    String,
    /// Base64 (`format: byte`).
    Bytes,
    /// `format: duration`.
    Duration,
    /// `format: date`.
    Date,
    /// `format: date-time`.
    Timestamp,
    /// A list.
    List(Arc<List>),
    /// A map from any key to this (`additionalProperties`).
    Map(Arc<Declared>),
    /// A map with known fields.
    Object(Arc<Object>),
}

/// A list.
#[derive(Clone, Debug)]
pub struct List {
    /// Its items.
    pub item: Declared,
    /// When two lists are equal, and what their sum is.
    pub topology: Topology,
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// Items stand where they stand.
    Atomic,
    /// Scalars without an order.
    Set,
    /// Maps without an order, told apart by these fields.
    Map(Vec<Box<str>>),
}

/// A map with known fields.
#[derive(Debug, Default)]
pub struct Object {
    /// The name in the object and what it holds, by the name in expressions.
    pub fields: BTreeMap<Box<str>, (Box<str>, Declared)>,
}

impl Object {
    /// Adds a field, unless its name cannot be written in an expression.
    pub fn add(&mut self, name: &str, declared: Declared) {
        if let Some(escaped) = escape(name) {
            self.fields.insert(escaped.into(), (name.into(), declared));
        }
    }
}

impl Declared {
    /// A part that is not null.
    pub fn of(kind: Kind) -> Self {
        Self { kind, nullable: false }
    }

    /// The type in expressions.
    pub(super) fn type_of(&self) -> Type {
        match &self.kind {
            Kind::IntOrString => Type::Dyn,
            Kind::Bool => Type::Bool,
            Kind::Int => Type::Int,
            Kind::Double => Type::Double,
            Kind::String => Type::String,
            Kind::Bytes => Type::Bytes,
            Kind::Duration => Type::Duration,
            Kind::Date | Kind::Timestamp => Type::Timestamp,
            Kind::List(list) => Type::list(list.item.type_of()),
            Kind::Map(value) => Type::map(Type::String, value.type_of()),
            Kind::Object(object) => Type::Object(object.clone()),
        }
    }
}

/// Words that are values or operators in expressions.
const KEYWORDS: [&str; 4] = ["true", "false", "null", "in"];

/// The name of a field in expressions; `None` if it has none.
/// <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#field-path>
pub fn escape(name: &str) -> Option<String> {
    let first = |sign: char| sign.is_ascii_alphabetic() || "_.-/".contains(sign);
    let allowed = |sign: char| first(sign) || sign.is_ascii_digit();
    if !name.starts_with(first) || !name.chars().all(allowed) {
        return None;
    }
    if KEYWORDS.contains(&name) || RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let escaped = name.replace("__", "__underscores__");
    Some(escaped.replace('.', "__dot__").replace('-', "__dash__").replace('/', "__slash__"))
}
