//! Which values are equal, and which is the greater one.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::Value;

use super::budget::{Budget, Fault};
use super::declared::Topology;
use super::functions::convert::shown;
use super::value::{List, Map, Result, Val};

/// Whether two values are equal. Values of different types are not, but for numbers.
pub(super) fn equal<'a>(one: &Val<'a>, other: &Val<'a>, budget: &Budget) -> Result<bool> {
    budget.spend(1)?;
    Ok(match (one, other) {
        (Val::Null, Val::Null) => true,
        (Val::Bool(one), Val::Bool(other)) => one == other,
        (Val::String(one), Val::String(other)) => {
            budget.text(one.len().max(other.len()))?;
            **one == **other
        }
        (Val::Bytes(one), Val::Bytes(other)) => {
            budget.text(one.len().max(other.len()))?;
            one == other
        }
        (Val::Duration(one), Val::Duration(other)) => one == other,
        (Val::Timestamp(one), Val::Timestamp(other)) => one == other,
        (Val::Type(one), Val::Type(other)) | (Val::Format(one), Val::Format(other)) => one == other,
        (Val::Quantity(one), Val::Quantity(other)) => one == other,
        (Val::Ip(one), Val::Ip(other)) => one == other,
        (Val::Cidr(one, length), Val::Cidr(other, other_length)) => {
            (one, length) == (other, other_length)
        }
        (Val::Url(one), Val::Url(other)) => one.text() == other.text(),
        (Val::Optional(one), Val::Optional(other)) => match (one, other) {
            (Some(one), Some(other)) => equal(one, other, budget)?,
            (one, other) => one.is_none() && other.is_none(),
        },
        (Val::List(one), Val::List(other)) => lists(one, other, budget)?,
        (Val::Map(one), Val::Map(other)) => maps(one, other, budget)?,
        _ => match (one.as_number(), other.as_number()) {
            (Some(one), Some(other)) => one.compare(other) == Some(Ordering::Equal),
            _ => false,
        },
    })
}

/// Sets and lists with keys are equal in any order.
fn lists<'a>(one: &List<'a>, other: &List<'a>, budget: &Budget) -> Result<bool> {
    if one.len() != other.len() {
        return Ok(false);
    }
    budget.items(one.len())?;
    if *one.topology == Topology::Atomic {
        for (one, other) in one.iter().zip(other.iter()) {
            if !equal(&one?, &other?, budget)? {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    let mut known = BTreeMap::new();
    for item in one.iter() {
        let item = item?;
        known.insert(identity(&item, one.topology, budget)?, item);
    }
    for item in other.iter() {
        let item = item?;
        match known.get(&identity(&item, one.topology, budget)?) {
            Some(found) if equal(found, &item, budget)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// What tells an item of a set or of a list with keys from others.
pub(super) fn identity(item: &Val<'_>, topology: &Topology, budget: &Budget) -> Result<String> {
    budget.spend(1)?;
    match (topology, item) {
        (_, Val::String(text)) => budget.text(text.len()).map(|()| format!("{:?}", &**text)),
        // equal numbers are written alike
        (_, Val::Int(number)) => Ok(number.to_string()),
        (_, Val::Double(number)) => Ok(number.to_string()),
        (_, Val::Bytes(bytes)) => budget.text(bytes.len()).map(|()| format!("b{bytes:?}")),
        (_, Val::List(list)) => {
            let items: Result<Vec<String>> =
                list.iter().map(|item| identity(&item?, &Topology::Set, budget)).collect();
            Ok(format!("[{}]", items?.join(",")))
        }
        (Topology::Map(keys), Val::Map(Map::Object(fields, _))) => {
            let mut found = String::new();
            for key in keys {
                let value = fields.get(&**key).unwrap_or(&Value::Null);
                budget.text(value.as_str().map_or(8, str::len))?;
                found.push_str(&format!("{value},"));
            }
            Ok(found)
        }
        (_, Val::Map(Map::Object(fields, _) | Map::Json(fields, _))) => {
            budget.spend(fields.values().map(weight).sum())?;
            Ok(serde_json::to_string(fields).unwrap_or_default())
        }
        (_, Val::Map(Map::Made(entries))) => {
            let mut found = String::new();
            for (key, value) in entries.iter() {
                let (key, value) = (
                    identity(key, &Topology::Set, budget)?,
                    identity(value, &Topology::Set, budget)?,
                );
                found.push_str(&format!("{key}:{value},"));
            }
            Ok(found)
        }
        (_, other) => Ok(shown(other)),
    }
}

/// Unknown fields of objects with the same schema are looked at, too, though they are not visible.
fn maps<'a>(one: &Map<'a>, other: &Map<'a>, budget: &Budget) -> Result<bool> {
    if one.len() != other.len() {
        return Ok(false);
    }
    budget.items(one.len())?;
    if let (Map::Object(one, declared), Map::Object(other, _)) = (one, other) {
        let known = |name: &str| {
            super::declared::escape(name).is_some_and(|name| declared.fields.contains_key(&*name))
        };
        for (name, value) in one.iter().filter(|(name, value)| value.is_null() || !known(name)) {
            budget.spend(weight(value))?;
            if other.get(name) != Some(value) {
                return Ok(false);
            }
        }
    }
    for key in one.keys() {
        let (Some(one), Some(other)) = (one.get(&key), other.get(&key)) else { return Ok(false) };
        if !equal(&one?, &other?, budget)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The steps to compare a value as it stands.
fn weight(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64 / 10 + 1,
        Value::Array(items) => 1 + items.iter().map(weight).sum::<u64>(),
        Value::Object(fields) => 1 + fields.values().map(weight).sum::<u64>(),
        _ => 1,
    }
}

/// Which is the greater one; `None` if one is not a number.
pub(super) fn compare(one: &Val<'_>, other: &Val<'_>, budget: &Budget) -> Result<Option<Ordering>> {
    budget.spend(1)?;
    Ok(match (one, other) {
        (Val::Bool(one), Val::Bool(other)) => Some(one.cmp(other)),
        (Val::String(one), Val::String(other)) => {
            budget.text(one.len().max(other.len()))?;
            Some((**one).cmp(&**other))
        }
        (Val::Bytes(one), Val::Bytes(other)) => {
            budget.text(one.len().max(other.len()))?;
            Some(one.cmp(other))
        }
        (Val::Duration(one), Val::Duration(other)) => Some(one.cmp(other)),
        (Val::Timestamp(one), Val::Timestamp(other)) => Some(one.cmp(other)),
        _ => match (one.as_number(), other.as_number()) {
            (Some(one), Some(other)) => one.compare(other),
            _ => return Err(Fault::no_overload()),
        },
    })
}
