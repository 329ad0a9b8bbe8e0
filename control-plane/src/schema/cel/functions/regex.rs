//! Regular expressions. They take time in proportion to the text and to their own size, whatever they are.

use regex_lite::Regex;

use super::super::budget::{Budget, Fault};
use super::super::value::{Result, Val};
use super::Answer;
use crate::schema::re2;

/// What four bytes of text cost with an expression of such a size: each of its states may be visited for each byte.
const STEPS: [u64; re2::SIZES.len()] = [4, 16, 128, 1024, 4096, 16384];

/// Compiles an expression, for which so many bytes are left; with it, how many steps four bytes of a text cost.
pub(in super::super) fn compile(
    pattern: &str,
    left: &mut usize,
) -> std::result::Result<(Regex, u64), String> {
    let compiled = re2::compile_within(pattern, left)?;
    let class = re2::SIZES.iter().position(|size| *size == compiled.size);
    Ok((compiled.regex, STEPS[class.unwrap_or(STEPS.len() - 1)]))
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
    let compiled = compile(pattern, &mut { re2::TOGETHER });
    // one that is refused may have been tried up to the greatest size
    let each = compiled.as_ref().map_or(STEPS[STEPS.len() - 1], |(_, each)| *each);
    budget.spend(each * 10)?;
    let (regex, each) = compiled.map_err(Fault::Error)?;
    budget.spend(cost(each, text))?;
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
