//! A store in etcd v3: keys as they are, the revision is etcd's own.
//!
//! - `address`: where it is and how to talk to it
//! - `connection`: the members as one; reads survive the loss of one
//! - `watch`: watches survive it too
//! - `error`: what its refusals mean
//!
//! A transaction is never sent twice (only what found no connection at all is tried again): when the connection is lost before the answer comes, nobody knows whether it took place, and the
//! caller is told so by [`StoreError::Unavailable`]. Etcd's own limits hold: 1.5 MB and 128 operations per transaction unless its
//! operator raises them.

mod address;
mod connection;
mod error;
mod watch;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{Compare, CompareOp, GetOptions, GetResponse, KeyValue, Txn, TxnOp};
use etcd_client::{ResponseHeader, TxnOpResponse, TxnResponse};
use tokio::task::JoinHandle;

pub use self::address::{AddressError, EtcdConfig, EtcdTls, parse};
use self::connection::{Connection, number, revision};
use self::error::{Meaning, meaning, unavailable};
use self::watch::{Follower, tells_progress};
use super::WatchLimits;
use super::hub::Watcher;
use super::transaction::{assert_well_formed, first_unmet, prefix_end};
use super::{Condition, Operation, Outcome, Page, Range, Record, Revision, Store, StoreError};
use super::{Watch, Write};

/// How many records are asked for at once; a longer list is put together of several.
const CHUNK: usize = 1000;

/// A store in etcd.
pub struct EtcdStore {
    connection: Connection,
    limits: WatchLimits,
    progress: Option<Duration>,
    compaction: Option<JoinHandle<()>>,
}

impl fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdStore").field("place", &self.connection.place).finish_non_exhaustive()
    }
}

impl EtcdStore {
    /// Connects to the members; one must answer within the time-out.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when none does, [`StoreError::Unusable`] when a certificate cannot be read.
    pub async fn connect(config: EtcdConfig) -> Result<Self, StoreError> {
        let connection = Connection::open(&config).await?;
        let trusted = tells_progress(&connection.version().await?);
        let progress = trusted.then_some(config.watch.progress);
        let compaction =
            config.retention.map(|age| tokio::spawn(compact_every(connection.clone(), age)));
        Ok(Self { connection, limits: config.watch, progress, compaction })
    }

    fn record(&self, kv: &KeyValue) -> Result<Record, StoreError> {
        Ok(Record {
            key: key(&self.connection.place, kv.key())?,
            value: Bytes::copy_from_slice(kv.value()),
            created: revision(kv.create_revision()),
            modified: revision(kv.mod_revision()),
        })
    }

    fn only(&self, response: &GetResponse) -> Result<Option<Record>, StoreError> {
        response.kvs().first().map(|kv| self.record(kv)).transpose()
    }

