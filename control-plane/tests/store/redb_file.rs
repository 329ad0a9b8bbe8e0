//! What the store in a file promises besides: who may open it, how it waits for the disk, what it forgets.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use heddle_server::store::WatchLimits;
use heddle_server::store::memory::MemoryStore;
use heddle_server::store::redb::{RedbConfig, RedbStore, Retention};
use heddle_server::store::{Condition, Notice, Range, Revision, Store, StoreError};
use redb::backends::InMemoryBackend;
use redb::{Database, StorageBackend, TableDefinition};

use crate::events::{self, PATIENCE, changes, changes_until, told};
use crate::subject::{QUEUE, StoreExt, limits, put};

fn open(path: &Path) -> Arc<dyn Store> {
    Arc::new(RedbStore::open(path, RedbConfig::default()).expect("a store"))
}

fn refusal(path: &Path) -> String {
    match RedbStore::open(path, RedbConfig::default()) {
        Err(StoreError::Unusable { place, reason }) => {
            assert_eq!(Path::new(&place), path);
            reason
        }
        Err(error @ StoreError::InUse { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Polls what another thread is about to do.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(std::time::Instant::now() < deadline, "it did not happen: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn redb_store_is_there_after_it_was_closed() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("store.redb");
    let store = open(&path);
    let first = store.create("/a", "1").await;
    let second = store.update("/a", first, "2").await;
    store.create("/b", "1").await;
    store.compact(first).await.expect("a compaction");
    let before = store.list(Range::default()).await.expect("a list");
    drop(store);
    assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);

    let store = open(&path);
    assert_eq!(store.list(Range::default()).await.expect("a list"), before);
    let mut watch = store.watch("/", first).await.expect("the history is there too");
    assert_eq!(told(&changes(&mut watch).await), ["/a: 1 > 2"]);
    assert_eq!(told(&changes(&mut watch).await), ["/b: - > 1"]);
    let error = store.watch("/", Revision(1)).await.expect_err("it was forgotten");
    assert!(matches!(error, StoreError::Compacted { oldest, .. } if oldest == first), "{error}");
    assert_eq!(store.update("/a", second, "3").await, Revision(before.revision.0 + 1));
    assert_eq!(told(&changes(&mut watch).await), ["/a: 2 > 3"]);
    drop(store);
    assert!(watch.recv().await.is_none(), "a closed store ends its watches");
}

/// Set for the second process.
const FILE: &str = "HEDDLE_STORE_LOCKED_FILE";

/// This test is two processes, of which the second may not open the file.
#[tokio::test]
async fn redb_store_is_opened_by_one_process_only() {
    if let Some(path) = std::env::var_os(FILE) {
        println!("refused: {}", refusal(&PathBuf::from(path)));
        return;
    }
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("store.redb");
    let store = open(&path);
    store.create("/a", "1").await;
    let second = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "--nocapture", "redb_file::redb_store_is_opened_by_one_process_only"])
        .env(FILE, &path)
        .output()
        .expect("a process");
    let said = String::from_utf8_lossy(&second.stdout);
    assert!(said.contains("refused: ") && said.contains("another process has it open"), "{said}");
    assert!(refusal(&path).contains("another process has it open"), "nor twice by one");
    store.create("/b", "1").await;
    drop(store);
    assert_eq!(open(&path).text("/b").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn redb_store_of_a_later_format_is_refused_and_left_alone() {
    const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("store.redb");
    open(&path).create("/a", "1").await;
    let later = |format: u64| {
        let database = Database::open(&path).expect("a file");
        let transaction = database.begin_write().expect("a transaction");
        let mut table = transaction.open_table(META).expect("the table");
        let found = table.insert("format", format).expect("a write").expect("it is stored").value();
        drop(table);
        transaction.commit().expect("a commit");
        found
    };
    assert_eq!(later(2), 1);
    let before = fs::read(&path).expect("bytes");
    let reason = refusal(&path);
    assert!(reason.contains("format 2") && reason.contains("later version"), "{reason}");
    // What redb notes of itself when it opens a file (a few bytes of its header) is its own; ours is as it was.
    assert_eq!(fs::read(&path).expect("bytes").len(), before.len());
    assert_eq!(later(1), 2);
    assert_eq!(open(&path).text("/a").await.as_deref(), Some("1"));
}

#[test]
fn redb_store_refuses_what_is_no_store() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("text");
    fs::write(&path, "apiVersion: v1\n".repeat(1000)).expect("a file");
    let reason = refusal(&path);
    assert!(reason.contains("not a store"), "{reason}");
    assert_eq!(fs::read(&path).expect("a file"), "apiVersion: v1\n".repeat(1000).as_bytes());

    let path = home.path().join("foreign");
    let database = Database::create(&path).expect("a file");
    let transaction = database.begin_write().expect("a transaction");
    transaction.open_table(TableDefinition::<u64, u64>::new("theirs")).expect("a table");
    transaction.commit().expect("a commit");
    drop(database);
    assert!(refusal(&path).contains("not of heddle-server"));
    assert!(refusal(home.path()).contains("directory"), "{}", refusal(home.path()));
    assert!(refusal(&home.path().join("none/store")).contains("cannot be made"));
}

#[test]
fn redb_store_whose_making_was_cut_short_is_made_anew() {
    let home = tempfile::tempdir().expect("a directory");
    for name in [".store.redb.4242.new", ".store.redb.4243.new"] {
        fs::write(home.path().join(name), "half").expect("a file");
    }
    fs::write(home.path().join(".store.redb.mine.new"), "").expect("a file");
    drop(open(&home.path().join("store.redb")));
    let mut left: Vec<_> = fs::read_dir(home.path())
        .expect("a list")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    left.sort();
    assert_eq!(left, [".store.redb.mine.new", "store.redb"]);
}

/// A disk that waits before it syncs until it is told to go on.
#[derive(Clone, Debug)]
struct SlowDisk {
    inner: Arc<InMemoryBackend>,
    gate: Arc<(Mutex<Gate>, Condvar)>,
}

#[derive(Debug, Default)]
struct Gate {
    closed: bool,
    waiting: usize,
    syncs: usize,
}

impl SlowDisk {
    fn new() -> Self {
        Self { inner: Arc::new(InMemoryBackend::new()), gate: Arc::default() }
    }

    fn gate<T>(&self, look: impl FnOnce(&mut Gate) -> T) -> T {
        let seen = look(&mut self.gate.0.lock().expect("no panic holds it"));
        self.gate.1.notify_all();
        seen
    }
}

impl StorageBackend for SlowDisk {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut gate = self.gate.0.lock().expect("no panic holds it");
        gate.waiting += 1;
        while gate.closed {
            gate = self.gate.1.wait(gate).expect("no panic holds it");
        }
        gate.waiting -= 1;
        gate.syncs += 1;
        drop(gate);
        self.inner.sync_data()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redb_store_writes_together_what_waits_and_answers_when_it_is_durable() {
    const WRITERS: usize = 64;
    let disk = SlowDisk::new();
    let store = RedbStore::open_backend(disk.clone(), RedbConfig::default()).expect("a store");
    let store: Arc<dyn Store> = Arc::new(store);
    let start = store.create("/k/first", "1").await;
    let mut watch = store.watch("/k/", start).await.expect("a watch");
    let before = disk.gate(|gate| {
        gate.closed = true;
        gate.syncs
    });
    let write = |number: usize| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.create(&format!("/k/{number:02}"), "1").await })
    };
    let mut writers = vec![write(0)];
    eventually("the first waits for the disk", async || disk.gate(|gate| gate.waiting) == 1).await;
    writers.extend((1..WRITERS).map(write));
    for _ in 0..100 {
        tokio::task::yield_now().await;
        // Readers go on, and see what is durable only.
        assert_eq!(store.list(Range::default()).await.expect("a list").records.len(), 1);
    }
    assert_eq!(store.revision().await.expect("a revision"), start);
    assert!(writers.iter().all(|writer| !writer.is_finished()), "answered before it was durable");
    assert!(watch.try_recv().is_err(), "told before it was durable");

    let syncs = disk.gate(|gate| {
        gate.closed = false;
        gate.syncs - before
    });
    assert_eq!(syncs, 0);
    let mut revisions = Vec::new();
    for writer in writers {
        revisions.push(writer.await.expect("a writer").0);
    }
    revisions.sort_unstable();
    let expected: Vec<_> = (start.0 + 1..=start.0 + WRITERS as u64).collect();
    assert_eq!(revisions, expected);
    let syncs = disk.gate(|gate| gate.syncs - before);
    assert!(syncs <= WRITERS / 4, "{WRITERS} transactions took {syncs} syncs");
    let last = Revision(start.0 + WRITERS as u64);
    assert_eq!(changes_until(&mut watch, last).await.len(), WRITERS);
}

