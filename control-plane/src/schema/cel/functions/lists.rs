//! Lists, and the sizes of maps.
//! <https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-list-library>

use std::cmp::Ordering;

use super::super::budget::{Budget, Fault};
use super::super::equal::{compare, equal};
use super::super::value::{List, Result, Val};
use super::{Answer, arithmetic};

pub(super) fn call<'a>(name: &str, args: &[Val<'a>], budget: &Budget) -> Answer<'a> {
    match (name, args) {
        ("size", [Val::List(list)]) => Some(Ok(Val::count(list.len()))),
        // null fields are not visible, so they do not count
        ("size", [Val::Map(map)]) => {
            Some(budget.items(map.len()).map(|()| Val::count(map.keys().len())))
        }
        ("isSorted", [Val::List(list)]) => Some(is_sorted(list, budget)),
        ("sum", [Val::List(list)]) => Some(sum(list, budget)),
        ("min", [Val::List(list)]) => Some(extreme(name, list, Ordering::Less, budget)),
        ("max", [Val::List(list)]) => Some(extreme(name, list, Ordering::Greater, budget)),
        ("indexOf", [Val::List(list), item]) => Some(index_of(list, item, true, budget)),
        ("lastIndexOf", [Val::List(list), item]) => Some(index_of(list, item, false, budget)),
        ("sets.contains", [Val::List(list), Val::List(part)]) => {
            Some(contains(list, part, budget).map(Val::Bool))
        }
        ("sets.equivalent", [Val::List(one), Val::List(other)]) => Some(
            contains(one, other, budget)
                .and_then(|all| Ok(all && contains(other, one, budget)?))
                .map(Val::Bool),
        ),
        ("sets.intersects", [Val::List(one), Val::List(other)]) => {
            Some(intersects(one, other, budget).map(Val::Bool))
        }
        _ => None,
    }
}

fn is_sorted<'a>(list: &List<'a>, budget: &Budget) -> Result<Val<'a>> {
    let mut before: Option<Val<'a>> = None;
    for item in list.iter() {
        let item = item?;
        if let Some(before) = &before
            && compare(before, &item, budget)? == Some(Ordering::Greater)
        {
            return Ok(Val::Bool(false));
        }
        before = Some(item);
    }
    Ok(Val::Bool(true))
}

/// The sum; of nothing, zero.
fn sum<'a>(list: &List<'a>, budget: &Budget) -> Result<Val<'a>> {
    let mut sum: Option<Val<'a>> = None;
    for item in list.iter() {
        budget.spend(1)?;
        let item = item?;
        sum = Some(match sum {
            None => item,
            Some(sum) => arithmetic::call("_+_", &[sum, item], budget)
                .unwrap_or_else(|| Err(Fault::no_overload()))?,
        });
    }
    Ok(sum.unwrap_or(Val::Int(0)))
}

fn extreme<'a>(name: &str, list: &List<'a>, wanted: Ordering, budget: &Budget) -> Result<Val<'a>> {
    let mut found: Option<Val<'a>> = None;
    for item in list.iter() {
        let item = item?;
        let better = match &found {
            Some(found) => compare(&item, found, budget)? == Some(wanted),
            None => true,
        };
        if better {
            found = Some(item);
        }
    }
    found.map_or_else(|| Fault::error(format!("{name} called on empty list")), Ok)
}

fn index_of<'a>(
    list: &List<'a>,
    wanted: &Val<'a>,
    first: bool,
    budget: &Budget,
) -> Result<Val<'a>> {
    let mut found = None;
    for (index, item) in list.iter().enumerate() {
        if equal(&item?, wanted, budget)? {
            found = Some(index);
            if first {
                break;
            }
        }
    }
    Ok(found.map_or(Val::Int(-1), Val::count))
}

fn has<'a>(list: &List<'a>, wanted: &Val<'a>, budget: &Budget) -> Result<bool> {
    for item in list.iter() {
        if equal(&item?, wanted, budget)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn contains<'a>(list: &List<'a>, part: &List<'a>, budget: &Budget) -> Result<bool> {
    for item in part.iter() {
        if !has(list, &item?, budget)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn intersects<'a>(one: &List<'a>, other: &List<'a>, budget: &Budget) -> Result<bool> {
    for item in one.iter() {
        if has(other, &item?, budget)? {
            return Ok(true);
        }
    }
    Ok(false)
}
