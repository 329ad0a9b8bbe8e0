//! Regular expressions as Go reads them, which Kubernetes is written in. They are written anew for the engine here, which knows neither
//! classes of Unicode nor quoted text, and reads some signs in another way; what cannot be is refused in Go's words.
//! <https://github.com/google/re2/wiki/Syntax>

mod class;

use regex_lite::{Regex, RegexBuilder};

/// The sizes that a compiled expression is tried with, in bytes: the least one that it stays below is its size, the engine does not tell.
pub const SIZES: [usize; 6] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];
/// How often something may be repeated, and what is in it, both together.
const REPEATS: u64 = 1000;

/// The most bytes of an expression as it is written for the engine: a class of Unicode is hundreds of ranges.
const LONGEST: usize = 8 << 20;
/// Go's words for such ones.
const TOO_LARGE: &str = "error parsing regexp: expression too large";
/// What all expressions of a schema may take together, in bytes. They stay in memory as long as it is served.
pub const TOGETHER: usize = 64 << 20;

/// An expression and what it takes.
#[derive(Debug)]
pub struct Compiled {
    /// The expression.
    pub regex: Regex,
    /// One of [`SIZES`].
    pub size: usize,
}

/// Compiles one of several expressions, for which so many bytes are left. It takes time in proportion to a text, whatever it is. What is
/// refused for its size has cost as much as the largest.
pub fn compile_within(pattern: &str, left: &mut usize) -> Result<Compiled, String> {
    let together = || "regular expressions are too large together".to_owned();
    if *left == 0 {
        return Err(together());
    }
    let written = translate(pattern)?;
    let mut last = String::new();
    for size in SIZES {
        match RegexBuilder::new(&written).size_limit(size).build() {
            Ok(regex) if size <= *left => {
                *left -= size;
                return Ok(Compiled { regex, size });
            }
            Ok(_) => {
                *left = 0;
                return Err(together());
            }
            Err(error) => last = error.to_string(),
        }
        if !last.contains("size") {
            return Err(format!("error parsing regexp: {last}"));
        }
    }
    *left = left.saturating_sub(SIZES[SIZES.len() - 1]);
    Err(format!("error parsing regexp: {last}"))
}

/// What is wrong, in Go's words, and where in the expression.
fn wrong<T>(what: &str, part: &str) -> Result<T, String> {
    Err(format!("error parsing regexp: {what}: `{part}`"))
}

/// Writes an expression as the engine reads it.
fn translate(pattern: &str) -> Result<String, String> {
    let mut writer = Writer {
        pattern,
        rest: pattern,
        written: String::new(),
        groups: Vec::new(),
        most: 1,
        last: 1,
        repeated: None,
    };
    while let Some(sign) = writer.rest.chars().next() {
        writer.step(sign)?;
        if writer.written.len() > LONGEST {
            return Err(TOO_LARGE.to_owned());
        }
    }
    Ok(writer.written)
}

struct Writer<'a> {
    pattern: &'a str,
    rest: &'a str,
    written: String,
    /// For each open group, how often its parts are repeated at most.
    groups: Vec<u64>,
    most: u64,
    /// How often parts of what stands before are repeated.
    last: u64,
    /// The repetition that stands directly before.
    repeated: Option<&'a str>,
}

/// Writes a sign that stands for itself.
fn literal(sign: char, written: &mut String) {
    if sign.is_ascii_alphanumeric() || !sign.is_ascii() {
        written.push(sign);
    } else {
        written.push_str(&format!("\\x{{{:X}}}", u32::from(sign)));
    }
}

impl<'a> Writer<'a> {
    fn step(&mut self, sign: char) -> Result<(), String> {
        let before = self.repeated.take();
        match sign {
            '\\' => self.escape()?,
            '[' => {
                let (class, rest) = class::read(self.rest)?;
                self.atom(&class, rest);
            }
            '(' => self.open()?,
            ')' => {
                self.last = self.most;
                self.most = self.groups.pop().unwrap_or(1).max(self.last);
                self.copy(1);
            }
            '*' | '+' | '?' => {
                let after = &self.rest[1..];
                self.repeat(before, after, 1)?;
            }
            '{' => match counts(self.rest) {
                Some((least, most, rest)) => {
                    if least > REPEATS || most.is_some_and(|most| most > REPEATS || most < least) {
                        return wrong("invalid repeat count", self.part(rest));
                    }
                    self.repeat(before, rest, most.unwrap_or(least))?;
                }
                None => self.plain(sign),
            },
            '^' | '$' | '.' | '|' => {
                self.last = 1;
                self.copy(1);
            }
            sign => self.plain(sign),
        }
        Ok(())
    }

