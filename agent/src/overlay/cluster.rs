//! The nodes of the cluster, and which of them are refused what they claim: a pod CIDR, an address or an Ethernet address that
//! another node has. The older keeps it, so that every node comes to the same answer and a newcomer cannot take anything.
//!
//! A change of one node costs what it touches, not what there is.

mod claims;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use netns_tools::MacAddr;

use self::claims::Claims;
use super::node::NodeRecord;

/// What happened to the nodes.
#[derive(Clone, Debug)]
pub enum Event {
    /// These are all.
    All(Vec<NodeRecord>),
    /// This one is new or changed.
    Put(NodeRecord),
    /// The one of this name is gone.
    Gone(String),
}

/// Something that only one node can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// A range of pods; it must not overlap another node's.
    PodCidr(IpNetwork),
    /// An address on the underlay.
    Address(IpAddr),
    /// The Ethernet address of its VXLAN device.
    Mac(MacAddr),
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PodCidr(cidr) => write!(f, "pod CIDR {cidr}"),
            Self::Address(address) => write!(f, "underlay address {address}"),
            Self::Mac(mac) => write!(f, "VTEP MAC {mac}"),
        }
    }
}

/// What a node claims and cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{claim} of node {node} is refused, because node {holder}, which is older, has {held}; \
     give {node} another, or delete the Node object that is not in use any more"
)]
pub struct Refusal {
    /// Who claims.
    pub node: String,
    /// What.
    pub claim: Claim,
    /// Who has it.
    pub holder: String,
    /// Exactly what that one has.
    pub held: Claim,
}

/// All nodes.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    nodes: BTreeMap<Arc<str>, Arc<NodeRecord>>,
    claims: Claims,
}

impl Cluster {
    /// Takes in what happened, and returns the names of the nodes about which something is different now: the node itself, and those
    /// that are refused something since, or no longer.
    pub fn apply(&mut self, event: Event) -> BTreeSet<String> {
        let mut changed = BTreeSet::new();
        match event {
            Event::Put(record) => self.put(record, &mut changed),
            Event::Gone(name) => self.remove(&name, &mut changed),
            Event::All(records) => self.replace(records, &mut changed),
        }
        changed
    }

    fn put(&mut self, mut record: NodeRecord, changed: &mut BTreeSet<String>) {
        if let Some((name, known)) = self.nodes.get_key_value(&record.name) {
            if **known == record {
                return;
            }
            // the one that others have, too
            record.name = name.clone();
        }
        let (name, record) = self.claim(record, changed);
        self.nodes.insert(name, record);
    }

    fn claim(
        &mut self,
        record: NodeRecord,
        changed: &mut BTreeSet<String>,
    ) -> (Arc<str>, Arc<NodeRecord>) {
        changed.insert(record.name.to_string());
        let record = Arc::new(record.compact());
        self.claims.put(&record, changed);
        (record.name.clone(), record)
    }

    fn remove(&mut self, name: &str, changed: &mut BTreeSet<String>) {
        if self.nodes.remove(name).is_some() {
            changed.insert(name.into());
            self.claims.remove(name, changed);
        }
    }

    fn replace(&mut self, records: Vec<NodeRecord>, changed: &mut BTreeSet<String>) {
        if self.nodes.is_empty() {
            return self.fill(records, changed);
        }
        let kept: BTreeSet<_> = records.iter().map(|record| &*record.name).collect();
        let gone: Vec<_> =
            self.nodes.keys().filter(|name| !kept.contains(&***name)).cloned().collect();
        for name in gone {
            self.remove(&name, changed);
        }
        for record in records {
            self.put(record, changed);
        }
    }

    /// All at once: a map that is made of all its entries takes half of what it takes when they come one by one.
    fn fill(&mut self, records: Vec<NodeRecord>, changed: &mut BTreeSet<String>) {
        let named: Vec<_> = records.into_iter().map(|record| self.claim(record, changed)).collect();
        self.nodes = named.into_iter().collect();
    }

    /// The node of this name.
    pub fn get(&self, name: &str) -> Option<&NodeRecord> {
        self.nodes.get(name).map(Arc::as_ref)
    }

    /// The name of a node that is there, to be shared.
    pub fn name(&self, name: &str) -> Option<&Arc<str>> {
        self.nodes.get_key_value(name).map(|(name, _)| name)
    }

    /// Every node by its name, to be shared.
    pub fn records(&self) -> &BTreeMap<Arc<str>, Arc<NodeRecord>> {
        &self.nodes
    }

    /// Every node, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeRecord> {
        self.nodes.values().map(Arc::as_ref)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Why the node `name` cannot have what it claims; `None`: it has it.
    pub fn refusal(&self, name: &str, claim: Claim) -> Option<Refusal> {
        self.claims.refusal(name, claim)
    }

    /// What of a node's claims others have.
    pub fn refusals_of(&self, record: &NodeRecord) -> impl Iterator<Item = Refusal> {
        self.claims.refusals_of(record)
    }

    /// Everything that is refused, by the name of the claiming node.
    pub fn refusals(&self) -> impl Iterator<Item = Refusal> {
        self.claims.refusals()
    }
}

#[cfg(test)]
mod tests;
