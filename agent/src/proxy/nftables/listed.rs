//! What the kernel holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use netns_tools::iptables::Family;
use netns_tools::nftables::{
    Data, Element, Key, ListedElement, ListedRule, ListedSet, MapOf, NftError, Nftables, Rule,
};

use super::layout::{self, COMMENT, SetName};
use super::objects::{ChainObject, Elements, Objects};
use super::state::State;
use super::summary::{Hashes, Sum, Summary};

type Result<T> = std::result::Result<T, NftError>;

/// What is there under our name.
#[derive(Debug)]
pub enum Found<T> {
    /// No table.
    Nothing,
    /// A table of another layout: of another version, or changed by somebody.
    Other,
    /// Our table.
    Table(Box<T>),
}

/// Reads the table.
pub fn look(kernel: &mut Nftables, family: Family) -> Result<Found<Objects>> {
    let mut actual = match frame(kernel, family)? {
        Found::Table(actual) => actual,
        other => return Ok(other),
    };
    for set in SetName::ALL {
        let elements = kernel.elements(layout::table(family), set.name())?;
        match elements_of(set, family, elements) {
            Some(elements) => drop(actual.sets.insert(set, elements)),
            None => return Ok(Found::Other),
        }
    }
    Ok(Found::Table(actual))
}

/// Reads the table without keeping what is in its sets.
pub fn summary(kernel: &mut Nftables, family: Family, hashes: &Hashes) -> Result<Found<Summary>> {
    let mut actual = Summary::new(hashes);
    actual.objects = match frame(kernel, family)? {
        Found::Table(objects) => *objects,
        Found::Nothing => return Ok(Found::Nothing),
        Found::Other => return Ok(Found::Other),
    };
    for set in SetName::ALL {
        let part = |elements: Vec<ListedElement>| {
            let mut part = Sum::default();
            for element in elements {
                part.add(hashes, &element.key, element.data.as_ref());
            }
            part
        };
        let mut sum = Sum::default();
        for part in kernel.elements_by(layout::table(family), set.name(), part)? {
            sum.merge(part);
        }
        actual.set(set, sum);
    }
    Ok(Found::Table(Box::new(actual)))
}

/// Reads all of the table but what is in its sets.
fn frame(kernel: &mut Nftables, family: Family) -> Result<Found<Objects>> {
    let table = layout::table(family);
    let tables = kernel.tables()?;
    let Some(found) = tables.iter().find(|found| found.id() == table) else {
        return Ok(Found::Nothing);
    };
    let sets = kernel.sets(table)?;
    if found.comment.as_deref() != Some(COMMENT) || !are_ours(&sets, family) {
        return Ok(Found::Other);
    }
    let mut actual = Objects { table: true, ..Objects::default() };
    for chain in kernel.chains(table)? {
        let chain_object = ChainObject { base: chain.base, rules: Vec::new() };
        actual.chains.insert(chain.name.into(), chain_object);
    }
    for rule in kernel.rules(table, None)? {
        let chain = actual.chains.entry(rule.chain.as_str().into()).or_default();
        chain.rules.push(rule_of(family, rule));
    }
    actual.clients = sets.iter().filter_map(clients_of).collect();
    Ok(Found::Table(Box::new(actual)))
}

/// Whether there are all the sets that there should be, each as it should be, and none but these and sets of clients.
fn are_ours(sets: &[ListedSet], family: Family) -> bool {
    let is_ours = |set: &ListedSet| match (SetName::by_name(&set.name), clients_of(set)) {
        (Some(name), _) => name.definition(family).is(set),
        (None, Some((name, timeout))) => layout::clients(&name, timeout, family).is(set),
        (None, None) => false,
    };
    let fixed = sets.iter().filter(|set| SetName::by_name(&set.name).is_some());
    fixed.count() == SetName::ALL.len() && sets.iter().all(is_ours)
}

/// The name of a set of clients, and its time-out. The kernel counts time in ticks: it may tell a little less than it was told.
fn clients_of(set: &ListedSet) -> Option<(Box<str>, Duration)> {
    let timeout = set.default_timeout.filter(|_| layout::is_clients(&set.name))?;
    let seconds = (timeout + Duration::from_millis(500)).as_secs();
    Some((set.name.as_str().into(), Duration::from_secs(seconds)))
}

fn rule_of(family: Family, listed: ListedRule) -> Rule {
    let empty = Rule::new(layout::packets(family));
    listed.expressions.into_iter().fold(empty, Rule::expr)
}

/// `None`: they have not the form that ours have.
fn elements_of(set: SetName, family: Family, listed: Vec<ListedElement>) -> Option<Elements> {
    let fields = set.key(family);
    let data_fields = match set.map(family) {
        Some(MapOf::Data(fields)) => fields,
        _ => &[],
    };
    listed
        .into_iter()
        .map(|element| {
            let key = Key::of_bytes(element.key.as_slice(), fields)?;
            let data = match element.data {
                Some(Data::Value(value)) => {
                    Some(Data::Value(Key::of_bytes(value.as_slice(), data_fields)?))
                }
                other => other,
            };
            Some((key, data))
        })
        .collect()
}

/// The table's number; `None`: it is not there.
pub fn handle(kernel: &mut Nftables, family: Family) -> Result<Option<u64>> {
    let table = layout::table(family);
    Ok(kernel.tables()?.iter().find(|found| found.id() == table).map(|found| found.handle))
}

/// Whether the rules of the table are these and no others.
pub fn has_rules(
    kernel: &mut Nftables,
    family: Family,
    expected: Vec<(Box<str>, Vec<Rule>)>,
) -> Result<bool> {
    let table = layout::table(family);
    let chains: BTreeSet<_> = kernel.chains(table)?.into_iter().map(|chain| chain.name).collect();
    let mut found: HashMap<String, Vec<ListedRule>> = HashMap::new();
    for rule in kernel.rules(table, None)? {
        found.entry(rule.chain.clone()).or_default().push(rule);
    }
    let none = Vec::new();
    Ok(chains.len() == expected.len()
        && expected.iter().all(|(chain, rules)| {
            let found = found.get(&**chain).unwrap_or(&none);
            chains.contains(&**chain)
                && found.len() == rules.len()
                && found.iter().zip(rules).all(|(found, rule)| found.does(rule))
        }))
}

/// Whether the sets of clients are these, and the others have as many elements as they should have, where the kernel tells, and
/// these in any case.
pub fn has_elements(kernel: &mut Nftables, family: Family, state: &State) -> Result<bool> {
    let table = layout::table(family);
    let (sets, counts) = (kernel.sets(table)?, state.counts());
    let is_as_large = |set: &ListedSet| match (SetName::by_name(&set.name), set.count) {
        (Some(name), Some(count)) => counts.get(&name).copied().unwrap_or(0) == count as usize,
        _ => true,
    };
    let clients: BTreeMap<_, _> = sets.iter().filter_map(clients_of).collect();
    if !are_ours(&sets, family) || clients != state.clients() || !sets.iter().all(is_as_large) {
        return Ok(false);
    }
    for (set, key) in state.samples() {
        if !kernel.has_element(table, set.name(), &Element::new(key))? {
            return Ok(false);
        }
    }
    Ok(true)
}
