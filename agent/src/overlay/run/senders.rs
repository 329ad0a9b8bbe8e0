//! What the rules, and the end that answers probes, need of all nodes together, kept up to date node by node: a change costs what it is,
//! not what there is. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::overlay::cluster::Cluster;
use crate::overlay::node::{Backend, NodeRecord};

/// The sums over all nodes.
#[derive(Debug)]
pub struct Senders {
    backend: Backend,
    pods: Vec<IpNetwork>,
    /// What was counted.
    counted: BTreeMap<Arc<str>, Arc<NodeRecord>>,
    /// By how many nodes an address is announced.
    addresses: BTreeMap<IpAddr, u32>,
    /// By how many nodes an address is their devices': the first one of a pod CIDR.
    devices: BTreeMap<IpAddr, u32>,
    /// Pod CIDRs outside of the range of all pods, and of how many nodes.
    outside: BTreeMap<IpNetwork, u32>,
    /// How many nodes have another backend than this one.
    others: usize,
    /// Addresses of which it changed whether anybody announces them, since [`Self::settle`].
    touched: BTreeSet<IpAddr>,
    /// Addresses of which it changed whether probes may come from them, since [`Self::take_askers`].
    asking: BTreeSet<IpAddr>,
}

/// Addresses that probes come from, as they changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Askers {
    /// Some node has these now.
    pub came: BTreeSet<IpAddr>,
    /// No node has these any more.
    pub went: BTreeSet<IpAddr>,
}

impl Senders {
    /// Of nobody yet. `backend` is this node's, `pods` the range of all pods.
    pub fn new(backend: Backend, pods: &[IpNetwork]) -> Self {
        Self {
            backend,
            pods: pods.to_vec(),
            counted: BTreeMap::new(),
            addresses: BTreeMap::new(),
            devices: BTreeMap::new(),
            outside: BTreeMap::new(),
            others: 0,
            touched: BTreeSet::new(),
            asking: BTreeSet::new(),
        }
    }

    /// After [`Cluster::apply`], with the names that it returned.
    pub fn update(&mut self, cluster: &Cluster, names: &BTreeSet<String>) {
        if self.counted.is_empty() {
            for record in cluster.nodes() {
                self.count(record);
            }
            // maps that are made at once are dense, unlike those that grow one by one; and so is a copy of such a one
            self.addresses = std::mem::take(&mut self.addresses).into_iter().collect();
            self.devices = std::mem::take(&mut self.devices).into_iter().collect();
            self.counted.clone_from(cluster.records());
            return;
        }
        for name in names {
            let before = match cluster.records().get_key_value(&**name) {
                Some((name, record)) => {
                    self.count(record);
                    self.counted.insert(name.clone(), record.clone())
                }
                None => self.counted.remove(&**name),
            };
            if let Some(before) = before {
                self.discount(&before);
            }
        }
    }

    /// Every address that a node sends from.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.addresses.keys().copied().collect()
    }

    /// Every address that probes may come from: nodes', and their devices'.
    pub fn take_all_askers(&mut self) -> BTreeSet<IpAddr> {
        self.asking.clear();
        // at once: a set that grows one by one takes twice as much
        self.addresses.keys().chain(self.devices.keys()).copied().collect()
    }

    /// What of it changed since this or [`Self::take_all_askers`] was called last.
    pub fn take_askers(&mut self) -> Askers {
        let asks = |address: &IpAddr| {
            [&self.addresses, &self.devices].iter().any(|of| of.contains_key(address))
        };
        let (came, went) = std::mem::take(&mut self.asking).into_iter().partition(asks);
        Askers { came, went }
    }

    /// Pod CIDRs of nodes outside of the range of all pods.
    pub fn outside(&self) -> impl Iterator<Item = IpNetwork> {
        self.outside.keys().copied()
    }

    /// Whether some node has another backend than this one.
    pub fn is_mixed(&self) -> bool {
        self.others > 0
    }

    /// The addresses that came and those that went since [`Self::settle`]. One that did both is in the list of how it ended.
    pub fn changes(&self) -> (Vec<IpAddr>, Vec<IpAddr>) {
        self.touched.iter().partition(|address| self.addresses.contains_key(address))
    }

    /// Whether there are none.
    pub fn is_settled(&self) -> bool {
        self.touched.is_empty()
    }

    /// Everything up to now is in the rules.
    pub fn settle(&mut self) {
        self.touched.clear();
    }

    fn count(&mut self, record: &NodeRecord) {
        for address in senders(record) {
            if add_one(&mut self.addresses, address) {
                self.touched.insert(address);
                self.asking.insert(address);
            }
        }
        for cidr in &record.pod_cidrs {
            if add_one(&mut self.devices, cidr.network()) {
                self.asking.insert(cidr.network());
            }
            if self.is_outside(*cidr) {
                add_one(&mut self.outside, *cidr);
            }
        }
        self.others += usize::from(self.is_other(record));
    }

    fn discount(&mut self, record: &NodeRecord) {
        for address in senders(record) {
            if take_one(&mut self.addresses, &address) {
                self.touched.insert(address);
                self.asking.insert(address);
            }
        }
        for cidr in &record.pod_cidrs {
            if take_one(&mut self.devices, &cidr.network()) {
                self.asking.insert(cidr.network());
            }
            take_one(&mut self.outside, cidr);
        }
        self.others -= usize::from(self.is_other(record));
    }

    fn is_other(&self, record: &NodeRecord) -> bool {
        record.announced.as_ref().is_some_and(|announced| announced.backend != self.backend)
    }

    fn is_outside(&self, cidr: IpNetwork) -> bool {
        !self.pods.iter().any(|range| super::worker::is_within(cidr, *range))
    }
}

