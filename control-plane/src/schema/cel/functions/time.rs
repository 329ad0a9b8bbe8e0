//! Points in time and spans.

use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::super::budget::{Budget, Fault};
use super::super::value::Val;
use super::{Answer, convert};
use crate::meta::time_zone;
use crate::schema::decode;

pub(super) fn call<'a>(name: &str, args: &[Val<'a>], _: &Budget) -> Answer<'a> {
    let zone_of = |text: &str| {
        zone(text)
            .ok_or_else(|| Fault::Error(format!("unknown time zone {}", convert::short(text))))
    };
    match args {
        [Val::Duration(span)] => span_part(name, *span).map(|part| Ok(Val::Int(part))),
        [Val::Timestamp(at)] => part(name, *at, TimeZone::UTC).map(|part| Ok(Val::Int(part))),
        [Val::Timestamp(at), Val::String(text)] => match zone_of(text) {
            Ok(zone) => part(name, *at, zone).map(|part| Ok(Val::Int(part))),
            Err(fault) => Some(Err(fault)),
        },
        _ => None,
    }
}

/// A point in time as RFC 3339 has it.
pub(in super::super) fn timestamp(text: &str) -> Option<Timestamp> {
    decode::timestamp(text)
}

/// As Kubernetes' rules write a point in time: with as many digits of the second as it has.
pub(super) fn written(at: Timestamp) -> String {
    at.to_string()
}

/// A zone by its name, or by its offset: `+02:00`. That of the machine is UTC.
fn zone(text: &str) -> Option<TimeZone> {
    let Some((hours, minutes)) = text.split_once(':') else {
        return if matches!(text, "" | "Local") {
            Some(TimeZone::UTC)
        } else {
            time_zone::named(text)
        };
    };
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let hours = hours.checked_mul(60)?;
    let offset =
        if text.starts_with('-') { hours.checked_sub(minutes) } else { hours.checked_add(minutes) };
    Offset::from_seconds(offset?.checked_mul(60)?).ok().map(TimeZone::fixed)
}

fn part(name: &str, at: Timestamp, zone: TimeZone) -> Option<i64> {
    let at = at.to_zoned(zone);
    Some(match name {
        "getFullYear" => i64::from(at.year()),
        "getMonth" => i64::from(at.month()) - 1,
        "getDate" => i64::from(at.day()),
        "getDayOfMonth" => i64::from(at.day()) - 1,
        "getDayOfWeek" => i64::from(at.weekday().to_sunday_zero_offset()),
        "getDayOfYear" => i64::from(at.day_of_year()) - 1,
        "getHours" => i64::from(at.hour()),
        "getMinutes" => i64::from(at.minute()),
        "getSeconds" => i64::from(at.second()),
        "getMilliseconds" => i64::from(at.millisecond()),
        _ => return None,
    })
}

fn span_part(name: &str, span: SignedDuration) -> Option<i64> {
    Some(match name {
        "getHours" => span.as_hours(),
        "getMinutes" => span.as_mins(),
        "getSeconds" => span.as_secs(),
        "getMilliseconds" => i64::try_from(span.as_millis()).unwrap_or(i64::MAX),
        _ => return None,
    })
}

/// Nanoseconds of a unit.
const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a span as Go writes it, such as `1h30m` or `1.5s`; at most 292 years.
pub(in super::super) fn duration(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut sum: i128 = 0;
    while !rest.is_empty() {
        let end =
            rest.find(|sign: char| !sign.is_ascii_digit() && sign != '.').unwrap_or(rest.len());
        let (number, unit) = rest.split_at(end);
        let (name, size) = UNITS.iter().find(|(name, _)| unit.starts_with(name))?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 19 {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        sum += whole.checked_mul(*size)?;
        // digits beyond these are less than a nanosecond of any unit
        let fraction = &fraction[..fraction.len().min(15)];
        if !fraction.is_empty() {
            let digits = u32::try_from(fraction.len()).ok()?;
            sum += fraction.parse::<i128>().ok()? * size / 10_i128.pow(digits);
        }
        rest = &unit[name.len()..];
    }
    i64::try_from(if negative { -sum } else { sum }).ok().map(SignedDuration::from_nanos)
}

/// A span in seconds, as `string(duration)` writes it.
pub(super) fn written_span(span: SignedDuration) -> String {
    let nanos = span.as_nanos();
    let (whole, part) = (nanos.abs() / 1_000_000_000, nanos.abs() % 1_000_000_000);
    let sign = if nanos < 0 { "-" } else { "" };
    let fraction = format!(".{part:09}");
    format!("{sign}{whole}{}s", fraction.trim_end_matches('0').trim_end_matches('.'))
}
