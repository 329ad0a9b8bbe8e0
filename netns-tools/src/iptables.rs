//! iptables rules: read as `iptables-save` text, written as one `iptables-restore --noflush` per commit.
//!
//! What costs most is not starting a program but each commit's wait in the kernel, and a batch is atomic: one bad rule leaves
//! the table as it was. So rules are collected in a [`Batch`] and committed once.

mod batch;
mod fake;
mod legacy;
mod program;
mod ruleset;
mod word;

use std::collections::BTreeMap;
use std::fmt;
use std::io;

pub use batch::Batch;
pub use fake::FakeRules;
pub use program::{Backend, Iptables};
pub use ruleset::{Chain, ParseError, Ruleset, Table};
pub use word::{join as join_words, quote, split as split_words};

/// The address family of a set of rules: `iptables` or `ip6tables`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the families need no explanation")]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// Whether an address is of this family.
    pub fn has(self, address: std::net::IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }
}

/// Rules that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IptablesError {
    /// A program could not be run.
    #[error("cannot run {program}")]
    Run {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} failed: {message}{}", offending.as_ref().map(|line| format!("; the line is: {line}")).unwrap_or_default())]
    Failed {
        /// The program.
        program: String,
        /// What it wrote to standard error.
        message: String,
        /// The line of the batch that it complained of.
        offending: Option<String>,
    },
    /// Another program held the xtables lock too long.
    #[error(
        "{program}: another program has held the xtables lock for {seconds} s; see who does with `fuser /run/xtables.lock`"
    )]
    Locked {
        /// The program.
        program: String,
        /// How long was waited.
        seconds: u32,
    },
    /// What `iptables-save` printed cannot be understood.
    #[error("cannot understand the output of {program}")]
    Parse {
        /// The program.
        program: String,
        /// Where and why.
        source: ParseError,
    },
    /// The kernel did not tell how a table is.
    #[error("cannot look at table {table}")]
    Look {
        /// The table.
        table: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The fake refused what a kernel would refuse.
    #[error("{0}")]
    Rejected(String),
}

impl IptablesError {
    /// A chain of [`Batch::new_chain`] was there: read the table again, and plan again.
    pub fn is_chain_exists(&self) -> bool {
        match self {
            // The legacy variant says no more than which line failed.
            Self::Failed { message, offending, .. } => {
                message.contains("Chain already exists")
                    || offending.as_ref().is_some_and(|line| line.starts_with("-N "))
            }
            Self::Rejected(message) => message.contains("Chain already exists"),
            _ => false,
        }
    }
}

/// What a cheap look at chains shows: two looks that differ mean that rules changed in between. By table and chain, or by table
/// alone where the kernel knows no more: how many rules it has or lead to it, or how many entries and bytes.
pub type Glance = BTreeMap<(String, String), (u32, u32)>;

/// Something that holds rules: the kernel, or a fake of it.
pub trait Rules: Send {
    /// The family that it is for.
    fn family(&self) -> Family;
    /// Reads a table (`nat`, `filter`, …). A table that the kernel has not made yet is empty.
    fn save(&mut self, table: &str) -> Result<Table, IptablesError>;
    /// Commits a batch, table by table; each table all or nothing.
    fn commit(&mut self, batch: &Batch) -> Result<(), IptablesError>;
}

/// [`Rules`] by the ten thousand: they are read and written without being held in memory as a whole.
pub trait BulkRules: Rules {
    /// Reads all tables line by line, as `iptables-save` prints them.
    fn each_line(&mut self, line: &mut dyn FnMut(&str)) -> Result<(), IptablesError>;
    /// Commits the input of an `iptables-restore --noflush`, table by table; each table all or nothing.
    fn restore(&mut self, input: &dyn fmt::Display) -> Result<(), IptablesError>;
    /// Whether this iptables understands an input. Changes nothing.
    fn check(&mut self, input: &dyn fmt::Display) -> Result<(), IptablesError>;
    /// Looks at chains, given with their tables, without reading rules, starting a process or waiting for a lock. Chains that are
    /// not there are left out.
    fn glance(&mut self, chains: &[(&str, &str)]) -> Result<Glance, IptablesError>;
}
