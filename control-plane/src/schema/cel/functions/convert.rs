//! From one type to another.

use std::rc::Rc;

use super::super::budget::{Budget, Fault};
use super::super::value::{Result, Val};
use super::{Answer, time};

pub(super) fn call<'a>(name: &str, args: &[Val<'a>], _: &Budget) -> Answer<'a> {
    let [value] = args else { return None };
    Some(match name {
        "dyn" => Ok(value.clone()),
        "type" => Ok(Val::Type(value.type_name())),
        "bool" => truth(value),
        "int" => int(value),
        "uint" => uint(value),
        "double" => double(value),
        "string" => string(value),
        "bytes" => match value {
            Val::Bytes(_) => Ok(value.clone()),
            Val::String(text) => Ok(Val::Bytes(Rc::from(text.as_bytes()))),
            _ => return None,
        },
        "duration" => match value {
            Val::Duration(_) => Ok(value.clone()),
            Val::String(text) => time::duration(text)
                .map(Val::Duration)
                .ok_or_else(|| Fault::Error(format!("invalid duration {:?}", short(text)))),
            _ => return None,
        },
        "timestamp" => match value {
            Val::Timestamp(_) => Ok(value.clone()),
            Val::String(text) => time::timestamp(text)
                .map(Val::Timestamp)
                .ok_or_else(|| Fault::Error(format!("invalid timestamp {:?}", short(text)))),
            Val::Int(seconds) => jiff::Timestamp::from_second(*seconds)
                .map(Val::Timestamp)
                .map_err(|_| Fault::Error("timestamp overflow".to_owned())),
            _ => return None,
        },
        _ => return None,
    })
}

fn truth<'a>(value: &Val<'a>) -> Result<Val<'a>> {
    match value {
        Val::Bool(_) => Ok(value.clone()),
        Val::String(text) => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Val::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Val::Bool(false)),
            other => Fault::error(format!(
                "type conversion error from 'string' to 'bool': {:?}",
                short(other)
            )),
        },
        _ => Err(Fault::no_overload()),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the range is looked at before")]
fn int<'a>(value: &Val<'a>) -> Result<Val<'a>> {
    let overflow = || Fault::error("integer overflow");
    match value {
        Val::Int(_) => Ok(value.clone()),
        Val::Uint(number) => {
            i64::try_from(*number).map_or_else(|_| overflow(), |n| Ok(Val::Int(n)))
        }
        Val::Double(number) if number.abs() < 9_223_372_036_854_775_807.0 => {
            Ok(Val::Int(*number as i64))
        }
        Val::Double(_) => overflow(),
        Val::Timestamp(at) => Ok(Val::Int(at.as_second())),
        Val::String(text) => text.parse().map(Val::Int).or_else(|_| no_number(text, "int")),
        _ => Err(Fault::no_overload()),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is looked at before"
)]
fn uint<'a>(value: &Val<'a>) -> Result<Val<'a>> {
    let overflow = || Fault::error("unsigned integer overflow");
    match value {
        Val::Uint(_) => Ok(value.clone()),
        Val::Int(number) => {
            u64::try_from(*number).map_or_else(|_| overflow(), |n| Ok(Val::Uint(n)))
        }
        Val::Double(number) if (0.0..18_446_744_073_709_551_615.0).contains(number) => {
            Ok(Val::Uint(*number as u64))
        }
        Val::Double(_) => overflow(),
        Val::String(text) => text.parse().map(Val::Uint).or_else(|_| no_number(text, "uint")),
        _ => Err(Fault::no_overload()),
    }
}

#[expect(clippy::cast_precision_loss, reason = "doubles have 53 bits")]
fn double<'a>(value: &Val<'a>) -> Result<Val<'a>> {
    match value {
        Val::Double(_) => Ok(value.clone()),
        Val::Int(number) => Ok(Val::Double(*number as f64)),
        Val::Uint(number) => Ok(Val::Double(*number as f64)),
        Val::String(text) => text.parse().map(Val::Double).or_else(|_| no_number(text, "double")),
        _ => Err(Fault::no_overload()),
    }
}

fn no_number<'a>(text: &str, kind: &str) -> Result<Val<'a>> {
    Fault::error(format!(
        "type conversion error from 'string' to '{kind}': {:?} is not one",
        short(text)
    ))
}

fn string<'a>(value: &Val<'a>) -> Result<Val<'a>> {
    match value {
        Val::String(_) => Ok(value.clone()),
        Val::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Val::made(text)),
            Err(_) => Fault::error("invalid UTF-8 in bytes, cannot convert to string"),
        },
        Val::Bool(_)
        | Val::Int(_)
        | Val::Uint(_)
        | Val::Double(_)
        | Val::Duration(_)
        | Val::Timestamp(_)
        | Val::Ip(_)
        | Val::Cidr(..) => Ok(Val::made(shown(value))),
        _ => Err(Fault::no_overload()),
    }
}

/// The beginning of a text, for an error: what is wrong is not copied as often as it is met.
pub(in super::super) fn short(text: &str) -> String {
    let mut short: String = text.chars().take(128).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// A value for an error.
pub(in super::super) fn brief(value: &Val<'_>) -> String {
    if let Val::String(text) = value { short(text) } else { shown(value) }
}

/// A value without parts as text; of others, the name of the type.
pub(in super::super) fn shown(value: &Val<'_>) -> String {
    match value {
        Val::Bool(value) => value.to_string(),
        Val::Int(value) => value.to_string(),
        Val::Uint(value) => value.to_string(),
        Val::Double(value) => shortest(*value),
        Val::String(text) => (**text).to_owned(),
        Val::Duration(span) => time::written_span(*span),
        Val::Timestamp(at) => time::written(*at),
        Val::Ip(address) => address.to_string(),
        Val::Cidr(address, length) => format!("{address}/{length}"),
        Val::Null => "null".to_owned(),
        Val::Type(name) => (*name).to_owned(),
        other => other.type_name().to_owned(),
    }
}

/// A number with as few digits as tell it from others, as Go writes it.
fn shortest(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return number.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}
