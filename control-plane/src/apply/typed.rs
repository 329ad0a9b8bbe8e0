//! Values seen through their schema: which paths they have, what differs between two of them, how one is merged into another, and
//! what is left when paths are taken away. The rules are structured-merge-diff's `typed`.
//!
//! Lists with the topology `Map` or `Set` and maps that are not atomic have parts of their own; everything else, [`Shape::Any`]
//! included, is one value. Null in an object that is stored is as good as absent.

use std::collections::HashMap;
use std::fmt;

use serde_json::{Map, Value};

use super::fieldset::{Atom, FieldSet, Node, Path, PathElement};
use crate::schema::{List, Object, Scalar, Schemas, Shape, Topology};

mod compare;
mod merge;

pub use compare::Comparison;

/// A value that is not what its schema says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedError {
    /// Where, from the end to the beginning: it is found on the way back.
    steps: Vec<PathElement>,
    /// What is wrong there.
    problem: String,
}

impl TypedError {
    fn new(problem: impl Into<String>) -> Self {
        Self { steps: Vec::new(), problem: problem.into() }
    }

    fn at(mut self, element: PathElement) -> Self {
        self.steps.push(element);
        self
    }
}

impl fmt::Display for TypedError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = Path(self.steps.iter().rev().cloned().collect());
        write!(out, "{path}: {}", self.problem)
    }
}

impl std::error::Error for TypedError {}

/// A schema, and how much is asked of values.
#[derive(Clone, Copy, Debug)]
pub struct Typed<'a> {
    schemas: &'a Schemas,
    /// Types must fit, fields must be known and list items must differ: what somebody applies. What is stored may be older than
    /// the schema, and is taken as it is.
    strict: bool,
}