    fn outcome(
        &self,
        operations: &[Operation],
        response: &TxnResponse,
    ) -> Result<Outcome, StoreError> {
        if response.succeeded() {
            return Ok(Outcome::Committed(at(response.header())));
        }
        let mut held = Vec::new();
        for response in response.op_responses() {
            if let TxnOpResponse::Get(response) = response {
                held.push(self.only(&response)?);
            }
        }
        // Read in the same transaction that refused it.
        let unmet = first_unmet(operations, &held).ok_or_else(|| StoreError::Unusable {
            place: self.connection.place.clone(),
            reason: "it refused a transaction whose conditions hold; is it etcd?".into(),
        })?;
        Ok(Outcome::Refused(unmet, held.swap_remove(unmet)))
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        if let Some(compaction) = &self.compaction {
            compaction.abort();
        }
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn get(&self, key: &str) -> Result<Option<Record>, StoreError> {
        let read = self.connection.read(key.as_bytes(), GetOptions::new(), Revision(0)).await?;
        self.only(&read)
    }

    async fn list(&self, range: Range) -> Result<Page, StoreError> {
        let asked = range.at.map(|at| at.max(Revision(1)));
        let end = prefix_end(range.prefix.as_bytes()).unwrap_or_else(|| vec![0]);
        let limit = if range.limit == 0 { usize::MAX } else { range.limit };
        let (mut start, mut pinned) = (first_key(&range), asked);
        let (mut records, mut read) = (Vec::new(), 0);
        loop {
            let want = CHUNK.min(limit - records.len());
            let options = GetOptions::new()
                .with_range(end.clone())
                .with_limit(i64::try_from(want).unwrap_or(i64::MAX))
                .with_revision(pinned.map_or(0, number));
            let asked = range.at.or(pinned).unwrap_or_default();
            let response = self.connection.read(&start, options, asked).await?;
            let revision = *pinned.get_or_insert(at(response.header()));
            for kv in response.kvs() {
                records.push(self.record(kv)?);
            }
            read += response.kvs().iter().map(|kv| kv.value().len()).sum::<usize>();
            let enough = range.bytes != 0 && read >= range.bytes;
            if !response.more() || records.len() >= limit || enough {
                let more = response.count().unsigned_abs() - response.kvs().len() as u64;
                return Ok(Page { records, revision, remaining: more });
            }
            start = response.kvs().last().map(|kv| next_key(kv.key())).unwrap_or(start);
        }
    }

    async fn commit(&self, operations: Vec<Operation>) -> Result<Outcome, StoreError> {
        assert_well_formed(&operations);
        let transaction = Txn::new()
            .when(operations.iter().map(compare).collect::<Vec<_>>())
            .and_then(operations.iter().filter_map(write).collect::<Vec<_>>())
            .or_else(
                operations.iter().map(|op| TxnOp::get(op.key.as_str(), None)).collect::<Vec<_>>(),
            );
        let response = self.connection.commit(transaction).await?;
        self.outcome(&operations, &response)
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, StoreError> {
        // Etcd would wait for a revision in the future, and may forget a deletion at the very revision it was compacted to: whoever can
        // read at `after` is sure to see what comes after it.
        let readable =
            GetOptions::new().with_count_only().with_revision(number(after.max(Revision(1))));
        self.connection.read(b"\0", readable, after).await?;
        let (watcher, watch) = Watcher::new(prefix, after, self.limits.queue);
        let follower =
            Follower { connection: self.connection.clone(), watcher, progress: self.progress };
        tokio::spawn(follower.run());
        Ok(watch)
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.connection.revision().await
    }

    async fn compact(&self, before: Revision) -> Result<(), StoreError> {
        compact(&self.connection, before).await
    }
}

async fn compact(connection: &Connection, before: Revision) -> Result<(), StoreError> {
    let mut kv = connection.kv();
    match connection.once(kv.compact(number(before), None)).await? {
        Ok(_) => Ok(()),
        Err(error) => match meaning(&error) {
            Meaning::Compacted => Ok(()),
            Meaning::Future => Err(connection.future(before).await),
            _ => Err(unavailable(&connection.place, &error)),
        },
    }
}

/// Forgets what is older than `age`. Several servers may do it at once.
async fn compact_every(connection: Connection, age: Duration) {
    let mut old = None;
    loop {
        let now = connection.revision().await;
        if let Some(old) = old
            && let Err(error) = compact(&connection, old).await
        {
            tracing::warn!(%error, "old history is not forgotten yet");
        }
        old = now.ok().or(old);
        tokio::time::sleep(age).await;
    }
}

fn at(header: Option<&ResponseHeader>) -> Revision {
    revision(header.map_or(0, ResponseHeader::revision))
}

/// Where a range begins.
fn first_key(range: &Range) -> Vec<u8> {
    match &range.after {
        Some(after) if *after >= range.prefix => next_key(after.as_bytes()),
        // Etcd knows no empty key.
        _ if range.prefix.is_empty() => vec![0],
        _ => range.prefix.as_bytes().to_vec(),
    }
}

/// The first key that comes after one.
fn next_key(key: &[u8]) -> Vec<u8> {
    [key, b"\0"].concat()
}

fn key(place: &str, key: &[u8]) -> Result<String, StoreError> {
    String::from_utf8(key.to_vec()).map_err(|_| StoreError::Unusable {
        place: place.into(),
        reason: format!(
            "it has the key {key:?}, which is not UTF-8 and not ours; who else writes there?"
        ),
    })
}

fn compare(operation: &Operation) -> Compare {
    let modified = match operation.condition {
        Condition::Absent => 0,
        Condition::At(revision) => number(revision),
    };
    Compare::mod_revision(operation.key.as_str(), CompareOp::Equal, modified)
}

fn write(operation: &Operation) -> Option<TxnOp> {
    match &operation.write {
        Write::Put(value) => Some(TxnOp::put(operation.key.as_str(), value.to_vec(), None)),
        Write::Delete => Some(TxnOp::delete(operation.key.as_str(), None)),
        Write::Check => None,
    }
}
