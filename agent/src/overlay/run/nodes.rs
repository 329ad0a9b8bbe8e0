//! The nodes that are known, and when what a source tells is not believed. Pure.
//!
//! A source that says that this very node is gone is not believed about those that go with it: this machine still has its addresses and
//! pods, and a server that was restored from nothing lists nothing. What there is stays until this node is back, or the source tells of
//! each one by itself.
//!
//! After a restart the nodes are those that were kept. There may be more by then, as they are kept now and then only; so until a source
//! has told all of them, what is not of a known node may be another's ([`Nodes::are_all`]).

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::overlay::cluster::{Cluster, Event};
use crate::overlay::node::{Announcement, NodeRecord};

/// What was taken in.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// The nodes about which something is different now.
    pub changed: BTreeSet<String>,
    /// Whether this node, or what others are assumed to be, may be different.
    pub own: bool,
}

/// Whose word the nodes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// They are those that were kept.
    Kept,
    /// A source has told all, but not this node: that is not believed.
    Doubted,
    /// A source has told all.
    All,
}

/// The nodes.
#[derive(Debug)]
pub struct Nodes {
    name: Arc<str>,
    cluster: Cluster,
    /// As they are written down, where nodes announce nothing.
    written: Option<Vec<NodeRecord>>,
    /// Those that a list without this node lacked, too.
    doubtful: BTreeSet<Arc<str>>,
    /// This node is not there any more.
    gone: bool,
    told: Told,
}

impl Nodes {
    /// None are known. `written_down`: those that announce nothing are assumed to be like this one.
    pub fn new(name: &str, written_down: bool) -> Self {
        Self {
            name: name.into(),
            cluster: Cluster::default(),
            written: written_down.then(Vec::new),
            doubtful: BTreeSet::new(),
            gone: false,
            told: Told::Kept,
        }
    }

    /// Begins with those that were kept. The names of those about which something is different now.
    pub fn remember(&mut self, kept: Vec<NodeRecord>) -> BTreeSet<String> {
        match &mut self.written {
            Some(written) => {
                *written = kept;
                BTreeSet::new()
            }
            None => self.cluster.apply(Event::All(kept)),
        }
    }

    /// Whether there are no others: a source has told all.
    pub fn are_all(&self) -> bool {
        self.told == Told::All
    }

    /// Whether they are those that were kept, as no source has told all yet that would be believed.
    pub fn are_kept(&self) -> bool {
        let none = self.cluster.is_empty() && self.written.as_ref().is_none_or(Vec::is_empty);
        !self.are_all() && !none
    }

    /// All of them, as the plan needs them.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// This node, as it was last.
    pub fn own(&self) -> Option<&NodeRecord> {
        match &self.written {
            Some(written) => written.iter().find(|record| record.name == self.name),
            None => self.cluster.get(&self.name),
        }
    }

    /// All of them, as the source told them.
    pub fn to_keep(&self) -> Vec<Arc<NodeRecord>> {
        match &self.written {
            Some(written) => written.iter().cloned().map(Arc::new).collect(),
            None => self.cluster.records().values().cloned().collect(),
        }
    }

    /// What is wrong with what the source told, in words.
    pub fn problems(&self) -> Vec<String> {
        if !self.gone {
            return Vec::new();
        }
        let (name, others) = (&self.name, self.doubtful.len());
        vec![format!(
            "Node {name}, which is this one, is gone; its pods and the ways to others ({others} of which are gone with it) stay as they were. \
             If that was not meant, have the kubelet register it again; if it was, stop the overlay and run it with --cleanup"
        )]
    }

    /// Takes events in.
    pub fn take(&mut self, events: Vec<Event>) -> Taken {
        let mut taken = Taken::default();
        for event in events {
            if self.written.is_some() {
                self.write_down(event);
                // what they are assumed to be is known when this node's side is
                taken.own = true;
            } else {
                self.take_one(event, &mut taken.changed);
            }
        }
        taken.own |= taken.changed.contains(&*self.name);
        taken
    }

    /// After a panic amid [`Self::take`]: who has which claim is found out anew.
    pub fn mend(&mut self) {
        let mut whole = Cluster::default();
        whole.apply(Event::All(self.cluster.nodes().cloned().collect()));
        self.cluster = whole;
    }

    fn take_one(&mut self, event: Event, changed: &mut BTreeSet<String>) {
        let known = self.cluster.get(&self.name).is_some();
        match event {
            Event::Gone(name) if *name == *self.name => self.gone |= known,
            Event::Gone(name) => {
                self.doubtful.remove(&*name);
                changed.extend(self.cluster.apply(Event::Gone(name)));
            }
            Event::Put(record) => {
                let own = record.name == self.name;
                self.doubtful.remove(&record.name);
                changed.extend(self.cluster.apply(Event::Put(record)));
                if own {
                    self.believe(changed);
                }
            }
            Event::All(records) if known && !self.has_own(&records) => {
                let known = self.cluster.records().keys().cloned().collect();
                self.doubt(known, &records);
                for record in records {
                    changed.extend(self.cluster.apply(Event::Put(record)));
                }
            }
            Event::All(records) => {
                changed.extend(self.cluster.apply(Event::All(records)));
                // last: after a panic those that are known are not all
                self.gone = false;
                self.told = Told::All;
                self.doubtful.clear();
            }
        }
    }

