//! Label selectors: `app=web,tier in (front,back),!canary`, and their form in objects (`matchLabels`, `matchExpressions`).
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>
//!
//! The sentences of errors are those of `k8s.io/apimachinery/pkg/labels`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use super::field_error::{FieldError, FieldPath, Mistake};
use super::go_value::TEXTS;
use super::label;
use super::name;

mod object_form;
mod parse;

pub use object_form::{requirement_mistakes, validate};

/// A selector that cannot be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SelectorError {
    /// What stands between the requirements.
    #[error("found '{found}', expected: {expected}")]
    Found {
        /// The word or sign that was found; empty: the end.
        found: String,
        /// What could stand there.
        expected: &'static str,
    },
    /// A requirement.
    #[error("unable to parse requirement: {0}")]
    Requirement(Box<SelectorError>),
    /// The parenthesis before the values is missing.
    #[error("found '{0}' expected: '('")]
    NoParenthesis(String),
    /// A key or a value that cannot be one.
    #[error("{}", joined(.0))]
    Invalid(Vec<FieldError>),
    /// An operator of the object form that does not exist.
    #[error("{0:?} is not a valid label selector operator")]
    Operator(String),
    /// The object form is not of the form.
    #[error(
        "a label selector has matchLabels (a map) and matchExpressions (a list of key, operator and values), not {0}"
    )]
    Shape(Value),
}

/// Several mistakes in one sentence.
fn joined(mistakes: &[FieldError]) -> String {
    let texts: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    match texts.len() {
        1 => texts.concat(),
        _ => format!("[{}]", texts.join(", ")),
    }
}

/// What is asked of the value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`: it is this one.
    Equals,
    /// `==`, the same.
    DoubleEquals,
    /// `!=`: it is another one, or the key is absent.
    NotEquals,
    /// `in`: it is one of these.
    In,
    /// `notin`: it is none of these, or the key is absent.
    NotIn,
    /// The key is there.
    Exists,
    /// The key is absent.
    DoesNotExist,
    /// `>`: it is a whole number greater than this.
    GreaterThan,
    /// `<`: it is a whole number less than this.
    LessThan,
}

impl Operator {
    /// The sign of an operator that stands between a key and its values.
    fn sign(&self) -> &'static str {
        match self {
            Self::Equals => "=",
            Self::DoubleEquals => "==",
            Self::NotEquals => "!=",
            Self::In => " in ",
            Self::NotIn => " notin ",
            Self::GreaterThan => ">",
            Self::LessThan => "<",
            Self::Exists | Self::DoesNotExist => "",
        }
    }
}

/// What is asked of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: BTreeSet<String>,
}

impl Requirement {
    /// A requirement whose key and values can be ones.
    pub fn new(
        key: &str,
        operator: Operator,
        values: BTreeSet<String>,
    ) -> Result<Self, SelectorError> {
        let mut wrong = joined_invalid(&FieldPath::root("key"), key, name::qualified(key));
        let path = FieldPath::root("values");
        if let Some(text) = wrong_count(&operator, values.len()) {
            let found = values.iter().map(|value| Value::from(value.as_str())).collect();
            wrong.push(FieldError::new(path.clone(), Mistake::Invalid(found), text).of(&TEXTS));
        }
        for (index, value) in values.iter().enumerate() {
            let path = path.index(index);
            if matches!(operator, Operator::GreaterThan | Operator::LessThan)
                && value.parse::<i64>().is_err()
            {
                wrong.push(FieldError::new(
                    path.clone(),
                    Mistake::Invalid(value.as_str().into()),
                    "for 'Gt', 'Lt' operators, the value must be an integer",
                ));
            }
            wrong.extend(joined_invalid(&path.key(key), value, name::label_value(value)));
        }
        if wrong.is_empty() {
            Ok(Self { key: key.to_owned(), operator, values })
        } else {
            Err(SelectorError::Invalid(wrong))
        }
    }

