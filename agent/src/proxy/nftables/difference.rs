//! From what the kernel holds to what it should hold.

use std::collections::{BTreeMap, BTreeSet};

use netns_tools::iptables::Family;
use netns_tools::nftables::{Base, Data, Expr, Key, Policy, Rule, Verdict};

use super::super::backend::Comparison;
use super::layout::{self, SetName};
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

/// What makes `actual` into `desired`. `None`: a chain hangs elsewhere in the kernel, or a set has another
/// time-out than its name tells, and only a new table helps.
pub fn between(actual: &Objects, desired: &Objects) -> Option<Transaction> {
    let mut transaction = Transaction::default();
    for (name, timeout) in &desired.clients {
        match actual.clients.get(name) {
            Some(found) if found == timeout => {}
            Some(_) => return None,
            None => transaction.push(Change::AddClients { name: name.clone(), timeout: *timeout }),
        }
    }
    chains(actual, desired, &mut transaction)?;
    elements(actual, desired, &mut transaction);
    let unknown = actual.chains.keys().filter(|name| !desired.chains.contains_key(*name));
    unknown.for_each(|name| transaction.push(Change::DeleteChain(name.clone())));
    let unknown = actual.clients.keys().filter(|name| !desired.clients.contains_key(*name));
    unknown.for_each(|name| transaction.push(Change::DeleteSet(name.clone())));
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
    let of = |shown: Shown<'_>| Comparison {
        desired: lines(family, desired, &shown),
        actual: lines(family, actual, &shown),
    };
    if whole {
        return of(Shown { element: &|_, _| true, name: &|_| true });
    }
    let frontends = [SetName::Services, SetName::NodePorts, SetName::Rejected, SetName::Dropped];
    let frontends = frontends.into_iter().filter_map(|set| desired.sets.get(&set));
    let frontends: BTreeSet<&[u8]> =
        frontends.flat_map(|set| set.keys().map(Key::as_slice)).collect();
    let concerns = |set: SetName, key: &Key| {
        desired.sets.get(&set).is_some_and(|elements| elements.contains_key(key))
            || frontend_of(set, family, key).is_some_and(|bytes| frontends.contains(bytes))
    };
    let reached = reached(desired, actual);
    of(Shown { element: &concerns, name: &|name| reached.contains(name) })
}

/// What is shown of a table: elements, and chains and sets of clients by name.
struct Shown<'a> {
    element: &'a dyn Fn(SetName, &Key) -> bool,
    name: &'a dyn Fn(&str) -> bool,
}

/// The chains and sets of clients that the desired elements lead to, desired or actual. The chains that every service goes through
/// are left out.
fn reached<'a>(desired: &'a Objects, actual: &'a Objects) -> BTreeSet<&'a str> {
    let sets = [SetName::Services, SetName::NodePorts, SetName::Firewall];
    let elements = sets.iter().filter_map(|set| desired.sets.get(set)).flat_map(BTreeMap::values);
    let begin: Vec<&str> = elements.flatten().filter_map(leads_to).collect();
    let mut all = BTreeSet::new();
    for objects in [desired, actual] {
        let (mut waiting, mut seen) = (begin.clone(), BTreeSet::new());
        while let Some(name) = waiting.pop() {
            if seen.insert(name) {
                let rules = objects.chains.get(name).into_iter().flat_map(|chain| &chain.rules);
                waiting.extend(rules.flat_map(Rule::expressions).filter_map(names));
            }
        }
        all.extend(seen);
    }
    all
}

fn leads_to(data: &Data) -> Option<&str> {
    match data {
        Data::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => Some(chain),
        _ => None,
    }
}

/// The chain that an expression leads to, or the set of clients that it writes.
fn names(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => Some(chain),
        Expr::Dynset { set, .. } => Some(set),
        _ => None,
    }
}

/// The address, protocol and port, or protocol and node port, with which the key begins, in sets of endpoints.
fn frontend_of(set: SetName, family: Family, key: &Key) -> Option<&[u8]> {
    let fields = match set {
        SetName::Backends => 3,
        SetName::NodePortBackends => 2,
        _ => return None,
    };
    let fields = set.key(family).iter().take(fields);
    let len: u32 = fields.map(|field| field.size().next_multiple_of(4)).sum();
    key.as_slice().get(..len as usize)
}

fn lines(family: Family, objects: &Objects, shown: &Shown<'_>) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for (name, object) in objects.chains.iter().filter(|(name, _)| (shown.name)(name)) {
        for (number, rule) in object.rules.iter().enumerate() {
            lines.insert(format!("chain {name} {}: {}", number + 1, text::rule(family, rule)));
        }
    }
    for (name, timeout) in objects.clients.iter().filter(|(name, _)| (shown.name)(name)) {
        lines.insert(text::set(&layout::clients(name, *timeout, family)));
    }
    for (set, elements) in &objects.sets {
        let kind = if set.map(family).is_some() { "map" } else { "set" };
        let shown = elements.iter().filter(|(key, _)| (shown.element)(*set, key));
        lines.extend(shown.map(|(key, data)| {
            format!("{kind} {}: {}", set.name(), text::element(family, *set, key, data.as_ref()))
        }));
    }
    lines
}
