//! Changes of a table that are made together, or not at all.

use std::collections::BTreeMap;
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

impl Change {
    /// Whether it adds a rule or an element.
    const fn is_written(&self) -> bool {
        matches!(self, Self::AddRule { .. } | Self::AddElement { .. })
    }

    /// The set whose element it adds.
    const fn added_to(&self) -> Option<SetName> {
        match self {
            Self::AddElement { set, .. } => Some(*set),
            _ => None,
        }
    }
}

/// What takes changes, one after the other.
pub trait Sink {
    /// One change more.
    fn push(&mut self, change: Change);
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

    /// Elements of one set behind each other, and behind the chains that they lead to: for what only adds.
    #[must_use]
    pub fn by_set(mut self) -> Self {
        self.changes.sort_by_key(Change::added_to);
        self
    }

    /// How many rules and elements it adds.
    pub fn written(&self) -> usize {
        self.changes.iter().filter(|change| change.is_written()).count()
    }

    /// Says it to the kernel. Elements of one set that follow each other are one list.
    pub fn encode(&self, family: Family, batch: &mut Batch) {
        let mut rest = &self.changes[..];
        while let [first, more @ ..] = rest {
            rest = more;
            match first {
                Change::AddElement { set, .. } | Change::DeleteElement { set, .. } => {
                    let alike = 1 + more.iter().take_while(|next| is_alike(first, next)).count();
                    let (run, behind) =
                        self.changes[self.changes.len() - more.len() - 1..].split_at(alike);
                    rest = behind;
                    encode_elements(*set, run, family, batch);
                }
                other => encode_one(other, family, batch),
            }
        }
    }
}

impl Sink for Transaction {
    fn push(&mut self, change: Change) {
        self.changes.push(change);
    }
}

/// Says to the kernel what it takes to make a table, as it comes: all of it at once would be some ten megabytes.
#[derive(Debug)]
pub struct Encoder<'b> {
    family: Family,
    batch: &'b mut Batch,
    /// Elements that wait until there are enough of their set.
    waiting: BTreeMap<SetName, Vec<Change>>,
    changes: usize,
    written: usize,
}

impl<'b> Encoder<'b> {
    /// Writes to the end of a batch.
    pub fn new(family: Family, batch: &'b mut Batch) -> Self {
        Self { family, batch, waiting: BTreeMap::new(), changes: 0, written: 0 }
    }

    /// The rest. Answers how many changes there were, and how many of them added rules or elements.
    pub fn finish(mut self) -> (usize, usize) {
        for (set, waiting) in std::mem::take(&mut self.waiting) {
            encode_elements(set, &waiting, self.family, self.batch);
        }
        (self.changes, self.written)
    }
}

impl Sink for Encoder<'_> {
    /// Elements come later than what follows them: nothing that they need may be deleted.
    fn push(&mut self, change: Change) {
        self.changes += 1;
        self.written += usize::from(change.is_written());
        let Change::AddElement { set, .. } = change else {
            return encode_one(&change, self.family, self.batch);
        };
        let waiting = self.waiting.entry(set).or_default();
        waiting.push(change);
        if waiting.len() == PORTION {
            encode_elements(set, waiting, self.family, self.batch);
            waiting.clear();
        }
    }
}

/// Everything but elements, which come many at a time.
fn encode_one(change: &Change, family: Family, batch: &mut Batch) {
    let table = layout::table(family);
    match change {
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
            encode_elements(*set, std::slice::from_ref(change), family, batch);
            batch
        }
    };
}

fn is_alike(one: &Change, other: &Change) -> bool {
    match (one, other) {
        (Change::AddElement { set: a, .. }, Change::AddElement { set: b, .. })
        | (Change::DeleteElement { set: a, .. }, Change::DeleteElement { set: b, .. }) => a == b,
        _ => false,
    }
}

fn encode_elements(set: SetName, run: &[Change], family: Family, batch: &mut Batch) {
    let table = layout::table(family);
    // in portions, so that not all of them are in memory once more
    for portion in run.chunks(PORTION) {
        let elements: Vec<Element> = portion.iter().filter_map(element).collect();
        match run.first() {
            Some(Change::AddElement { .. }) => batch.create_elements(table, set.name(), &elements),
            _ => batch.delete_elements(table, set.name(), &elements),
        };
    }
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