    /// The key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The operator.
    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    /// The values, in order.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(String::as_str)
    }

    /// Whether the value of the key (`None`: there is none) is what is asked for.
    fn accepts(&self, value: Option<&str>) -> bool {
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => {
                value.is_some_and(|value| self.values.contains(value))
            }
            Operator::NotIn | Operator::NotEquals => {
                !value.is_some_and(|value| self.values.contains(value))
            }
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self.compares(value, |found, bound| found > bound),
            Operator::LessThan => self.compares(value, |found, bound| found < bound),
        }
    }

    fn compares(&self, value: Option<&str>, holds: fn(i64, i64) -> bool) -> bool {
        let number = |text: &str| text.parse::<i64>().ok();
        let bound = self.values.first().and_then(|bound| number(bound));
        value.and_then(number).zip(bound).is_some_and(|(found, bound)| holds(found, bound))
    }
}

/// Kubernetes puts all that is wrong about a key or value of a requirement into one mistake.
fn joined_invalid(path: &FieldPath, text: &str, sentences: Vec<String>) -> Vec<FieldError> {
    if sentences.is_empty() {
        Vec::new()
    } else {
        label::invalid(path, text, vec![sentences.join("; ")])
    }
}

fn wrong_count(operator: &Operator, count: usize) -> Option<&'static str> {
    match operator {
        Operator::In | Operator::NotIn => {
            (count == 0).then_some("for 'in', 'notin' operators, values set can't be empty")
        }
        Operator::Equals | Operator::DoubleEquals | Operator::NotEquals => {
            (count != 1).then_some("exact-match compatibility requires one single value")
        }
        Operator::Exists | Operator::DoesNotExist => {
            (count != 0).then_some("values set must be empty for exists and does not exist")
        }
        Operator::GreaterThan | Operator::LessThan => {
            (count != 1).then_some("for 'Gt', 'Lt' operators, exactly one value is required")
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        let (key, sign) = (&self.key, self.operator.sign());
        match self.operator {
            Operator::Exists => write!(out, "{key}"),
            Operator::DoesNotExist => write!(out, "!{key}"),
            Operator::In | Operator::NotIn => write!(out, "{key}{sign}({values})"),
            _ => write!(out, "{key}{sign}{values}"),
        }
    }
}

/// Which objects, by their labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Those that fulfil every requirement; all objects when there is none.
    All(Vec<Requirement>),
    /// None: what a selector that is absent (`null`) from an object selects.
    Nothing,
}

impl Selector {
    /// Selects every object.
    pub fn everything() -> Self {
        Self::All(Vec::new())
    }

    /// Whether it selects every object.
    pub fn is_everything(&self) -> bool {
        matches!(self, Self::All(requirements) if requirements.is_empty())
    }

    /// What is asked for; empty for [`Selector::Nothing`], too.
    pub fn requirements(&self) -> &[Requirement] {
        match self {
            Self::All(requirements) => requirements,
            Self::Nothing => &[],
        }
    }

    /// Whether it selects an object with these labels: `get` answers with the value of a key.
    pub fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        match self {
            Self::All(requirements) => requirements.iter().all(|one| one.accepts(get(&one.key))),
            Self::Nothing => false,
        }
    }

    /// Whether it selects an object with these labels, a map of texts or null.
    pub fn matches_labels(&self, labels: &Value) -> bool {
        self.matches(|key| labels.get(key).and_then(Value::as_str))
    }

    fn sorted(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|one, other| one.key.cmp(&other.key));
        Self::All(requirements)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.requirements().iter().map(ToString::to_string).collect();
        out.write_str(&texts.join(","))
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    /// Reads the form of query parameters and command lines; the empty text selects everything.
    fn from_str(text: &str) -> Result<Self, SelectorError> {
        parse::requirements(text).map(Self::sorted)
    }
}

#[cfg(test)]
#[path = "selector_tests.rs"]
mod tests;
