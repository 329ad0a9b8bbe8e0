//! Items of a list before and after a change.

use std::collections::BTreeMap;

use serde_json::Value;

/// The items as they were.
pub(super) struct Before<'a> {
    keys: Option<&'a [Box<str>]>,
    items: BTreeMap<String, &'a Value>,
}

impl<'a> Before<'a> {
    /// `keys`: by which fields items are the same; `None`: nobody can tell.
    pub(super) fn new(keys: Option<&'a [Box<str>]>, old: Option<&'a Value>) -> Self {
        let old = old.and_then(Value::as_array).into_iter().flatten();
        let items = old.filter_map(|item| Some((identity(keys?, item)?, item))).collect();
        Self { keys, items }
    }

    /// The item that is this one now.
    pub(super) fn of(&self, item: &Value) -> Option<&'a Value> {
        self.items.get(&identity(self.keys?, item)?).copied()
    }
}

fn identity(keys: &[Box<str>], item: &Value) -> Option<String> {
    let values: Vec<&Value> =
        keys.iter().map(|key| item.get(&**key).unwrap_or(&Value::Null)).collect();
    serde_json::to_string(&values).ok()
}
