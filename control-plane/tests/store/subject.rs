//! A store to be examined, with what it needs to live.

use std::any::Any;
use std::sync::Arc;

use heddle_server::store::memory::MemoryStore;
use heddle_server::store::redb::{RedbConfig, RedbStore};
use heddle_server::store::{Condition, Record};
use heddle_server::store::{Operation, Outcome, Revision, Store, WatchLimits, Write};

/// How many notices wait for a watcher in these tests.
pub const QUEUE: usize = 32;

/// A fresh store.
pub struct Subject {
    pub store: Arc<dyn Store>,
    // Dropped after the store.
    _home: Box<dyn Any + Send + Sync>,
}

impl Subject {
    pub fn new(store: Arc<dyn Store>, home: impl Any + Send + Sync) -> Self {
        Self { store, _home: Box::new(home) }
    }

    pub fn memory() -> Self {
        Self::new(Arc::new(MemoryStore::new(limits())), ())
    }

    pub fn redb() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let config = RedbConfig { watch: limits(), ..RedbConfig::default() };
        let store = RedbStore::open(&home.path().join("store.redb"), config).expect("a store");
        Self::new(Arc::new(store), home)
    }

    pub async fn etcd() -> Self {
        let cluster = crate::etcd_server::Cluster::start(1).await;
        let store = cluster.store().await;
        Self::new(Arc::new(store), cluster)
    }
}

/// Short queues, or tests of slow watchers take long.
pub fn limits() -> WatchLimits {
    WatchLimits { queue: QUEUE, ..WatchLimits::default() }
}

pub fn put(key: &str, condition: Condition, value: &str) -> Operation {
    Operation { key: key.into(), condition, write: Write::Put(value.to_owned().into()) }
}

pub fn delete(key: &str, at: Revision) -> Operation {
    Operation { key: key.into(), condition: Condition::At(at), write: Write::Delete }
}

pub fn check(key: &str, condition: Condition) -> Operation {
    Operation { key: key.into(), condition, write: Write::Check }
}

/// Shorthands that panic where a store may not fail.
pub trait StoreExt {
    /// Commits what must not be refused.
    async fn done(&self, operations: Vec<Operation>) -> Revision;
    /// Commits what must be refused.
    async fn refused(&self, operations: Vec<Operation>) -> (usize, Option<Record>);
    /// Makes a key.
    async fn create(&self, key: &str, value: &str) -> Revision;
    /// Writes a key that was last written at a revision.
    async fn update(&self, key: &str, at: Revision, value: &str) -> Revision;
    /// Deletes a key that was last written at a revision.
    async fn delete(&self, key: &str, at: Revision) -> Revision;
    /// What a key holds, as text.
    async fn text(&self, key: &str) -> Option<String>;
}

impl StoreExt for Arc<dyn Store> {
    async fn done(&self, operations: Vec<Operation>) -> Revision {
        match self.commit(operations).await.expect("the store takes it") {
            Outcome::Committed(revision) => revision,
            Outcome::Refused(index, held) => panic!("operation {index} was refused: {held:?}"),
        }
    }

    async fn refused(&self, operations: Vec<Operation>) -> (usize, Option<Record>) {
        match self.commit(operations).await.expect("the store takes it") {
            Outcome::Committed(revision) => panic!("it was committed as {revision:?}"),
            Outcome::Refused(index, held) => (index, held),
        }
    }

    async fn create(&self, key: &str, value: &str) -> Revision {
        self.done(vec![put(key, Condition::Absent, value)]).await
    }

    async fn update(&self, key: &str, at: Revision, value: &str) -> Revision {
        self.done(vec![put(key, Condition::At(at), value)]).await
    }

    async fn delete(&self, key: &str, at: Revision) -> Revision {
        self.done(vec![delete(key, at)]).await
    }

    async fn text(&self, key: &str) -> Option<String> {
        let record = self.get(key).await.expect("a read")?;
        Some(String::from_utf8(record.value.to_vec()).expect("these tests write text"))
    }
}
