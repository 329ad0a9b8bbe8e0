//! The form of selectors in query parameters and on command lines.

use std::collections::BTreeSet;

use super::{Operator, Requirement, SelectorError, joined_invalid};
use crate::meta::field_error::FieldPath;
use crate::meta::name;

/// The requirements that a text states; none of the empty one.
pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    Parser { tokens: tokens(text), next: 0 }.requirements()
}

/// A word or a sign.
type Token<'a> = &'a str;

const SIGNS: [char; 7] = ['=', '!', '(', ')', ',', '>', '<'];

/// The words and signs of a text; `==` and `!=` are one sign.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '=' | '!' if rest[1..].starts_with('=') => 2,
            sign if SIGNS.contains(&sign) => 1,
            _ => rest.find(|sign| is_space(sign) || SIGNS.contains(&sign)).unwrap_or(rest.len()),
        };
        let (token, tail) = rest.split_at(length);
        found.push(token);
        rest = tail.trim_start_matches(is_space);
    }
    found
}

fn is_space(sign: char) -> bool {
    matches!(sign, ' ' | '\t' | '\r' | '\n')
}

fn is_word(token: &str) -> bool {
    token.starts_with(|sign| !SIGNS.contains(&sign))
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    next: usize,
}

impl<'a> Parser<'a> {
    /// The next token; the empty text is the end.
    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.next).copied().unwrap_or_default()
    }

    fn take(&mut self) -> Token<'a> {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut found = Vec::new();
        loop {
            match self.peek() {
                "" => return Ok(found),
                token if is_word(token) || token == "!" => {}
                other => return expected(other, "!, identifier, or 'end of string'"),
            }
            let requirement = self.requirement();
            found.push(requirement.map_err(|error| SelectorError::Requirement(Box::new(error)))?);
            match self.take() {
                "" => return Ok(found),
                "," if is_word(self.peek()) || self.peek() == "!" => {}
                "," => return expected(self.peek(), "identifier after ','"),
                other => return expected(other, "',' or 'end of string'"),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let absent = self.peek() == "!";
        if absent {
            self.take();
        }
        let key = self.take();
        if !is_word(key) {
            return expected(key, "identifier");
        }
        let wrong = joined_invalid(&FieldPath::default(), key, name::qualified(key));
        if !wrong.is_empty() {
            return Err(SelectorError::Invalid(wrong));
        }
        let operator = match (self.peek(), absent) {
            ("" | ",", true) => return Requirement::new(key, Operator::DoesNotExist, [].into()),
            ("" | ",", false) => return Requirement::new(key, Operator::Exists, [].into()),
            _ => self.operator()?,
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => [self.value()?].into(),
        };
        Requirement::new(key, operator, values)
    }

    fn operator(&mut self) -> Result<Operator, SelectorError> {
        Ok(match self.take() {
            "in" => Operator::In,
            "notin" => Operator::NotIn,
            "=" => Operator::Equals,
            "==" => Operator::DoubleEquals,
            "!=" => Operator::NotEquals,
            ">" => Operator::GreaterThan,
            "<" => Operator::LessThan,
            other => return expected(other, "in, notin, =, ==, !=, gt, lt"),
        })
    }

    /// One value, or none: `a=` is the empty value.
    fn value(&mut self) -> Result<String, SelectorError> {
        match self.peek() {
            "" | "," => Ok(String::new()),
            token if is_word(token) => Ok(self.take().to_owned()),
            other => expected(other, "identifier"),
        }
    }

    /// `(a,b)`. Between parentheses and commas there may be nothing, which is the empty value.
    fn values(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        let open = self.take();
        if open != "(" {
            return Err(SelectorError::NoParenthesis(open.to_owned()));
        }
        let mut values = BTreeSet::new();
        loop {
            let value = if is_word(self.peek()) { self.take() } else { "" };
            values.insert(value.to_owned());
            match self.take() {
                "," => {}
                ")" => return Ok(values),
                other if value.is_empty() => return expected(other, "',', or identifier"),
                other => return expected(other, "',' or ')'"),
            }
        }
    }
}

fn expected<T>(found: &str, expected: &'static str) -> Result<T, SelectorError> {
    Err(SelectorError::Found { found: found.to_owned(), expected })
}
