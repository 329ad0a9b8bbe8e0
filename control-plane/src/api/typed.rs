//! Objects as their kind's definition has them: types are right, and what the kind does not know is dropped.

use serde_json::Value;

use super::status::Status;
use crate::registry::Kind;
use crate::schema::decode::{DecodeError, Decoded, FieldValidation, MOST_BYTES, Target};
use crate::schema::definitions::Definitions;

/// The shape of a kind's objects; `None` for kinds that nothing is known of.
pub fn target(kind: &Kind) -> Option<Target<'_>> {
    match &kind.custom {
        Some(custom) => Some(custom.target()),
        None => Target::kind(Definitions::kubernetes(), &kind.group, &kind.version, &kind.kind),
    }
}

/// An object of a kind, and warnings for the caller.
pub fn settle(
    decoded: Result<Decoded, DecodeError>,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    decoded.and_then(|decoded| decoded.settle(validation)).map_err(|error| refused(&error))
}

/// The same of what a caller sent: what is wrong with it is told with the kind that it should have been.
pub fn settle_body(
    decoded: Result<Decoded, DecodeError>,
    body: &[u8],
    kind: &Kind,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    if let Some(other) = of_other_kind(&decoded, body, kind) {
        return Ok((other, Vec::new()));
    }
    decoded.and_then(|decoded| decoded.settle(validation)).map_err(|error| match error {
        DecodeError::Type(_) | DecodeError::Strict(_) => {
            Status::bad_request(error.told(&kind.kind, &kind.version, &kind.kind))
        }
        DecodeError::TooLarge => refused(&error),
        _ => Status::bad_request(error.unrecognized(&kind.kind, body)),
    })
}

/// A body that says that it is of another kind, which is the one mistake in it that its sender wants to hear of.
fn of_other_kind(
    decoded: &Result<Decoded, DecodeError>,
    body: &[u8],
    kind: &Kind,
) -> Option<Value> {
    let is_other = |value: &Value| {
        let said = value.get("kind").and_then(Value::as_str);
        said.is_some_and(|said| !said.is_empty() && *said != *kind.kind)
    };
    match decoded {
        Ok(decoded) => is_other(&decoded.value).then(|| decoded.value.clone()),
        Err(DecodeError::Type(_)) => serde_json::from_slice(body).ok().filter(is_other),
        Err(_) => None,
    }
}

/// What a patch or a decoder made, as an object of a kind.
pub fn typed(
    kind: &Kind,
    value: Value,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    typed_by(Vec::new(), kind, value, validation)
}

/// The same of what something made that has mistakes of its own.
pub fn typed_by(
    mistakes: Vec<String>,
    kind: &Kind,
    value: Value,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let decoded = match target(kind) {
        Some(target) => target.value(value),
        None => Ok(Decoded { value, mistakes: Vec::new() }),
    };
    let all = |decoded: Decoded| Decoded {
        mistakes: [mistakes, decoded.mistakes].concat(),
        value: decoded.value,
    };
    settle(decoded.map(all), validation)
}

/// The answer to a body that is no object of its kind.
pub fn refused(error: &DecodeError) -> Status {
    match error {
        DecodeError::TooLarge => Status::too_large(MOST_BYTES),
        _ => Status::bad_request(error.to_string()),
    }
}
