//! What an object of some kind may hold, and how its lists and maps merge.
//!
//! The shapes of the built-in kinds come from Kubernetes' published `OpenAPI` definitions, those of custom ones from their
//! `CustomResourceDefinition`: after loading they are the same type, so decoding, patches and server-side apply do not know the
//! difference.

pub mod cel;
pub mod decode;
pub mod definitions;
pub mod openapi;
mod re2;
pub mod structural;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

/// The name of a definition, such as `io.k8s.api.core.v1.Pod`.
pub type Name = Arc<str>;

/// What a value may be.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A definition that stands elsewhere ([`Schemas::resolve`] finds it). Definitions may refer to themselves.
    Named(Name),
    /// A map with known fields, others, or both.
    Object(Box<Object>),
    /// A list.
    List(Box<List>),
    /// A value without parts.
    Scalar(Scalar),
    /// Anything: `RawExtension`, `JSON`, `x-kubernetes-preserve-unknown-fields`. Server-side apply takes it as one value.
    Any,
}

/// A value without parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// `true` or `false`.
    Boolean,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// A text.
    String,
    /// A text or a whole number (`IntOrString`, `x-kubernetes-int-or-string`); a `Quantity` is one as well.
    IntOrString,
}

/// A map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object {
    /// Fields by name.
    pub fields: BTreeMap<Box<str>, Field>,
    /// Which of them must be there.
    pub required: Vec<Box<str>>,
    /// What fields of other names hold (`additionalProperties`); `None`: there are none.
    pub others: Option<Shape>,
    /// Fields of other names are kept as they are (`x-kubernetes-preserve-unknown-fields`).
    pub keep_unknown: bool,
    /// One value as far as ownership and merging go (`x-kubernetes-map-type: atomic`).
    pub atomic: bool,
}

/// A field of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// What it holds.
    pub shape: Shape,
    /// What it holds when it is absent, as far as the schema says so.
    pub default: Option<Value>,
    /// How a strategic merge patch changes it (`x-kubernetes-patch-strategy`, `x-kubernetes-patch-merge-key`).
    pub patch: PatchStrategy,
}

/// How a strategic merge patch changes a field.
/// <https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// Lists are merged, not replaced.
    pub merge: bool,
    /// `$retainKeys` is understood.
    pub retain_keys: bool,
    /// By which field the items of a merged list are the same; `None` for lists of scalars.
    pub merge_key: Option<Box<str>>,
}

/// A list.
#[derive(Clone, Debug, PartialEq)]
pub struct List {
    /// What its items are.
    pub items: Shape,
    /// How server-side apply merges it.
    pub topology: Topology,
}

/// How server-side apply merges a list (`x-kubernetes-list-type`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Topology {
    /// One value.
    #[default]
    Atomic,
    /// Scalars, each there once.
    Set,
    /// Maps that are the same when these fields are (`x-kubernetes-list-map-keys`); a key that is absent has the field's default.
    Map(Vec<Box<str>>),
}

/// Shapes by the name of their definition.
#[derive(Clone, Debug, Default)]
pub struct Schemas {
    definitions: BTreeMap<Name, Shape>,
}

impl Schemas {
    /// Shapes by name; a later one of the same name takes the place of an earlier one.
    pub fn new(definitions: impl IntoIterator<Item = (Name, Shape)>) -> Self {
        Self { definitions: definitions.into_iter().collect() }
    }

    /// The definition of this name.
    pub fn named(&self, name: &str) -> Option<&Shape> {
        self.definitions.get(name)
    }

    /// All definitions with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Shape)> {
        self.definitions.iter()
    }

    /// What a shape is when names are followed; [`Shape::Any`] for a name that leads nowhere.
    pub fn resolve<'a>(&'a self, mut shape: &'a Shape) -> &'a Shape {
        // a chain of names that leads back to itself would be followed for ever
        for _ in 0..=self.definitions.len() {
            match shape {
                Shape::Named(name) => shape = self.definitions.get(name).unwrap_or(&Shape::Any),
                found => return found,
            }
        }
        &Shape::Any
    }
}
