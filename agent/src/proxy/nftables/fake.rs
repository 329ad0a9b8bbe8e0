//! A kernel for tests: takes a transaction whole or not at all, and refuses what nf_tables refuses.

use netns_tools::iptables::Family;
use netns_tools::nftables::{Data, Expr, Reg, Rule, Verdict};

use super::layout::SetName;
use super::objects::Objects;
use super::transaction::{Change, Transaction};

/// The tables of a kernel, of which ours is one.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeKernel {
    /// What is in force.
    pub(crate) objects: Objects,
}

impl FakeKernel {
    /// Makes all changes, or none and tells which was refused and why.
    pub(crate) fn commit(&mut self, transaction: &Transaction) -> Result<(), String> {
        let mut next = self.objects.clone();
        for change in &transaction.changes {
            check(&next, change).map_err(|why| format!("{change:?}: {why}"))?;
            next.change(change.clone());
        }
        self.objects = next;
        Ok(())
    }
}

fn check(objects: &Objects, change: &Change) -> Result<(), String> {
    let has_chain = |name: &str| objects.chains.contains_key(name);
    let need = |is: bool, why: &str| if is { Ok(()) } else { Err(why.to_owned()) };
    if !matches!(change, Change::AddTable) {
        need(objects.table, "no table")?;
    }
    match change {
        Change::AddTable | Change::DeleteTable | Change::AddSet(_) => Ok(()),
        Change::AddChain { name, .. } => need(!has_chain(name), "it is there"),
        Change::AddClients { name, .. } => need(!objects.clients.contains_key(name), "it is there"),
        Change::DeleteSet(name) => {
            need(objects.clients.contains_key(name), "no such set")?;
            need(!is_set_used(objects, name), "it is used")
        }
        Change::AddRule { chain, rule } => {
            need(has_chain(chain), "no such chain")?;
            check_rule(objects, rule)
        }
        Change::FlushChain(chain) => need(has_chain(chain), "no such chain"),
        Change::DeleteChain(chain) => {
            need(has_chain(chain), "no such chain")?;
            need(!is_used(objects, chain), "it is used")
        }
        Change::AddElement { set, key, data } => {
            let elements = objects.sets.get(set).ok_or("no such set")?;
            need(!elements.contains_key(key), "it is there")?;
            match data {
                Some(Data::Verdict(verdict)) => {
                    need(target(verdict).is_none_or(has_chain), "leads to no chain")
                }
                _ => Ok(()),
            }
        }
        Change::DeleteElement { set, key } => {
            let elements = objects.sets.get(set).ok_or("no such set")?;
            need(elements.contains_key(key), "no such element")
        }
    }
}

fn check_rule(objects: &Objects, rule: &Rule) -> Result<(), String> {
    for (set, _) in sets_of(rule) {
        let is_there = match SetName::by_name(set) {
            Some(name) => objects.sets.contains_key(&name),
            None => objects.clients.contains_key(set),
        };
        if !is_there {
            return Err(format!("there is no set {set}"));
        }
    }
    let missing = targets(rule).find(|chain| !objects.chains.contains_key(*chain));
    missing.map_or(Ok(()), |chain| Err(format!("leads to {chain}, which is not there")))
}

/// Where a verdict leads.
pub(crate) fn target(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain),
        _ => None,
    }
}

/// Where a rule leads by itself.
pub(crate) fn targets(rule: &Rule) -> impl Iterator<Item = &str> {
    rule.expressions().iter().filter_map(|expression| match expression {
        Expr::Verdict(verdict) => target(verdict),
        _ => None,
    })
}

/// The sets that a rule uses, and whether one decides.
pub(crate) fn sets_of(rule: &Rule) -> impl Iterator<Item = (&str, bool)> {
    rule.expressions().iter().filter_map(|expression| match expression {
        Expr::Lookup { set, dreg, .. } => Some((&**set, *dreg == Some(Reg::VERDICT))),
        Expr::Dynset { set, .. } => Some((&**set, false)),
        _ => None,
    })
}

/// Whether anything leads to a chain.
pub(crate) fn is_used(objects: &Objects, chain: &str) -> bool {
    let own = |name: &str| name == chain;
    let by_rule = objects
        .chains
        .iter()
        .filter(|(name, _)| !own(name))
        .any(|(_, object)| object.rules.iter().flat_map(targets).any(own));
    let by_element =
        objects.sets.values().flat_map(|elements| elements.values()).any(
            |data| matches!(data, Some(Data::Verdict(verdict)) if target(verdict) == Some(chain)),
        );
    by_rule || by_element
}

/// Whether a rule uses a set.
fn is_set_used(objects: &Objects, name: &str) -> bool {
    let mut rules = objects.chains.values().flat_map(|chain| &chain.rules);
    rules.any(|rule| sets_of(rule).any(|(set, _)| set == name))
}

/// What the linter finds: jumps to chains that are missing or empty, chains and sets that nothing uses.
pub(crate) fn lint(_family: Family, objects: &Objects) -> Vec<String> {
    let mut found = Vec::new();
    for (name, object) in &objects.chains {
        if object.rules.is_empty() {
            found.push(format!("chain {name} is empty"));
        }
        if object.base.is_none() && !is_used(objects, name) {
            found.push(format!("nothing leads to chain {name}"));
        }
        for rule in &object.rules {
            found.extend(check_rule(objects, rule).err());
        }
    }
    for name in objects.clients.keys().filter(|name| !is_set_used(objects, name)) {
        found.push(format!("no rule uses {name}"));
    }
    for (set, elements) in &objects.sets {
        if !elements.is_empty() && !is_set_used(objects, set.name()) {
            found.push(format!("no rule uses {}", set.name()));
        }
        for data in elements.values().flatten() {
            if let Data::Verdict(verdict) = data
                && let Some(chain) = target(verdict)
                && !objects.chains.contains_key(chain)
            {
                found.push(format!("{} leads to {chain}, which is not there", set.name()));
            }
        }
    }
    found
}
