//! From what a watcher tells to events of the model.
//!
//! A list is gathered whole, as only then it says what is gone. Of one object only newer versions count: a server that sends an
//! event twice, or after a later one, changes nothing. An object that the model refuses is treated as not there, and said once.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node as NodeObject, Service as ServiceObject};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Resource;
use kube::runtime::watcher;

use super::names::Names;
use crate::proxy::model::{Event, Node, Refused, Service, ServiceName, Slice};

/// How many removed objects are remembered, so that a late event does not bring them back.
const REMEMBERED: usize = 1024;

/// A kind of objects.
pub trait Kind {
    /// As the API has it.
    type Object: Resource<DynamicType = ()>;
    /// As the model has it.
    type Item;
    /// Its name, for logs.
    const NAME: &'static str;

    /// What the model takes of it; `None` if it is not for this proxy.
    fn convert(&mut self, object: &Self::Object) -> Result<Option<Self::Item>, Refused>;
    /// It is there, or changed.
    fn present(&mut self, item: Self::Item) -> Event;
    /// It is gone, or not for this proxy, or refused.
    fn absent(&mut self, object: &Self::Object) -> Option<Event>;
    /// All that there are.
    fn all(&mut self, items: Vec<Self::Item>) -> Event;
    /// What to go on with if this may not be read.
    fn forbidden(&self) -> Option<Event> {
        None
    }
}

/// What is known of the versions of one kind's objects, and the list that is being gathered.
#[derive(Debug)]
pub struct Intake<K: Kind> {
    kind: K,
    gathered: Option<Vec<K::Item>>,
    versions: HashMap<Arc<str>, u64>,
    removed: VecDeque<(Arc<str>, u64)>,
    /// Refused objects with the version that was told.
    refused: BTreeMap<Arc<str>, String>,
}

