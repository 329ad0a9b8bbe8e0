//! Times as they stand in objects: RFC 3339, in UTC, to the second (`Time`) or to the microsecond (`MicroTime`).

use std::fmt;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;

/// A text that is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a time: write it as 2006-01-02T15:04:05Z (RFC 3339)")]
pub struct TimeError {
    /// What was read.
    pub text: String,
}

/// A time to the second, `meta/v1 Time`. What is below a second is cut off when it is written, as Kubernetes does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub Timestamp);

/// A time to the microsecond, `meta/v1 MicroTime`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MicroTime(pub Timestamp);

impl Time {
    /// The clock's time, without what is below a second.
    pub fn now() -> Self {
        let now = Timestamp::now();
        Self(Timestamp::from_second(now.as_second()).unwrap_or(now))
    }

    /// Reads a time; an offset other than `Z` and fractions of a second are understood.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        parse(text).map(Self)
    }
}

impl MicroTime {
    /// The clock's time.
    pub fn now() -> Self {
        Self(Timestamp::now())
    }

    /// Reads a time, as [`Time::parse`].
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        parse(text).map(Self)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&DateTimePrinter::new().precision(Some(0)).timestamp_to_string(&self.0))
    }
}

impl fmt::Display for MicroTime {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&DateTimePrinter::new().precision(Some(6)).timestamp_to_string(&self.0))
    }
}

fn parse(text: &str) -> Result<Timestamp, TimeError> {
    let read = is_rfc3339(text.as_bytes()).then(|| text.parse().ok()).flatten();
    read.ok_or_else(|| TimeError { text: text.to_owned() })
}

/// Whether a text has RFC 3339's shape. The parser behind it takes more (ISO 8601, Temporal); what Kubernetes would refuse must not
/// be stored.
fn is_rfc3339(text: &[u8]) -> bool {
    let shaped = |text: &[u8], shape: &[u8]| {
        text.len() == shape.len()
            && text.iter().zip(shape).all(|(byte, sign)| match sign {
                b'0' => byte.is_ascii_digit(),
                sign => byte == sign,
            })
    };
    let Some((head, tail)) = text.split_at_checked(19) else { return false };
    let digits = match tail.strip_prefix(b".") {
        Some(fraction) => 1 + fraction.iter().take_while(|byte| byte.is_ascii_digit()).count(),
        None => 0,
    };
    let zone = &tail[digits..];
    shaped(head, b"0000-00-00T00:00:00")
        && (digits == 0 || (2..=10).contains(&digits))
        && (zone == b"Z" || shaped(zone, b"+00:00") || shaped(zone, b"-00:00"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_written_in_utc_to_the_second() {
        for text in
            ["2026-11-21T14:20:06Z", "2026-11-21T15:20:06+01:00", "2026-11-21T14:20:06.987654321Z"]
        {
            assert_eq!(Time::parse(text).unwrap().to_string(), "2026-11-21T14:20:06Z");
        }
        let micro = MicroTime::parse("2026-11-21T14:20:06.5Z").unwrap();
        assert_eq!(micro.to_string(), "2026-11-21T14:20:06.500000Z");
        assert_eq!(Time::now().0.subsec_nanosecond(), 0);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "now",
            "2026-11-21",
            "2026-11-21T14:20:06",
            "2026-11-21 14:20:06Z",
            "20261121T142006Z",
            "2026-11-21t14:20:06z",
            "2026-13-21T14:20:06Z",
            "2026-11-21T14:20:06.Z",
            "2026-11-21T14:20:06Z[UTC]",
        ] {
            let error = Time::parse(text).unwrap_err();
            assert!(error.to_string().contains("RFC 3339"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read(second in 0_i64..250_000_000_000, micro in 0_i32..1_000_000) {
            let time = Timestamp::new(second, micro * 1000).unwrap();
            prop_assert_eq!(MicroTime::parse(&MicroTime(time).to_string()), Ok(MicroTime(time)));
            prop_assert_eq!(Time::parse(&Time(time).to_string()).map(|time| time.0.as_second()), Ok(second));
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,40}") {
            let _ = Time::parse(&text);
        }
    }
}