    /// What was read up to here.
    fn part(&self, rest: &str) -> &'a str {
        &self.rest[..self.rest.len() - rest.len()]
    }

    fn copy(&mut self, bytes: usize) {
        self.written.push_str(&self.rest[..bytes]);
        self.rest = &self.rest[bytes..];
    }

    fn atom(&mut self, written: &str, rest: &'a str) {
        self.written.push_str(written);
        self.rest = rest;
        self.last = 1;
    }

    fn plain(&mut self, sign: char) {
        literal(sign, &mut self.written);
        self.rest = &self.rest[sign.len_utf8()..];
        self.last = 1;
    }

    fn repeat(&mut self, before: Option<&str>, rest: &'a str, most: u64) -> Result<(), String> {
        let operator = self.part(rest);
        // it may take as little as it can
        let rest = rest.strip_prefix('?').unwrap_or(rest);
        if let Some(before) = before {
            let both = format!("{before}{}", self.part(rest));
            return wrong("invalid nested repetition operator", &both);
        }
        self.last = self.last.saturating_mul(most.max(1));
        if self.last > REPEATS {
            return wrong("invalid repeat count", operator);
        }
        self.most = self.most.max(self.last);
        self.repeated = Some(self.part(rest));
        self.copy(self.rest.len() - rest.len());
        Ok(())
    }

    fn open(&mut self) -> Result<(), String> {
        self.groups.push(std::mem::replace(&mut self.most, 1));
        self.last = 1;
        let Some(after) = self.rest.strip_prefix("(?") else {
            self.copy(1);
            return Ok(());
        };
        let named = after.strip_prefix("P<").or_else(|| after.strip_prefix('<'));
        if let Some(named) = named.filter(|named| !named.starts_with(['=', '!'])) {
            let Some((name, rest)) = named.split_once('>') else {
                return wrong("invalid named capture", self.rest);
            };
            if name.is_empty()
                || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            {
                return wrong("invalid named capture", self.part(rest));
            }
            // one name twice is refused by the engine
            self.copy(self.rest.len() - rest.len());
            return Ok(());
        }
        let flags = after.trim_start_matches(['i', 'm', 's', 'U', '-']);
        match flags.chars().next() {
            Some(':') => {}
            // flags for what follows: no group is open
            Some(')') => self.most = self.groups.pop().unwrap_or(1),
            Some(sign) => {
                let part = self.part(&flags[sign.len_utf8()..]);
                return wrong("invalid or unsupported Perl syntax", part);
            }
            None => return wrong("missing closing )", self.pattern),
        }
        self.copy(self.rest.len() - flags.len() + 1);
        Ok(())
    }

    fn escape(&mut self) -> Result<(), String> {
        let after = &self.rest[1..];
        match after.chars().next() {
            Some('Q') => {
                let (quoted, rest) = after[1..].split_once("\\E").unwrap_or((&after[1..], ""));
                quoted.chars().for_each(|sign| literal(sign, &mut self.written));
                self.rest = rest;
                self.last = 1;
            }
            Some('A' | 'z' | 'b' | 'B') => {
                self.last = 1;
                self.copy(2);
            }
            _ => {
                if let Some((items, rest)) = class::named(self.rest)? {
                    self.atom(&class::bracketed(&items, false), rest);
                    return Ok(());
                }
                let (sign, rest) = class::escaped(self.rest)?;
                let mut written = String::new();
                literal(sign, &mut written);
                self.atom(&written, rest);
            }
        }
        Ok(())
    }
}

/// `{n}`, `{n,}` and `{n,m}`, and what follows; anything else behind a brace is text.
fn counts(text: &str) -> Option<(u64, Option<u64>, &str)> {
    let (inner, rest) = text.strip_prefix('{')?.split_once('}')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // so many digits are more than any limit
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (least, most) = match inner.split_once(',') {
        None => (number(inner)?, Some(number(inner)?)),
        Some((least, "")) => (number(least)?, None),
        Some((least, most)) => (number(least)?, Some(number(most)?)),
    };
    Some((least, most, rest))
}

#[cfg(test)]
mod tests;
