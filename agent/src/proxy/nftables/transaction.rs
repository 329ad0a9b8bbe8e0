//! Changes of a table that are made together, or not at all.

use std::time::Duration;

use netns_tools::iptables::Family;
use netns_tools::nftables::{Base, Batch, Chain, Data, Element, Key, Rule};

use super::layout::{self, SetName};

/// Elements that are encoded at a time.
const PORTION: usize = 1024;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Change {
    /// Makes the table, unless it is there.
    AddTable,
    /// Deletes the table with all that is in it.
    DeleteTable,
    AddSet(SetName),
    /// Makes a set of clients.
    AddClients {
        name: Box<str>,
        timeout: Duration,
    },
    /// Deletes a set of clients, with those that are in it.
    DeleteSet(Box<str>),
    AddChain {
        name: Box<str>,
        base: Option<Base>,
    },
    /// At the end of the chain.
    AddRule {
        chain: Box<str>,
        rule: Rule,
    },
    /// Deletes the rules of a chain.
    FlushChain(Box<str>),
    /// Deletes a chain with its rules.
    DeleteChain(Box<str>),
    AddElement {
        set: SetName,
        key: Key,
        data: Option<Data>,
    },
    DeleteElement {
        set: SetName,
        key: Key,
    },
}

/// Changes in an order in which the kernel takes them: what is named is there, what is deleted is not named any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// In order.
    pub changes: Vec<Change>,
}

impl Transaction {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// One change more.
    pub fn push(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// How many rules and elements it adds.
    pub fn written(&self) -> usize {
        let adds =
            |change: &&Change| matches!(change, Change::AddRule { .. } | Change::AddElement { .. });
        self.changes.iter().filter(adds).count()
    }

    /// Says it to the kernel. Elements of one set that follow each other are one list.
    pub fn encode(&self, family: Family, batch: &mut Batch) {
        let table = layout::table(family);
        let mut rest = &self.changes[..];
        while let [first, more @ ..] = rest {
            rest = more;
            match first {
                Change::AddTable => batch.add_table_with(table, Some(layout::COMMENT)),
                Change::DeleteTable => batch.delete_table(table),
                Change::AddSet(set) => batch.add_set(table, &set.definition(family)),
                Change::AddClients { name, timeout } => {
                    batch.add_set(table, &layout::clients(name, *timeout, family))
                }
                Change::DeleteSet(name) => batch.delete_set(table, name),
                Change::AddChain { name, base } => {
                    batch.add_chain(table, &Chain { name, base: *base, comment: None })
                }
                Change::AddRule { chain, rule } => batch.add_rule(table, chain, rule),
                Change::FlushChain(chain) => batch.flush_chain(table, chain),
                Change::DeleteChain(chain) => batch.delete_chain(table, chain),
                Change::AddElement { set, .. } | Change::DeleteElement { set, .. } => {
                    let alike = 1 + more.iter().take_while(|next| is_alike(first, next)).count();
                    let (run, behind) =
                        self.changes[self.changes.len() - more.len() - 1..].split_at(alike);
                    rest = behind;
                    encode_elements(*set, run, family, batch)
                }
            };
        }
    }
}

fn is_alike(one: &Change, other: &Change) -> bool {
    match (one, other) {
        (Change::AddElement { set: a, .. }, Change::AddElement { set: b, .. })
        | (Change::DeleteElement { set: a, .. }, Change::DeleteElement { set: b, .. }) => a == b,
        _ => false,
    }
}

fn encode_elements<'b>(
    set: SetName,
    run: &[Change],
    family: Family,
    batch: &'b mut Batch,
) -> &'b mut Batch {
    let table = layout::table(family);
    // in portions, so that not all of them are in memory once more
    for portion in run.chunks(PORTION) {
        let elements: Vec<Element> = portion.iter().filter_map(element).collect();
        match run.first() {
            Some(Change::AddElement { .. }) => batch.create_elements(table, set.name(), &elements),
            _ => batch.delete_elements(table, set.name(), &elements),
        };
    }
    batch
}

fn element(change: &Change) -> Option<Element> {
    match change {
        Change::AddElement { key, data, .. } => {
            Some(Element { data: data.clone(), ..Element::new(*key) })
        }
        Change::DeleteElement { key, .. } => Some(Element::new(*key)),
        _ => None,
    }
}
