//! Messages whose form in JSON is not that of their fields.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::ProtobufError;
use super::wire::{Fields, Wire, text};
use crate::schema::decode::written_time;

/// The package of what all kinds share.
pub(super) const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// A message with a form of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    /// `2026-03-01T10:00:00Z`, or `null` for a time that was never set.
    Time,
    /// `2026-03-01T10:00:00.000000Z`, or `null`.
    MicroTime,
    /// `1h30m0s`.
    Duration,
    /// `100m`.
    Quantity,
    /// A number or a text.
    IntOrString,
    /// Bytes that are JSON, or an object in its envelope.
    Raw,
}

impl Special {
    pub(super) fn named(name: &str) -> Option<Self> {
        let name = name.strip_prefix("io.k8s.apimachinery.pkg.")?;
        match name {
            "apis.meta.v1.Time" | "apis.meta.v1.Timestamp" => Some(Self::Time),
            "apis.meta.v1.MicroTime" => Some(Self::MicroTime),
            "apis.meta.v1.Duration" => Some(Self::Duration),
            "api.resource.Quantity" => Some(Self::Quantity),
            "util.intstr.IntOrString" => Some(Self::IntOrString),
            "runtime.RawExtension" | "apis.meta.v1.FieldsV1" => Some(Self::Raw),
            _ => None,
        }
    }
}

/// `Time` and `MicroTime`: seconds and nanoseconds since 1970. Go writes a time that was never set as no bytes at all.
pub(super) fn time(bytes: &[u8], digits: u8) -> Result<Value, ProtobufError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields::of(bytes) {
        match field? {
            (1, Wire::Varint(value)) => seconds = value.cast_signed(),
            (2, Wire::Varint(value)) => nanos = low_bits(value),
            _ => {}
        }
    }
    let time = Timestamp::new(seconds, nanos).map_err(|_| ProtobufError::Type("a time".into()))?;
    Ok(written_time(time, digits).into())
}

/// The low 32 bits: how a number of 32 bits stands on the wire.
pub(super) fn low_bits(value: u64) -> i32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

/// As Go writes a duration: `1h30m0s`, `1.5s`, `100ms`, `1µs`, `0s`.
pub(super) fn duration(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let mut nanos = 0;
    for field in Fields::of(bytes) {
        if let (1, Wire::Varint(value)) = field? {
            nanos = value.cast_signed();
        }
    }
    Ok(go_duration(SignedDuration::from_nanos(nanos)).into())
}

fn go_duration(duration: SignedDuration) -> String {
    let sign = if duration.is_negative() { "-" } else { "" };
    let nanos = duration.as_nanos().unsigned_abs();
    let (unit, name) = match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    if unit < 1_000_000_000 {
        return format!("{sign}{}{name}", decimal(nanos, unit));
    }
    let minute = 60 * unit;
    let (hours, minutes) = (nanos / (60 * minute), nanos / minute % 60);
    let seconds = decimal(nanos % minute, unit);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// A fraction without zeros at its end.
fn decimal(value: u128, unit: u128) -> String {
    let digits = unit.ilog10() as usize;
    let fraction = format!("{:0digits$}", value % unit);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() || unit == 1 {
        (value / unit).to_string()
    } else {
        format!("{}.{fraction}", value / unit)
    }
}

/// A `Quantity` is a message around its text; nothing is zero.
pub(super) fn quantity(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let mut written = "0";
    for field in Fields::of(bytes) {
        if let (1, Wire::Bytes(value)) = field?
            && !value.is_empty()
        {
            written = text(value)?;
        }
    }
    Ok(written.into())
}

/// An `IntOrString` says which of both it is.
pub(super) fn int_or_string(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (mut is_text, mut number, mut written) = (false, 0, "");
    for field in Fields::of(bytes) {
        match field? {
            (1, Wire::Varint(value)) => is_text = value != 0,
            (2, Wire::Varint(value)) => number = low_bits(value),
            (3, Wire::Bytes(value)) => written = text(value)?,
            _ => {}
        }
    }
    Ok(if is_text { written.into() } else { number.into() })
}

/// The bytes of a `RawExtension` or of `FieldsV1`.
pub(super) fn raw(bytes: &[u8]) -> Result<&[u8], ProtobufError> {
    let mut raw = &bytes[..0];
    for field in Fields::of(bytes) {
        if let (1, Wire::Bytes(value)) = field? {
            raw = value;
        }
    }
    Ok(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_go() {
        for (nanos, written) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (2_200_000, "2.2ms"),
            (100_000_000, "100ms"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (-5_400_000_000_000, "-1h30m0s"),
            (3_661_001_000_000, "1h1m1.001s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(go_duration(SignedDuration::from_nanos(nanos)), written);
        }
    }
}
