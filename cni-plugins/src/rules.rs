//! The host's iptables rules, changed by plans: a plan looks at one table and says what is missing or too much.
//!
//! One look and one commit per address family. Where chains are shared, our own plugins are kept apart by a lock. Other programs are not, so a chain that a
//! plan finds missing is made with [`Batch::new_chain`]: if it is there by then, nothing is changed and the plan is made anew.

use cni::Error;
use netns_tools::iptables::{Batch, Family, Iptables, IptablesError, Rules, Table};

use crate::code;
use crate::lock::NetnsLock;

/// How often a plan is made anew.
const TRIES: usize = 10;

/// Both families, in the order in which they are worked on.
pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Changes a table as `plan` says. Without iptables on this host: an error, which ends with `purpose`
/// ("cannot … : no usable iptables found").
pub fn change(
    family: Family,
    table: &str,
    purpose: &str,
    plan: impl Fn(&Table) -> Result<Batch, Error>,
) -> Result<(), Error> {
    if try_change(family, table, plan)? { Ok(()) } else { Err(missing(family, purpose)) }
}

/// Removes from a table what `plan` says. A host without iptables has nothing to remove.
pub fn remove(
    family: Family,
    table: &str,
    plan: impl Fn(&Table) -> Result<Batch, Error>,
) -> Result<(), Error> {
    try_change(family, table, plan).map(drop)
}

/// A table's rules; `None`: there is no iptables here.
pub fn read(family: Family, table: &str) -> Result<Option<Table>, Error> {
    Ok(look(family, table)?.map(|(_, table)| table))
}

/// The iptables in use, with a table's rules; `None`: there is none here.
pub fn look(family: Family, table: &str) -> Result<Option<(Iptables, Table)>, Error> {
    Iptables::detect_with(family, table).map_err(|e| failed(&e))
}

/// Makes what a plan for a table that was looked at says, without a lock: for chains that are one container's alone.
pub fn commit(rules: &mut Iptables, batch: &Batch) -> Result<(), Error> {
    rules.commit(batch).map_err(|e| failed(&e))
}

/// The error of a host without iptables: what for, and which program.
pub fn missing(family: Family, purpose: &str) -> Error {
    let program = program(family);
    let msg = format!("cannot {purpose}: no usable {program} found");
    let details = format!(
        "install {program} (with {program}-restore and {program}-save) in the PATH of the container runtime"
    );
    Error::new(code::RULES, msg).with_details(details)
}

/// `iptables` or `ip6tables`.
pub fn program(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    }
}

/// `false`: there is no iptables here.
fn try_change(
    family: Family,
    table: &str,
    plan: impl Fn(&Table) -> Result<Batch, Error>,
) -> Result<bool, Error> {
    let _lock = NetnsLock::exclusive()?;
    for attempt in 1.. {
        let Some((mut rules, seen)) = look(family, table)? else { return Ok(false) };
        let batch = plan(&seen)?;
        if batch.is_empty() {
            break;
        }
        match rules.commit(&batch) {
            Err(error) if error.is_chain_exists() && attempt < TRIES => {}
            done => {
                done.map_err(|e| failed(&e))?;
                break;
            }
        }
    }
    Ok(true)
}

fn failed(error: &IptablesError) -> Error {
    Error::from_source(code::RULES, error)
}

/// Adds to a batch what a table lacks.
pub struct Missing<'a> {
    name: &'a str,
    table: &'a Table,
    /// What is missing.
    pub batch: Batch,
}

impl<'a> Missing<'a> {
    /// Nothing is missing yet. `name` is the table's.
    pub fn new(name: &'a str, table: &'a Table) -> Self {
        Self { name, table, batch: Batch::new() }
    }

    /// A chain that is shared, and keeps what it holds.
    pub fn chain(&mut self, chain: &str) {
        if !self.table.chains.contains_key(chain) {
            self.batch.new_chain(self.name, chain);
        }
    }

    /// A chain that nobody else adds to.
    pub fn own_chain(&mut self, chain: &str) {
        if !self.table.chains.contains_key(chain) {
            self.batch.declare_chain(self.name, chain);
        }
    }

    /// A rule, at the chain's end if it is missing.
    pub fn last(&mut self, chain: &str, rule: &str) {
        if !self.table.contains_rule(chain, rule) {
            self.batch.append(self.name, chain, rule);
        }
    }

    /// A rule, at the chain's beginning if it is missing.
    pub fn first(&mut self, chain: &str, rule: &str) {
        if !self.table.contains_rule(chain, rule) {
            self.batch.insert(self.name, chain, rule);
        }
    }
}

/// The value behind an option in a rule's words.
pub fn value_of<'a>(words: &'a [String], option: &str) -> Option<&'a str> {
    let at = words.iter().position(|word| word == option)?;
    words.get(at + 1).map(String::as_str)
}
