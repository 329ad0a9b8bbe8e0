//! `'%s has %d'.format([name, count])`.
//! <https://pkg.go.dev/github.com/google/cel-go/ext#hdr-Format-Strings>

use super::super::budget::{Budget, Fault};
use super::super::value::{List, Map, Result, Val};
use super::convert;

/// The most digits behind a point that may be asked for.
const MOST_DIGITS: usize = 100;

/// Fills values into a text.
pub(super) fn format<'a>(text: &str, values: &List<'a>, budget: &Budget) -> Result<Val<'a>> {
    let mut made = String::new();
    let mut rest = text;
    let mut next = 0;
    while let Some(at) = rest.find('%') {
        made.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            made.push('%');
            rest = after;
            continue;
        }
        let (digits, verb, after) = clause(rest)?;
        rest = after;
        let Some(value) = values.get(next) else {
            return Fault::error(format!("index {next} out of range"));
        };
        next += 1;
        let filled = fill(verb, digits, &value?, budget)?;
        budget.text(filled.len())?;
        made.push_str(&filled);
    }
    made.push_str(rest);
    Ok(Val::made(made))
}

/// Digits behind the point, the verb, and what follows.
fn clause(text: &str) -> Result<(Option<usize>, char, &str)> {
    let unended = || Fault::error("unexpected end of string");
    let (digits, text) = match text.strip_prefix('.') {
        Some(after) => {
            let end = after.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(after.len());
            let digits = after[..end].parse().ok().filter(|digits| *digits <= MOST_DIGITS);
            let Some(digits) = digits else {
                return Fault::error("error while parsing precision: not a number up to 100");
            };
            (Some(digits), &after[end..])
        }
        None => (None, text),
    };
    let Some(verb) = text.chars().next() else { return unended() };
    Ok((digits, verb, &text[verb.len_utf8()..]))
}

fn fill(verb: char, digits: Option<usize>, value: &Val<'_>, budget: &Budget) -> Result<String> {
    let wrong = |takes: &str| {
        Fault::error(format!(
            "error during formatting: %{verb} takes {takes}, was given {}",
            value.type_name()
        ))
    };
    let digits = digits.unwrap_or(6);
    match (verb, value) {
        ('s', value) => text(value, budget),
        ('d', Val::Int(_) | Val::Uint(_)) => Ok(convert::shown(value)),
        ('f' | 'e', value) => {
            let Some(number) = double(value) else { return wrong("numbers") };
            Ok(if verb == 'f' { fixed(number, digits) } else { scientific(number, digits) })
        }
        ('b', Val::Bool(flag)) => Ok(u8::from(*flag).to_string()),
        ('b', Val::Int(number)) => Ok(signed(*number, |number| format!("{number:b}"))),
        ('b', Val::Uint(number)) => Ok(format!("{number:b}")),
        ('b', _) => wrong("integers and bools"),
        ('o', Val::Int(number)) => Ok(signed(*number, |number| format!("{number:o}"))),
        ('o', Val::Uint(number)) => Ok(format!("{number:o}")),
        ('d' | 'o', _) => wrong("integers"),
        ('x' | 'X', value) => {
            let hex = match value {
                Val::Int(number) => signed(*number, |number| format!("{number:x}")),
                Val::Uint(number) => format!("{number:x}"),
                Val::String(text) => data_encoding::HEXLOWER.encode(text.as_bytes()),
                Val::Bytes(bytes) => data_encoding::HEXLOWER.encode(bytes),
                _ => return wrong("integers, strings and bytes"),
            };
            Ok(if verb == 'X' { hex.to_uppercase() } else { hex })
        }
        (other, _) => Fault::error(format!(
            "could not parse formatting clause: unrecognized formatting clause \"{other}\""
        )),
    }
}

fn signed(number: i64, write: impl Fn(u64) -> String) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", write(number.unsigned_abs()))
}

#[expect(clippy::cast_precision_loss, reason = "doubles have 53 bits")]
fn double(value: &Val<'_>) -> Option<f64> {
    match value {
        Val::Double(number) => Some(*number),
        Val::Int(number) => Some(*number as f64),
        Val::Uint(number) => Some(*number as f64),
        _ => None,
    }
}

fn special(number: f64) -> Option<String> {
    if number.is_nan() {
        return Some("NaN".to_owned());
    }
    number.is_infinite().then(|| if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned())
}

fn fixed(number: f64, digits: usize) -> String {
    special(number).unwrap_or_else(|| format!("{number:.digits$}"))
}

fn scientific(number: f64, digits: usize) -> String {
    if let Some(text) = special(number) {
        return text;
    }
    let written = format!("{number:.digits$e}");
    let (mantissa, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// Any value as text.
fn text(value: &Val<'_>, budget: &Budget) -> Result<String> {
    budget.spend(1)?;
    match value {
        Val::String(text) => {
            budget.text(text.len())?;
            Ok((**text).to_owned())
        }
        Val::Bytes(bytes) => {
            budget.text(bytes.len())?;
            Ok(String::from_utf8_lossy(bytes).into_owned())
        }
        Val::Double(number) if number.is_infinite() || number.is_nan() => {
            Ok(special(*number).unwrap_or_default())
        }
        Val::Quantity(quantity) => Ok(quantity.to_string()),
        Val::Url(url) => Ok(url.text().to_owned()),
        Val::List(list) => {
            let parts: Result<Vec<String>> = list.iter().map(|item| text(&item?, budget)).collect();
            Ok(format!("[{}]", parts?.join(", ")))
        }
        Val::Map(map) => entries(map, budget),
        Val::Optional(_) | Val::Format(_) => {
            Fault::error(format!("error during formatting: %s cannot write {}", value.type_name()))
        }
        other => Ok(convert::shown(other)),
    }
}

/// The entries of a map by their keys.
fn entries(map: &Map<'_>, budget: &Budget) -> Result<String> {
    let mut parts = Vec::new();
    for key in map.keys() {
        let Some(value) = map.get(&key) else { continue };
        parts.push(format!("{}: {}", text(&key, budget)?, text(&value?, budget)?));
    }
    parts.sort_unstable();
    Ok(format!("{{{}}}", parts.join(", ")))
}