impl<K: Kind> Intake<K> {
    /// Nothing is known.
    pub fn new(kind: K) -> Self {
        Self {
            kind,
            gathered: None,
            versions: HashMap::new(),
            removed: VecDeque::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Takes in what the watcher tells; the event for the model, if there is one.
    pub fn take(&mut self, told: watcher::Event<K::Object>) -> Option<Event> {
        match told {
            watcher::Event::Init => {
                // a list says what is there whatever was told before, even by a server that was restored from a backup
                self.versions.clear();
                self.removed.clear();
                self.gathered = Some(Vec::new());
                None
            }
            watcher::Event::InitApply(object) => {
                self.versions.insert(key(&object), version(&object).unwrap_or_default());
                let item = self.convert(&object);
                if let (Some(gathered), Some(item)) = (&mut self.gathered, item) {
                    gathered.push(item);
                }
                None
            }
            watcher::Event::InitDone => {
                let known = &self.versions;
                self.refused.retain(|key, _| known.contains_key(key));
                self.versions.shrink_to_fit();
                Some(self.kind.all(self.gathered.take().unwrap_or_default()))
            }
            watcher::Event::Apply(object) => self.changed(&object),
            watcher::Event::Delete(object) => self.removed(&object),
        }
    }

    /// The versions of the objects that were refused.
    #[cfg(test)]
    pub fn refused_versions(&self) -> Vec<&str> {
        self.refused.values().map(String::as_str).collect()
    }

    /// What to go on with if the API does not let this kind be read.
    pub fn forbidden(&self) -> Option<Event> {
        self.kind.forbidden()
    }

    fn changed(&mut self, object: &K::Object) -> Option<Event> {
        let key = key(object);
        if !self.is_newer(&key, version(object)) {
            return None;
        }
        self.versions.insert(key, version(object).unwrap_or_default());
        match self.convert(object) {
            Some(item) => Some(self.kind.present(item)),
            None => self.kind.absent(object),
        }
    }

    fn removed(&mut self, object: &K::Object) -> Option<Event> {
        let key = key(object);
        if !self.is_newer(&key, version(object)) {
            return None;
        }
        self.versions.remove(&key);
        self.refused.remove(&key);
        if self.removed.len() == REMEMBERED {
            self.removed.pop_front();
        }
        self.removed.push_back((key, version(object).unwrap_or_default()));
        self.kind.absent(object)
    }

    /// Versions are numbers that grow (Kubernetes 1.35 promises it; etcd always did so). One that is none is taken as it comes.
    fn is_newer(&self, key: &Arc<str>, version: Option<u64>) -> bool {
        let Some(version) = version else { return true };
        let removed = || {
            let mut latest = self.removed.iter().rev();
            latest.find(|(removed, _)| removed == key).map(|(_, version)| *version)
        };
        let known = self.versions.get(key).copied().or_else(removed);
        known.is_none_or(|known| version > known)
    }

    fn convert(&mut self, object: &K::Object) -> Option<K::Item> {
        let (key, version) = (key(object), object.meta().resource_version.clone());
        match self.kind.convert(object) {
            Ok(item) => {
                self.refused.remove(&key);
                item
            }
            Err(refused) => {
                let version = version.unwrap_or_default();
                if self.refused.insert(key, version.clone()).as_ref() != Some(&version) {
                    tracing::warn!(kind = K::NAME, reason = %refused, "left out: the object cannot be served");
                }
                None
            }
        }
    }
}

/// `namespace/name`
fn key(object: &impl Resource) -> Arc<str> {
    let meta = object.meta();
    let name = meta.name.as_deref().unwrap_or_default();
    match &meta.namespace {
        Some(namespace) => format!("{namespace}/{name}").into(),
        None => name.into(),
    }
}

fn version(object: &impl Resource) -> Option<u64> {
    object.meta().resource_version.as_ref()?.parse().ok()
}

/// Services.
#[derive(Debug, Default)]
pub struct Services {
    names: Names,
}

impl Kind for Services {
    type Object = ServiceObject;
    type Item = Service;
    const NAME: &'static str = "Service";

    fn convert(&mut self, object: &ServiceObject) -> Result<Option<Service>, Refused> {
        let mut service = Service::of(object)?;
        for port in service.iter_mut().flat_map(|service| &mut service.ports) {
            self.names.share(&mut port.name);
        }
        Ok(service)
    }

    fn present(&mut self, item: Service) -> Event {
        Event::Service(item)
    }

    fn absent(&mut self, object: &ServiceObject) -> Option<Event> {
        Some(Event::NoService(ServiceName::from_key(&key(object))))
    }

    fn all(&mut self, items: Vec<Service>) -> Event {
        Event::AllServices(items)
    }
}

/// `EndpointSlices`.
#[derive(Debug, Default)]
pub struct Slices {
    names: Names,
}

impl Slices {
    fn share(&mut self, slice: &mut Slice) {
        for port in &mut slice.ports {
            self.names.share(&mut port.name);
        }
        for endpoint in &mut slice.endpoints {
            let hints = endpoint.for_zones.iter_mut().chain(&mut endpoint.for_nodes);
            endpoint.node.iter_mut().chain(hints).for_each(|name| self.names.share(name));
        }
    }
}

impl Kind for Slices {
    type Object = EndpointSlice;
    type Item = Slice;
    const NAME: &'static str = "EndpointSlice";

    fn convert(&mut self, object: &EndpointSlice) -> Result<Option<Slice>, Refused> {
        let mut slice = Slice::of(object);
        if let Some(slice) = &mut slice {
            self.share(slice);
        }
        Ok(slice)
    }

    fn present(&mut self, item: Slice) -> Event {
        Event::Slice(item)
    }

    /// The label may have changed with the very event that makes the slice nobody's, so the service is not told by it: the model
    /// finds it by the slice's name.
    fn absent(&mut self, object: &EndpointSlice) -> Option<Event> {
        Some(Event::NoSlice { name: key(object), service: None })
    }

    fn all(&mut self, items: Vec<Slice>) -> Event {
        Event::AllSlices(items)
    }
}

/// This Node alone. One that is not there yet is known by its name; one that was removed is as it was, until there is another: this
/// machine still has its addresses and its zone, and pods that run here still serve.
#[derive(Debug)]
pub struct Nodes {
    name: Box<str>,
    last: Option<Node>,
    /// That there is none was told.
    missed: bool,
}

impl Nodes {
    /// The node of that name.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), last: None, missed: false }
    }

    /// There is none: told once, until there is one again.
    fn miss(&mut self) {
        let node = &*self.name;
        match (std::mem::replace(&mut self.missed, true), &self.last) {
            (true, _) => {}
            (false, None) => {
                tracing::warn!(
                    node,
                    "there is no Node of this name: its zone and addresses are not known"
                );
            }
            (false, Some(_)) => {
                tracing::warn!(
                    node,
                    "this Node was removed from the API: its zone and addresses stay as they were, and its services go on; if that was not \
                     meant, have the kubelet register it again"
                );
            }
        }
    }
}

impl Kind for Nodes {
    type Object = NodeObject;
    type Item = Node;
    const NAME: &'static str = "Node";

    fn convert(&mut self, object: &NodeObject) -> Result<Option<Node>, Refused> {
        // a server that does not know field selectors tells of every node
        let is_this = object.metadata.name.as_deref() == Some(&*self.name);
        Ok(is_this.then(|| Node::of(object)))
    }

    fn present(&mut self, item: Node) -> Event {
        self.missed = false;
        self.last = Some(item.clone());
        Event::Node(item)
    }

    fn absent(&mut self, object: &NodeObject) -> Option<Event> {
        // others come by here too, from a server that does not know field selectors
        if object.metadata.name.as_deref() == Some(&*self.name) {
            self.miss();
        }
        None
    }

    fn all(&mut self, items: Vec<Node>) -> Event {
        if let Some(found) = items.into_iter().next() {
            return self.present(found);
        }
        self.miss();
        Event::Node(self.last.clone().unwrap_or_else(|| Node::named(&self.name)))
    }

    fn forbidden(&self) -> Option<Event> {
        let node = self.last.clone().unwrap_or_else(|| Node::named(&self.name));
        Some(Event::Node(node))
    }
}
