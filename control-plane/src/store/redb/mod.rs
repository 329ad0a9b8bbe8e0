//! A store in one file, through redb: a copy-on-write B+tree, so that whatever was made durable is there after a crash at any
//! moment, and readers see one moment without holding up the writer.
//!
//! - `file`: made, locked, told apart from others
//! - `table`: what lies in it
//! - `batch`: transactions judged and carried out
//! - `writer`: group commit: one wait for the disk for all who wait
//! - `view`: what one reader sees
//! - `watch`: who is told of changes
//! - `retention`: how long history is kept

mod batch;
mod file;
mod retention;
mod table;
mod view;
mod watch;
mod writer;

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use redb::{Database, ReadableDatabase, StorageBackend};
use tokio::sync::{Semaphore, oneshot};

pub(super) use self::file::sync_directory;
pub use self::retention::Retention;
use self::table::{Meta, Tables};
use self::view::View;
use self::writer::{Answer, Request, Writer};
use super::WatchLimits;
use super::hub::{Hub, Watcher};
use super::transaction::assert_well_formed;
use super::{Operation, Outcome, Page, Range, Record, Revision, Still, Store, StoreError, Watch};

/// How many transactions may wait to be written; more callers wait before that.
const QUEUE: usize = 4096;
/// How many batches may wait to be told to watchers before writers wait for them.
const UNTOLD: usize = 16;

/// What can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedbConfig {
    /// How many bytes of the file redb may keep in memory.
    pub cache: usize,
    /// Read the whole file when it is opened and compare its checksums, so that damage is told then, in words. After a crash that is done
    /// in any case.
    pub verify: bool,
    /// How long history is kept.
    pub retention: Retention,
    /// How watchers are treated.
    pub watch: WatchLimits,
}

impl Default for RedbConfig {
    /// 16 MiB: the operating system keeps the file in its own cache besides.
    fn default() -> Self {
        let (retention, watch) = (Retention::default(), WatchLimits::default());
        Self { cache: 16 << 20, verify: true, retention, watch }
    }
}

/// A store in a file. Only one process can have it open; when the value is dropped, the file is free again as soon as reads that run
/// have ended.
#[derive(Debug)]
pub struct RedbStore {
    database: Arc<Database>,
    hub: Arc<Hub>,
    queue: Arc<Semaphore>,
    requests: Option<mpsc::Sender<Request>>,
    threads: Vec<JoinHandle<()>>,
    limits: WatchLimits,
}

impl RedbStore {
    /// Opens the store in a file; makes it (mode 0600) if there is none.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has it open; [`StoreError::Unusable`] when a later version wrote it, or when it is no
    /// store. Nothing was changed then.
    pub fn open(path: &Path, config: RedbConfig) -> Result<Self, StoreError> {
        Self::start(file::open(path, config)?, config)
    }

    /// Opens a store in something that behaves like a file: for tests of what happens when it does not.
    pub fn open_backend(
        backend: impl StorageBackend,
        config: RedbConfig,
    ) -> Result<Self, StoreError> {
        Self::start(file::open_backend(backend, config)?, config)
    }

    fn start(database: Database, config: RedbConfig) -> Result<Self, StoreError> {
        let database = Arc::new(database);
        let latest = View::open(&database.begin_read()?)?.revision();
        let hub = Arc::new(Hub::new(latest));
        let (requests, receiver) = mpsc::channel();
        let (teller, changes) = mpsc::sync_channel(UNTOLD);
        let retention = config.retention;
        let writer =
            Writer { database: Arc::clone(&database), requests: receiver, teller, retention };
        let telling = Arc::clone(&hub);
        let threads = vec![
            spawn("store-write", move || writer.run())?,
            spawn("store-watch", move || watch::tell(&telling, &changes, config.watch.progress))?,
        ];
        let queue = Arc::new(Semaphore::new(QUEUE));
        let limits = config.watch;
        Ok(Self { database, hub, queue, requests: Some(requests), threads, limits })
    }

