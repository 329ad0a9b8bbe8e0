//! `+`, `-`, `*`, `/`, `%`, `!`. Numbers that do not fit are errors, as is a division by zero.

use std::rc::Rc;

use jiff::{SignedDuration, Timestamp};

use super::super::budget::{Budget, Fault};
use super::super::value::{Result, Val};
use super::Answer;

pub(super) fn call<'a>(name: &str, args: &[Val<'a>], budget: &Budget) -> Answer<'a> {
    match (name, args) {
        ("!_", [Val::Bool(value)]) => Some(Ok(Val::Bool(!value))),
        ("-_", [Val::Int(value)]) => Some(whole(value.checked_neg())),
        ("-_", [Val::Double(value)]) => Some(Ok(Val::Double(-value))),
        (_, [Val::Int(one), Val::Int(other)]) => ints(name, *one, *other),
        (_, [Val::Uint(one), Val::Uint(other)]) => uints(name, *one, *other),
        (_, [Val::Double(one), Val::Double(other)]) => doubles(name, *one, *other),
        ("_+_", [Val::String(one), Val::String(other)]) => Some(
            budget
                .text(one.len() + other.len())
                .map(|()| Val::made(format!("{}{}", &**one, &**other))),
        ),
        ("_+_", [Val::Bytes(one), Val::Bytes(other)]) => {
            let joined = || Rc::from([&**one, &**other].concat());
            Some(budget.text(one.len() + other.len()).map(|()| Val::Bytes(joined())))
        }
        (_, [Val::Duration(one), Val::Duration(other)]) => match name {
            "_+_" => Some(span(one.checked_add(*other))),
            "_-_" => Some(span(one.checked_sub(*other))),
            _ => None,
        },
        (
            "_+_",
            [Val::Timestamp(at), Val::Duration(by)] | [Val::Duration(by), Val::Timestamp(at)],
        ) => Some(moment(at.checked_add(*by).ok())),
        ("_-_", [Val::Timestamp(at), Val::Duration(by)]) => Some(moment(at.checked_sub(*by).ok())),
        ("_-_", [Val::Timestamp(one), Val::Timestamp(other)]) => {
            Some(Ok(Val::Duration(one.duration_since(*other))))
        }
        _ => None,
    }
}

fn whole<'a>(value: Option<i64>) -> Result<Val<'a>> {
    value.map_or_else(|| Fault::error("integer overflow"), |value| Ok(Val::Int(value)))
}

fn span<'a>(value: Option<SignedDuration>) -> Result<Val<'a>> {
    value.map_or_else(|| Fault::error("duration overflow"), |value| Ok(Val::Duration(value)))
}

fn moment<'a>(value: Option<Timestamp>) -> Result<Val<'a>> {
    value.map_or_else(|| Fault::error("timestamp overflow"), |value| Ok(Val::Timestamp(value)))
}

fn ints<'a>(name: &str, one: i64, other: i64) -> Answer<'a> {
    Some(match name {
        "_+_" => whole(one.checked_add(other)),
        "_-_" => whole(one.checked_sub(other)),
        "_*_" => whole(one.checked_mul(other)),
        "_/_" if other == 0 => Fault::error("division by zero"),
        "_/_" => whole(one.checked_div(other)),
        "_%_" if other == 0 => Fault::error("modulus by zero"),
        "_%_" => whole(one.checked_rem(other)),
        _ => return None,
    })
}

fn uints<'a>(name: &str, one: u64, other: u64) -> Answer<'a> {
    let result = match name {
        "_+_" => one.checked_add(other),
        "_-_" => one.checked_sub(other),
        "_*_" => one.checked_mul(other),
        "_/_" if other == 0 => return Some(Fault::error("division by zero")),
        "_/_" => one.checked_div(other),
        "_%_" if other == 0 => return Some(Fault::error("modulus by zero")),
        "_%_" => one.checked_rem(other),
        _ => return None,
    };
    Some(
        result.map_or_else(
            || Fault::error("unsigned integer overflow"),
            |value| Ok(Val::Uint(value)),
        ),
    )
}

fn doubles<'a>(name: &str, one: f64, other: f64) -> Answer<'a> {
    Some(Ok(Val::Double(match name {
        "_+_" => one + other,
        "_-_" => one - other,
        "_*_" => one * other,
        "_/_" => one / other,
        _ => return None,
    })))
}
