//! Regular expressions. They take time in proportion to the text and to their own size, whatever they are.

use regex_lite::{Regex, RegexBuilder};

use super::super::budget::{Budget, Fault};
use super::super::value::{Result, Val};
use super::Answer;

/// Limits of a compiled expression in bytes, and the steps that four bytes of text cost below them. The least one that it stays below
/// is its size: the crate does not tell.
const SIZES: [(usize, u64); 4] = [(4 << 10, 4), (16 << 10, 16), (64 << 10, 128), (256 << 10, 1024)];

/// Compiles an expression; with it, how many steps four bytes of a text cost: each of its states may be visited for each byte.
pub(in super::super) fn compile(pattern: &str) -> std::result::Result<(Regex, u64), String> {
    let mut last = String::new();
    for (size, steps) in SIZES {
        match RegexBuilder::new(pattern).size_limit(size).build() {
            Ok(regex) => return Ok((regex, steps)),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

/// The steps to match a text.
pub(in super::super) fn cost(each: u64, text: &str) -> u64 {
    each.saturating_mul(text.len() as u64 / 4 + 1)
}

pub(super) fn call<'a>(name: &str, args: &[Val<'a>], budget: &Budget) -> Answer<'a> {
    let [Val::String(text), Val::String(pattern), rest @ ..] = args else { return None };
    let most = match (name, rest) {
        ("matches" | "find" | "findAll", []) => usize::MAX,
        ("findAll", [Val::Int(most)]) => usize::try_from(*most).unwrap_or(usize::MAX),
        _ => return None,
    };
    Some(run(name, text, pattern, most, budget))
}

fn run<'a>(name: &str, text: &str, pattern: &str, most: usize, budget: &Budget) -> Result<Val<'a>> {
    // to compile costs, too: an expression with counts is larger than its text
    budget.spend(100 + pattern.len() as u64)?;
    let (regex, each) = compile(pattern).map_err(Fault::Error)?;
    budget.spend(each * 10 + cost(each, text))?;
    Ok(match name {
        "matches" => Val::Bool(regex.is_match(text)),
        "find" => Val::made(regex.find(text).map_or("", |found| found.as_str())),
        _ => {
            let mut all = Vec::new();
            for found in regex.find_iter(text).take(most) {
                // each search may look at the rest of the text
                budget.spend(cost(each, &text[found.start()..]))?;
                all.push(Val::made(found.as_str()));
            }
            Val::list(all)
        }
    })
}
