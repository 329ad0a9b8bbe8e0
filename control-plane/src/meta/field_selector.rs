//! Field selectors: `metadata.name=web,status.phase!=Running`.
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/>
//!
//! In values `\\`, `\,` and `\=` stand for the sign after the backslash. The sentences of errors are those of
//! `k8s.io/apimachinery/pkg/fields`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// A field selector that cannot be, or not for this kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldSelectorError {
    /// A term without an operator.
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term {
        /// The whole.
        selector: String,
        /// The part.
        term: String,
    },
    /// A backslash before another sign than `\`, `,` and `=`.
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    /// A sign that needs a backslash.
    #[error("invalid field selector: unescaped character in value: {0}")]
    Unescaped(char),
    /// A kind that has only the two fields which every kind has.
    #[error("{0:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")]
    Unknown(String),
    /// A kind that has more of them.
    #[error("field label not supported: {0}")]
    Unsupported(String),
}

/// The fields by which every kind can be selected.
pub const COMMON: [&str; 2] = ["metadata.name", "metadata.namespace"];

/// What is asked of one field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term {
    /// The field, such as `spec.nodeName`.
    pub field: String,
    /// Its value must be this one (`true`) or another one.
    pub equal: bool,
    /// The value. A field that is absent has the empty one.
    pub value: String,
}

/// Which objects, by some of their fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// All of these must hold.
    pub terms: Vec<Term>,
}

impl FieldSelector {
    /// Whether it selects an object: `get` answers with the text of a field, empty when it is absent. What an absent field
    /// means for a kind (`spec.unschedulable` is `false`) is for `get` to know.
    pub fn matches<'a>(&self, get: impl Fn(&str) -> Cow<'a, str>) -> bool {
        self.terms.iter().all(|term| (get(&term.field) == term.value) == term.equal)
    }

    /// The only value that a field may have, if there is one: a list by `metadata.name` is a read of one object.
    pub fn exact(&self, field: &str) -> Option<&str> {
        let term = self.terms.iter().find(|term| term.field == field && term.equal)?;
        Some(&term.value)
    }

    /// Refuses fields by which a kind cannot be selected. `own`: those that it has beside [`COMMON`].
    pub fn check(&self, own: &[&str]) -> Result<(), FieldSelectorError> {
        let known = |field: &str| COMMON.contains(&field) || own.contains(&field);
        match self.terms.iter().find(|term| !known(&term.field)) {
            None => Ok(()),
            Some(term) if own.is_empty() => Err(FieldSelectorError::Unknown(term.field.clone())),
            Some(term) => Err(FieldSelectorError::Unsupported(term.field.clone())),
        }
    }
}

/// The text of a field of an object, for selectors and columns: `spec.nodeName` of a Pod. Empty for what is absent or has parts.
pub fn text_of<'a>(object: &'a Value, field: &str) -> Cow<'a, str> {
    let found = field.split('.').try_fold(object, |value, name| value.get(name));
    match found {
        Some(Value::String(text)) => text.as_str().into(),
        Some(Value::Bool(_) | Value::Number(_)) => {
            found.map(Value::to_string).unwrap_or_default().into()
        }
        _ => "".into(),
    }
}

impl FromStr for FieldSelector {
    type Err = FieldSelectorError;

    /// Reads a selector; the empty text selects everything.
    fn from_str(text: &str) -> Result<Self, FieldSelectorError> {
        let mut parts = split_terms(text);
        parts.retain(|part| !part.is_empty());
        parts.sort_unstable();
        let terms = parts.into_iter().map(|part| term(text, part));
        let mut terms: Vec<Term> = terms.collect::<Result<_, _>>()?;
        // `a==c,a=b` is `a=b,a=c`, though it stands in another order
        terms.sort();
        Ok(Self { terms })
    }
}

/// The parts between commas that have no backslash before them.
fn split_terms(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (index, sign) in text.char_indices() {
        if sign == ',' && !escaped {
            parts.push(&text[start..index]);
            start = index + 1;
        }
        escaped = sign == '\\' && !escaped;
    }
    parts.push(&text[start..]);
    parts
}

