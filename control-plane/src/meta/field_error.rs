//! A mistake in a field, worded as Kubernetes words it (`k8s.io/apimachinery/pkg/util/validation/field`), because people search
//! for these sentences and clients look at the reasons.

use std::fmt;

use serde_json::Value;

use super::go_value::GoType;

/// Where a value stands, such as `spec.containers[0].name`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldPath(String);

impl FieldPath {
    /// A field of the object itself.
    pub fn root(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The path of a JSON pointer's value, for a pointer that names fields only.
    pub fn of_pointer(pointer: &str) -> Self {
        let parts = pointer.split('/').filter(|part| !part.is_empty());
        parts.fold(Self::default(), |path, part| path.field(part))
    }

    /// A field of the value at this path.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        if self.0.is_empty() { Self::root(name) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// An item of the list at this path.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// An entry of the map at this path.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// Which kind of mistake.
#[derive(Clone, Debug, PartialEq)]
pub enum Mistake {
    /// It must be there.
    Required,
    /// Its value cannot be.
    Invalid(Value),
    /// Its value cannot be, which is too much to be shown, or does not tell anything.
    InvalidUnshown,
    /// Its value is not one of these.
    NotSupported(Value, Vec<String>),
    /// It must not be set, or not by this caller.
    Forbidden,
    /// Another one has the same value already.
    Duplicate(Value),
    /// What it names does not exist.
    NotFound(Value),
    /// More bytes than allowed.
    TooLong(usize),
    /// More items than allowed: how many there are, how many may be.
    TooMany(usize, usize),
    /// Not of the type that the schema says.
    TypeInvalid(Value),
    /// A mistake of the server's own.
    Internal,
}

impl Mistake {
    /// The reason as it stands in `status.details.causes[].reason`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid(_) | Self::InvalidUnshown => "FieldValueInvalid",
            Self::NotSupported(..) => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::Duplicate(_) => "FieldValueDuplicate",
            Self::NotFound(_) => "FieldValueNotFound",
            Self::TooLong(_) => "FieldValueTooLong",
            Self::TooMany(..) => "FieldValueTooMany",
            Self::TypeInvalid(_) => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }
}

/// A mistake in a field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// Where.
    pub path: FieldPath,
    /// Which.
    pub mistake: Mistake,
    /// What is expected, and what to do.
    pub detail: String,
    /// What the value is in Go, where that shows.
    pub of: Option<&'static GoType>,
}

impl FieldError {
    /// A mistake at a path.
    pub fn new(path: FieldPath, mistake: Mistake, detail: impl Into<String>) -> Self {
        Self { path, mistake, detail: detail.into(), of: None }
    }

    /// The same, with its value shown as one of a type of Go.
    #[must_use]
    pub fn of(self, of: impl Into<Option<&'static GoType>>) -> Self {
        Self { of: of.into(), ..self }
    }

    /// A value that cannot be.
    pub fn invalid(path: FieldPath, value: &Value, detail: impl Into<String>) -> Self {
        Self::new(path, Mistake::Invalid(value.clone()), detail)
    }

    /// The sentence without the path, as it stands in `status.details.causes[].message`.
    pub fn body(&self) -> String {
        let shown = |value: &Value| self.of.map_or_else(|| shown(value), |of| of.show(value));
        let head = match &self.mistake {
            Mistake::Required => "Required value".to_owned(),
            Mistake::InvalidUnshown => "Invalid value".to_owned(),
            Mistake::Invalid(value) | Mistake::TypeInvalid(value) => {
                format!("Invalid value: {}", shown(value))
            }
            Mistake::NotSupported(value, allowed) => {
                let names: Vec<String> = allowed.iter().map(|name| quoted(name)).collect();
                return if names.is_empty() {
                    format!("Unsupported value: {}", shown(value))
                } else {
                    format!(
                        "Unsupported value: {}: supported values: {}",
                        shown(value),
                        names.join(", ")
                    )
                };
            }
            Mistake::Forbidden => "Forbidden".to_owned(),
            Mistake::Duplicate(value) => format!("Duplicate value: {}", shown(value)),
            Mistake::NotFound(value) => format!("Not found: {}", shown(value)),
            Mistake::TooLong(most) => {
                return format!("Too long: may not be more than {most} bytes");
            }
            Mistake::TooMany(found, most) => {
                return format!("Too many: {found}: must have at most {most} items");
            }
            Mistake::Internal => "Internal error".to_owned(),
        };
        if self.detail.is_empty() { head } else { format!("{head}: {}", self.detail) }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.path, self.body())
    }
}

/// A value as the sentence shows it whose type in Go is not known: texts in quotes, maps and lists as JSON, as Kubernetes shows them from
/// 1.34 on (kubernetes/kubernetes#132314).
fn shown(value: &Value) -> String {
    match value {
        Value::Null => quoted("null"),
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

/// A text in quotes as Go writes it (`%q`).
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for sign in text.chars() {
        match sign {
            '"' | '\\' => quoted.extend(['\\', sign]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0b' => quoted.push_str("\\v"),
            '\x0c' => quoted.push_str("\\f"),
            sign if sign.is_ascii_control() => quoted += &format!("\\x{:02x}", u32::from(sign)),
            sign if sign.is_control() => quoted += &format!("\\u{:04x}", u32::from(sign)),
            sign => quoted.push(sign),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_shown_as_go_shows_them() {
        for (value, expected) in [
            (json!("it's \"a\\b\""), "\"it's \\\"a\\\\b\\\"\""),
            (json!("\0\u{7}\t\u{1b}\u{7f}\u{85}é"), r#""\x00\a\t\x1b\x7f\u0085é""#),
            (json!({"matchLabels": {"app": "web"}}), r#"{"matchLabels":{"app":"web"}}"#),
            (json!(["a", 1]), r#"["a",1]"#),
            (Value::Null, r#""null""#),
            (json!(true), "true"),
            (json!(1.5), "1.5"),
        ] {
            assert_eq!(shown(&value), expected);
        }
    }

    #[test]
    fn mistakes_read_as_in_kubernetes() {
        let path = FieldPath::root("spec").field("ports").index(0).field("nodePort");
        let range = FieldError::new(
            path.clone(),
            Mistake::Invalid(json!(80)),
            "provided port is not in the valid range. The range of valid ports is 30000-32767",
        );
        assert_eq!(
            range.to_string(),
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767"
        );
        let protocol = FieldError::new(
            path.clone(),
            Mistake::NotSupported(json!("tcp"), vec!["SCTP".to_owned(), "TCP".to_owned()]),
            "",
        );
        assert_eq!(protocol.body(), r#"Unsupported value: "tcp": supported values: "SCTP", "TCP""#);
        assert_eq!(
            FieldError::new(path.key("a/b"), Mistake::Required, "").to_string(),
            "spec.ports[0].nodePort[a/b]: Required value"
        );
    }
}