    /// How many watches are up to date (those that still read history are not counted).
    pub fn watchers(&self) -> usize {
        self.hub.watchers()
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&View) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self::read(Arc::clone(&self.database), read).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let requests = self.requests.as_ref().expect("taken only by drop");
        requests.send(request(answer)).map_err(|_| writer_gone())?;
        answered.await.map_err(|_| writer_gone())?
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        self.hub.close();
        self.requests = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
    }
}

/// One moment: a read transaction.
struct Moment(Arc<View>);

#[async_trait]
impl Still for Moment {
    async fn list(&self, range: Range) -> Result<Page, StoreError> {
        let view = Arc::clone(&self.0);
        blocking(move || view.list(&range)).await
    }
}

/// Reads what there is now.
async fn read<T: Send + 'static>(
    database: Arc<Database>,
    read: impl FnOnce(&View) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    blocking(move || read(&View::open(&database.begin_read()?)?)).await
}

/// Reads, on a thread that may wait for the disk.
async fn blocking<T: Send + 'static>(
    reading: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(reading).await {
        Ok(done) => done,
        Err(error) => {
            Err(StoreError::Unavailable { reason: format!("a read ended early: {error}") })
        }
    }
}

fn writer_gone() -> StoreError {
    StoreError::Unavailable { reason: "its writer has ended; restart heddle-server".into() }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .map_err(|error| StoreError::Unavailable { reason: format!("no thread {name}: {error}") })
}

#[async_trait]
impl Store for RedbStore {
    async fn get(&self, key: &str) -> Result<Option<Record>, StoreError> {
        let key = key.to_owned();
        self.read(move |view| view.get(&key)).await
    }

    async fn list(&self, range: Range) -> Result<Page, StoreError> {
        self.read(move |view| view.list(&range)).await
    }

    async fn commit(&self, operations: Vec<Operation>) -> Result<Outcome, StoreError> {
        assert_well_formed(&operations);
        let queue = Arc::clone(&self.queue);
        let _place = queue.acquire_owned().await.map_err(|_| writer_gone())?;
        self.ask(|answer| Request::Commit { operations, answer, _place }).await
    }

    async fn still(&self) -> Result<Option<Arc<dyn Still>>, StoreError> {
        let database = Arc::clone(&self.database);
        let view = blocking(move || View::open(&database.begin_read()?)).await?;
        Ok(Some(Arc::new(Moment(Arc::new(view)))))
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, StoreError> {
        self.read(move |view| view.check(after)).await?;
        let (watcher, watch) = Watcher::new(prefix, after, self.limits.queue);
        if let Err(late) = self.hub.join(watcher) {
            let database = Arc::downgrade(&self.database);
            tokio::spawn(watch::catch_up(database, Arc::clone(&self.hub), late));
        }
        Ok(watch)
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.read(|view| Ok(view.revision())).await
    }

    async fn compact(&self, before: Revision) -> Result<(), StoreError> {
        self.ask(|answer| Request::Compact(before, answer)).await
    }
}

/// Makes a store of records that were read elsewhere, which goes on after a revision. Nothing before it can be asked for. The file must
/// not exist; a file that could not be finished is left behind.
pub(super) fn load(
    path: &Path,
    revision: Revision,
    records: impl Iterator<Item = Result<Record, StoreError>>,
) -> Result<(), StoreError> {
    let database = file::open(path, RedbConfig::default())?;
    let transaction = database.begin_write()?;
    {
        let mut tables = Tables::open(&transaction)?;
        for (index, record) in (0_u32..).zip(records) {
            let record = record?;
            let (key, modified) = (record.key.as_str(), record.modified.0);
            tables.state.insert(key, (record.created.0, modified, index))?;
            tables.log.insert((modified, index), (0, 0, key, Some(record.value.as_ref())))?;
        }
        Meta::beginning_at(revision.0).write(&mut tables.meta)?;
    }
    transaction.commit()?;
    Ok(())
}
