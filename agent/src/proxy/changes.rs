//! The difference between the rules that are and those that should be, as one batch.

use netns_tools::iptables::{Batch, IptablesError, Rules, Table, join_words, split_words};

use super::rules::{JUMPS, Wanted};
use super::{Chains, SyncReport, chain};

/// What is in force of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    nat: Chains,
    filter: Chains,
    /// Jumps of the kernel's chains that are missing, as indices into [`JUMPS`].
    missing_jumps: Vec<usize>,
}

impl Committed {
    /// Right after a commit of these rules.
    pub fn of(wanted: &Wanted) -> Self {
        Self {
            nat: canonical(&wanted.nat),
            filter: canonical(&wanted.filter),
            missing_jumps: Vec::new(),
        }
    }

    /// Reads the kernel: chains that are ours by name, whoever made them. That is how the rules of an earlier run, or of
    /// kube-proxy, are adopted without a moment in which they are gone.
    pub fn read(rules: &mut dyn Rules) -> Result<Self, IptablesError> {
        let (nat, filter) = (rules.save("nat")?, rules.save("filter")?);
        let missing_jumps = JUMPS
            .iter()
            .enumerate()
            .filter(|(_, (table, chain, rule))| {
                !table_of(table, &nat, &filter).contains_rule(chain, rule)
            })
            .map(|(index, _)| index)
            .collect();
        Ok(Self {
            nat: own(&nat, &chain::NAT_CHAINS),
            filter: own(&filter, &chain::FILTER_CHAINS),
            missing_jumps,
        })
    }
}

/// Rules as they come back from the kernel, where quotes that are not needed may be missing.
fn canonical(chains: &Chains) -> Chains {
    let rule = |rule: &String| join_words(&split_words(rule));
    chains.iter().map(|(name, rules)| (name.clone(), rules.iter().map(rule).collect())).collect()
}

fn table_of<'a>(name: &str, nat: &'a Table, filter: &'a Table) -> &'a Table {
    if name == "nat" { nat } else { filter }
}

fn own(table: &Table, fixed: &[&str]) -> Chains {
    let is_own = |name: &str| {
        fixed.contains(&name) || chain::OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    table
        .chains
        .keys()
        .filter(|name| is_own(name))
        .map(|name| (name.clone(), table.rules(name)))
        .collect()
}

/// The batch that leads from one to the other: only chains that differ are written, and what is not wanted goes last, when
/// nothing jumps to it any more.
pub fn difference(before: &Committed, wanted: &Wanted) -> (Batch, SyncReport) {
    let mut batch = Batch::new();
    let mut report = SyncReport::default();
    for (table, old, new) in
        [("filter", &before.filter, &wanted.filter), ("nat", &before.nat, &wanted.nat)]
    {
        let same = canonical(new);
        for (name, rules) in new.iter().filter(|(name, _)| old.get(*name) != same.get(*name)) {
            batch.declare_chain(table, name);
            for rule in rules {
                batch.append(table, name, rule);
            }
            report.written += 1;
        }
        let gone: Vec<_> = old.keys().filter(|name| !new.contains_key(*name)).collect();
        delete(&mut batch, table, &gone);
        report.deleted += gone.len();
    }
    // each goes to the front, so the last one first
    for index in before.missing_jumps.iter().rev() {
        let (table, chain, rule) = JUMPS[*index];
        batch.insert(table, chain, rule);
    }
    (batch, report)
}

/// Empties all of the chains before the first is deleted: they may jump to each other.
fn delete(batch: &mut Batch, table: &str, chains: &[&String]) {
    for name in chains {
        batch.declare_chain(table, name);
    }
    for name in chains {
        batch.delete_chain(table, name);
    }
}

/// The batch that removes everything of ours.
pub fn removal(before: &Committed) -> Batch {
    let mut batch = Batch::new();
    for (index, (table, chain, rule)) in JUMPS.iter().enumerate() {
        if !before.missing_jumps.contains(&index) {
            batch.delete(table, chain, rule);
        }
    }
    for (table, chains) in [("filter", &before.filter), ("nat", &before.nat)] {
        delete(&mut batch, table, &chains.keys().collect::<Vec<_>>());
    }
    batch
}
