//! What was committed, and what a change of some ports means for it.
//!
//! Of each port only the model's own object is kept; what follows from it is computed again when it changes. Besides there are
//! counts of what ports share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use netns_tools::iptables::Family;
use netns_tools::nftables::{Data, Key, Rule};

use super::super::model::{Changed, PortId, Ports, ServicePort};
use super::super::options::{NodePortAddresses, RuleOptions};
use super::layout::SetName;
use super::port::{Contribution, Entry, Shared, contribution};
use super::skeleton;
use super::transaction::{Change, Sink, Transaction};

/// What the table holds if the last transaction was made.
#[derive(Clone, Debug)]
pub struct State {
    family: Family,
    options: RuleOptions,
    ports: Ports,
    shared: HashMap<Shared, u32>,
    /// How many elements each set has.
    elements: BTreeMap<SetName, usize>,
    /// How many rules all chains have together.
    rules: usize,
}

/// What becomes different.
#[derive(Debug, Default)]
struct Difference {
    added: Vec<Entry>,
    removed: Vec<Entry>,
    /// How often something is needed more, or less, than before.
    shared: BTreeMap<Shared, i64>,
}

impl Difference {
    fn add(&mut self, contribution: Contribution) {
        self.added.extend(contribution.entries);
        for shared in contribution.shared {
            *self.shared.entry(shared).or_default() += 1;
        }
    }

    fn remove(&mut self, contribution: Contribution) {
        self.removed.extend(contribution.entries);
        for shared in contribution.shared {
            *self.shared.entry(shared).or_default() -= 1;
        }
    }

    /// Leaves out what is taken away and given again as it was.
    fn settle(&mut self) {
        if self.removed.is_empty() {
            return;
        }
        let mut removed: BTreeMap<(SetName, Key), Option<Data>> =
            self.removed.drain(..).map(|(set, key, data)| ((set, key), data)).collect();
        self.added.retain(|(set, key, data)| match removed.get(&(*set, *key)) {
            Some(before) if before == data => {
                removed.remove(&(*set, *key));
                false
            }
            _ => true,
        });
        self.removed = removed.into_iter().map(|((set, key), data)| (set, key, data)).collect();
    }
}

impl State {
    /// The state of a table that is made anew, and the transaction that makes it.
    pub fn begin(family: Family, ports: &Ports, options: &RuleOptions) -> (Self, Transaction) {
        let mut transaction = Transaction::default();
        let state = Self::begin_into(family, ports, options, &mut transaction);
        (state, transaction.by_set())
    }

    /// The state of a table that is made anew. What makes it is told, one port after the other: elements of all sets in turn, and
    /// each chain before what leads to it.
    pub fn begin_into(
        family: Family,
        ports: &Ports,
        options: &RuleOptions,
        sink: &mut dyn Sink,
    ) -> Self {
        let mut state = Self {
            family,
            options: options.clone(),
            ports: Ports::new(),
            shared: HashMap::new(),
            elements: BTreeMap::new(),
            rules: 0,
        };
        state.skeleton(sink);
        for (id, port) in ports {
            state.replace(std::iter::once((id, Some(port))), sink);
        }
        state
    }

    /// Takes in ports that changed; answers with what must be done for it.
    pub fn follow(&mut self, ports: &Ports, changed: &Changed) -> Transaction {
        let mut transaction = Transaction::default();
        let changed = changed.keys().map(|id| (id, ports.get(id)));
        self.replace(changed, &mut transaction);
        transaction
    }

    /// The options that it was made with.
    pub fn options(&self) -> &RuleOptions {
        &self.options
    }

    /// How many rules there are, and elements.
    pub fn count(&self) -> (usize, usize) {
        (self.rules, self.elements.values().sum())
    }

    /// Every chain with its rules.
    pub fn chains(&self) -> Vec<(Box<str>, Vec<Rule>)> {
        let fixed = skeleton::chains(self.family, &self.options).into_iter();
        let fixed = fixed.map(|(name, _, rules)| (name.into(), rules));
        fixed.chain(self.shared.keys().filter_map(|shared| self.chain(shared))).collect()
    }