fn config(age: Duration, revisions: u64) -> RedbConfig {
    RedbConfig { retention: Retention { age, revisions }, watch: limits(), ..RedbConfig::default() }
}

async fn oldest(store: &Arc<dyn Store>) -> Revision {
    match store.watch("/", Revision(1)).await {
        Err(StoreError::Compacted { oldest, .. }) => oldest,
        Ok(_) => Revision(1),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redb_store_forgets_what_is_old() {
    let home = tempfile::tempdir().expect("a directory");
    let config = config(Duration::from_millis(100), 1_000_000);
    let store = RedbStore::open(&home.path().join("store.redb"), config).expect("a store");
    let store: Arc<dyn Store> = Arc::new(store);
    let first = store.create("/a", "1").await;
    let last = store.update("/a", first, "2").await;
    eventually("what is old is forgotten", async || oldest(&store).await == last).await;
    assert_eq!(store.text("/a").await.as_deref(), Some("2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redb_store_uses_the_space_of_what_it_forgot() {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("store.redb");
    let store = RedbStore::open(&path, config(PATIENCE * 10, 4)).expect("a store");
    let store: Arc<dyn Store> = Arc::new(store);
    let value = "x".repeat(10_000);
    let write =
        |condition| (0..50).map(|key| put(&format!("/k/{key}"), condition, &value)).collect();
    let mut last = store.done(write(Condition::Absent)).await;
    for _ in 0..60 {
        last = store.done(write(Condition::At(last))).await;
    }
    // 30 MB were written, of which 0.5 MB are current and 2 MB may be kept as history.
    let latest = store.revision().await.expect("a revision");
    assert!(oldest(&store).await.0 > latest.0 - 6, "the history is bounded");
    let size = fs::metadata(&path).expect("a file").len();
    assert!(size < 12 << 20, "the file has grown to {size} bytes");
    assert_eq!(store.list(Range::default()).await.expect("a list").records.len(), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redb_store_tells_a_watcher_of_old_history_when_that_is_forgotten() {
    let home = tempfile::tempdir().expect("a directory");
    let store = RedbStore::open(&home.path().join("store.redb"), config(PATIENCE * 10, 1 << 40));
    let store: Arc<dyn Store> = Arc::new(store.expect("a store"));
    let mut last = store.create("/a", "0").await;
    let writes = async {
        for number in 1..600 {
            last = store.update("/a", last, &number.to_string()).await;
        }
    };
    writes.await;
    // It takes nothing, so it stays in the past.
    let mut watch = store.watch("/", Revision(1)).await.expect("a watch");
    eventually("its queue is full", async || watch.len() == QUEUE).await;
    store.compact(last).await.expect("a compaction");
    let mut seen = 1;
    let error = loop {
        match events::next(&mut watch).await.expect("a last word") {
            Ok(Notice::Changes(events)) => {
                seen += 1;
                assert_eq!(events[0].revision, Revision(seen));
            }
            Ok(Notice::Progress(_)) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Compacted { oldest, .. } if oldest == last), "{error}");
    assert!(seen < last.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redb_store_tells_progress_and_forgets_dropped_watches() {
    let home = tempfile::tempdir().expect("a directory");
    let watch = WatchLimits { progress: Duration::from_millis(10), ..limits() };
    let config = RedbConfig { watch, ..RedbConfig::default() };
    let redb = Arc::new(RedbStore::open(&home.path().join("store.redb"), config).expect("a store"));
    let store: Arc<dyn Store> = Arc::clone(&redb) as _;
    let mut watch = store.watch("/pods/", Revision(1)).await.expect("a watch");
    let elsewhere = store.create("/nodes/a", "1").await;
    let told = events::next(&mut watch).await.expect("it goes on").expect("no error");
    assert_eq!(told, Notice::Progress(elsewhere));
    assert_eq!(redb.watchers(), 1);
    drop(watch);
    eventually("it is forgotten", async || redb.watchers() == 0).await;
}

#[tokio::test]
async fn memory_store_tells_progress() {
    let memory = Arc::new(MemoryStore::default());
    let store: Arc<dyn Store> = Arc::clone(&memory) as _;
    let mut watch = store.watch("/pods/", Revision(1)).await.expect("a watch");
    let elsewhere = store.done(vec![put("/nodes/a", Condition::Absent, "1")]).await;
    memory.progress();
    let told = events::next(&mut watch).await.expect("it goes on").expect("no error");
    assert_eq!(told, Notice::Progress(elsewhere));
}
