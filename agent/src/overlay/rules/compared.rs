//! The nftables table as the kernel has it, and what makes it right.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netns_tools::nftables::{
    self, Base, Batch, Element, Expr, Key, ListedElement, ListedRule, ListedSet, NftError,
    Nftables, Policy, Verdict,
};

use super::ranges::Range;
use super::table::{COMMENT, Chain, Desired, Ranges, SetName, TABLE, TUNNEL, Who, element};

/// By name: where they hang, and their rules.
type Chains = BTreeMap<String, (Option<Base>, Vec<ListedRule>)>;

/// The table in the kernel.
#[derive(Clone, Debug)]
pub struct Actual {
    /// Its number: another table of the same name is not ours.
    pub handle: u64,
    chains: Chains,
    sets: Vec<ListedSet>,
    content: BTreeMap<SetName, Ranges>,
}

/// The table's number; `None`: there is no such table.
pub fn handle(kernel: &mut Nftables) -> Result<Option<u64>, NftError> {
    let tables = kernel.tables()?;
    Ok(tables.iter().find(|table| table.id() == TABLE).map(|table| table.handle))
}

/// Reads the table; `None`: there is none.
pub fn look(kernel: &mut Nftables) -> Result<Option<Actual>, NftError> {
    let Some(handle) = handle(kernel)? else { return Ok(None) };
    let chains = chains(kernel)?;
    let sets = kernel.sets(TABLE)?;
    let mut content = BTreeMap::new();
    for set in SetName::ALL {
        content.insert(set, ranges(set, kernel.elements(TABLE, set.name())?));
    }
    Ok(Some(Actual { handle, chains, sets, content }))
}

fn chains(kernel: &mut Nftables) -> Result<Chains, NftError> {
    let mut chains: Chains = kernel
        .chains(TABLE)?
        .into_iter()
        .map(|chain| (chain.name, (chain.base, Vec::new())))
        .collect();
    for rule in kernel.rules(TABLE, None)? {
        if let Some((_, rules)) = chains.get_mut(&rule.chain) {
            rules.push(rule);
        }
    }
    Ok(chains)
}

