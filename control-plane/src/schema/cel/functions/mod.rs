//! The functions that values are given to. Their types are in `signatures`: what is called with other types was not checked, because
//! a type was not known, and is an error.

mod arithmetic;
pub(super) mod convert;
mod lists;
mod named;
mod net;
mod printf;
mod quantity;
pub(super) mod regex;
mod strings;
pub(super) mod time;
pub(super) mod url;

use std::rc::Rc;

use super::budget::{Budget, Fault};
use super::value::{Result, Val};

/// Calls a function that is neither of those the evaluation does itself nor a macro.
pub(super) fn call<'a>(name: &str, args: &[Val<'a>], budget: &Budget) -> Result<Val<'a>> {
    // whatever is done with a text, it is read
    for arg in args {
        budget.text(arg.bytes())?;
    }
    // each takes those that are its own; none of them has a type of values in common with another one for the same name
    let libraries = [
        arithmetic::call,
        convert::call,
        strings::call,
        lists::call,
        time::call,
        regex::call,
        url::call,
        quantity::call,
        net::call,
        named::call,
        optional,
    ];
    for library in libraries {
        if let Some(result) = library(name, args, budget) {
            return result;
        }
    }
    Err(Fault::no_overload())
}

/// What a library answers: nothing, if the function is not one of its own.
type Answer<'a> = Option<Result<Val<'a>>>;

fn optional<'a>(name: &str, args: &[Val<'a>], _: &Budget) -> Answer<'a> {
    Some(Ok(match (name, args) {
        ("optional.of", [value]) => Val::some(value.clone()),
        ("optional.none", []) => Val::Optional(None),
        ("optional.ofNonZeroValue", [value]) => {
            Val::Optional((!value.is_zero()).then(|| Rc::new(value.clone())))
        }
        ("hasValue", [Val::Optional(value)]) => Val::Bool(value.is_some()),
        ("value", [Val::Optional(value)]) => match value {
            Some(value) => (**value).clone(),
            None => return Some(Fault::error("optional.none() dereference")),
        },
        ("or", [one @ Val::Optional(value), other]) => {
            if value.is_some() {
                one.clone()
            } else {
                other.clone()
            }
        }
        ("orValue", [Val::Optional(value), other]) => {
            value.as_ref().map_or_else(|| other.clone(), |value| (**value).clone())
        }
        _ => return None,
    }))
}