fn term(selector: &str, part: &str) -> Result<Term, FieldSelectorError> {
    let unreadable =
        || FieldSelectorError::Term { selector: selector.to_owned(), term: part.to_owned() };
    // the first operator counts, and the longest one at its place
    let at = part.find('=').ok_or_else(unreadable)?;
    let (field, equal) = match part[..at].strip_suffix('!') {
        Some(field) => (field, false),
        None => (&part[..at], true),
    };
    let value = &part[at + 1..];
    let value = if equal { value.strip_prefix('=').unwrap_or(value) } else { value };
    Ok(Term { field: field.to_owned(), equal, value: unescaped(value)? })
}

fn unescaped(value: &str) -> Result<String, FieldSelectorError> {
    let mut text = String::with_capacity(value.len());
    let mut signs = value.chars();
    while let Some(sign) = signs.next() {
        match sign {
            '\\' => match signs.next() {
                Some(sign @ ('\\' | ',' | '=')) => text.push(sign),
                Some(other) => return Err(FieldSelectorError::Escape(format!("\\{other}"))),
                None => return Err(FieldSelectorError::Escape("\\".to_owned())),
            },
            ',' | '=' => return Err(FieldSelectorError::Unescaped(sign)),
            sign => text.push(sign),
        }
    }
    Ok(text)
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let sign = if term.equal { "=" } else { "!=" };
            let value = term.value.replace('\\', r"\\").replace(',', r"\,").replace('=', r"\=");
            write!(out, "{comma}{}{sign}{value}", term.field)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn selects(selector: &str, object: &Value) -> bool {
        selector.parse::<FieldSelector>().unwrap().matches(|field| text_of(object, field))
    }

    #[test]
    fn terms_select() {
        let pod = json!({"metadata": {"name": "a=b,c"}, "spec": {"nodeName": "n1", "hostNetwork": true}, "status": {"phase": "Running"}});
        for (selector, yes) in [
            ("", true),
            (",", true),
            ("spec.nodeName=n1,status.phase!=Succeeded,status.phase!=Failed", true),
            ("spec.nodeName==n1", true),
            ("spec.nodeName!=n1", false),
            ("spec.nodeName=", false),
            ("spec.absent=", true),
            ("spec.absent!=", false),
            ("spec.hostNetwork=true", true),
            ("spec=", true),
            (r"metadata.name=a\=b\,c", true),
        ] {
            assert_eq!(selects(selector, &pod), yes, "{selector}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_in_the_words_of_kubernetes() {
        for (selector, sentence) in [
            ("a=b,c", "invalid selector: 'a=b,c'; can't understand 'c'"),
            ("a=b=c", "invalid field selector: unescaped character in value: ="),
            (r"a=\b", r"invalid field selector: invalid escape sequence: \b"),
            (r"a=\", r"invalid field selector: invalid escape sequence: \"),
        ] {
            let error = selector.parse::<FieldSelector>().unwrap_err();
            assert_eq!(error.to_string(), sentence);
        }
    }

    #[test]
    fn fields_that_a_kind_does_not_have_are_refused() {
        let selector: FieldSelector = "metadata.name=a,spec.x=b".parse().unwrap();
        assert_eq!(selector.exact("metadata.name"), Some("a"));
        assert_eq!(selector.check(&["spec.x"]), Ok(()));
        assert_eq!(
            selector.check(&[]).unwrap_err().to_string(),
            r#""spec.x" is not a known field selector: only "metadata.name", "metadata.namespace""#
        );
        let error = selector.check(&["spec.nodeName"]).unwrap_err();
        assert_eq!(error.to_string(), "field label not supported: spec.x");
        let doubled: FieldSelector = "a==c,a=b".parse().unwrap();
        assert_eq!(doubled.to_string(), "a=b,a=c");
    }

    proptest! {
        #[test]
        fn what_is_written_selects_the_same(field in "[a-z.]{1,8}", value in "\\PC{0,12}", equal: bool) {
            let selector = FieldSelector { terms: vec![Term { field, equal, value }] };
            prop_assert_eq!(selector.to_string().parse::<FieldSelector>(), Ok(selector));
        }

        #[test]
        fn no_text_is_too_strange(text in "[a=!,\\\\é]{0,20}") {
            let _ = text.parse::<FieldSelector>();
        }
    }
}
