//! From what the kernel holds to what it should hold.

use std::collections::BTreeSet;

use netns_tools::iptables::Family;
use netns_tools::nftables::{Base, Data, Key, Policy, Rule, Verdict};

use super::super::backend::Comparison;
use super::layout::SetName;
use super::objects::{ChainObject, Objects};
use super::text;
use super::transaction::{Change, Sink, Transaction};

/// Makes a table in the place of another one, of whatever layout, in one step.
pub fn instead(fresh: Transaction) -> Transaction {
    // the first makes sure that there is one to delete
    let mut changes = vec![Change::AddTable, Change::DeleteTable];
    changes.extend(fresh.changes);
    Transaction { changes }
}

/// What makes `actual` into `desired`. `None`: a chain hangs elsewhere in the kernel, and only a new table helps.
pub fn between(actual: &Objects, desired: &Objects) -> Option<Transaction> {
    let mut transaction = Transaction::default();
    chains(actual, desired, &mut transaction)?;
    elements(actual, desired, &mut transaction);
    let unknown = actual.chains.keys().filter(|name| !desired.chains.contains_key(*name));
    unknown.for_each(|name| transaction.push(Change::DeleteChain(name.clone())));
    Some(transaction)
}

fn chains(actual: &Objects, desired: &Objects, transaction: &mut Transaction) -> Option<()> {
    let mut rules = Vec::new();
    let mut flushed = Vec::new();
    for (name, wanted) in &desired.chains {
        match actual.chains.get(name) {
            None => {
                transaction.push(Change::AddChain { name: name.clone(), base: wanted.base });
                rules.push((name, wanted));
            }
            Some(found) if !hangs_alike(found.base, wanted.base) => return None,
            Some(found) if does_the_same(found, wanted) => {}
            Some(_) => {
                flushed.push(name);
                rules.push((name, wanted));
            }
        }
    }
    flushed.extend(actual.chains.keys().filter(|name| !desired.chains.contains_key(*name)));
    for name in flushed {
        transaction.push(Change::FlushChain(name.clone()));
    }
    for (name, chain) in rules {
        for rule in &chain.rules {
            transaction.push(Change::AddRule { chain: name.clone(), rule: rule.clone() });
        }
    }
    Some(())
}

/// The kernel always tells a policy.
fn hangs_alike(one: Option<Base>, other: Option<Base>) -> bool {
    let place = |base: Base| Base { policy: Some(base.policy.unwrap_or(Policy::Accept)), ..base };
    one.map(place) == other.map(place)
}

fn does_the_same(one: &ChainObject, other: &ChainObject) -> bool {
    one.rules.len() == other.rules.len()
        && one.rules.iter().map(Rule::expressions).eq(other.rules.iter().map(Rule::expressions))
}

fn elements(actual: &Objects, desired: &Objects, transaction: &mut Transaction) {
    for set in SetName::ALL {
        let (Some(found), Some(wanted)) = (actual.sets.get(&set), desired.sets.get(&set)) else {
            continue;
        };
        for (key, data) in found {
            if wanted.get(key) != Some(data) {
                transaction.push(Change::DeleteElement { set, key: *key });
            }
        }
        for (key, data) in wanted {
            if found.get(key) != Some(data) {
                transaction.push(Change::AddElement { set, key: *key, data: data.clone() });
            }
        }
    }
}

/// Both side by side. Of the actual state only what concerns the same services, unless `whole` of it is wanted.
pub fn comparison(family: Family, desired: &Objects, actual: &Objects, whole: bool) -> Comparison {
    let every = |_: &SetName, _: &Key| true;
    if whole {
        return Comparison {
            desired: lines(family, desired, &every, &|_| true),
            actual: lines(family, actual, &every, &|_| true),
        };
    }
    let frontends = [SetName::Services, SetName::NodePorts, SetName::Rejected, SetName::Dropped];
    let frontends = frontends.into_iter().filter_map(|set| desired.sets.get(&set));
    let frontends: BTreeSet<&[u8]> =
        frontends.flat_map(|set| set.keys().map(Key::as_slice)).collect();
    let concerns = |set: &SetName, key: &Key| {
        desired.sets.get(set).is_some_and(|elements| elements.contains_key(key))
            || frontend_of(*set, family, key).is_some_and(|bytes| frontends.contains(bytes))
    };
    // the chains that every service goes through are left out
    let routes = |chain: &str| {
        let is_route = |data: &Option<_>| matches!(data, Some(Data::Verdict(Verdict::Goto(to))) if &**to == chain);
        [SetName::Services, SetName::NodePorts, SetName::Firewall].iter().any(|set| {
            desired.sets.get(set).is_some_and(|elements| elements.values().any(is_route))
        })
    };
    Comparison {
        desired: lines(family, desired, &concerns, &routes),
        actual: lines(family, actual, &concerns, &routes),
    }
}

/// The address, protocol and port, or protocol and node port, with which the key begins, in sets of endpoints.
fn frontend_of(set: SetName, family: Family, key: &Key) -> Option<&[u8]> {
    let fields = match set {
        SetName::Backends | SetName::Members | SetName::LocalMembers => 3,
        SetName::NodePortBackends | SetName::NodePortMembers | SetName::NodePortLocalMembers => 2,
        _ => return None,
    };
    let fields = set.key(family).iter().take(fields);
    let len: u32 = fields.map(|field| field.size().next_multiple_of(4)).sum();
    key.as_slice().get(..len as usize)
}

fn lines(
    family: Family,
    objects: &Objects,
    element: &dyn Fn(&SetName, &Key) -> bool,
    chain: &dyn Fn(&str) -> bool,
) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for (name, object) in objects.chains.iter().filter(|(name, _)| chain(name)) {
        for (number, rule) in object.rules.iter().enumerate() {
            lines.insert(format!("chain {name} {}: {}", number + 1, text::rule(family, rule)));
        }
    }
    for (set, elements) in &objects.sets {
        let kind = if set.map(family).is_some() { "map" } else { "set" };
        let shown = elements.iter().filter(|(key, _)| element(set, key));
        lines.extend(shown.map(|(key, data)| {
            format!("{kind} {}: {}", set.name(), text::element(family, *set, key, data.as_ref()))
        }));
    }
    lines
}
