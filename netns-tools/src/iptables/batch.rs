//! Changes to be committed together.

use std::collections::BTreeMap;
use std::fmt;

/// The text of one `iptables-restore --noflush`: per table first the declarations of chains, then the rules in the order in
/// which they were asked for, then `COMMIT`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    tables: BTreeMap<String, Part>,
}

/// One table's share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// Chains to be made, or emptied if they are there.
    pub declared: Vec<String>,
    /// Commands, in order.
    pub commands: Vec<String>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a chain; one that exists is emptied and keeps the jumps to it.
    pub fn declare_chain(&mut self, table: &str, chain: &str) {
        let part = self.part(table);
        if !part.declared.iter().any(|known| known == chain) {
            part.declared.push(chain.to_owned());
        }
    }

    /// Makes a chain that must not be there: if another program was faster, the batch is refused as a whole
    /// ([`super::IptablesError::is_chain_exists`]) instead of emptying that program's chain.
    pub fn new_chain(&mut self, table: &str, chain: &str) {
        self.command(table, format!("-N {chain}"));
    }

    /// Puts a rule at the end of a chain. `rule` is quoted text without `-A CHAIN`.
    pub fn append(&mut self, table: &str, chain: &str, rule: &str) {
        self.command(table, format!("-A {chain} {rule}"));
    }

    /// Puts a rule at the beginning of a chain.
    pub fn insert(&mut self, table: &str, chain: &str, rule: &str) {
        self.command(table, format!("-I {chain} {rule}"));
    }

    /// Puts a rule at a position of a chain, counted from 1. Commands before it in the batch count.
    pub fn insert_at(&mut self, table: &str, chain: &str, position: usize, rule: &str) {
        self.command(table, format!("-I {chain} {position} {rule}"));
    }

    /// Deletes the first rule that is equal.
    pub fn delete(&mut self, table: &str, chain: &str, rule: &str) {
        self.command(table, format!("-D {chain} {rule}"));
    }

    /// Deletes a chain that is empty and not jumped to by then; [`Batch::declare_chain`] empties it.
    pub fn delete_chain(&mut self, table: &str, chain: &str) {
        self.command(table, format!("-X {chain}"));
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Whether a chain is made or emptied by this batch.
    pub fn declares(&self, table: &str, chain: &str) -> bool {
        self.tables.get(table).is_some_and(|part| part.declared.iter().any(|known| known == chain))
    }

    /// Reads the input of an `iptables-restore`. Lines that are no commands are left out.
    pub(super) fn parse(input: &str) -> Self {
        let mut batch = Self::new();
        let mut table = String::new();
        for line in input.lines() {
            if let Some(name) = line.strip_prefix('*') {
                name.clone_into(&mut table);
                batch.part(name);
            } else if let Some(chain) = line.strip_prefix(':') {
                let name = chain.split_whitespace().next().unwrap_or_default();
                batch.part(&table).declared.push(name.to_owned());
            } else if line.starts_with('-') {
                batch.command(&table, line.to_owned());
            }
        }
        batch
    }

    fn command(&mut self, table: &str, command: String) {
        self.part(table).commands.push(command);
    }

    fn part(&mut self, table: &str) -> &mut Part {
        self.tables.entry(table.to_owned()).or_default()
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = (&str, &Part)> {
        self.tables.iter().map(|(name, part)| (name.as_str(), part))
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, part) in &self.tables {
            writeln!(f, "*{name}")?;
            for chain in &part.declared {
                writeln!(f, ":{chain} - [0:0]")?;
            }
            for command in &part.commands {
                writeln!(f, "{command}")?;
            }
            writeln!(f, "COMMIT")?;
        }
        Ok(())
    }
}
