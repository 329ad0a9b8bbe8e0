//! `iptables-save` text as data, and back.

use std::collections::BTreeMap;
use std::fmt;

use super::word::{join, split};

/// Text that is not what `iptables-save` prints.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: {reason}: {text:?}")]
pub struct ParseError {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: &'static str,
    /// The line.
    pub text: String,
}

/// All tables of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// By name.
    pub tables: BTreeMap<String, Table>,
}

/// One table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// By name.
    pub chains: BTreeMap<String, Chain>,
}

/// One chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// `ACCEPT` or `DROP` for a chain of the kernel, none for one of a user.
    pub policy: Option<String>,
    /// Its rules, each as the words behind `-A CHAIN`.
    pub rules: Vec<Vec<String>>,
}

impl Chain {
    /// The chains that its rules jump or go to, with the rules' positions.
    pub fn targets(&self) -> impl Iterator<Item = (usize, &str)> {
        self.rules.iter().enumerate().filter_map(|(index, rule)| Some((index, target(rule)?)))
    }
}

/// The target of a rule.
pub(super) fn target(rule: &[String]) -> Option<&str> {
    let position =
        rule.iter().position(|word| matches!(word.as_str(), "-j" | "-g" | "--jump" | "--goto"))?;
    rule.get(position + 1).map(String::as_str)
}

impl Table {
    /// The rules of a chain as lines of text; empty if there is no such chain.
    pub fn rules(&self, chain: &str) -> Vec<String> {
        self.chains
            .get(chain)
            .map(|chain| chain.rules.iter().map(|rule| join(rule)).collect())
            .unwrap_or_default()
    }

    /// Whether a chain has a rule, whatever the quoting and the order of its options.
    pub fn contains_rule(&self, chain: &str, rule: &str) -> bool {
        let wanted = normalised(&split(rule));
        self.chains
            .get(chain)
            .is_some_and(|chain| chain.rules.iter().any(|rule| normalised(rule) == wanted))
    }
}

/// The options of a rule as a set: the kernel prints them in its own order, `! -s A` is `-s` with a negation, an address
/// without a prefix has a full one, and matches that say nothing (`-m tcp` behind `-p tcp`) come and go.
fn normalised(rule: &[String]) -> Vec<Vec<String>> {
    let protocol = rule.iter().position(|word| word == "-p").and_then(|at| rule.get(at + 1));
    let mut options: Vec<Vec<String>> = Vec::new();
    let mut negated = false;
    for word in rule {
        if word == "!" {
            negated = true;
        } else if word.starts_with('-')
            && word.len() > 1
            && !word[1..].starts_with(|c: char| c.is_ascii_digit())
        {
            let mut option = Vec::new();
            option.extend(std::mem::take(&mut negated).then(|| "!".to_owned()));
            option.push(word.clone());
            options.push(option);
        } else if let Some(option) = options.last_mut() {
            let value = match option.last().map(String::as_str) {
                Some("-s" | "-d") if !word.contains('/') => {
                    format!("{word}/{}", if word.contains(':') { 128 } else { 32 })
                }
                _ => word.clone(),
            };
            option.push(value);
        }
    }
    options
        .retain(|option| !(option.len() == 2 && option[0] == "-m" && Some(&option[1]) == protocol));
    options.sort();
    options
}

impl Ruleset {
    /// Parses the output of `iptables-save`, with or without counters.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut ruleset = Self::default();
        let mut current: Option<String> = None;
        for (index, line) in text.lines().enumerate() {
            let fail = |reason| ParseError { line: index + 1, reason, text: line.to_owned() };
            let line_text = line.trim();
            if line_text.is_empty() || line_text.starts_with('#') {
                continue;
            }
            if let Some(name) = line_text.strip_prefix('*') {
                ruleset.tables.entry(name.to_owned()).or_default();
                current = Some(name.to_owned());
                continue;
            }
            if line_text == "COMMIT" {
                current = None;
                continue;
            }
            let table = current.as_ref().and_then(|name| ruleset.tables.get_mut(name));
            let table = table.ok_or_else(|| fail("outside of a table"))?;
            table.parse_line(line_text).map_err(fail)?;
        }
        if current.is_some() {
            let line = text.lines().count();
            return Err(ParseError {
                line,
                reason: "the text ends before COMMIT",
                text: String::new(),
            });
        }
        Ok(ruleset)
    }
}

