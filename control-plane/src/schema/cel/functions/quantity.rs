//! Amounts of resources: `quantity("1Gi")`.

use super::super::budget::{Budget, Fault};
use super::super::value::Val;
use super::Answer;
use crate::meta::quantity::{Format, Quantity};

pub(super) fn call<'a>(name: &str, args: &[Val<'a>], _: &Budget) -> Answer<'a> {
    let read =
        |text: &str| text.parse::<Quantity>().map_err(|error| Fault::Error(error.to_string()));
    let of = |number: &i64| Quantity::new(*number, Format::DecimalExponent);
    Some(Ok(match (name, args) {
        ("quantity", [Val::String(text)]) => return Some(read(text).map(Val::Quantity)),
        ("isQuantity", [Val::String(text)]) => Val::Bool(read(text).is_ok()),
        ("sign", [Val::Quantity(one)]) => {
            Val::Int(i64::from(*one > Quantity::ZERO) - i64::from(one.is_negative()))
        }
        ("isInteger", [Val::Quantity(one)]) => Val::Bool(one.as_integer().is_some()),
        ("asInteger", [Val::Quantity(one)]) => match one.as_integer() {
            Some(number) => Val::Int(number),
            None => return Some(Fault::error("cannot convert value to integer")),
        },
        ("asApproximateFloat", [Val::Quantity(one)]) => Val::Double(one.as_double()),
        ("add", [Val::Quantity(one), Val::Quantity(other)]) => Val::Quantity(one.plus(*other)),
        ("add", [Val::Quantity(one), Val::Int(other)]) => Val::Quantity(one.plus(of(other))),
        ("sub", [Val::Quantity(one), Val::Quantity(other)]) => Val::Quantity(one.minus(*other)),
        ("sub", [Val::Quantity(one), Val::Int(other)]) => Val::Quantity(one.minus(of(other))),
        ("isLessThan", [Val::Quantity(one), Val::Quantity(other)]) => Val::Bool(one < other),
        ("isGreaterThan", [Val::Quantity(one), Val::Quantity(other)]) => Val::Bool(one > other),
        ("compareTo", [Val::Quantity(one), Val::Quantity(other)]) => {
            Val::Int(one.cmp(other) as i64)
        }
        _ => return None,
    }))
}
