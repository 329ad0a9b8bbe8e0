//! What should be there beside what is, as commands print it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Both lists as one, in order: `+` is missing, `-` is too much. The first line counts; it begins with `title`.
pub fn side_by_side(title: &str, desired: &BTreeSet<String>, actual: &BTreeSet<String>) -> String {
    let (missing, extra) = (desired.difference(actual).count(), actual.difference(desired).count());
    let verdict = if missing + extra == 0 {
        "all as it should be".to_owned()
    } else {
        format!("{missing} missing, {extra} too much")
    };
    let mut text =
        format!("# {title}{} desired, {} there: {verdict}\n", desired.len(), actual.len());
    for line in desired.union(actual) {
        let mark = match (desired.contains(line), actual.contains(line)) {
            (true, true) => ' ',
            (true, false) => '+',
            _ => '-',
        };
        writeln!(text, "{mark} {line}").ok();
    }
    text
}