/// What a value has parts by.
enum Parts<'a> {
    /// None: it is one value.
    Whole,
    /// Its fields.
    Fields(&'a Object),
    /// Its items.
    Items(&'a List),
}

impl<'a> Typed<'a> {
    /// For what is stored.
    pub fn lenient(schemas: &'a Schemas) -> Self {
        Self { schemas, strict: false }
    }

    /// For what is applied.
    pub fn strict(schemas: &'a Schemas) -> Self {
        Self { schemas, strict: true }
    }

    /// The paths of a value: every leaf, every item of a list, every entry of a map without known fields, and what is empty or
    /// null in a map.
    pub fn fields(self, value: &Value, shape: &'a Shape) -> Result<FieldSet, TypedError> {
        self.node(value, shape).map(|node| node.below)
    }

    /// Every path that leads to something in a value, what is empty included.
    pub fn present(self, value: &Value, shape: &'a Shape) -> Result<FieldSet, TypedError> {
        let mut set = FieldSet::default();
        match (self.parts(shape), value) {
            (Parts::Fields(object), Value::Object(map)) => {
                for (name, value) in map.iter().filter(|(_, value)| !value.is_null()) {
                    let below = self.present(value, self.field(object, name)?)?;
                    set.set_node(PathElement::Field(name.clone()), Node { own: true, below });
                }
            }
            (Parts::Items(list), Value::Array(items)) => {
                for (element, values) in self.index(items, list)?.groups() {
                    let below = match values[..] {
                        [item] => self.present(item, &list.items)?,
                        _ => FieldSet::default(),
                    };
                    set.set_node(element, Node { own: true, below });
                }
            }
            _ => {}
        }
        Ok(set)
    }

    fn node(self, value: &Value, shape: &'a Shape) -> Result<Node, TypedError> {
        self.check(value, shape)?;
        match (self.parts(shape), value) {
            (Parts::Fields(object), Value::Object(map)) => self.map_node(map, object),
            (Parts::Items(list), Value::Array(items)) => self.list_node(items, list),
            (Parts::Fields(_) | Parts::Items(_), Value::Null) => Ok(Node::default()),
            _ => Ok(Node::leaf()),
        }
    }

    fn map_node(self, map: &Map<String, Value>, object: &'a Object) -> Result<Node, TypedError> {
        let mut below = FieldSet::default();
        for (name, value) in map {
            if value.is_null() && !self.strict {
                continue;
            }
            let element = PathElement::Field(name.clone());
            let known = object.fields.contains_key(name.as_str());
            let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
            let node = self.field(object, name).and_then(|shape| self.node(value, shape));
            let mut node = node.map_err(|error| error.at(element.clone()))?;
            node.own |= empty || !known;
            below.set_node(element, node);
        }
        Ok(Node { own: false, below })
    }

    fn list_node(self, items: &[Value], list: &'a List) -> Result<Node, TypedError> {
        let mut below = FieldSet::default();
        for (element, values) in self.index(items, list)?.groups() {
            let mut node = match values[..] {
                [item] => {
                    let node = self.node(item, &list.items);
                    node.map_err(|error| error.at(element.clone()))?
                }
                // items that cannot be told apart are one value
                _ => Node::leaf(),
            };
            node.own = true;
            below.set_node(element, node);
        }
        Ok(Node { own: false, below })
    }

    /// What a value of this shape has parts by.
    fn parts(self, shape: &'a Shape) -> Parts<'a> {
        match self.schemas.resolve(shape) {
            Shape::Object(object) if !object.atomic => Parts::Fields(object),
            Shape::List(list) if list.topology != Topology::Atomic => Parts::Items(list),
            _ => Parts::Whole,
        }
    }

    /// What a field of a map holds.
    fn field(self, object: &'a Object, name: &str) -> Result<&'a Shape, TypedError> {
        let known = object.fields.get(name).map(|field| &field.shape);
        match known.or(object.others.as_ref()) {
            Some(shape) => Ok(shape),
            None if self.strict && !object.keep_unknown && !object.fields.is_empty() => {
                Err(TypedError::new("field not declared in schema"))
            }
            None => Ok(&Shape::Any),
        }
    }

    /// Whether the type of a value fits.
    fn check(self, value: &Value, shape: &'a Shape) -> Result<(), TypedError> {
        if !self.strict || value.is_null() {
            return Ok(());
        }
        let (fits, wanted) = match self.schemas.resolve(shape) {
            Shape::Any | Shape::Named(_) => return Ok(()),
            Shape::Object(_) => (value.is_object(), "map"),
            Shape::List(_) => (value.is_array(), "list"),
            Shape::Scalar(Scalar::Boolean) => (value.is_boolean(), "boolean"),
            Shape::Scalar(Scalar::Integer | Scalar::Number) => {
                (value.is_number(), "numeric (int or float)")
            }
            Shape::Scalar(Scalar::String) => (value.is_string(), "string"),
            Shape::Scalar(Scalar::IntOrString) => {
                (!value.is_object() && !value.is_array(), "any scalar")
            }
        };
        if fits { Ok(()) } else { Err(TypedError::new(format!("expected {wanted}, got {value}"))) }
    }

    /// The items of a list by their path elements.
    fn index<'v>(self, items: &'v [Value], list: &'a List) -> Result<Index<'v>, TypedError> {
        let mut index = Index::default();
        for (place, item) in items.iter().enumerate() {
            let element = self
                .element(item, list)
                .map_err(|problem| TypedError::new(format!("element {place}: {problem}")))?;
            if !index.insert(element.clone(), item) && self.strict {
                return Err(TypedError::new(format!("duplicate entries for key {element}")));
            }
        }
        Ok(index)
    }

    /// By which path element an item of a list is known.
    fn element(self, item: &Value, list: &'a List) -> Result<PathElement, String> {
        match &list.topology {
            Topology::Map(names) => {
                let Value::Object(map) = item else {
                    return Err(match item {
                        Value::Null => {
                            "associative list with keys may not have a null element".to_owned()
                        }
                        _ => "associative list with keys may not have non-map elements".to_owned(),
                    });
                };
                let keys = names.iter().map(|name| self.key(map, list, name));
                let mut keys = keys.collect::<Result<Vec<_>, _>>()?;
                keys.sort();
                Ok(PathElement::Key(keys))
            }
            Topology::Set | Topology::Atomic => match item {
                Value::Null | Value::Array(_) | Value::Object(_) => Err(format!(
                    "associative list without keys has an element that's not a scalar: {item}"
                )),
                scalar => Ok(PathElement::Value(Atom(scalar.clone()))),
            },
        }
    }

    /// A key of an item: what it holds, or what it holds when it is absent.
    fn key(
        self,
        map: &Map<String, Value>,
        list: &'a List,
        name: &str,
    ) -> Result<(String, Atom), String> {
        let default = || match self.schemas.resolve(&list.items) {
            Shape::Object(object) => object.fields.get(name)?.default.as_ref(),
            _ => None,
        };
        match map.get(name).filter(|value| !value.is_null()).or_else(default) {
            Some(value) => Ok((name.to_owned(), Atom(value.clone()))),
            None => Err(format!(
                "associative list with keys has an element that omits key field {name:?} (and doesn't have default value)"
            )),
        }
    }

    /// The set in which every known field on the way to a path is in the set, too: a map goes when all that was in it went.
    pub fn with_named_fields(self, mut set: FieldSet, shape: &'a Shape) -> FieldSet {
        self.name_fields(&mut set, shape);
        set
    }

    fn name_fields(self, set: &mut FieldSet, shape: &'a Shape) {
        let parts = self.parts(shape);
        for (element, node) in set.nodes_mut() {
            let below = match (&parts, element) {
                (Parts::Fields(object), PathElement::Field(name)) => {
                    node.own |= object.fields.contains_key(name.as_str());
                    self.field(object, name).unwrap_or(&Shape::Any)
                }
                (Parts::Items(list), _) => &list.items,
                _ => &Shape::Any,
            };
            self.name_fields(&mut node.below, below);
        }
    }

    /// What is left of a value when paths are taken away, and what is empty then with them; `None` for nothing.
    pub fn remove(self, value: Value, set: &FieldSet, shape: &'a Shape) -> Option<Value> {
        self.cut(value, set, shape, Emptied::Goes)
    }

    /// What is left of a map when paths are taken away. What is empty then stays, unless its path is one of them.
    pub fn remove_exactly(self, value: Value, set: &FieldSet, shape: &'a Shape) -> Value {
        self.cut(value, set, shape, Emptied::Stays).unwrap_or_default()
    }

    fn cut(
        self,
        value: Value,
        set: &FieldSet,
        shape: &'a Shape,
        emptied: Emptied,
    ) -> Option<Value> {
        let kept = |value: Value, element: &PathElement, shape: &'a Shape| match set.node(element) {
            None => Some(value),
            Some(node) if node.own => None,
            Some(node) => self.cut(value, &node.below, shape, emptied),
        };
        let stays = |empty: bool| emptied == Emptied::Stays || !empty;
        match (self.parts(shape), value) {
            (Parts::Fields(object), Value::Object(map)) => {
                let field = |(name, value): (String, Value)| {
                    let shape = self.field(object, &name).unwrap_or(&Shape::Any);
                    let value = kept(value, &PathElement::Field(name.clone()), shape)?;
                    Some((name, value))
                };
                let map: Map<String, Value> = map.into_iter().filter_map(field).collect();
                stays(map.is_empty()).then_some(Value::Object(map))
            }
            (Parts::Items(list), Value::Array(items)) => {
                let item = |item: Value| match self.element(&item, list) {
                    Ok(element) => kept(item, &element, &list.items),
                    Err(_) => Some(item),
                };
                let items: Vec<Value> = items.into_iter().filter_map(item).collect();
                stays(items.is_empty()).then_some(Value::Array(items))
            }
            // a value without parts has no paths below it: it was another one when they were written down
            (Parts::Whole, Value::Object(_) | Value::Array(_)) => None,
            (_, value) => Some(value),
        }
    }
}

/// What becomes of a map or list of which nothing is left.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Emptied {
    Goes,
    Stays,
}

/// The items of a list by their path elements, in the order of the list.
#[derive(Default)]
struct Index<'v> {
    groups: Vec<(PathElement, Vec<&'v Value>)>,
    places: HashMap<String, usize>,
}

impl<'v> Index<'v> {
    /// Adds an item, and answers whether it is the first of its element.
    fn insert(&mut self, element: PathElement, item: &'v Value) -> bool {
        let next = self.groups.len();
        let place = *self.places.entry(element.to_string()).or_insert(next);
        if place == next {
            self.groups.push((element, vec![item]));
        } else {
            self.groups[place].1.push(item);
        }
        place == next
    }

    /// The items of an element.
    fn get(&self, element: &PathElement) -> &[&'v Value] {
        let place = self.places.get(&element.to_string());
        place.map_or(&[], |place| &self.groups[*place].1)
    }

    fn groups(self) -> impl Iterator<Item = (PathElement, Vec<&'v Value>)> {
        self.groups.into_iter()
    }
}

#[cfg(test)]
#[path = "typed_tests.rs"]
mod tests;
