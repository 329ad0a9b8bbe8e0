//! Values without parts: how Go reads them, and what it calls them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::super::definitions::{Format, INT_OR_STRING, QUANTITY};
use super::super::{Scalar, Shape};

const QUANTITIES: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// The last part of a definition's name, which is the name of Go's struct.
pub(super) fn short(definition: &str) -> &str {
    definition.rsplit('.').next().unwrap_or_default()
}

/// What Go's decoder calls a value.
pub(crate) fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What Go's decoder calls a type, such as `[]v1.Container`.
pub(super) fn go_type(shape: &Shape, name: &str, format: Option<Format>) -> String {
    match (shape, name) {
        (_, INT_OR_STRING) => "intstr.IntOrString".to_owned(),
        (_, QUANTITY) => "resource.Quantity".to_owned(),
        (Shape::Named(name), _) => go_name(name),
        (_, name) if !name.is_empty() => go_name(name),
        (Shape::List(list), _) => format!("[]{}", go_type(&list.items, "", format)),
        (Shape::Object(object), _) => match &object.others {
            Some(others) => format!("map[string]{}", go_type(others, "", format)),
            None => "struct {}".to_owned(),
        },
        (Shape::Scalar(Scalar::Boolean), _) => "bool".to_owned(),
        (Shape::Scalar(Scalar::Integer), _) if format == Some(Format::Int64) => "int64".to_owned(),
        (Shape::Scalar(Scalar::Integer), _) => "int32".to_owned(),
        (Shape::Scalar(Scalar::Number), _) => "float64".to_owned(),
        (Shape::Scalar(Scalar::String), _) if format == Some(Format::Bytes) => "[]uint8".to_owned(),
        (Shape::Scalar(_), _) => "string".to_owned(),
        (Shape::Any, _) => "interface {}".to_owned(),
    }
}

/// `v1.PodSpec` of `io.k8s.api.core.v1.PodSpec`.
fn go_name(definition: &str) -> String {
    let mut parts: Vec<&str> = definition.rsplit('.').take(2).collect();
    parts.reverse();
    parts.join(".")
}

/// A point in time as RFC 3339 has it; `jiff` alone would take other forms as well.
pub(crate) fn timestamp(text: &str) -> Option<Timestamp> {
    let at = |index| text.as_bytes().get(index).copied();
    let strict = at(10) == Some(b'T')
        && at(16) == Some(b':')
        && text.is_ascii()
        && !text.contains(['[', ',']);
    text.parse().ok().filter(|_| strict)
}

/// A point in time in UTC with this many digits of a second.
pub(super) fn time(text: &str, digits: u8) -> Result<Value, String> {
    let time = timestamp(text).ok_or_else(|| {
        let fraction = if digits == 0 { "" } else { ".000000" };
        let layout = format!("2006-01-02T15:04:05{fraction}Z07:00");
        format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\"")
    })?;
    Ok(written(time, digits).into())
}

/// As Kubernetes writes a point in time.
pub(crate) fn written(time: Timestamp, digits: u8) -> String {
    let format = if digits == 0 { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S.%6fZ" };
    time.to_zoned(TimeZone::UTC).strftime(format).to_string()
}

/// An amount. Its canonical form is the business of those who reckon with it.
pub(super) fn quantity(text: &str) -> Result<Value, String> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (number, suffix) = unsigned.split_at(
        unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len()),
    );
    let suffixes =
        ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let exponent =
        suffix.strip_prefix(['e', 'E']).is_some_and(|exponent| exponent.parse::<i32>().is_ok());
    let digits =
        number.bytes().any(|byte| byte.is_ascii_digit()) && number.matches('.').count() <= 1;
    if digits && (exponent || suffixes.contains(&suffix)) {
        Ok(text.into())
    } else {
        Err(QUANTITIES.to_owned())
    }
}

/// Bytes in base64; line ends within are passed over, as Go does.
pub(super) fn bytes(text: &str) -> Result<Value, String> {
    let plain: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    match STANDARD.decode(&plain) {
        Ok(_) => Ok(plain.into()),
        Err(error) => Err(format!("illegal base64 data at input byte {}", offset(&error, &plain))),
    }
}

fn offset(error: &base64::DecodeError, text: &str) -> usize {
    match error {
        base64::DecodeError::InvalidByte(offset, _) => *offset,
        _ => text.len().saturating_sub(text.len() % 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_in_time_are_read_strictly() {
        for good in
            ["2026-03-01T10:00:00Z", "2026-03-01T10:00:00.123456789+02:00", "0001-01-01T00:00:00Z"]
        {
            assert!(time(good, 0).is_ok(), "{good}");
        }
        for bad in [
            "2026-03-01",
            "2026-03-01 10:00:00Z",
            "2026-03-01T10:00Z",
            "2026-03-01T10:00:00",
            "2026-03-01T10:00:00+01:00[Europe/Rome]",
            "é",
        ] {
            assert!(time(bad, 0).is_err(), "{bad}");
        }
    }

    #[test]
    fn amounts_are_told_from_other_texts() {
        for good in ["0", "100m", "1.5Gi", ".5", "5.", "-3", "+1e3", "1E-2", "12E", "7Ei"] {
            assert_eq!(quantity(good), Ok(good.into()));
        }
        for bad in ["", "Gi", "1 Gi", "1GB", "1.2.3", "0x10", "1e", "--1", ".", "١"] {
            assert_eq!(quantity(bad), Err(QUANTITIES.to_owned()), "{bad}");
        }
    }
}