    /// How many elements each set has.
    pub fn counts(&self) -> &BTreeMap<SetName, usize> {
        &self.elements
    }

    /// The sets of clients, each with its time-out.
    pub fn clients(&self) -> BTreeMap<Box<str>, Duration> {
        self.shared.keys().filter_map(clients).collect()
    }

    /// Some elements of the table: those of the first port and of the last, and one of all that is shared.
    pub fn samples(&self) -> Vec<(SetName, Key)> {
        let ports = self.ports.values().next().into_iter().chain(self.ports.values().next_back());
        let own = ports.flat_map(|port| contribution(port, &self.options).entries);
        let shared = self.shared.keys().find_map(element);
        own.chain(shared).map(|(set, key, _)| (set, key)).collect()
    }

    fn skeleton(&mut self, sink: &mut dyn Sink) {
        sink.push(Change::AddTable);
        for set in SetName::ALL {
            sink.push(Change::AddSet(set));
        }
        let chains = skeleton::chains(self.family, &self.options);
        for (name, base, _) in &chains {
            sink.push(Change::AddChain { name: (*name).into(), base: *base });
        }
        for (name, _, rules) in chains {
            self.add_rules(name.into(), rules, sink);
        }
        let listed: Vec<IpAddr> = match &self.options.node_ports {
            NodePortAddresses::Any => Vec::new(),
            NodePortAddresses::Listed(all) => all.clone(),
        };
        let is_ours = |ip: &IpAddr| self.family.has(*ip);
        let mut listed: Vec<_> = listed.into_iter().filter(is_ours).collect();
        listed.retain(|ip| !ip.is_loopback());
        listed.sort_unstable();
        listed.dedup();
        for ip in listed {
            let (set, key) = (SetName::NodePortIps, Key::new(ip));
            sink.push(Change::AddElement { set, key, data: None });
            *self.elements.entry(set).or_default() += 1;
        }
    }

