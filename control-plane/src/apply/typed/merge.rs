//! One value merged into another.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::{Parts, Typed, TypedError};
use crate::schema::{List, Object, Shape};

impl<'a> Typed<'a> {
    /// What is applied, merged into what is there. Values of what is applied win; its items have its order, the others keep their
    /// places between them. A null takes a value away, but not one that has parts.
    pub fn merge(self, live: Value, config: &Value, shape: &'a Shape) -> Result<Value, TypedError> {
        match (self.parts(shape), live, config) {
            (Parts::Fields(object), Value::Object(live), Value::Object(config)) => {
                self.merge_maps(live, config, object).map(Value::Object)
            }
            (Parts::Items(list), Value::Array(live), Value::Array(config)) => {
                self.merge_lists(live, config, list).map(Value::Array)
            }
            (Parts::Fields(_) | Parts::Items(_), live, Value::Null) => Ok(live),
            (_, _, config) => self.fresh(config, shape),
        }
    }

    fn merge_maps(
        self,
        mut live: Map<String, Value>,
        config: &Map<String, Value>,
        object: &'a Object,
    ) -> Result<Map<String, Value>, TypedError> {
        for (name, value) in config {
            let shape = self.field(object, name)?;
            let merged = match live.remove(name) {
                Some(found) => self.merge(found, value, shape)?,
                None => self.fresh(value, shape)?,
            };
            if !merged.is_null() {
                live.insert(name.clone(), merged);
            }
        }
        Ok(live)
    }

    /// What is applied where there is nothing: without the nulls of its maps.
    fn fresh(self, config: &Value, shape: &'a Shape) -> Result<Value, TypedError> {
        match (self.parts(shape), config) {
            (Parts::Fields(object), Value::Object(config)) => {
                self.merge_maps(Map::new(), config, object).map(Value::Object)
            }
            (Parts::Items(list), Value::Array(config)) => {
                config.iter().map(|item| self.fresh(item, &list.items)).collect()
            }
            (_, config) => Ok(config.clone()),
        }
    }

    fn merge_lists(
        self,
        live: Vec<Value>,
        config: &[Value],
        list: &'a List,
    ) -> Result<Vec<Value>, TypedError> {
        // elements of the items, in the order of each list; texts, because they are looked up
        let names = |items: &[Value]| -> Result<Vec<String>, TypedError> {
            let name = |item| self.element(item, list).map(|element| element.to_string());
            items.iter().map(|item| name(item).map_err(TypedError::new)).collect()
        };
        let (live_names, config_names) = (names(&live)?, names(config)?);
        let wanted: HashMap<&str, &Value> =
            config_names.iter().map(String::as_str).zip(config).collect();
        // what is there and wanted, by element; items that cannot be told apart give way to the one that is wanted
        let mut shared: HashMap<&str, Vec<Value>> = HashMap::new();
        let mut others = Vec::new();
        for (name, item) in live_names.iter().zip(live) {
            if wanted.contains_key(name.as_str()) {
                shared.entry(name).or_default().push(item);
                others.push((name.as_str(), None));
            } else {
                others.push((name.as_str(), Some(item)));
            }
        }
        let in_live: HashSet<&str> = shared.keys().copied().collect();
        let mut out = Vec::new();
        let mut rest = config_names.iter().map(String::as_str).peekable();
        let mut take = |name: &str, out: &mut Vec<Value>| -> Result<(), TypedError> {
            let Some(config) = wanted.get(name) else { return Ok(()) };
            out.push(match shared.remove(name).as_deref_mut() {
                Some([found]) => self.merge(found.take(), config, &list.items)?,
                _ => self.fresh(config, &list.items)?,
            });
            Ok(())
        };
        let mut next_shared = SharedQueue::new(&config_names, &in_live);
        for (name, item) in others {
            match item {
                Some(item) => out.push(item),
                // a shared item stands where the live list has it, unless what is applied wants another one before it
                None if next_shared.peek() == Some(name) => {
                    for before in rest.by_ref() {
                        take(before, &mut out)?;
                        if before == name {
                            break;
                        }
                    }
                    next_shared.advance();
                }
                None => {}
            }
        }
        rest.try_for_each(|name| take(name, &mut out))?;
        Ok(out)
    }
}

/// The elements that both lists have, in the order of what is applied.
struct SharedQueue<'s> {
    names: Vec<&'s str>,
    next: usize,
}

impl<'s> SharedQueue<'s> {
    fn new(config: &'s [String], live: &HashSet<&str>) -> Self {
        let names = config.iter().map(String::as_str).filter(|name| live.contains(name)).collect();
        Self { names, next: 0 }
    }

    fn peek(&self) -> Option<&'s str> {
        self.names.get(self.next).copied()
    }

    fn advance(&mut self) {
        self.next += 1;
    }
}
