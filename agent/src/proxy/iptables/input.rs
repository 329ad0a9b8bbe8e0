//! What one `iptables-restore --noflush` is given.

use std::collections::BTreeMap;
use std::fmt;

/// Changes of all tables, printed as the input of `iptables-restore`. Chains stand in order of their names, first as
/// declarations and then with their rules: iptables-nft keeps chains in that order and searches what is not in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input {
    tables: BTreeMap<&'static str, Part>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Part {
    /// Chains that are made or emptied, with their rules as commands.
    chains: BTreeMap<String, String>,
    /// Single rules that come or go.
    edits: Vec<String>,
    /// Chains that go, emptied first.
    deleted: Vec<String>,
    /// Rules that are written.
    written: usize,
}

impl Input {
    /// Makes a chain of these rules, or gives it these in place of its own.
    pub fn write(&mut self, table: &'static str, chain: &str, rules: &[String]) {
        let part = self.tables.entry(table).or_default();
        let mut body = String::with_capacity(rules.iter().map(|rule| rule.len() + 32).sum());
        for rule in rules {
            body.extend(["-A ", chain, " ", rule, "\n"]);
        }
        part.chains.insert(chain.to_owned(), body);
        part.written += rules.len();
    }

    /// Puts a rule at the beginning of a chain.
    pub fn insert(&mut self, table: &'static str, chain: &str, rule: &str) {
        let part = self.tables.entry(table).or_default();
        part.edits.push(format!("-I {chain} {rule}"));
        part.written += 1;
    }

    /// Puts a rule at the end of a chain.
    pub fn append(&mut self, table: &'static str, chain: &str, rule: &str) {
        let part = self.tables.entry(table).or_default();
        part.edits.push(format!("-A {chain} {rule}"));
        part.written += 1;
    }

    /// Deletes a rule.
    pub fn delete(&mut self, table: &'static str, chain: &str, rule: &str) {
        self.tables.entry(table).or_default().edits.push(format!("-D {chain} {rule}"));
    }

    /// Deletes a chain with its rules, after everything else.
    pub fn delete_chain(&mut self, table: &'static str, chain: &str) {
        let part = self.tables.entry(table).or_default();
        part.chains.insert(chain.to_owned(), String::new());
        part.deleted.push(chain.to_owned());
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// How many chains and single rules are written or deleted.
    pub fn changes(&self) -> usize {
        self.tables.values().map(|part| part.chains.len() + part.edits.len()).sum()
    }

    /// How many rules are written, by table.
    pub fn written(&self) -> Vec<(&'static str, usize)> {
        self.tables.iter().map(|(table, part)| (*table, part.written)).collect()
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (table, part) in &self.tables {
            writeln!(f, "*{table}")?;
            for chain in part.chains.keys() {
                writeln!(f, ":{chain} - [0:0]")?;
            }
            for body in part.chains.values() {
                f.write_str(body)?;
            }
            for edit in &part.edits {
                writeln!(f, "{edit}")?;
            }
            for chain in &part.deleted {
                writeln!(f, "-X {chain}")?;
            }
            writeln!(f, "COMMIT")?;
        }
        Ok(())
    }
}