/// What a node may send into the tunnel from, each once.
fn senders(record: &NodeRecord) -> BTreeSet<IpAddr> {
    let announced = record.announced.iter();
    let ends = announced.clone().flat_map(|announced| &announced.vteps).map(|vtep| vtep.address);
    announced.flat_map(|announced| &announced.addresses).copied().chain(ends).collect()
}

/// One more; whether it is the first.
fn add_one<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K) -> bool {
    let count = counts.entry(key).or_default();
    *count += 1;
    *count == 1
}

/// One less; whether it was the last.
fn take_one<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) -> bool {
    let Some(count) = counts.get_mut(key) else { return false };
    *count -= 1;
    let last = *count == 0;
    if last {
        counts.remove(key);
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::cluster::Event;
    use crate::overlay::node::Announcement;

    fn record(name: &str, address: &str, cidr: &str, backend: Backend) -> NodeRecord {
        let addresses = vec![address.parse().unwrap()];
        NodeRecord {
            name: name.into(),
            pod_cidrs: vec![cidr.parse().unwrap()],
            announced: Some(Announcement { backend, addresses, ..Announcement::default() }),
            ..NodeRecord::default()
        }
    }

    fn texts(all: &[IpAddr]) -> Vec<String> {
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn sums_follow_changes_as_if_they_were_made_anew() {
        let (vxlan, host) = (Backend::Vxlan, Backend::HostGw);
        let steps = [
            Event::All(vec![
                record("a", "192.0.2.1", "10.244.1.0/24", vxlan),
                record("b", "192.0.2.2", "10.244.2.0/24", vxlan),
            ]),
            Event::Put(record("c", "192.0.2.2", "10.9.0.0/24", host)),
            Event::Put(record("b", "192.0.2.3", "10.9.0.0/24", vxlan)),
            Event::Gone("c".to_owned()),
            Event::Put(NodeRecord { announced: None, ..record("b", "::", "10.9.0.0/24", vxlan) }),
            Event::All(Vec::new()),
        ];
        let pods = ["10.244.0.0/16".parse().unwrap()];
        let (mut cluster, mut senders) = (Cluster::default(), Senders::new(vxlan, &pods));
        let mut asking = BTreeSet::new();
        for step in steps {
            let names = cluster.apply(step);
            senders.update(&cluster, &names);
            let mut anew = Senders::new(vxlan, &pods);
            let names = cluster.nodes().map(|node| node.name.to_string()).collect();
            anew.update(&cluster, &names);
            let sums = |all: &Senders| {
                (all.addresses.clone(), all.devices.clone(), all.outside.clone(), all.others)
            };
            assert_eq!(sums(&senders), sums(&anew));
            let Askers { came, went } = senders.take_askers();
            asking.extend(came);
            asking.retain(|address| !went.contains(address));
            assert_eq!(asking, anew.take_all_askers());
            assert_eq!(anew.take_askers(), Askers::default());
        }
        assert!(senders.counted.is_empty() && senders.addresses.is_empty() && asking.is_empty());
    }

    #[test]
    fn what_came_and_went_is_told_until_it_is_settled() {
        let vxlan = Backend::Vxlan;
        let (mut cluster, mut senders) = (Cluster::default(), Senders::new(vxlan, &[]));
        let mut step = |senders: &mut Senders, event| {
            let names = cluster.apply(event);
            senders.update(&cluster, &names);
            let (came, went) = senders.changes();
            (texts(&came), texts(&went))
        };
        let put =
            |name: &str, address: &str| Event::Put(record(name, address, "10.244.1.0/24", vxlan));
        let none = Vec::<String>::new();
        let told = step(&mut senders, put("a", "192.0.2.1"));
        assert_eq!(told, (vec!["192.0.2.1".to_owned()], none.clone()));
        let told = step(&mut senders, put("a", "192.0.2.2"));
        assert_eq!(told, (vec!["192.0.2.2".to_owned()], vec!["192.0.2.1".to_owned()]));
        senders.settle();
        // two nodes have it: it stays until the last one is gone
        assert_eq!(step(&mut senders, put("b", "192.0.2.2")), (none.clone(), none.clone()));
        let told = step(&mut senders, Event::Gone("a".to_owned()));
        assert_eq!(told, (none.clone(), none.clone()));
        let told = step(&mut senders, Event::Gone("b".to_owned()));
        assert_eq!(told, (none, vec!["192.0.2.2".to_owned()]));
    }
}