    /// A list lacks this node, so what else it lacks of those that are known may be there.
    fn doubt(&mut self, known: BTreeSet<Arc<str>>, listed: &[NodeRecord]) {
        self.doubtful = known;
        self.doubtful.remove(&self.name);
        for record in listed {
            self.doubtful.remove(&record.name);
        }
        self.gone = true;
        if self.told == Told::Kept {
            self.told = Told::Doubted;
        }
    }

    /// This node is there: so the others that were not listed with it are gone.
    fn believe(&mut self, changed: &mut BTreeSet<String>) {
        self.gone = false;
        if self.told == Told::Doubted {
            self.told = Told::All;
        }
        for name in std::mem::take(&mut self.doubtful) {
            changed.extend(self.cluster.apply(Event::Gone(name.to_string())));
        }
    }

    fn has_own(&self, records: &[NodeRecord]) -> bool {
        records.iter().any(|record| record.name == self.name)
    }

    /// The manifests are another source that may tell nonsense: a folder that is not mounted is empty.
    fn write_down(&mut self, event: Event) {
        let known = self.own().is_some();
        let Some(mut written) = self.written.as_mut().map(std::mem::take) else { return };
        match event {
            Event::All(records) if known && !self.has_own(&records) => {
                self.doubt(written.iter().map(|record| record.name.clone()).collect(), &records);
                written.retain(|record| {
                    record.name == self.name || self.doubtful.contains(&record.name)
                });
                written.extend(records);
            }
            Event::All(records) => {
                self.gone = false;
                self.told = Told::All;
                self.doubtful.clear();
                written = records;
            }
            Event::Put(record) => {
                if record.name == self.name {
                    let doubtful = std::mem::take(&mut self.doubtful);
                    written.retain(|known| !doubtful.contains(&known.name));
                    self.believe(&mut BTreeSet::new());
                }
                written.retain(|known| known.name != record.name);
                self.doubtful.remove(&record.name);
                written.push(record);
            }
            Event::Gone(name) if *name == *self.name => self.gone |= known,
            Event::Gone(name) => {
                self.doubtful.remove(&*name);
                written.retain(|known| *known.name != *name);
            }
        }
        self.written = Some(written);
    }

