//! Texts. Places in them are counted in code points.
//! <https://pkg.go.dev/github.com/google/cel-go/ext#Strings>

use super::super::budget::{Budget, Fault};
use super::super::value::{List, Result, Val};
use super::{Answer, printf};

pub(super) fn call<'a>(name: &str, args: &[Val<'a>], budget: &Budget) -> Answer<'a> {
    let (Some(Val::String(text)), rest) = (args.first(), args.get(1..).unwrap_or_default()) else {
        return match (name, args) {
            ("join", [Val::List(list)]) => Some(join(list, "", budget)),
            ("join", [Val::List(list), Val::String(with)]) => Some(join(list, with, budget)),
            ("size", [Val::Bytes(bytes)]) => Some(Ok(Val::count(bytes.len()))),
            _ => None,
        };
    };
    match (name, rest) {
        ("size", []) => Some(Ok(Val::count(text.chars().count()))),
        ("contains", [Val::String(part)]) => Some(Ok(Val::Bool(text.contains(&**part)))),
        ("startsWith", [Val::String(part)]) => Some(Ok(Val::Bool(text.starts_with(&**part)))),
        ("endsWith", [Val::String(part)]) => Some(Ok(Val::Bool(text.ends_with(&**part)))),
        ("lowerAscii", []) => Some(Ok(Val::made(text.to_ascii_lowercase()))),
        ("upperAscii", []) => Some(Ok(Val::made(text.to_ascii_uppercase()))),
        ("trim", []) => Some(Ok(Val::made(text.trim()))),
        ("strings.quote", []) => Some(Ok(Val::made(quoted(text)))),
        ("charAt", [Val::Int(at)]) => Some(char_at(text, *at)),
        ("substring", [Val::Int(from)]) => Some(substring(text, *from, None)),
        ("substring", [Val::Int(from), Val::Int(to)]) => Some(substring(text, *from, Some(*to))),
        ("indexOf", [Val::String(part)]) => Some(Ok(index_of(text, part, 0))),
        ("indexOf", [Val::String(part), Val::Int(from)]) => {
            Some(within(text, *from).map(|from| index_of(text, part, from)))
        }
        ("lastIndexOf", [Val::String(part)]) => Some(Ok(last_index_of(text, part, None))),
        ("lastIndexOf", [Val::String(part), Val::Int(to)]) => {
            Some(within(text, *to).map(|to| last_index_of(text, part, Some(to))))
        }
        ("replace", [Val::String(from), Val::String(to)]) => {
            Some(replace(text, from, to, -1, budget))
        }
        ("replace", [Val::String(from), Val::String(to), Val::Int(most)]) => {
            Some(replace(text, from, to, *most, budget))
        }
        ("split", [Val::String(at)]) => Some(split(text, at, -1, budget)),
        ("split", [Val::String(at), Val::Int(most)]) => Some(split(text, at, *most, budget)),
        ("format", [Val::List(list)]) => Some(printf::format(text, list, budget)),
        _ => None,
    }
}

/// Where the code point of this number begins.
fn byte_at(text: &str, at: usize) -> usize {
    text.char_indices().nth(at).map_or(text.len(), |(at, _)| at)
}

fn signs(text: &str, bytes: usize) -> usize {
    text[..bytes].chars().count()
}

/// A place in a text, the one behind its end included.
fn within(text: &str, at: i64) -> Result<usize> {
    let found = usize::try_from(at).ok().filter(|found| *found <= text.chars().count());
    found.map_or_else(|| Fault::error(format!("index out of range: {at}")), Ok)
}

fn char_at<'a>(text: &str, at: i64) -> Result<Val<'a>> {
    let at = within(text, at)?;
    Ok(Val::made(text.chars().nth(at).map(String::from).unwrap_or_default()))
}

fn substring<'a>(text: &str, from: i64, to: Option<i64>) -> Result<Val<'a>> {
    let end = to.map_or_else(|| Ok(text.chars().count()), |to| within(text, to))?;
    let start = within(text, from)?;
    if start > end {
        return Fault::error(format!("invalid substring range. start: {start}, end: {end}"));
    }
    Ok(Val::made(&text[byte_at(text, start)..byte_at(text, end)]))
}

fn index_of<'a>(text: &str, part: &str, from: usize) -> Val<'a> {
    let start = byte_at(text, from);
    match text[start..].find(part) {
        Some(at) => Val::count(signs(text, start + at)),
        None => Val::Int(-1),
    }
}

/// The last place that is not behind `to`.
fn last_index_of<'a>(text: &str, part: &str, to: Option<usize>) -> Val<'a> {
    let end = to.map_or(text.len(), |to| (byte_at(text, to) + part.len()).min(text.len()));
    // an end within a sign: what is looked for cannot end there
    let end = (0..=end).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    match text[..end].rfind(part) {
        Some(at) => Val::count(signs(text, at)),
        None => Val::Int(-1),
    }
}

fn replace<'a>(text: &str, from: &str, to: &str, most: i64, budget: &Budget) -> Result<Val<'a>> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    // what is put in can be longer than what is taken out
    let count = if from.is_empty() { text.chars().count() + 1 } else { text.matches(from).count() };
    budget.text(count.min(most).saturating_mul(to.len()).saturating_add(text.len()))?;
    Ok(Val::made(text.replacen(from, to, most)))
}

fn split<'a>(text: &str, at: &str, most: i64, budget: &Budget) -> Result<Val<'a>> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if most == 0 {
        return Ok(Val::list(Vec::new()));
    }
    let mut parts: Vec<Val<'a>> = Vec::new();
    let mut add = |part: &str| {
        budget.spend(1)?;
        parts.push(Val::made(part));
        Ok(())
    };
    if at.is_empty() {
        let mut rest = text;
        for count in 1.. {
            let Some(first) = rest.chars().next() else { break };
            let size = if count == most { rest.len() } else { first.len_utf8() };
            add(&rest[..size])?;
            rest = &rest[size..];
        }
    } else {
        text.splitn(most, at).try_for_each(&mut add)?;
    }
    Ok(Val::list(parts))
}

fn join<'a>(list: &List<'a>, with: &str, budget: &Budget) -> Result<Val<'a>> {
    let mut joined = String::new();
    for (index, item) in list.iter().enumerate() {
        let Val::String(item) = item? else { return Err(Fault::no_overload()) };
        budget.text(item.len() + with.len())?;
        if index > 0 {
            joined.push_str(with);
        }
        joined.push_str(&item);
    }
    Ok(Val::made(joined))
}

/// In double quotes, what would end or hide them escaped.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for sign in text.chars() {
        match sign {
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
