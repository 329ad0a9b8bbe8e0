//! All Nodes of an API server.
//!
//! A Node object has some ten kilobytes, most of them its images and conditions. What the overlay needs is taken as soon as a page is
//! read; a change of the rest, such as a heartbeat, is no event.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::announce::Annotations;
use super::{ANNOTATIONS, Event, network};
use crate::kube::{Connection, Follower, Intake, Kind, Retry, key, watch_config};
use crate::overlay::cluster;
use crate::overlay::node::{NodeError, NodeRecord};

/// Who asks for nodes, and what stays while there is no answer, for logs.
pub const NODES: &str = "Node";
/// See [`NODES`].
pub const STAYS: &str = "the ways to other nodes";

/// What is seen of this node's own object, each by itself; `None`: that is not known yet.
#[derive(Clone, Debug)]
pub struct Own {
    /// The annotations.
    pub annotations: watch::Receiver<Option<Annotations>>,
    /// The condition `NetworkUnavailable`.
    pub network: watch::Receiver<Option<network::Status>>,
}

/// Where that is told.
#[derive(Debug)]
struct Mirror {
    annotations: watch::Sender<Option<Annotations>>,
    network: watch::Sender<Option<network::Status>>,
}

impl Mirror {
    fn new() -> (Self, Own) {
        let (annotations, seen) = watch::channel(None);
        let (network, condition) = watch::channel(None);
        (Self { annotations, network }, Own { annotations: seen, network: condition })
    }

    /// The object as it is now; `None`: it is not there.
    fn see(&self, object: Option<&Node>) {
        tell(&self.annotations, object.map(annotations));
        tell(&self.network, object.and_then(network::status));
    }
}

/// Whoever keeps one of them is not to be woken by changes of others.
fn tell<T: PartialEq>(seen: &watch::Sender<Option<T>>, now: T) {
    let now = Some(now);
    seen.send_if_modified(|known| {
        let differs = *known != now;
        *known = now;
        differs
    });
}

/// Those by which nodes are announced.
fn annotations(object: &Node) -> BTreeMap<String, String> {
    let all = object.metadata.annotations.iter().flatten();
    let ours = all.filter(|(key, _)| ANNOTATIONS.contains(&key.as_str()));
    ours.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// What of Nodes is taken.
#[derive(Debug)]
struct Nodes {
    name: Box<str>,
    flannel: bool,
    own: Mirror,
    /// Digests of what was told, so that a change of anything else is not told.
    told: HashMap<Arc<str>, u64>,
    state: RandomState,
}

impl Nodes {
    fn digest(&self, record: &NodeRecord) -> u64 {
        // a record is plain data: the same text, the same record
        self.state.hash_one(serde_json::to_vec(record).unwrap_or_default())
    }

    fn is_own(&self, object: &Node) -> bool {
        object.metadata.name.as_deref() == Some(&*self.name)
    }
}

impl Kind for Nodes {
    type Object = Node;
    /// With whether it is other than what was told before.
    type Item = (NodeRecord, bool);
    type Event = Event;
    type Refused = NodeError;
    const NAME: &'static str = NODES;
    const STAYS: &'static str = STAYS;

    fn convert(&mut self, object: &Node) -> Result<Option<Self::Item>, NodeError> {
        let record = NodeRecord::read(object, self.flannel)?;
        if self.is_own(object) {
            self.own.see(Some(object));
        }
        let digest = self.digest(&record);
        let differs = self.told.insert(record.name.clone(), digest) != Some(digest);
        Ok(Some((record, differs)))
    }

    fn present(&mut self, (record, differs): Self::Item) -> Option<Event> {
        differs.then_some(Event::Nodes(cluster::Event::Put(record)))
    }

    fn absent(&mut self, object: &Node) -> Option<Event> {
        if self.is_own(object) {
            self.own.see(None);
        }
        let name = key(object);
        self.told.remove(&name);
        Some(Event::Nodes(cluster::Event::Gone(name.as_ref().to_owned())))
    }

    fn all(&mut self, items: Vec<Self::Item>) -> Event {
        let records: Vec<_> = items.into_iter().map(|(record, _)| record).collect();
        let known: std::collections::HashSet<_> =
            records.iter().map(|record| &*record.name).collect();
        self.told.retain(|name, _| known.contains(&**name));
        self.told.shrink_to_fit();
        if !known.contains(&*self.name) {
            self.own.see(None);
        }
        Event::Nodes(cluster::Event::All(records))
    }

    fn away(&mut self, reason: Option<&str>) -> Option<Event> {
        Some(Event::Away(reason.map(str::to_owned)))
    }
}

/// Follows all Nodes for as long as `events` is listened to and the result is kept, and tells what is seen of the object of the node
/// `name`.
pub fn follow(
    connection: &Connection,
    name: &str,
    flannel: bool,
    events: &mpsc::Sender<Event>,
) -> (JoinSet<()>, Own) {
    follow_with(connection, name, flannel, events, Retry::default())
}

/// As [`follow`], with other pauses.
pub fn follow_with(
    connection: &Connection,
    name: &str,
    flannel: bool,
    events: &mpsc::Sender<Event>,
    retry: Retry,
) -> (JoinSet<()>, Own) {
    let (own, seen) = Mirror::new();
    let nodes =
        Nodes { name: name.into(), flannel, own, told: HashMap::new(), state: RandomState::new() };
    let follower = Follower {
        connection: connection.clone(),
        api: Api::<Node>::all(Client::clone(connection)),
        config: watch_config(),
        intake: Intake::new(nodes),
        events: events.clone(),
        retry,
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(follower.run());
    (tasks, seen)
}
