//! Classes of signs: between brackets, by a letter behind a backslash, and those of Unicode.

use regex_syntax::hir::{Class, HirKind};

use super::{LONGEST, TOO_LARGE, literal, wrong};

/// Categories that Go knows.
const CATEGORIES: [&str; 36] = [
    "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd", "Nl", "No", "P", "Pc",
    "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp", "Zs", "C",
    "Cc", "Cf", "Co", "Cs",
];
const ALL: (u32, u32) = (0, 0x10_FFFF);
const DIGITS: &[(u32, u32)] = &[(0x30, 0x39)];
const SPACES: &[(u32, u32)] = &[(9, 10), (12, 13), (32, 32)];
const WORD: &[(u32, u32)] = &[(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)];

type Ranges = Vec<(u32, u32)>;
type Read<'a, T> = Result<(T, &'a str), String>;

/// Reads a class in brackets, and gives it as the engine reads it.
pub(super) fn read(text: &str) -> Read<'_, String> {
    let inner = &text[1..];
    let (negated, mut rest) = inner.strip_prefix('^').map_or((false, inner), |rest| (true, rest));
    let mut items = String::new();
    let mut first = true;
    loop {
        let Some(sign) = rest.chars().next() else { return wrong("missing closing ]", text) };
        if sign == ']' && !first {
            return Ok((bracketed(&items, negated), &rest[1..]));
        }
        first = false;
        if items.len() > LONGEST {
            return Err(TOO_LARGE.to_owned());
        }
        if let Some((ranges, after)) = posix(rest)? {
            items.push_str(&shown(&ranges));
            rest = after;
        } else if let Some((ranges, after)) = named(rest)? {
            items.push_str(&ranges);
            rest = after;
        } else {
            let (low, after) = single(rest, text)?;
            let (high, after) = match after.strip_prefix('-').filter(|end| !end.starts_with(']')) {
                Some(end) => single(end, text)?,
                None => (low, after),
            };
            if high < low {
                let range = &rest[..rest.len() - after.len()];
                return wrong("invalid character class range", range);
            }
            literal(low, &mut items);
            items.push('-');
            literal(high, &mut items);
            rest = after;
        }
    }
}

/// Ranges in brackets. None at all is nothing that can stand there, so all but every sign is written.
pub(super) fn bracketed(items: &str, negated: bool) -> String {
    match (items, negated) {
        ("", negated) => bracketed(&shown(&[ALL]), !negated),
        (items, true) => format!("[^{items}]"),
        (items, false) => format!("[{items}]"),
    }
}

fn single<'a>(text: &'a str, class: &str) -> Read<'a, char> {
    match text.chars().next() {
        Some('\\') => escaped(text),
        Some(sign) => Ok((sign, &text[sign.len_utf8()..])),
        None => wrong("missing closing ]", class),
    }
}

/// A sign behind a backslash.
pub(super) fn escaped(text: &str) -> Read<'_, char> {
    let mut signs = text[1..].chars();
    let Some(sign) = signs.next() else {
        return Err("error parsing regexp: trailing backslash at end of expression: ``".to_owned());
    };
    let after = signs.as_str();
    let control = |sign: u8| Ok((char::from(sign), after));
    match sign {
        'a' => control(7),
        'f' => control(12),
        'n' => control(10),
        'r' => control(13),
        't' => control(9),
        'v' => control(11),
        'x' => hexadecimal(text, after),
        // what looks like a reference to a group is none: there are no such references
        '0'..='7' if sign == '0' || after.starts_with(|next| matches!(next, '0'..='7')) => {
            let digits = &text[1..];
            let end = digits.find(|next| !matches!(next, '0'..='7')).unwrap_or(digits.len());
            let (digits, after) = digits.split_at(end.min(3));
            number(digits, 8).map_or_else(|| unknown(text, after), |sign| Ok((sign, after)))
        }
        sign if sign.is_ascii() && !sign.is_ascii_alphanumeric() => Ok((sign, after)),
        _ => unknown(text, after),
    }
}

fn unknown<T>(text: &str, after: &str) -> Result<T, String> {
    wrong("invalid escape sequence", &text[..text.len() - after.len()])
}

fn number(digits: &str, base: u32) -> Option<char> {
    char::from_u32(u32::from_str_radix(digits, base).ok()?)
}

/// `\x41` and `\x{1F600}`.
fn hexadecimal<'a>(text: &'a str, after: &'a str) -> Read<'a, char> {
    let (digits, after) = match after.strip_prefix('{') {
        Some(inner) => inner.split_once('}').unwrap_or(("", "")),
        None if after.is_char_boundary(2) && after.len() >= 2 => after.split_at(2),
        None => ("", ""),
    };
    let is_hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    match number(digits, 16).filter(|_| is_hexadecimal) {
        Some(sign) => Ok((sign, after)),
        None => unknown(text, after),
    }
}

