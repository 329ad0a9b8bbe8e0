//! Keys, bytes and revisions: what is kept, and what changed since.
//!
//! A store is one ordered map from keys to bytes with a history. Every committed transaction has a [`Revision`], one more than
//! the one before; a reader can ask for the state at a revision, and for what came after one, until [`Store::compact`]
//! forgets it. This is etcd's data model (<https://etcd.io/docs/v3.5/learning/data_model/>), reduced to what a Kubernetes API
//! server asks of it, so that etcd itself is one implementation.
//!
//! Keys are `/registry/<group/>resource/<namespace>/<name>` as kube-apiserver lays them out; the store does not look into them,
//! nor into values.
//!
//! - [`memory`]: for tests: what the others are measured against
//! - [`redb`]: the default: one file, group commit
//! - [`etcd`]: where one machine is not enough
//! - [`snapshot`]: a store at one revision as a file

pub mod etcd;
mod hub;
pub mod memory;
pub mod redb;
pub mod snapshot;
mod transaction;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

pub use self::hub::WatchLimits;

/// A position in the history of a store, Kubernetes' `resourceVersion`. The first write of a new store has revision 2, as in etcd: 0
/// means "any" to clients and 1 is the empty store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// A key and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Bytes,
    /// The transaction that made the key.
    pub created: Revision,
    /// The transaction that last wrote it.
    pub modified: Revision,
}

/// Some of the keys below a prefix, in the order of their bytes, all read at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The records.
    pub records: Vec<Record>,
    /// At which revision they were read: a watch from here misses nothing.
    pub revision: Revision,
    /// How many keys of the prefix come after the last record; at least one, if any do, for an uncounted range.
    pub remaining: u64,
}

/// What a list asks for.
#[derive(Clone, Debug, Default)]
pub struct Range {
    /// The keys must begin with this.
    pub prefix: String,
    /// Only keys that come after this one.
    pub after: Option<String>,
    /// At most so many records; 0 is no limit.
    pub limit: usize,
    /// Enough when the values are this long together, whatever the limit; 0 is no such end. One record there is in any case, and a store
    /// that cannot stop there (etcd counts records) gives some more.
    pub bytes: usize,
    /// The state at this revision; `None` is the latest, with every write that was acknowledged before the call.
    pub at: Option<Revision>,
    /// Nobody asks how many keys come after the last record, only whether any do: counting them takes as long as reading their keys.
    pub uncounted: bool,
}

/// What must hold of a key for a transaction to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The key does not exist.
    Absent,
    /// The key was last written at this revision.
    At(Revision),
}

/// What a transaction does to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// The key holds this from now on.
    Put(Bytes),
    /// The key is gone.
    Delete,
    /// Only the condition is looked at.
    Check,
}

/// One key's part of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The key. No two operations of a transaction have the same.
    pub key: String,
    /// What must hold.
    pub condition: Condition,
    /// What happens when all conditions of the transaction hold.
    pub write: Write,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable, at this revision. A transaction that changed nothing (only checks, or a delete of what is absent) has no revision
    /// of its own and answers the latest, as in etcd.
    Committed(Revision),
    /// Nothing was written: the first operation (index) whose condition does not hold, and what its key holds.
    Refused(usize, Option<Record>),
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: String,
    /// When.
    pub revision: Revision,
    /// What it held before; `None` when it did not exist.
    pub before: Option<Bytes>,
    /// What it holds now; `None` when it was deleted.
    pub after: Option<Bytes>,
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// All changes of one revision below the prefix.
    Changes(Vec<Event>),
    /// Nothing below the prefix changed up to and including this revision.
    Progress(Revision),
}

/// The end of a watch that nobody asked to end.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The history before `oldest` was forgotten.
    #[error("revision {} was compacted; the oldest that is kept is {}", asked.0, oldest.0)]
    Compacted {
        /// What was asked for.
        asked: Revision,
        /// What is there.
        oldest: Revision,
    },
    /// A revision that has not happened yet.
    #[error("revision {} is in the future; the latest is {}", asked.0, latest.0)]
    Future {
        /// What was asked for.
        asked: Revision,
        /// What is there.
        latest: Revision,
    },
    /// The watcher did not take what it was sent; it must list and watch anew.
    #[error("the watcher was too slow: {pending} notices were waiting")]
    SlowWatcher {
        /// How many.
        pending: usize,
    },
    /// The engine cannot be reached or gave up. Whether a write took place is not known.
    #[error("the store is not available: {reason}")]
    Unavailable {
        /// Why, in the engine's words.
        reason: String,
    },
    /// Another process has it open, and only one may.
    #[error(
        "the store {place} cannot be used: another process has it open, and only one may: stop the other heddle-server, or give this one a directory of its own"
    )]
    InUse {
        /// The file.
        place: String,
    },
    /// What is on the disk is not what was written, or was written by a later version.
    #[error("the store {place} cannot be used: {reason}")]
    Unusable {
        /// The file or the address.
        place: String,
        /// Why, and what to do.
        reason: String,
    },
}

/// A running watch. Dropping it ends it.
pub type Watch = mpsc::Receiver<Result<Notice, StoreError>>;

/// A store. Every implementation passes the same conformance suite.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// What a key holds, with every write that was acknowledged before the call.
    async fn get(&self, key: &str) -> Result<Option<Record>, StoreError>;

    /// The keys below a prefix.
    async fn list(&self, range: Range) -> Result<Page, StoreError>;

    /// All operations or none; durable when it answers `Committed`. An empty transaction, or one that names a key twice, is refused by
    /// a panic: it is a mistake. A caller that goes away while it waits does not undo what it asked for.
    async fn commit(&self, operations: Vec<Operation>) -> Result<Outcome, StoreError>;

    /// The state at this moment, which can be read for as long as it is held. `None`: there is nothing of the kind here, and the state at a
    /// revision is readable until that is forgotten.
    async fn still(&self) -> Result<Option<Arc<dyn Still>>, StoreError> {
        Ok(None)
    }

    /// What changes below a prefix after a revision (exclusive): every change once, in order. A watch that falls behind ends with
    /// [`StoreError::SlowWatcher`], one from before the last compaction with [`StoreError::Compacted`].
    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, StoreError>;

    /// The latest revision that was committed.
    async fn revision(&self) -> Result<Revision, StoreError>;

    /// Forgets the history before a revision: the state at it, and what came after, stay. What is forgotten already is no error.
    async fn compact(&self, before: Revision) -> Result<(), StoreError>;
}

/// A store as it was at one moment, whatever is written and forgotten meanwhile. What it refers to stays on the disk until it is dropped.
#[async_trait]
pub trait Still: Send + Sync + 'static {
    /// The keys below a prefix, as [`Store::list`] tells them; the latest revision is that moment's.
    async fn list(&self, range: Range) -> Result<Page, StoreError>;
}
