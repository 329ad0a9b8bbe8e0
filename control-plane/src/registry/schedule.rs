//! When a `CronJob` runs: five fields of cron, or a word for them. Grammar and sentences are those of `github.com/robfig/cron/v3`.

use crate::schema::cel::is_duration;

/// The lowest and the highest number of a field, and the words for its numbers.
struct Bounds {
    least: u64,
    most: u64,
    words: &'static [&'static str],
}

const MONTHS: &[&str] =
    &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// Minute, hour, day of the month, month, day of the week.
const FIELDS: [Bounds; 5] = [
    Bounds { least: 0, most: 59, words: &[] },
    Bounds { least: 0, most: 23, words: &[] },
    Bounds { least: 1, most: 31, words: &[] },
    Bounds { least: 1, most: 12, words: MONTHS },
    Bounds { least: 0, most: 6, words: DAYS },
];
const WORDS: [&str; 7] =
    ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// Whether a schedule can be read; the error says what is wrong with it.
pub fn check(schedule: &str) -> Result<(), String> {
    if schedule.is_empty() {
        return Err("empty spec string".to_owned());
    }
    let zoned = ["TZ=", "CRON_TZ="].iter().any(|word| schedule.starts_with(word));
    // which zones there are is not asked here: they are refused anyway
    let text = if zoned { schedule.split_once(' ').unwrap_or_default().1.trim() } else { schedule };
    if text.starts_with('@') {
        return check_word(text);
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let (expected, found) = (FIELDS.len(), fields.len());
        let fields = fields.join(" ");
        return Err(format!("expected exactly {expected} fields, found {found}: [{fields}]"));
    }
    for (field, bounds) in fields.iter().zip(&FIELDS) {
        for part in field.split(',').filter(|part| !part.is_empty()) {
            check_range(part, bounds)?;
        }
    }
    Ok(())
}

fn check_word(word: &str) -> Result<(), String> {
    match word.strip_prefix("@every ") {
        Some(time) if is_duration(time) => Ok(()),
        Some(time) => {
            Err(format!("failed to parse duration {word}: time: invalid duration {time:?}"))
        }
        None if WORDS.contains(&word) => Ok(()),
        None => Err(format!("unrecognized descriptor: {word}")),
    }
}

/// `*`, a number or a word, or two with `-` between them; and after `/` a step.
fn check_range(text: &str, bounds: &Bounds) -> Result<(), String> {
    let mut halves = text.split('/');
    let range = halves.next().unwrap_or_default();
    let ends: Vec<&str> = range.split('-').collect();
    let (first, mut last) = match *ends {
        ["*" | "?", ..] => (bounds.least, bounds.most),
        [one] => (value(one, bounds)?, value(one, bounds)?),
        [first, last] => (value(first, bounds)?, value(last, bounds)?),
        _ => return Err(format!("too many hyphens: {text}")),
    };
    let step = match (halves.next(), halves.next()) {
        (None, _) => 1,
        (Some(step), None) => {
            // from a number in steps is up to the end
            if ends.len() == 1 {
                last = bounds.most;
            }
            number(step)?
        }
        (Some(_), Some(_)) => return Err(format!("too many slashes: {text}")),
    };
    let Bounds { least, most, .. } = bounds;
    match () {
        () if first < *least => {
            Err(format!("beginning of range ({first}) below minimum ({least}): {text}"))
        }
        () if last > *most => Err(format!("end of range ({last}) above maximum ({most}): {text}")),
        () if first > last => {
            Err(format!("beginning of range ({first}) beyond end of range ({last}): {text}"))
        }
        () if step == 0 => Err(format!("step of range should be a positive number: {text}")),
        () => Ok(()),
    }
}

fn value(text: &str, bounds: &Bounds) -> Result<u64, String> {
    match bounds.words.iter().position(|word| word.eq_ignore_ascii_case(text)) {
        Some(index) => Ok(index as u64 + bounds.least),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u64, String> {
    let signed: i64 = text.parse().map_err(|_| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")
    })?;
    u64::try_from(signed).map_err(|_| format!("negative number ({signed}) not allowed: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_read() {
        for good in [
            "* * * * *",
            "*/5 0-6 1,15 JAN-MAR sun",
            "5/15 ? ? * ?",
            " 0  0 1 1 *",
            "1,,2 * * * *",
            "@hourly",
            "@every 1h30m",
            "TZ=UTC 0 * * * *",
            "CRON_TZ=UTC @daily",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", "empty spec string"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("TZ=UTC", "expected exactly 5 fields, found 0: []"),
            ("0 0 * * * *", "expected exactly 5 fields, found 6: [0 0 * * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("* * * * 7", "end of range (7) above maximum (6): 7"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            (
                "a * * * *",
                "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax",
            ),
            ("-1 * * * *", "failed to parse int from : strconv.Atoi: parsing \"\": invalid syntax"),
            ("*/-1 * * * *", "negative number (-1) not allowed: -1"),
            ("* JAN * * *", "failed to parse int from JAN"),
            ("@never", "unrecognized descriptor: @never"),
            ("@every day", "failed to parse duration @every day: time: invalid duration \"day\""),
        ] {
            let found = check(bad).unwrap_err();
            assert!(found.starts_with(why), "{bad}: {found}");
        }
    }
}