/// A class by its letter, `\d` or `\pL`, as ranges; nothing, if it is something else.
pub(super) fn named(text: &str) -> Result<Option<(String, &str)>, String> {
    let Some(after) = text.strip_prefix('\\') else { return Ok(None) };
    let Some(letter) = after.chars().next() else { return Ok(None) };
    let ranges = match letter.to_ascii_lowercase() {
        'd' => DIGITS,
        's' => SPACES,
        'w' => WORD,
        'p' => return unicode(text, letter == 'P').map(Some),
        _ => return Ok(None),
    };
    let ranges = if letter.is_ascii_uppercase() { others(ranges) } else { ranges.to_vec() };
    Ok(Some((shown(&ranges), &after[1..])))
}

/// `[:alpha:]` within brackets.
fn posix(text: &str) -> Result<Option<(Ranges, &str)>, String> {
    let Some((name, rest)) = text.strip_prefix("[:").and_then(|text| text.split_once(":]")) else {
        return Ok(None);
    };
    let (negated, plain) = name.strip_prefix('^').map_or((false, name), |name| (true, name));
    let ranges: &[(u32, u32)] = match plain {
        "alnum" => &[(0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A)],
        "alpha" => &[(0x41, 0x5A), (0x61, 0x7A)],
        "ascii" => &[(0, 0x7F)],
        "blank" => &[(9, 9), (32, 32)],
        "cntrl" => &[(0, 0x1F), (0x7F, 0x7F)],
        "digit" => DIGITS,
        "graph" => &[(0x21, 0x7E)],
        "lower" => &[(0x61, 0x7A)],
        "print" => &[(0x20, 0x7E)],
        "punct" => &[(0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)],
        "space" => &[(9, 13), (32, 32)],
        "upper" => &[(0x41, 0x5A)],
        "word" => WORD,
        "xdigit" => &[(0x30, 0x39), (0x41, 0x46), (0x61, 0x66)],
        _ => return wrong("invalid character class range", &format!("[:{name}:]")),
    };
    Ok(Some((if negated { others(ranges) } else { ranges.to_vec() }, rest)))
}

/// `\pL`, `\p{Greek}`, `\p{^Greek}` and the same with `\P`.
fn unicode(text: &str, negated: bool) -> Read<'_, String> {
    let after = &text[2..];
    let (name, rest) = match after.strip_prefix('{') {
        Some(inner) => match inner.split_once('}') {
            Some(found) => found,
            None => return wrong("invalid character class range", text),
        },
        None => after.split_at(after.chars().next().map_or(0, char::len_utf8)),
    };
    let (negated, name) = name.strip_prefix('^').map_or((negated, name), |name| (!negated, name));
    match signs_of(name) {
        Some(ranges) if negated => Ok((shown(&others(&ranges)), rest)),
        Some(ranges) => Ok((shown(&ranges), rest)),
        None => wrong("invalid character class range", &text[..text.len() - rest.len()]),
    }
}

/// The signs of a category or a script.
fn signs_of(name: &str) -> Option<Ranges> {
    match name {
        "Any" => Some(vec![ALL]),
        // Go's has no signs that stand for nothing yet
        "C" => Some(["Cc", "Cf", "Co"].into_iter().filter_map(signs_of).flatten().collect()),
        // halves of signs are no signs of a text
        "Cs" => Some(Vec::new()),
        name if CATEGORIES.contains(&name) => table(&format!(r"\p{{gc={name}}}")),
        // the tables take names in any way of writing them, Go only as they are
        name if name.starts_with(|first: char| first.is_ascii_uppercase())
            && name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_') =>
        {
            table(&format!(r"\p{{sc={name}}}"))
        }
        _ => None,
    }
}

fn table(class: &str) -> Option<Ranges> {
    let range = |range: &regex_syntax::hir::ClassUnicodeRange| {
        (u32::from(range.start()), u32::from(range.end()))
    };
    match regex_syntax::parse(class).ok()?.kind() {
        HirKind::Class(Class::Unicode(class)) => Some(class.iter().map(range).collect()),
        // a class of one sign is that sign
        HirKind::Literal(sign) => {
            let text = std::str::from_utf8(&sign.0).ok()?;
            Some(text.chars().map(|sign| (u32::from(sign), u32::from(sign))).collect())
        }
        _ => None,
    }
}

/// All signs but these.
fn others(ranges: &[(u32, u32)]) -> Ranges {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable();
    let mut found = Vec::new();
    let mut next = ALL.0;
    for (low, high) in sorted {
        if low > next {
            found.push((next, low - 1));
        }
        next = next.max(high + 1);
    }
    if next <= ALL.1 {
        found.push((next, ALL.1));
    }
    found
}

/// Ranges as they stand in brackets. None of them begins or ends in the halves of signs, which the engine does not take.
fn shown(ranges: &[(u32, u32)]) -> String {
    let hole = 0xD800..=0xDFFF_u32;
    let mut written = String::new();
    for (low, high) in ranges {
        let low = if hole.contains(low) { 0xE000 } else { *low };
        let high = if hole.contains(high) { 0xD7FF } else { *high };
        if low <= high {
            written.push_str(&format!("\\x{{{low:X}}}-\\x{{{high:X}}}"));
        }
    }
    written
}
