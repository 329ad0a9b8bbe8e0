//! Stores to files and back.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use heddle_server::store::memory::MemoryStore;
use heddle_server::store::redb::{RedbConfig, RedbStore};
use heddle_server::store::snapshot::{self, SnapshotError, Summary};
use heddle_server::store::{Condition, Page, Range, Revision, Store, StoreError};

use crate::events::{changes, told};
use crate::subject::{StoreExt, Subject, put};

async fn all(store: &Arc<dyn Store>) -> Page {
    store.list(Range::default()).await.expect("a list")
}

/// Some keys, among them a changed and a deleted one, two of one transaction, an empty value and more than a page of them.
async fn filled() -> Arc<dyn Store> {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let first = store.create("/a", "1").await;
    store.update("/a", first, "2").await;
    let gone = store.create("/gone", "x").await;
    store.delete("/gone", gone).await;
    store.done(vec![put("/b", Condition::Absent, ""), put("/c", Condition::Absent, "c")]).await;
    for number in 0..600 {
        store.create(&format!("/many/{number:03}"), &number.to_string()).await;
    }
    store
}

fn open(path: &Path) -> Arc<dyn Store> {
    Arc::new(RedbStore::open(path, RedbConfig::default()).expect("a store"))
}

#[tokio::test]
async fn store_snapshot_of_memory_is_restored_to_a_file() {
    let home = tempfile::tempdir().expect("a directory");
    let (file, path) = (home.path().join("snapshot"), home.path().join("store.redb"));
    let store = filled().await;
    let before = all(&store).await;
    let saved = snapshot::save(store.as_ref(), &file).await.expect("a snapshot");
    let summary = Summary { revision: before.revision, records: 603 };
    assert_eq!(saved, summary);
    let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);

    assert_eq!(snapshot::restore(&file, &path, 1000).expect("a store"), summary);
    assert_eq!(mode(&path), 0o600);
    assert_eq!(fs::read_dir(home.path()).expect("a list").count(), 2, "nothing else is left");
    let restored = open(&path);
    let after = all(&restored).await;
    assert_eq!(after.records, before.records, "objects keep their revisions");
    assert_eq!(after.revision, Revision(before.revision.0 + 1000));
    let error = restored.watch("/", before.revision).await.expect_err("that history is another's");
    assert!(matches!(error, StoreError::Compacted { .. }), "{error}");
    let mut watch = restored.watch("/", after.revision).await.expect("a watch");
    let next = restored.update("/a", before.records[0].modified, "3").await;
    assert_eq!(next, Revision(before.revision.0 + 1001));
    assert_eq!(told(&changes(&mut watch).await), ["/a: 2 > 3"]);
    // What came from a snapshot is swept like anything else.
    restored.compact(next).await.expect("a compaction");
    let last = restored.delete("/a", next).await;
    restored.compact(last).await.expect("a compaction");
    drop((restored, watch));
    assert_eq!(all(&open(&path)).await.records, before.records[1..]);
}

#[tokio::test]
async fn store_snapshot_is_of_one_revision() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("snapshot");
    let store = filled().await;
    let writing = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for number in 0..2000 {
                let key = format!("/{}/{number}", ["a", "z"][number % 2]);
                store.create(&key, "").await;
                tokio::task::yield_now().await;
            }
        }
    });
    let saved = snapshot::save(store.as_ref(), &file).await.expect("a snapshot");
    writing.await.expect("a writer");
    snapshot::restore(&file, &home.path().join("store.redb"), 0).expect("a store");
    let expected = Range { at: Some(saved.revision), ..Range::default() };
    let expected = store.list(expected).await.expect("a list");
    assert_eq!(all(&open(&home.path().join("store.redb"))).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_snapshot_goes_into_etcd_and_back() {
    let home = tempfile::tempdir().expect("a directory");
    let [first, second] = ["first", "second"].map(|name| home.path().join(name));
    let store = filled().await;
    snapshot::save(store.as_ref(), &first).await.expect("a snapshot");
    let subject = Subject::etcd().await;
    let etcd = &subject.store;
    assert_eq!(snapshot::restore_into(etcd.as_ref(), &first).await.expect("restored").records, 603);
    let contents = |page: Page| -> Vec<_> {
        page.records.into_iter().map(|record| (record.key, record.value)).collect()
    };
    let expected = contents(all(&store).await);
    assert_eq!(contents(all(etcd).await), expected);
    let error = snapshot::restore_into(etcd.as_ref(), &first).await.expect_err("it is not empty");
    assert!(matches!(error, SnapshotError::Occupied { .. }), "{error}");

    let revision = etcd.revision().await.expect("a revision");
    snapshot::save(etcd.as_ref(), &second).await.expect("a snapshot");
    let path = home.path().join("store.redb");
    assert_eq!(snapshot::restore(&second, &path, 0).expect("a store").revision, revision);
    assert_eq!(all(&open(&path)).await, all(etcd).await);
}

#[tokio::test]
async fn store_snapshot_that_is_damaged_changes_nothing() {
    let home = tempfile::tempdir().expect("a directory");
    let (file, path) = (home.path().join("snapshot"), home.path().join("store.redb"));
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    store.create("/a", "one").await;
    store.create("/b", "two").await;
    snapshot::save(store.as_ref(), &file).await.expect("a snapshot");
    let sound = fs::read(&file).expect("bytes");
    let empty: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let mut refused = 0;
    let flipped = (0..sound.len()).map(|at| {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x20;
        bytes
    });
    let cut = (0..sound.len()).map(|at| sound[..at].to_vec());
    let longer = std::iter::once([sound.as_slice(), b"x"].concat());
    for bytes in flipped.chain(cut).chain(longer) {
        fs::write(&file, bytes).expect("a file");
        let error = snapshot::restore(&file, &path, 0).expect_err("it is damaged");
        let known = matches!(error, SnapshotError::Damaged { .. } | SnapshotError::Later { .. });
        let short = matches!(&error, SnapshotError::File { what: "read", .. });
        assert!(known || short, "{error}");
        snapshot::restore_into(empty.as_ref(), &file).await.expect_err("it is damaged");
        refused += 1;
    }
    assert_eq!(refused, 2 * sound.len() + 1);
    assert_eq!(empty.revision().await.expect("a revision"), Revision(1));
    assert_eq!(fs::read_dir(home.path()).expect("a list").count(), 1, "nothing was made");
}

#[tokio::test]
async fn store_snapshot_of_a_later_version_or_to_an_occupied_place_is_refused() {
    let home = tempfile::tempdir().expect("a directory");
    let (file, path) = (home.path().join("snapshot"), home.path().join("store.redb"));
    let store = filled().await;
    snapshot::save(store.as_ref(), &file).await.expect("a snapshot");
    fs::write(&path, "mine").expect("a file");
    let error = snapshot::restore(&file, &path, 0).expect_err("something is there");
    assert!(matches!(error, SnapshotError::Occupied { .. }), "{error}");
    assert_eq!(fs::read(&path).expect("a file"), b"mine");

    let mut later = fs::read(&file).expect("bytes");
    later[16] = 2;
    fs::write(&file, later).expect("a file");
    let error = snapshot::restore(&file, &home.path().join("other"), 0).expect_err("it is later");
    assert!(matches!(error, SnapshotError::Later { version: 2, .. }), "{error}");
    assert!(!home.path().join("other").exists());

    let nowhere = home.path().join("none/snapshot");
    let error = snapshot::save(store.as_ref(), &nowhere).await.expect_err("no such directory");
    assert!(matches!(error, SnapshotError::File { .. }), "{error}");
}
