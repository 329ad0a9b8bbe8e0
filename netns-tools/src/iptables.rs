//! iptables rules: read as `iptables-save` text, written as one `iptables-restore --noflush` per commit.
//!
//! What costs most is not starting a program but each commit's wait in the kernel, and a batch is atomic: one bad rule leaves
//! the table as it was. So rules are collected in a [`Batch`] and committed once.

mod batch;
mod fake;
mod program;
mod ruleset;
mod word;

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

/// Something that holds rules: the kernel, or a fake of it.
pub trait Rules: Send {
    /// The family that it is for.
    fn family(&self) -> Family;
    /// Reads a table (`nat`, `filter`, …). A table that the kernel has not made yet is empty.
    fn save(&mut self, table: &str) -> Result<Table, IptablesError>;
    /// Commits a batch, table by table; each table all or nothing.
    fn commit(&mut self, batch: &Batch) -> Result<(), IptablesError>;
}