    /// Where nodes announce nothing: takes those that are written down to be like this one. The names of those about which something is
    /// different now.
    pub fn assume_like(&mut self, ours: &Announcement) -> BTreeSet<String> {
        let Some(written) = &self.written else { return BTreeSet::new() };
        let mut records = written.clone();
        for record in &mut records {
            record.assume_like(ours);
        }
        self.cluster.apply(Event::All(records))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::node::Backend;

    fn record(name: &str, number: u8) -> NodeRecord {
        NodeRecord {
            name: name.into(),
            pod_cidrs: vec![format!("10.244.{number}.0/24").parse().unwrap()],
            internal_ips: vec![format!("192.0.2.{number}").parse().unwrap()],
            ..NodeRecord::default()
        }
    }

    fn names(nodes: &Nodes) -> Vec<&str> {
        nodes.cluster().nodes().map(|record| &*record.name).collect()
    }

    fn three() -> Vec<NodeRecord> {
        vec![record("a", 1), record("b", 2), record("c", 3)]
    }

    #[test]
    fn what_the_source_tells_is_followed() {
        let mut nodes = Nodes::new("a", false);
        let taken = nodes.take(vec![Event::All(three())]);
        assert_eq!((taken.changed.len(), taken.own), (3, true));
        let taken = nodes.take(vec![Event::Gone("c".into()), Event::Put(record("b", 4))]);
        assert_eq!((taken.changed.len(), taken.own), (2, false));
        assert_eq!(nodes.take(vec![Event::Put(record("b", 4))]), Taken::default());
        nodes.take(vec![Event::All(vec![record("a", 1)])]);
        assert_eq!((names(&nodes), nodes.problems().len()), (vec!["a"], 0));
    }

    #[test]
    fn a_list_without_this_node_takes_nobody_away() {
        let mut nodes = Nodes::new("a", false);
        nodes.take(vec![Event::All(three())]);
        for list in [vec![], vec![record("d", 4)]] {
            nodes.take(vec![Event::All(list)]);
            assert_eq!(nodes.own(), Some(&record("a", 1)));
            assert!(names(&nodes).starts_with(&["a", "b", "c"]), "{nodes:?}");
            assert!(nodes.problems()[0].contains("Node a, which is this one, is gone"));
        }
        // c is told by itself; with this node back the others are gone
        nodes.take(vec![Event::Put(record("c", 3))]);
        let taken = nodes.take(vec![Event::Put(record("a", 1))]);
        assert_eq!((names(&nodes), taken.changed.len()), (vec!["a", "c", "d"], 1));
        assert!(nodes.problems().is_empty());
    }

    #[test]
    fn this_node_stays_when_it_is_removed() {
        let mut nodes = Nodes::new("a", false);
        assert_eq!(nodes.take(vec![Event::Gone("a".into())]), Taken::default());
        assert!(nodes.problems().is_empty(), "it was never there");
        nodes.take(vec![Event::All(three()), Event::Gone("a".into()), Event::Gone("b".into())]);
        assert_eq!((names(&nodes), nodes.problems().len()), (vec!["a", "c"], 1));
        nodes.take(vec![Event::Put(record("a", 5))]);
        assert_eq!((nodes.own(), nodes.problems().len()), (Some(&record("a", 5)), 0));
    }

    #[test]
    fn what_was_kept_may_not_be_all_until_a_source_has_told_all() {
        let mut nodes = Nodes::new("a", false);
        assert_eq!((nodes.are_all(), nodes.are_kept()), (false, false), "nothing is known");
        assert_eq!(nodes.remember(three()).len(), 3);
        assert_eq!((nodes.are_all(), nodes.are_kept()), (false, true));
        nodes.take(vec![Event::Put(record("d", 4)), Event::Put(record("a", 1))]);
        assert!(!nodes.are_all(), "these are some");
        // nobody believes a list without this node
        nodes.take(vec![Event::All(vec![record("b", 2)])]);
        assert_eq!((nodes.are_all(), nodes.are_kept()), (false, true));
        nodes.take(vec![Event::Put(record("a", 1))]);
        assert_eq!((nodes.are_all(), names(&nodes)), (true, vec!["a", "b"]));
        // later doubts are about those that are known by then
        nodes.take(vec![Event::All(Vec::new()), Event::Gone("a".into())]);
        assert_eq!((nodes.are_all(), nodes.are_kept()), (true, false));

        let mut nodes = Nodes::new("a", false);
        nodes.remember(three());
        let taken = nodes.take(vec![Event::All(vec![record("a", 1), record("b", 2)])]);
        assert_eq!((nodes.are_all(), taken.changed.len()), (true, 1));

        let mut written = Nodes::new("a", true);
        written.remember(three());
        assert_eq!((written.are_all(), written.are_kept()), (false, true));
        written.take(vec![Event::All(vec![record("b", 2)])]);
        assert_eq!((written.are_all(), written.are_kept()), (false, true));
        written.take(vec![Event::All(vec![record("a", 1), record("b", 2)])]);
        assert_eq!((written.are_all(), written.are_kept()), (true, false));
    }

    #[test]
    fn nodes_that_are_written_down_are_assumed_to_be_like_this_one() {
        let mut nodes = Nodes::new("a", true);
        assert!(nodes.take(vec![Event::All(three())]).own);
        assert!(names(&nodes).is_empty() && nodes.own().is_some());
        let ours = |vni| Announcement { backend: Backend::Vxlan, vni, ..Announcement::default() };
        assert_eq!(nodes.assume_like(&ours(1)).len(), 3);
        let announced = nodes.cluster().get("b").unwrap().announced.clone().unwrap();
        assert_eq!(announced.vteps[0].address.to_string(), "192.0.2.2");
        assert_eq!((nodes.assume_like(&ours(1)).len(), nodes.assume_like(&ours(2)).len()), (0, 3));
        assert!(nodes.to_keep().iter().all(|record| record.announced.is_none()));
        // a folder that is not mounted
        nodes.take(vec![Event::All(vec![record("b", 4)])]);
        assert_eq!((nodes.assume_like(&ours(2)).len(), nodes.problems().len()), (1, 1));
        assert_eq!(names(&nodes), ["a", "b", "c"]);
        assert!(nodes.problems()[0].contains("(1 of which are gone with it)"));
        nodes.take(vec![Event::All(vec![record("a", 1), record("b", 4)])]);
        assert_eq!((nodes.assume_like(&ours(2)).len(), nodes.problems().len()), (1, 0));
        assert_eq!(names(&nodes), ["a", "b"]);
        // one by one
        nodes.take(vec![
            Event::Put(record("d", 5)),
            Event::Gone("a".into()),
            Event::Gone("b".into()),
        ]);
        assert_eq!((nodes.assume_like(&ours(2)).len(), nodes.problems().len()), (2, 1));
        nodes.take(vec![Event::All(Vec::new()), Event::Put(record("a", 6))]);
        assert_eq!((nodes.assume_like(&ours(2)).len(), nodes.problems().len()), (2, 0));
        assert_eq!((names(&nodes), nodes.own()), (vec!["a"], Some(&record("a", 6))));
    }
}
