//! What a table holds, as plain data.

use std::collections::BTreeMap;
use std::time::Duration;

use netns_tools::iptables::Family;
use netns_tools::nftables::{Base, Data, Key, Rule};

use super::super::model::Ports;
use super::super::options::RuleOptions;
use super::layout::SetName;
use super::state::State;
use super::transaction::{Change, Transaction};

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainObject {
    /// Where packets come from the kernel; `None`: other chains lead here.
    pub base: Option<Base>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// The elements of a set (without data) or map, by key.
pub type Elements = BTreeMap<Key, Option<Data>>;

/// What the table of one family holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// Whether the table is there at all.
    pub table: bool,
    /// Chains by name.
    pub chains: BTreeMap<Box<str>, ChainObject>,
    /// Sets and maps, also empty ones.
    pub sets: BTreeMap<SetName, Elements>,
    /// Sets of clients ([`super::clients`]) by name, with their time-outs. What is in them is the rules' affair, and not kept here.
    pub clients: BTreeMap<Box<str>, Duration>,
}

/// What the table of a family must hold for these ports. Pure.
pub fn objects(family: Family, ports: &Ports, options: &RuleOptions) -> Objects {
    let (_, transaction) = State::begin(family, ports, options);
    let mut objects = Objects::default();
    objects.take_in(transaction);
    objects
}

impl Objects {
    /// Makes the changes of a transaction, without asking whether the kernel would.
    pub fn take_in(&mut self, transaction: Transaction) {
        for change in transaction.changes {
            self.change(change);
        }
    }

    /// Makes one change.
    pub fn change(&mut self, change: Change) {
        match change {
            Change::AddTable => self.table = true,
            Change::DeleteTable => *self = Self::default(),
            Change::AddSet(set) => {
                self.sets.entry(set).or_default();
            }
            Change::AddClients { name, timeout } => {
                self.clients.entry(name).or_insert(timeout);
            }
            Change::DeleteSet(name) => {
                self.clients.remove(&name);
            }
            Change::AddChain { name, base } => {
                self.chains.entry(name).or_insert(ChainObject { base, rules: Vec::new() });
            }
            Change::AddRule { chain, rule } => {
                self.chains.entry(chain).or_default().rules.push(rule);
            }
            Change::FlushChain(chain) => self.chains.entry(chain).or_default().rules.clear(),
            Change::DeleteChain(chain) => {
                self.chains.remove(&chain);
            }
            Change::AddElement { set, key, data } => {
                self.sets.entry(set).or_default().insert(key, data);
            }
            Change::DeleteElement { set, key } => {
                self.sets.entry(set).or_default().remove(&key);
            }
        }
    }

    /// How many rules there are, and elements.
    pub fn count(&self) -> (usize, usize) {
        let rules = self.chains.values().map(|chain| chain.rules.len()).sum();
        (rules, self.sets.values().map(BTreeMap::len).sum())
    }
}
