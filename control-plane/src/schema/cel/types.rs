//! What expressions are known to be before they are evaluated.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::declared::Object;

/// A type.
#[derive(Clone, Debug)]
pub(super) enum Type {
    /// Only the evaluation can tell.
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    /// The type of types.
    Kind,
    List(Arc<Type>),
    Map(Arc<Type>, Arc<Type>),
    Optional(Arc<Type>),
    /// A map whose fields the schema names.
    Object(Arc<Object>),
    /// A type of a library, by its name.
    Opaque(&'static str),
    /// Any type, in a signature: the same wherever it stands.
    Param(char),
}

/// Names of the types of libraries.
pub(super) const OPAQUE: [&str; 5] =
    ["kubernetes.URL", "kubernetes.Quantity", "net.IP", "net.CIDR", "kubernetes.NamedFormat"];
/// Names that stand for types in expressions.
const NAMES: [&str; 13] = [
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "optional_type",
    "string",
    "type",
    "uint",
    "google.protobuf.Duration",
    "google.protobuf.Timestamp",
];

/// The type of this name as a value.
pub(super) fn named(name: &str) -> Option<&'static str> {
    NAMES.iter().chain(&OPAQUE).find(|known| **known == name).copied()
}

impl Type {
    pub fn list(item: Self) -> Self {
        Self::List(Arc::new(item))
    }

    pub fn map(key: Self, value: Self) -> Self {
        Self::Map(Arc::new(key), Arc::new(value))
    }

    pub fn optional(of: Self) -> Self {
        Self::Optional(Arc::new(of))
    }

    pub fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn)
    }

    /// Reads a type of a signature: `list(A)`.
    fn read(text: &str) -> Self {
        let text = text.trim();
        if let Some((name, rest)) = text.split_once('(') {
            let inner = rest.strip_suffix(')').unwrap_or(rest);
            return match (name, inner.split_once(',')) {
                ("map", Some((key, value))) => Self::map(Self::read(key), Self::read(value)),
                ("optional", _) => Self::optional(Self::read(inner)),
                _ => Self::list(Self::read(inner)),
            };
        }
        match text {
            "null" => Self::Null,
            "bool" => Self::Bool,
            "int" => Self::Int,
            "uint" => Self::Uint,
            "double" => Self::Double,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "duration" => Self::Duration,
            "timestamp" => Self::Timestamp,
            "type" => Self::Kind,
            "A" => Self::Param('A'),
            "B" => Self::Param('B'),
            "url" => Self::Opaque(OPAQUE[0]),
            "quantity" => Self::Opaque(OPAQUE[1]),
            "ip" => Self::Opaque(OPAQUE[2]),
            "cidr" => Self::Opaque(OPAQUE[3]),
            "format" => Self::Opaque(OPAQUE[4]),
            _ => Self::Dyn,
        }
    }

    /// Reads the types of a signature's arguments.
    pub fn read_all(text: &str) -> Vec<Self> {
        let (mut found, mut depth, mut from) = (Vec::new(), 0, 0);
        for (at, sign) in text.char_indices() {
            match sign {
                '(' => depth += 1,
                ')' => depth -= 1,
                ',' if depth == 0 => {
                    found.push(Self::read(&text[from..at]));
                    from = at + 1;
                }
                _ => {}
            }
        }
        if !text[from..].trim().is_empty() {
            found.push(Self::read(&text[from..]));
        }
        found
    }
}

/// What the parameters of a signature are found to be.
#[derive(Default)]
pub(super) struct Bound(BTreeMap<char, Type>);

impl Bound {
    /// Whether a value of a type can stand where a signature wants another.
    pub fn takes(&mut self, wanted: &Type, found: &Type) -> bool {
        match (wanted, found) {
            (Type::Param(name), found) => match self.0.get(name).cloned() {
                Some(bound) if bound.is_dyn() || fits(&bound, found) => {
                    // a list without items, and null, are known more closely by the other one
                    if matches!(bound, Type::Null) {
                        self.0.insert(*name, found.clone());
                    }
                    true
                }
                Some(bound) if fits(found, &bound) => {
                    self.0.insert(*name, found.clone());
                    true
                }
                Some(_) => false,
                None => {
                    self.0.insert(*name, found.clone());
                    true
                }
            },
            (Type::List(wanted), Type::List(found))
            | (Type::Optional(wanted), Type::Optional(found)) => self.takes(wanted, found),
            (Type::Map(key, value), Type::Map(found_key, found_value)) => {
                self.takes(key, found_key) && self.takes(value, found_value)
            }
            (wanted, found) => fits(wanted, found),
        }
    }

    /// The type with its parameters filled in; those that nothing was found of may be anything.
    pub fn fill(&self, of: &Type) -> Type {
        match of {
            Type::Param(name) => self.0.get(name).cloned().unwrap_or(Type::Dyn),
            Type::List(item) => Type::list(self.fill(item)),
            Type::Optional(of) => Type::optional(self.fill(of)),
            Type::Map(key, value) => Type::map(self.fill(key), self.fill(value)),
            other => other.clone(),
        }
    }
}

/// Whether a value of a type is one of another.
pub(super) fn fits(wanted: &Type, found: &Type) -> bool {
    match (wanted, found) {
        (Type::Dyn, _)
        | (_, Type::Dyn)
        | (
            Type::Object(_)
            | Type::Opaque(_)
            | Type::Duration
            | Type::Timestamp
            | Type::Optional(_),
            Type::Null,
        ) => true,
        (Type::List(wanted), Type::List(found))
        | (Type::Optional(wanted), Type::Optional(found)) => fits(wanted, found),
        (Type::Map(key, value), Type::Map(found_key, found_value)) => {
            fits(key, found_key) && fits(value, found_value)
        }
        (Type::Object(wanted), Type::Object(found)) => Arc::ptr_eq(wanted, found),
        (Type::Opaque(wanted), Type::Opaque(found)) => wanted == found,
        (Type::Param(wanted), Type::Param(found)) => wanted == found,
        (Type::Object(_) | Type::Opaque(_) | Type::Param(_), _) => false,
        (wanted, found) => std::mem::discriminant(wanted) == std::mem::discriminant(found),
    }
}

impl fmt::Display for Type {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Dyn => "dyn",
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Duration => "google.protobuf.Duration",
            Self::Timestamp => "google.protobuf.Timestamp",
            Self::Kind => "type",
            Self::Object(_) => "object",
            Self::Opaque(name) => name,
            Self::Param(name) => return write!(out, "{name}"),
            Self::List(item) => return write!(out, "list({item})"),
            Self::Map(key, value) => return write!(out, "map({key}, {value})"),
            Self::Optional(of) => return write!(out, "optional_type({of})"),
        };
        out.write_str(name)
    }
}
