//! Sets of a job's indexes as they are written: `1,3-5,7`.

use std::ops::RangeInclusive;

/// One number, or two and what is between them; all below `completions`.
fn interval(text: &str, completions: i64) -> Result<RangeInclusive<i64>, String> {
    let number = |text: &str| {
        let number: i64 = text
            .parse()
            .map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
        if number >= completions { Err(format!("too large index: {text:?}")) } else { Ok(number) }
    };
    match *text.split('-').collect::<Vec<_>>() {
        [one] => number(one).map(|one| one..=one),
        [first, last] => match (number(first)?, number(last)?) {
            (first, last) if first < last => Ok(first..=last),
            (first, last) => {
                Err(format!("non-increasing order, previous: {first}, current: {last}"))
            }
        },
        _ => Err(format!(
            "the fragment {text:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        )),
    }
}

/// How many indexes a text names, which are in order and below `completions`; or what is wrong with it.
pub fn count(text: &str, completions: i64) -> Result<i64, String> {
    let (mut total, mut last) = (0, None);
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let range = interval(part, completions)?;
        let (from, to) = range.into_inner();
        if let Some(last) = last.filter(|last| *last >= from) {
            return Err(format!("non-increasing order, previous: {last}, current: {from}"));
        }
        total += to - from + 1;
        last = Some(to);
    }
    Ok(total)
}

/// The first index that is in both sets; what cannot be read is passed over.
pub fn overlap(one: &str, other: &str, completions: i64) -> Option<i64> {
    let read = |text: &str| -> Vec<_> {
        text.split(',').filter_map(|part| interval(part, completions).ok()).collect()
    };
    let (one, other) = (read(one), read(other));
    let (mut left, mut right) = (one.iter().peekable(), other.iter().peekable());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        if a.start() <= b.end() && b.start() <= a.end() {
            return Some(*a.start().max(b.start()));
        }
        if a.start() <= b.start() {
            left.next()
        } else {
            right.next()
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_in_order_and_below_the_end() {
        for (text, expected) in [
            ("", Ok(0)),
            ("0", Ok(1)),
            ("1,3-5,7", Ok(5)),
            ("8", Err("too large index: \"8\"")),
            ("1-8", Err("too large index: \"8\"")),
            ("x", Err("cannot convert string to integer for index: \"x\"")),
            ("1,", Err("cannot convert string to integer for index: \"\"")),
            ("1-2-3", Err("the fragment \"1-2-3\" violates")),
            ("2-2", Err("non-increasing order, previous: 2, current: 2")),
            ("3,1", Err("non-increasing order, previous: 3, current: 1")),
            ("1-3,3", Err("non-increasing order, previous: 3, current: 3")),
        ] {
            match (count(text, 8), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
                (Err(found), Err(expected)) => assert!(found.starts_with(expected), "{found}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn two_sets_may_overlap() {
        for (one, other, expected) in [
            ("0,2-4", "1,5", None),
            ("0,2-4", "1,4-5", Some(4)),
            ("", "1", None),
            ("x,3", "3", Some(3)),
        ] {
            assert_eq!(overlap(one, other, 8), expected, "{one} {other}");
        }
    }
}