    fn replace<'p>(
        &mut self,
        changed: impl Iterator<Item = (&'p PortId, Option<&'p Arc<ServicePort>>)>,
        sink: &mut dyn Sink,
    ) {
        let mut difference = Difference::default();
        for (id, port) in changed {
            let before = match port {
                Some(port) => self.ports.insert(id.clone(), Arc::clone(port)),
                None => self.ports.remove(id),
            };
            if let Some(before) = before {
                difference.remove(contribution(&before, &self.options));
            }
            if let Some(port) = port {
                difference.add(contribution(port, &self.options));
            }
        }
        difference.settle();
        let (needed, unneeded) = self.count_shared(std::mem::take(&mut difference.shared));
        self.write(difference, &needed, &unneeded, sink);
    }

    /// Answers what is needed for the first time, and what is not needed any more.
    fn count_shared(&mut self, changed: BTreeMap<Shared, i64>) -> (Vec<Shared>, Vec<Shared>) {
        let (mut needed, mut unneeded) = (Vec::new(), Vec::new());
        for (shared, by) in changed {
            let before = self.shared.get(&shared).copied().unwrap_or(0);
            let now = u32::try_from(i64::from(before) + by).unwrap_or(0);
            match (before, now) {
                (0, 0) => {}
                (_, 0) => {
                    self.shared.remove(&shared);
                    unneeded.push(shared);
                }
                _ => {
                    self.shared.insert(shared.clone(), now);
                    if before == 0 {
                        needed.push(shared);
                    }
                }
            }
        }
        (needed, unneeded)
    }

    /// New sets and chains, then elements that go, then elements that come, then chains that nothing leads to any more, then sets.
    fn write(
        &mut self,
        difference: Difference,
        needed: &[Shared],
        unneeded: &[Shared],
        sink: &mut dyn Sink,
    ) {
        for (name, timeout) in needed.iter().filter_map(clients) {
            sink.push(Change::AddClients { name, timeout });
        }
        self.write_chains(needed, unneeded, sink);
        self.write_elements(difference, needed, unneeded, sink);
        let kept: BTreeSet<_> = needed.iter().filter_map(chain_name).collect();
        // what leads on to others goes first
        let unneeded = || unneeded.iter().rev();
        for name in unneeded().filter_map(chain_name).filter(|name| !kept.contains(name)) {
            sink.push(Change::DeleteChain(name));
        }
        for (name, _) in unneeded().filter_map(clients) {
            sink.push(Change::DeleteSet(name));
        }
    }

    /// A chain that has other rules than before keeps its place: what leads to it need not be told anew.
    fn write_chains(&mut self, needed: &[Shared], unneeded: &[Shared], sink: &mut dyn Sink) {
        let known: BTreeSet<_> = unneeded.iter().filter_map(chain_name).collect();
        let chains: Vec<_> = needed.iter().filter_map(|shared| self.chain(shared)).collect();
        for (name, _) in &chains {
            sink.push(if known.contains(name) {
                Change::FlushChain(name.clone())
            } else {
                Change::AddChain { name: name.clone(), base: None }
            });
        }
        for (name, rules) in chains {
            self.add_rules(name, rules, sink);
        }
        let gone = unneeded.iter().filter_map(|shared| self.chain(shared));
        self.rules -= gone.map(|(_, rules)| rules.len()).sum::<usize>();
    }

    fn add_rules(&mut self, chain: Box<str>, rules: Vec<Rule>, sink: &mut dyn Sink) {
        self.rules += rules.len();
        for rule in rules {
            sink.push(Change::AddRule { chain: chain.clone(), rule });
        }
    }

    fn write_elements(
        &mut self,
        difference: Difference,
        needed: &[Shared],
        unneeded: &[Shared],
        sink: &mut dyn Sink,
    ) {
        let mut removed = difference.removed;
        removed.extend(unneeded.iter().filter_map(element));
        removed.sort_by_key(|(set, ..)| *set);
        for (set, key, _) in removed {
            *self.elements.entry(set).or_default() -= 1;
            sink.push(Change::DeleteElement { set, key });
        }
        let mut added = difference.added;
        added.extend(needed.iter().filter_map(element));
        added.sort_by_key(|(set, ..)| *set);
        for (set, key, data) in added {
            *self.elements.entry(set).or_default() += 1;
            sink.push(Change::AddElement { set, key, data });
        }
    }

    fn chain(&self, shared: &Shared) -> Option<(Box<str>, Vec<Rule>)> {
        let (family, options) = (self.family, &self.options);
        let rules = match shared {
            Shared::Endpoint(endpoint) => endpoint.rules(family),
            Shared::Pick(pick) => pick.rules(family),
            Shared::StickyRoute(route) => route.rules(family, options),
            Shared::Route(route) => route.rules(family, options),
            Shared::Sources(sources) => skeleton::source_rules(family, sources),
            Shared::ClusterIp(_) | Shared::Hairpin(_) => return None,
        };
        Some((chain_name(shared)?, rules))
    }
}

fn chain_name(shared: &Shared) -> Option<Box<str>> {
    match shared {
        Shared::Endpoint(endpoint) => Some(endpoint.chain()),
        Shared::Pick(pick) => Some(pick.chain()),
        Shared::StickyRoute(route) => Some(route.chain()),
        Shared::Route(route) => Some(route.chain()),
        Shared::Sources(sources) => Some(sources.chain()),
        Shared::ClusterIp(_) | Shared::Hairpin(_) => None,
    }
}

/// The set of clients that it has, and its time-out.
fn clients(shared: &Shared) -> Option<(Box<str>, Duration)> {
    match shared {
        Shared::Endpoint(endpoint) => Some((endpoint.set(), endpoint.timeout())),
        _ => None,
    }
}

fn element(shared: &Shared) -> Option<Entry> {
    match shared {
        Shared::ClusterIp(ip) => Some((SetName::ClusterIps, Key::new(*ip), None)),
        Shared::Hairpin(ip) => Some((SetName::Hairpins, Key::new(*ip).and(*ip), None)),
        _ => None,
    }
}