impl Table {
    fn parse_line(&mut self, line: &str) -> Result<(), &'static str> {
        if let Some(declaration) = line.strip_prefix(':') {
            let mut words = declaration.split_whitespace();
            let name = words.next().ok_or("a chain without a name")?;
            let policy = words.next().ok_or("a chain without a policy")?;
            let policy = (policy != "-").then(|| policy.to_owned());
            self.chains.insert(name.to_owned(), Chain { policy, rules: Vec::new() });
            return Ok(());
        }
        // `-c` prints counters in front: [packets:bytes] -A …
        let rule = if line.starts_with('[') {
            line.split_once("] ").map_or(line, |(_, rest)| rest)
        } else {
            line
        };
        let mut words = split(rule).into_iter();
        if words.next().as_deref() != Some("-A") {
            return Err("neither a chain nor a rule");
        }
        let name = words.next().ok_or("a rule without a chain")?;
        let chain = self.chains.get_mut(&name).ok_or("a rule of a chain that is not declared")?;
        chain.rules.push(words.collect());
        Ok(())
    }
}

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, table) in &self.tables {
            writeln!(f, "*{name}\n{table}COMMIT")?;
        }
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, chain) in &self.chains {
            writeln!(f, ":{name} {} [0:0]", chain.policy.as_deref().unwrap_or("-"))?;
        }
        for (name, chain) in &self.chains {
            for rule in &chain.rules {
                writeln!(f, "-A {name} {}", join(rule))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# Generated by iptables-nft-save v1.8.9
*nat
:POSTROUTING ACCEPT [3:180]
:CNI-abc - [0:0]
[0:0] -A POSTROUTING -s 10.1.0.5/32 -m comment --comment \"name: \\\"n\\\" id: \\\"c\\\"\" -j CNI-abc
-A CNI-abc ! -d 224.0.0.0/4 -j MASQUERADE
COMMIT
";

    #[test]
    fn text_is_data_and_text_again() {
        let ruleset = Ruleset::parse(TEXT).unwrap();
        let nat = &ruleset.tables["nat"];
        assert_eq!(nat.chains["POSTROUTING"].policy.as_deref(), Some("ACCEPT"));
        assert_eq!(nat.chains["POSTROUTING"].targets().collect::<Vec<_>>(), [(0, "CNI-abc")]);
        assert_eq!(Ruleset::parse(&ruleset.to_string()).unwrap(), ruleset);
    }

    #[test]
    fn errors_name_the_line() {
        let cases = [
            ("-A X -j Y\n", 1, "outside of a table"),
            ("*nat\n-A X -j Y\nCOMMIT\n", 2, "a rule of a chain that is not declared"),
            ("*nat\nnonsense\nCOMMIT\n", 2, "neither a chain nor a rule"),
            ("*nat\n:A - [0:0]\n", 2, "the text ends before COMMIT"),
        ];
        for (text, line, reason) in cases {
            let error = Ruleset::parse(text).unwrap_err();
            assert_eq!((error.line, error.reason), (line, reason));
        }
    }

    #[test]
    fn a_rule_is_found_however_the_kernel_prints_it() {
        let nat = &Ruleset::parse(TEXT).unwrap().tables["nat"];
        assert!(nat.contains_rule("CNI-abc", "-j MASQUERADE ! -d 224.0.0.0/4"));
        assert!(!nat.contains_rule("CNI-abc", "-d 224.0.0.0/4 -j MASQUERADE"));
        let comment = r#"-s 10.1.0.5 -j CNI-abc -m comment --comment "name: \"n\" id: \"c\"""#;
        assert!(nat.contains_rule("POSTROUTING", comment));
        assert!(!nat.contains_rule("NONE", comment));
    }
}
