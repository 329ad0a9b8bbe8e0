//! From what a watcher tells to events.
//!
//! A list is gathered whole, as only then it says what is gone. Of one object only newer versions count: a server that sends an
//! event twice, or after a later one, changes nothing. An object that is refused is treated as not there, and said once.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Display;
use std::sync::Arc;

use kube::Resource;
use kube::runtime::watcher;

/// How many removed objects are remembered, so that a late event does not bring them back.
const REMEMBERED: usize = 1024;

/// A kind of objects.
pub trait Kind {
    /// As the API has it.
    type Object: Resource<DynamicType = ()>;
    /// What is taken of it.
    type Item;
    /// What is told of it.
    type Event: Send;
    /// Why it is not taken.
    type Refused: Display;
    /// Its name, for logs.
    const NAME: &'static str;
    /// What stays as it is while the API is away, for logs.
    const STAYS: &'static str;

    /// What is taken of it; `None` if it is of no use here.
    fn convert(&mut self, object: &Self::Object) -> Result<Option<Self::Item>, Self::Refused>;
    /// It is there, or changed.
    fn present(&mut self, item: Self::Item) -> Option<Self::Event>;
    /// It is gone, or of no use here, or refused.
    fn absent(&mut self, object: &Self::Object) -> Option<Self::Event>;
    /// All that there are.
    fn all(&mut self, items: Vec<Self::Item>) -> Self::Event;
    /// What to go on with if this may not be read.
    fn forbidden(&self) -> Option<Self::Event> {
        None
    }
    /// The API has not answered several times in a row, and why; `None`: it does again.
    fn away(&mut self, reason: Option<&str>) -> Option<Self::Event> {
        let _ = reason;
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

    /// Takes in what the watcher tells; the event, if there is one.
    pub fn take(&mut self, told: watcher::Event<K::Object>) -> Option<K::Event> {
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
    pub fn forbidden(&self) -> Option<K::Event> {
        self.kind.forbidden()
    }

    /// What to tell of an API that is away, or (`None`) is back.
    pub fn away(&mut self, reason: Option<&str>) -> Option<K::Event> {
        self.kind.away(reason)
    }

    fn changed(&mut self, object: &K::Object) -> Option<K::Event> {
        let key = key(object);
        if !self.is_newer(&key, version(object)) {
            return None;
        }
        self.versions.insert(key, version(object).unwrap_or_default());
        match self.convert(object) {
            Some(item) => self.kind.present(item),
            None => self.kind.absent(object),
        }
    }

    fn removed(&mut self, object: &K::Object) -> Option<K::Event> {
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
                    tracing::warn!(kind = K::NAME, reason = %refused, "left out: the object cannot be used");
                }
                None
            }
        }
    }
}

/// `namespace/name`
pub fn key(object: &impl Resource) -> Arc<str> {
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
