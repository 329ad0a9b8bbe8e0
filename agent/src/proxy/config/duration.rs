//! Durations as Go writes them, which is how Kubernetes' files and flags have them: `30s`, `1h0m0s`, `1.5s`, `100ms`.

use std::time::Duration;

/// Units, longest name first where one is the beginning of another, with their length in nanoseconds.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
];

/// Reads what Go's `time.ParseDuration` reads, but for negative durations, which mean nothing in a configuration.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, length) = UNITS.iter().find(|(name, _)| *name == &rest[..unit])?;
        total += number * length;
        rest = &rest[unit..];
    }
    // Go's durations end after 292 years
    (total <= 9.2e18).then(|| Duration::from_secs_f64(total / 1e9))
}

/// Writes a duration as Go's `Duration.String` does.
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let below = |unit: u128, name: &str| {
        let (whole, part) = (nanos / unit, nanos % unit);
        format!("{whole}{}{name}", fraction(part, unit))
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => below(1_000, "µs"),
        1_000_000..1_000_000_000 => below(1_000_000, "ms"),
        _ => {
            let seconds = duration.as_secs();
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let part = fraction(u128::from(duration.subsec_nanos()), 1_000_000_000);
            let tail = format!("{}{part}s", seconds % 60);
            match (hours, minutes) {
                (0, 0) => tail,
                (0, minutes) => format!("{minutes}m{tail}"),
                (hours, minutes) => format!("{hours}h{minutes}m{tail}"),
            }
        }
    }
}

/// `part` of `whole`, a power of ten, as decimals without trailing zeros.
fn fraction(part: u128, whole: u128) -> String {
    if part == 0 {
        return String::new();
    }
    let digits = whole.ilog10() as usize;
    let text = format!("{part:0digits$}");
    format!(".{}", text.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_go_does() {
        let table = [
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("30s", 30_000_000, "30s"),
            ("1h", 3_600_000_000, "1h0m0s"),
            ("1h0m0s", 3_600_000_000, "1h0m0s"),
            ("15m", 900_000_000, "15m0s"),
            ("2h22m", 8_520_000_000, "2h22m0s"),
            ("1.5s", 1_500_000, "1.5s"),
            ("250ms", 250_000, "250ms"),
            ("1500us", 1_500, "1.5ms"),
            ("7µs", 7, "7µs"),
            ("+1m", 60_000_000, "1m0s"),
            ("24h", 86_400_000_000, "24h0m0s"),
        ];
        for (text, micros, written) in table {
            let duration = parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(duration, Duration::from_micros(micros), "{text}");
            assert_eq!(format(duration), written, "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "30", "-1s", "s", "1d", "1 s", "1.2.3s", "abc", "1h5", "999999999999h"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
