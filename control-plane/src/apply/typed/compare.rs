//! What differs between two values.

use serde_json::{Map, Value};

use super::{Index, Parts, Typed, TypedError};
use crate::apply::fieldset::{FieldSet, Node, PathElement};
use crate::patch::json::equal;
use crate::schema::{List, Object, Shape};

/// What differs between an old and a new value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Paths that only the new one has.
    pub added: FieldSet,
    /// Paths that both have, with different values.
    pub modified: FieldSet,
    /// Paths that only the old one has.
    pub removed: FieldSet,
}

impl Comparison {
    /// Whether nothing differs.
    pub fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// The comparison without what is at and below some paths.
    #[must_use]
    pub fn without(&self, ignored: &FieldSet) -> Self {
        Self {
            added: self.added.recursive_difference(ignored),
            modified: self.modified.recursive_difference(ignored),
            removed: self.removed.recursive_difference(ignored),
        }
    }
}

/// What differs at and below a path.
#[derive(Default)]
struct Changes {
    added: Node,
    modified: Node,
    removed: Node,
}

impl Changes {
    fn put(&mut self, element: &PathElement, changes: Self) {
        self.added.below.set_node(element.clone(), changes.added);
        self.modified.below.set_node(element.clone(), changes.modified);
        self.removed.below.set_node(element.clone(), changes.removed);
    }
}

impl<'a> Typed<'a> {
    /// What differs between two values of a shape.
    pub fn compare(
        self,
        old: &Value,
        new: &Value,
        shape: &'a Shape,
    ) -> Result<Comparison, TypedError> {
        let changes = self.changes(Some(old), Some(new), shape)?;
        Ok(Comparison {
            added: changes.added.below,
            modified: changes.modified.below,
            removed: changes.removed.below,
        })
    }

    fn changes(
        self,
        old: Option<&Value>,
        new: Option<&Value>,
        shape: &'a Shape,
    ) -> Result<Changes, TypedError> {
        let (old, new) = (old.filter(|old| !old.is_null()), new.filter(|new| !new.is_null()));
        let mut changes = match self.parts(shape) {
            Parts::Fields(object) => {
                let empty = Map::new();
                match (fields(old, &empty), fields(new, &empty)) {
                    (Some(old), Some(new)) if !(old.is_empty() && new.is_empty()) => {
                        self.map_changes(old, new, object)?
                    }
                    _ => Changes::default(),
                }
            }
            Parts::Items(list) => match (items(old), items(new)) {
                (Some(old), Some(new)) if !(old.is_empty() && new.is_empty()) => {
                    self.list_changes(old, new, list)?
                }
                _ => Changes::default(),
            },
            Parts::Whole => Changes::default(),
        };
        match (old, new) {
            (None, Some(_)) => changes.added.own = true,
            (Some(_), None) => changes.removed.own = true,
            (Some(old), Some(new)) if self.is_leaf(old, new, shape) && !equal(old, new) => {
                changes.modified.own = true;
            }
            _ => {}
        }
        Ok(changes)
    }

    /// Whether two values are compared as a whole.
    fn is_leaf(self, old: &Value, new: &Value, shape: &'a Shape) -> bool {
        match self.parts(shape) {
            Parts::Whole => true,
            Parts::Fields(_) => !(old.is_object() && new.is_object()),
            Parts::Items(_) => !(old.is_array() && new.is_array()),
        }
    }

    fn map_changes(
        self,
        old: &Map<String, Value>,
        new: &Map<String, Value>,
        object: &'a Object,
    ) -> Result<Changes, TypedError> {
        let mut changes = Changes::default();
        let only_old = old.keys().filter(|name| !new.contains_key(*name));
        for name in new.keys().chain(only_old) {
            let element = PathElement::Field(name.clone());
            let part = self
                .field(object, name)
                .and_then(|shape| self.changes(old.get(name), new.get(name), shape))
                .map_err(|error| error.at(element.clone()))?;
            changes.put(&element, part);
        }
        Ok(changes)
    }

    fn list_changes(
        self,
        old: &[Value],
        new: &[Value],
        list: &'a List,
    ) -> Result<Changes, TypedError> {
        let (old, new) = (self.index(old, list)?, self.index(new, list)?);
        let mut changes = Changes::default();
        let names = |index: &Index<'_>| -> Vec<PathElement> {
            index.groups.iter().map(|(element, _)| element.clone()).collect()
        };
        let (before, mut after) = (names(&old), names(&new));
        after.retain(|element| old.get(element).is_empty());
        for element in before.iter().chain(&after) {
            let part = self.item_changes(old.get(element), new.get(element), &list.items);
            changes.put(element, part.map_err(|error| error.at(element.clone()))?);
        }
        Ok(changes)
    }

    /// The items of one element before and after. Items that cannot be told apart are one value together.
    fn item_changes(
        self,
        old: &[&Value],
        new: &[&Value],
        shape: &'a Shape,
    ) -> Result<Changes, TypedError> {
        match (old, new) {
            ([] | [_], [] | [_]) => self.changes(old.first().copied(), new.first().copied(), shape),
            ([_, _, ..], [_, _, ..]) => {
                let same =
                    old.len() == new.len() && old.iter().zip(new).all(|(old, new)| equal(old, new));
                let modified = Node { own: !same, ..Node::default() };
                Ok(Changes { modified, ..Changes::default() })
            }
            ([_, _, ..], _) => {
                let mut changes = self.changes(None, new.first().copied(), shape)?;
                changes.removed.own = true;
                Ok(changes)
            }
            (_, _) => {
                let mut changes = self.changes(old.first().copied(), None, shape)?;
                changes.added.own = true;
                Ok(changes)
            }
        }
    }
}

/// The fields of a map, of what is absent none; `None` for what is no map.
fn fields<'v>(
    value: Option<&'v Value>,
    empty: &'v Map<String, Value>,
) -> Option<&'v Map<String, Value>> {
    match value {
        None => Some(empty),
        Some(value) => value.as_object(),
    }
}

/// The items of a list, of what is absent none; `None` for what is no list.
fn items(value: Option<&Value>) -> Option<&[Value]> {
    match value {
        None => Some(&[]),
        Some(value) => value.as_array().map(Vec::as_slice),
    }
}
