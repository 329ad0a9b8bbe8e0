//! When two rules are the same: `iptables-save` prints what it was given in its own order and with its own defaults, and each
//! variant and release does so in another way.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};

use netns_tools::iptables::split_words;

/// One option with its values.
#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Opt<'a> {
    name: Cow<'a, str>,
    negated: bool,
    values: Vec<Cow<'a, str>>,
}

/// A number that two rules share if they do the same, whatever the order of their options, their quoting, and defaults that
/// are printed or not. `comments`: whether they must have the same comment too.
pub fn hash(rule: &str, comments: bool) -> u64 {
    let mut options = options(rule);
    let protocol = value(&options, "-p").map(str::to_owned);
    options.retain(|option| says_something(option, protocol.as_deref(), comments));
    for option in &mut options {
        settle(option);
    }
    options.sort_unstable();
    let mut hasher = DefaultHasher::new();
    options.hash(&mut hasher);
    hasher.finish()
}

/// A number that two chains share if their rules are the same, in the same order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    hash: u64,
    rules: u32,
}

impl Digest {
    /// Takes in the next rule of the chain, which must not differ in its effect; its comment may.
    pub fn push(&mut self, rule: &str) {
        let mut hasher = DefaultHasher::new();
        (self.hash, hash(rule, false)).hash(&mut hasher);
        self.hash = hasher.finish();
        self.rules += 1;
    }

    /// Of a whole chain.
    pub fn of(rules: &[String]) -> Self {
        let mut digest = Self::default();
        rules.iter().for_each(|rule| digest.push(rule));
        digest
    }
}

fn options(rule: &str) -> Vec<Opt<'_>> {
    let mut options: Vec<Opt<'_>> = Vec::with_capacity(12);
    let mut negated = false;
    for (word, quoted) in words(rule) {
        if word == "!" && !quoted {
            negated = true;
        } else if !quoted && is_option(&word) {
            let negated = std::mem::take(&mut negated);
            options.push(Opt { name: short(word), negated, values: Vec::new() });
        } else if let Some(option) = options.last_mut() {
            option.values.push(word);
        }
    }
    options
}

fn is_option(word: &str) -> bool {
    word.starts_with('-') && word[1..].starts_with(|c: char| c == '-' || c.is_ascii_alphabetic())
}

fn short(name: Cow<'_, str>) -> Cow<'_, str> {
    let short = match &*name {
        "--jump" => "-j",
        "--goto" => "-g",
        "--source" | "--src" => "-s",
        "--destination" | "--dst" => "-d",
        "--protocol" => "-p",
        "--match" => "-m",
        _ => return name,
    };
    short.into()
}

/// The words of a line, and whether each was quoted.
fn words(line: &str) -> impl Iterator<Item = (Cow<'_, str>, bool)> {
    let mut rest = line.trim_start();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let quoted = rest.starts_with('"');
        let end = if quoted { end_of_quote(rest) } else { rest.find(' ').unwrap_or(rest.len()) };
        let (word, behind) = rest.split_at(end);
        rest = behind.trim_start();
        let plain = if quoted { word.trim_matches('"') } else { word };
        let word = if plain.contains(['"', '\\']) {
            split_words(word).into_iter().next().unwrap_or_default().into()
        } else {
            Cow::Borrowed(plain)
        };
        Some((word, quoted))
    })
}

/// Where the quoted word that `text` begins with is over.
fn end_of_quote(text: &str) -> usize {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            b'"' if !escaped => return index + 1,
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

fn value<'a>(options: &'a [Opt<'_>], name: &str) -> Option<&'a str> {
    let option = options.iter().find(|option| option.name == name)?;
    option.values.first().map(|value| &**value)
}

/// Leaves out what is printed by one and not by the other, and means the same.
fn says_something(option: &Opt<'_>, protocol: Option<&str>, comments: bool) -> bool {
    let value = option.values.first().map(|value| &**value);
    match &*option.name {
        "-m" => value != Some("comment") && value != protocol,
        "--comment" => comments,
        "--rsource" => false,
        "--mask" => !value.is_some_and(is_full_mask),
        _ => true,
    }
}

fn is_full_mask(mask: &str) -> bool {
    matches!(mask, "255.255.255.255" | "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
}

/// Brings the values of an option into one form.
fn settle(option: &mut Opt<'_>) {
    let name = &*option.name;
    let Some(value) = option.values.first_mut() else { return };
    match name {
        "-s" | "-d" => {
            let full = if value.contains(':') { "/128" } else { "/32" };
            if let Some(host) = value.strip_suffix(full) {
                *value = host.to_owned().into();
            }
        }
        // the kernel's fraction, however many digits are printed
        "--probability" => {
            if let Ok(share) = value.parse::<f64>() {
                *value = format!("{:.0}", share * 2_147_483_648.0).into();
            }
        }
        "--ctstate" => {
            let mut states: Vec<_> = value.split(',').collect();
            states.sort_unstable();
            *value = states.join(",").into();
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_rule_in_other_words() {
        let same = [
            ("-s 10.1.0.1/32 -j A", "-s 10.1.0.1 -j A"),
            ("-d fd00::1 -j A", "--destination fd00::1/128 --jump A"),
            ("-p tcp -m tcp --dport 80 -j A", "-m comment --comment x -p tcp --dport 80 -j A"),
            (
                "-m statistic --mode random --probability 0.33333333349 -j A",
                "-m statistic --mode random --probability 0.3333333333 -j A",
            ),
            (
                "-m recent --set --name A --mask 255.255.255.255 --rsource -j B",
                "-m recent --name A --set -j B",
            ),
            (
                "-m conntrack ! --ctstate RELATED,DNAT -j A",
                "-j A -m conntrack ! --ctstate DNAT,RELATED",
            ),
            ("-m comment --comment \"a \\\" -j B\" -j A", "-j A"),
            ("-m comment --comment \"-j\" -j A", "-j A"),
        ];
        for (one, other) in same {
            assert_eq!(hash(one, false), hash(other, false), "{one}\n{other}");
        }
    }

    #[test]
    fn other_rules() {
        let different = [
            ("-s 10.1.0.1 -j A", "! -s 10.1.0.1 -j A"),
            ("-s 10.1.0.0/24 -j A", "-s 10.1.0.0 -j A"),
            ("-s 10.1.0.1 -j A", "-d 10.1.0.1 -j A"),
            ("-j A", "-g A"),
            ("-p tcp --dport 80 -j A", "-p udp --dport 80 -j A"),
            (
                "-m statistic --mode random --probability 0.33333333349 -j A",
                "-m statistic --mode random --probability 0.33333 -j A",
            ),
            ("-m nfacct --nfacct-name  x -j A", "-j A"),
            ("-m comment --comment \"a -j B\"", "-j B"),
        ];
        for (one, other) in different {
            assert_ne!(hash(one, false), hash(other, false), "{one}\n{other}");
        }
        assert_ne!(hash("-m comment --comment a -j B", true), hash("-j B", true));
    }
}
