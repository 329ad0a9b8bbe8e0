//! From what is in the kernel to what should be there: only what differs is written.

use std::collections::{BTreeMap, HashMap};

use super::canonical::{Digest, hash};
use super::fixed::{FIREWALL, Fixed};
use super::found::Found;
use super::input::Input;
use super::partial::Totals;
use super::port::{Context, Shared, generate};
use crate::proxy::model::Ports;

/// So many single rules of a chain are deleted; if there are more, the chain is written anew. For each the variant nft reads
/// and searches the chain.
pub const MOST_DELETIONS: usize = 16;

/// The difference, as one input, and what is counted of all rules, of which each is made only once. What was `found` is used up.
pub fn difference(
    context: Context<'_>,
    fixed: &Fixed,
    ports: &Ports,
    mut found: Found,
    mut input: Input,
) -> (Input, Totals) {
    let mut totals = Totals::of(fixed);
    let mut own = std::mem::take(&mut found.own);
    let mut shared: BTreeMap<Shared, Vec<String>> = BTreeMap::new();
    for port in ports.values() {
        let rules = generate(context, port);
        totals.take(port, &rules);
        for (chain, rules) in rules.own {
            match own.remove(chain.as_str()) {
                None => input.create("nat", &chain, &rules),
                Some(there) if there != Digest::of(&rules) => input.write("nat", &chain, &rules),
                Some(_) => {}
            }
        }
        for (chain, rule) in rules.shared {
            shared.entry(chain).or_default().push(rule);
        }
    }
    fixed_chains(&mut input, fixed, &found);
    for chain in Shared::ALL {
        let wanted = shared.remove(&chain).unwrap_or_default();
        shared_chain(&mut input, chain, wanted, last_rules(chain, fixed), &found);
    }
    jumps(&mut input, fixed, &found);
    let pinned = found.pinned();
    for chain in own.keys().filter(|chain| !pinned.contains(&***chain)) {
        input.delete_chain("nat", chain);
    }
    (input, totals)
}

/// The rules that must be the last ones of a shared chain.
pub fn last_rules(chain: Shared, fixed: &Fixed) -> &[String] {
    if chain == Shared::NatServices { &fixed.to_node_ports } else { &[] }
}

/// Chains that services do not share.
fn fixed_chains(input: &mut Input, fixed: &Fixed, found: &Found) {
    let unshared =
        fixed.chains.iter().filter(|(table, chain, _)| Shared::find(table, chain).is_none());
    for (table, chain, rules) in unshared {
        let there = found.chain(table, chain);
        if *chain == FIREWALL && there.is_some() {
            complete(input, table, chain, rules, there.unwrap_or_default());
        } else if there.is_none() {
            input.create(table, chain, rules);
        } else if there.is_some_and(|there| !same(there, rules)) {
            input.write(table, chain, rules);
        }
    }
}

/// Adds the rules that are missing to a chain that others write too.
fn complete(
    input: &mut Input,
    table: &'static str,
    chain: &str,
    rules: &[String],
    there: &[String],
) {
    let known: Vec<_> = there.iter().map(|rule| hash(rule, false)).collect();
    for rule in rules.iter().filter(|rule| !known.contains(&hash(rule, false))) {
        input.append(table, chain, rule);
    }
}

fn same(one: &[String], other: &[String]) -> bool {
    let hashes = |rules: &[String]| rules.iter().map(|rule| hash(rule, true)).collect::<Vec<_>>();
    hashes(one) == hashes(other)
}

/// The order of services in a chain does not matter, as no packet matches the rules of two.
fn shared_chain(
    input: &mut Input,
    chain: Shared,
    mut wanted: Vec<String>,
    last: &[String],
    found: &Found,
) {
    let Some(there) = found.shared(chain) else {
        wanted.extend_from_slice(last);
        return input.write(chain.table(), chain.chain(), &wanted);
    };
    let split = there.len().saturating_sub(last.len());
    let (missing, surplus) = compare(&wanted, &there[..split]);
    if surplus.len() > MOST_DELETIONS || !same(&there[split..], last) {
        wanted.extend_from_slice(last);
        return input.write(chain.table(), chain.chain(), &wanted);
    }
    edit(input, chain, &surplus, &missing);
}

/// Deletes and adds single rules of a shared chain. New ones come first: the last ones must stay the last.
pub fn edit<S: AsRef<str>>(input: &mut Input, chain: Shared, surplus: &[S], missing: &[S]) {
    for rule in surplus {
        input.delete(chain.table(), chain.chain(), rule.as_ref());
    }
    for rule in missing.iter().rev() {
        input.insert(chain.table(), chain.chain(), rule.as_ref());
    }
}

/// The rules that are wanted and not there, and those that are there and not wanted. A rule that is there twice is not wanted
/// once.
fn compare<'a>(wanted: &'a [String], there: &'a [String]) -> (Vec<&'a str>, Vec<&'a str>) {
    let mut left: HashMap<u64, usize> = HashMap::with_capacity(there.len());
    for rule in wanted {
        *left.entry(hash(rule, true)).or_default() += 1;
    }
    let mut take = |rule: &&'a str| match left.get_mut(&hash(rule, true)) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    };
    let surplus: Vec<_> = there.iter().map(String::as_str).filter(&mut take).collect();
    // what is still counted was not there
    let missing = wanted.iter().map(String::as_str).filter(|rule| !take(rule)).collect();
    (missing, surplus)
}

/// Adds the jumps that are missing, in front of what the chains of the kernel hold, in their order.
fn jumps(input: &mut Input, fixed: &Fixed, found: &Found) {
    for jump in fixed.jumps.iter().rev() {
        let there = found.jumps_of(jump.table, jump.from);
        if !there.iter().any(|rule| hash(rule, true) == hash(jump.rule, true)) {
            input.insert(jump.table, jump.from, jump.rule);
        }
    }
}

/// Removes everything of ours and nothing else.
pub fn removal(found: &Found) -> Input {
    let mut input = Input::new(false);
    let going: Vec<_> = found.removable().collect();
    for ((table, chain), rules) in &found.jumps {
        let leads_to = |target| {
            going.contains(&(*table, target)) || (*table == "nat" && found.own.contains_key(target))
        };
        for rule in rules.iter().filter(|rule| super::found::target(rule).is_some_and(leads_to)) {
            input.delete(table, chain, rule);
        }
    }
    for (table, chain) in &going {
        input.delete_chain(table, chain);
    }
    let mut own: Vec<_> = found.own.keys().collect();
    own.sort_unstable();
    for chain in own {
        input.delete_chain("nat", chain);
    }
    input
}
