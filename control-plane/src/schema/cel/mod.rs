//! Rules in the Common Expression Language, as `CustomResourceDefinition`s have them (`x-kubernetes-validations`).
//! <https://kubernetes.io/docs/reference/using-api/cel/>
//!
//! A rule is parsed and checked once, when its schema is read: names that are not declared and functions that do not take what they are
//! given are refused there. Evaluating it reads the object where it stands, and is bounded: every expression, every item and every ten
//! bytes of text is a step, and steps are taken from a [`Budget`] before they are done. Neither a rule nor an object can make a loop without
//! end, recurse deeply (a tree of expressions has a greatest height), or make more than the budget lets it.

mod budget;
mod check;
pub mod cost;
pub mod declared;
mod equal;
mod eval;
mod functions;
mod lexer;
mod parser;
mod signatures;
mod syntax;
mod types;
mod value;

use std::fmt;
use std::rc::Rc;

use serde_json::Value;

pub use budget::{Budget, Fault};
use declared::Declared;
use eval::Machine;
use types::Type;
use value::Val;

/// Whether a text is a span of time as Go writes it, such as `1h30m`.
pub fn is_duration(text: &str) -> bool {
    functions::time::duration(text).is_some()
}

/// The value that a rule is about.
const SELF: &str = "self";
/// What that value was before.
const OLD_SELF: &str = "oldSelf";

/// What is wrong with an expression, and at which of its signs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem {
    at: usize,
    text: String,
}

/// What an expression is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A rule.
    Bool,
    /// A message.
    String,
}

/// Why a text is no expression, in the words of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// It cannot be read, or names something that is not there.
    #[error("compilation failed: {0}")]
    Wrong(String),
    /// Its value is of another type than wanted.
    #[error("must evaluate to a {0}")]
    Type(&'static str),
}

/// An expression that was found to be right.
#[derive(Clone, Debug)]
pub struct Program {
    expr: syntax::Expr,
    /// It looks at `oldSelf`.
    pub uses_old_self: bool,
}

/// A value and where it stands in its schema.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// What it is.
    pub declared: &'a Declared,
    /// The value.
    pub value: &'a Value,
    /// What it was before.
    pub old: Option<&'a Value>,
    /// `oldSelf` is an optional value.
    pub optional_old: bool,
}

impl Program {
    /// Reads an expression about a value. With `optional_old`, `oldSelf` is an optional value. `regexes`: how many bytes are left for the
    /// regular expressions that are written out in it.
    pub fn compile(
        text: &str,
        declared: &Declared,
        optional_old: bool,
        wanted: Wanted,
        regexes: &mut usize,
    ) -> Result<Self, CompileError> {
        let shown = |problem| CompileError::Wrong(Shown { text, problem: &problem }.to_string());
        let mut expr = parser::parse(text).map_err(shown)?;
        let of = declared.type_of();
        let old = if optional_old { Type::optional(of.clone()) } else { of.clone() };
        let scope = vec![(SELF.into(), of), (OLD_SELF.into(), old)];
        let mut checker = check::Checker { scope, regexes };
        let found = checker.check(&mut expr).map_err(shown)?;
        match (wanted, found) {
            (Wanted::Bool, Type::Bool) | (Wanted::String, Type::String) => {}
            (Wanted::Bool, _) => return Err(CompileError::Type("bool")),
            (Wanted::String, _) => return Err(CompileError::Type("string")),
        }
        let uses_old_self = expr.names(OLD_SELF);
        Ok(Self { expr, uses_old_self })
    }

    /// The most that it can cost about a value of these bounds.
    pub fn cost(&self, of: &cost::Bounds) -> u64 {
        cost::most(&self.expr, of)
    }

    fn eval<'a>(&'a self, subject: Subject<'a>, budget: &Budget) -> Result<Val<'a>, Fault> {
        let value = Val::of_json(subject.value, subject.declared)?;
        let old = subject.old.map(|old| Val::of_json(old, subject.declared)).transpose()?;
        let mut scope = vec![(SELF, value)];
        match old {
            old if subject.optional_old => scope.push((OLD_SELF, Val::Optional(old.map(Rc::new)))),
            Some(old) => scope.push((OLD_SELF, old)),
            None => {}
        }
        Machine { scope, budget }.eval(&self.expr)
    }

    /// Whether the value keeps the rule.
    pub fn holds(&self, subject: Subject<'_>, budget: &Budget) -> Result<bool, Fault> {
        match self.eval(subject, budget)? {
            Val::Bool(holds) => Ok(holds),
            _ => Err(Fault::no_overload()),
        }
    }

    /// The message about a value.
    pub fn message(&self, subject: Subject<'_>, budget: &Budget) -> Result<String, Fault> {
        match self.eval(subject, budget)? {
            Val::String(text) => Ok((*text).to_owned()),
            _ => Err(Fault::no_overload()),
        }
    }
}

/// A problem with the line in which it is.
struct Shown<'a> {
    text: &'a str,
    problem: &'a Problem,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signs: Vec<char> = self.text.chars().collect();
        let at = self.problem.at.min(signs.len());
        let line = signs[..at].iter().filter(|sign| **sign == '\n').count() + 1;
        let start = signs[..at].iter().rposition(|sign| *sign == '\n').map_or(0, |start| start + 1);
        let end =
            signs[at..].iter().position(|sign| *sign == '\n').map_or(signs.len(), |end| at + end);
        let column = at - start;
        // of a long line, what is near; an error is no place for a hundred thousand signs
        let (from, to) = (column.saturating_sub(500), (column + 500).min(end - start));
        let shown: String = signs[start + from..start + to].iter().collect();
        let dots = ".".repeat(column - from);
        let text = &self.problem.text;
        write!(out, "ERROR: <input>:{line}:{}: {text}\n | {shown}\n | {dots}^", column + 1)
    }
}

#[cfg(test)]
mod tests;
