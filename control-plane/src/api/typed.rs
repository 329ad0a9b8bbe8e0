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
    decoded.and_then(|decoded| decoded.settle(validation)).map_err(|error| match error {
        DecodeError::Type(_) | DecodeError::Strict(_) => {
            Status::bad_request(error.told(&kind.kind, &kind.version, &kind.kind))
        }
        DecodeError::TooLarge => refused(&error),
        _ => Status::bad_request(error.unrecognized(&kind.kind, body)),
    })
}

/// What a patch or a decoder made, as an object of a kind.
pub fn typed(
    kind: &Kind,
    value: Value,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    match target(kind) {
        Some(target) => settle(target.value(value), validation),
        None => Ok((value, Vec::new())),
    }
}

/// The answer to a body that is no object of its kind.
pub fn refused(error: &DecodeError) -> Status {
    match error {
        DecodeError::TooLarge => Status::too_large(MOST_BYTES),
        _ => Status::bad_request(error.to_string()),
    }
}
