//! From what was committed to what should be there, for the ports that changed. Nothing is read from the kernel, and nothing is
//! kept in memory for it: the rules of a port before the change follow from the port before the change.

use std::collections::{BTreeMap, BTreeSet};

use super::fixed::Fixed;
use super::full::{MOST_DELETIONS, edit, last_rules};
use super::input::Input;
use super::port::{Context, PortRules, Shared, generate};
use crate::proxy::model::{Changed, Ports, ServicePort};

/// What is counted of all rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rules in table `filter`.
    pub filter: usize,
    /// Rules in table `nat`.
    pub nat: usize,
    /// Endpoints.
    pub endpoints: usize,
}

impl Totals {
    /// Of rules that are always there.
    pub fn of(fixed: &Fixed) -> Self {
        Self { filter: fixed.count("filter"), nat: fixed.count("nat"), endpoints: 0 }
    }

    /// Counts a port with its rules.
    pub fn take(&mut self, port: &ServicePort, rules: &PortRules) {
        self.add(rules);
        self.endpoints += port.endpoint_count();
    }

    /// The endpoints after a change.
    pub fn endpoints_after(&self, ports: &Ports, changed: &Changed) -> usize {
        let count = |port: &ServicePort| port.endpoint_count();
        let before: usize = changed.values().flatten().map(|port| count(port)).sum();
        let after = changed.keys().filter_map(|id| ports.get(id)).map(|port| count(port));
        (self.endpoints + after.sum::<usize>()).saturating_sub(before)
    }

    fn add(&mut self, rules: &PortRules) {
        self.filter += rules.count("filter");
        self.nat += rules.count("nat");
    }

    fn remove(&mut self, rules: &PortRules) {
        self.filter = self.filter.saturating_sub(rules.count("filter"));
        self.nat = self.nat.saturating_sub(rules.count("nat"));
    }
}

/// Rules that go and rules that come, of one shared chain.
#[derive(Default)]
struct Edits {
    surplus: Vec<String>,
    missing: Vec<String>,
}

/// The difference that changes make, as one input; counts them in `totals`.
pub fn difference(
    context: Context<'_>,
    fixed: &Fixed,
    ports: &Ports,
    changed: &Changed,
    totals: &mut Totals,
    mut input: Input,
) -> Input {
    let mut edits: BTreeMap<Shared, Edits> = BTreeMap::new();
    totals.endpoints = totals.endpoints_after(ports, changed);
    for (id, before) in changed {
        let rules = |port: &ServicePort| generate(context, port);
        let old = before.as_deref().map(rules).unwrap_or_default();
        let new = ports.get(id).map(|port| rules(port)).unwrap_or_default();
        totals.remove(&old);
        totals.add(&new);
        own_chains(&mut input, &old, &new);
        shared_rules(&mut edits, old, new);
    }
    for (chain, edits) in edits {
        if edits.surplus.len() > MOST_DELETIONS {
            input.write(chain.table(), chain.chain(), &whole(context, fixed, ports, chain));
        } else {
            edit(&mut input, chain, &edits.surplus, &edits.missing);
        }
    }
    input
}

fn own_chains(input: &mut Input, old: &PortRules, new: &PortRules) {
    let known: BTreeMap<&str, &[String]> =
        old.own.iter().map(|(chain, rules)| (chain.as_str(), rules.as_slice())).collect();
    for (chain, rules) in &new.own {
        match known.get(chain.as_str()) {
            None => input.create("nat", chain, rules),
            Some(before) if before != rules => input.write("nat", chain, rules),
            Some(_) => {}
        }
    }
    let kept: BTreeSet<&str> = new.own.iter().map(|(chain, _)| chain.as_str()).collect();
    for chain in known.keys().filter(|chain| !kept.contains(*chain)) {
        input.delete_chain("nat", chain);
    }
}

fn shared_rules(edits: &mut BTreeMap<Shared, Edits>, old: PortRules, new: PortRules) {
    let (before, after): (BTreeSet<_>, BTreeSet<_>) =
        (old.shared.into_iter().collect(), new.shared.into_iter().collect());
    for (chain, rule) in before.difference(&after) {
        edits.entry(*chain).or_default().surplus.push(rule.clone());
    }
    for (chain, rule) in after.difference(&before) {
        edits.entry(*chain).or_default().missing.push(rule.clone());
    }
}

/// All rules of a shared chain.
fn whole(context: Context<'_>, fixed: &Fixed, ports: &Ports, chain: Shared) -> Vec<String> {
    let rules = ports.values().flat_map(|port| generate(context, port).shared);
    let mut rules: Vec<_> = rules.filter(|(of, _)| *of == chain).map(|(_, rule)| rule).collect();
    rules.extend_from_slice(last_rules(chain, fixed));
    rules
}