/// Whether the table has the chains, the rules, and as many elements as it should: cheaper than [`look`] with thousands of nodes.
pub fn is_as_made(kernel: &mut Nftables, desired: &Desired) -> Result<bool, NftError> {
    let (chains, sets) = (chains(kernel)?, kernel.sets(TABLE)?);
    let found = Actual { handle: 0, chains, sets, content: BTreeMap::new() };
    if !found.has_shape_of(desired) || found.chains_to_write(desired).next().is_some() {
        return Ok(false);
    }
    for (set, wanted) in &desired.sets {
        let count = found.sets.iter().find(|listed| listed.name == set.name());
        let same = match count.and_then(|listed| listed.count) {
            // the kernel counts both ends of a range, and some releases neither in time: only elements of one key are sure
            Some(count) if matches!(set, SetName::Nodes(_)) => {
                usize::try_from(count) == Ok(wanted.len())
            }
            _ => ranges(*set, kernel.elements(TABLE, set.name())?) == *wanted,
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How many datagrams to the tunnel's port were dropped, as they came from no node.
pub fn dropped(kernel: &mut Nftables) -> Result<u64, NftError> {
    let rules = kernel.rules(TABLE, Some(TUNNEL))?;
    let counted = |rule: &ListedRule| {
        rule.expressions.iter().find_map(|expression| match expression {
            Expr::Counter { packets, .. } => Some(*packets),
            _ => None,
        })
    };
    let drops = |rule: &&ListedRule| rule.expressions.contains(&Expr::Verdict(Verdict::Drop));
    Ok(rules.iter().filter(drops).filter_map(counted).sum())
}

/// What makes the kernel's table the desired one. An empty batch: it is.
pub fn difference(actual: Option<&Actual>, desired: &Desired, generation: u32) -> Batch {
    let mut batch = Batch::at_generation(generation);
    match actual {
        Some(actual) if actual.has_shape_of(desired) => repair(actual, desired, &mut batch),
        found => {
            if found.is_some() {
                batch.delete_table(TABLE);
            }
            make(desired, &mut batch);
        }
    }
    batch
}

fn make(desired: &Desired, batch: &mut Batch) {
    batch.add_table_with(TABLE, Some(COMMENT));
    for (set, content) in &desired.sets {
        batch.add_set(TABLE, &set.definition());
        batch.add_elements(TABLE, set.name(), &elements(*set, content));
    }
    for chain in &desired.chains {
        let made = nftables::Chain { name: chain.name, base: chain.base, comment: None };
        batch.add_chain(TABLE, &made);
    }
    for chain in &desired.chains {
        write_rules(chain, batch);
    }
}

fn repair(actual: &Actual, desired: &Desired, batch: &mut Batch) {
    for chain in actual.chains_to_write(desired) {
        batch.flush_chain(TABLE, chain.name);
        write_rules(chain, batch);
    }
    for (set, wanted) in &desired.sets {
        let none = Ranges::new();
        let found = actual.content.get(set).unwrap_or(&none);
        batch.delete_elements(TABLE, set.name(), &elements(*set, found.difference(wanted)));
        batch.add_elements(TABLE, set.name(), &elements(*set, wanted.difference(found)));
    }
}

fn write_rules(chain: &Chain, batch: &mut Batch) {
    for rule in &chain.rules {
        batch.add_rule(TABLE, chain.name, rule);
    }
}

fn elements<'r>(set: SetName, ranges: impl IntoIterator<Item = &'r Range>) -> Vec<Element> {
    ranges.into_iter().map(|range| element(set, *range)).collect()
}

impl Actual {
    /// Whether the same chains hang at the same places, and the same sets are there: what cannot be changed but by a new table.
    fn has_shape_of(&self, desired: &Desired) -> bool {
        let chains: BTreeSet<&str> = desired.chains.iter().map(|chain| chain.name).collect();
        let sets: BTreeSet<&str> = desired.sets.keys().map(|set| set.name()).collect();
        self.chains.keys().map(String::as_str).collect::<BTreeSet<_>>() == chains
            && self.sets.iter().map(|set| set.name.as_str()).collect::<BTreeSet<_>>() == sets
            && desired.chains.iter().all(|chain| {
                self.chains.get(chain.name).is_some_and(|(base, _)| hangs_alike(*base, chain.base))
            })
            && desired.sets.keys().all(|set| {
                self.sets.iter().any(|found| found.name == set.name() && set.definition().is(found))
            })
    }

    /// The addresses that may send through the tunnel.
    pub fn nodes(&self) -> impl Iterator<Item = IpAddr> {
        let sets = self.content.iter().filter(|(set, _)| matches!(set, SetName::Nodes(_)));
        sets.flat_map(|(_, ranges)| ranges.iter().map(|(address, _)| *address))
    }

    fn chains_to_write<'d>(&self, desired: &'d Desired) -> impl Iterator<Item = &'d Chain> {
        desired.chains.iter().filter(|chain| {
            let found = self.chains.get(chain.name).map_or(&[][..], |(_, rules)| rules);
            found.len() != chain.rules.len()
                || !found.iter().zip(&chain.rules).all(|(found, rule)| found.does(rule))
        })
    }
}

/// The kernel always tells a policy.
fn hangs_alike(one: Option<Base>, other: Option<Base>) -> bool {
    let place = |base: Base| Base { policy: Some(base.policy.unwrap_or(Policy::Accept)), ..base };
    one.map(place) == other.map(place)
}

/// The kernel tells where a range begins, and where the next address is that is not in it; in which order is its affair.
fn ranges(set: SetName, mut listed: Vec<ListedElement>) -> Ranges {
    let (SetName::Inside(who) | SetName::Nodes(who)) = set;
    let number = |key: &Key| number(key.as_slice());
    if matches!(set, SetName::Nodes(_)) {
        let all = listed.iter().map(|one| address(number(&one.key), who));
        return all.map(|address| (address, address)).collect();
    }
    listed.sort_by_key(|one| (number(&one.key), !one.ends_range));
    let mut ranges = Ranges::new();
    let mut open = None;
    for one in &listed {
        let at = number(&one.key);
        // one that is not ended reaches to where the next begins
        if let Some(first) = open.take()
            && at > first
        {
            ranges.insert((address(first, who), address(at - 1, who)));
        }
        open = (!one.ends_range).then_some(at);
    }
    let last = match who {
        Who::V4 => u32::MAX.into(),
        Who::V6 => u128::MAX,
    };
    ranges.extend(open.map(|first| (address(first, who), address(last, who))));
    ranges
}

fn number(bytes: &[u8]) -> u128 {
    bytes.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
}

fn address(number: u128, who: Who) -> IpAddr {
    match who {
        Who::V4 => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        Who::V6 => Ipv6Addr::from(number).into(),
    }
}
