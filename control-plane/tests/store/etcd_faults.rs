//! What happens to a store in etcd when members die, and who may speak to it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use heddle_server::store::etcd::{EtcdConfig, EtcdStore};
use heddle_server::store::{Condition, Outcome, Range, Revision, Store, StoreError};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::etcd_server::{Certificates, Cluster};
use crate::events::{self, changes, changes_until, told};
use crate::subject::{StoreExt, put};

const WRITERS: usize = 8;
const WRITES: usize = 60;

/// What writers were told of their keys; `None`: nobody knows.
type Told = BTreeMap<String, Option<Revision>>;

async fn write_keys(store: Arc<dyn Store>, writer: usize, done: Arc<AtomicUsize>) -> Told {
    let mut told = Told::new();
    for number in 0..WRITES {
        let key = format!("/k/{writer}/{number:03}");
        let outcome = match store.commit(vec![put(&key, Condition::Absent, &key)]).await {
            Ok(Outcome::Committed(revision)) => Some(revision),
            Ok(refused @ Outcome::Refused(..)) => panic!("a new key was refused: {refused:?}"),
            Err(StoreError::Unavailable { .. }) => None,
            Err(error) => panic!("{error}"),
        };
        told.insert(key, outcome);
        done.fetch_add(1, Ordering::Relaxed);
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_store_keeps_what_it_acknowledged_when_the_leader_is_killed() {
    let mut cluster = Cluster::start(3).await;
    let config = EtcdConfig { timeout: Duration::from_secs(20), ..cluster.config() };
    let store: Arc<dyn Store> = Arc::new(EtcdStore::connect(config).await.expect("a store"));
    let start = store.revision().await.expect("a revision");
    let watching = tokio::spawn(all_changes(Arc::clone(&store), start));
    let done = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write_keys(Arc::clone(&store), writer, Arc::clone(&done))))
        .collect();
    while done.load(Ordering::Relaxed) < WRITERS * WRITES / 4 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let leader = cluster.leader().await;
    cluster.members[leader].kill();
    assert!(done.load(Ordering::Relaxed) < WRITERS * WRITES, "the member was killed too late");

    let mut told = Told::new();
    for writer in writers {
        told.extend(writer.await.expect("a writer"));
    }
    let last = write_the_end(&store).await;
    let page =
        store.list(Range { prefix: "/k/".into(), ..Range::default() }).await.expect("a list");
    let held: BTreeMap<_, _> =
        page.records.iter().map(|record| (record.key.clone(), record.modified)).collect();
    let known = told.values().flatten().count();
    assert!(known > WRITERS * WRITES / 4, "nothing was written after the kill: {known}");
    for (key, told) in &told {
        if let Some(revision) = told {
            assert_eq!(held.get(key), Some(revision), "{key} was acknowledged");
        }
    }
    assert!(held.keys().all(|key| key == "/k/end" || told.contains_key(key)));

    // The watch lost its member or not: it saw every key once, in order.
    let seen = watching.await.expect("a watcher");
    assert!(seen.is_sorted_by(|a, b| a.1 < b.1));
    assert_eq!(seen.last().map(|(_, revision)| *revision), Some(last));
    assert_eq!(seen.into_iter().collect::<BTreeMap<_, _>>(), held);
}

/// Writes `/k/end`, whatever becomes of the answers.
async fn write_the_end(store: &Arc<dyn Store>) -> Revision {
    loop {
        if let Some(record) = store.get("/k/end").await.expect("a majority is there") {
            return record.modified;
        }
        match store.commit(vec![put("/k/end", Condition::Absent, "")]).await {
            Ok(_) | Err(StoreError::Unavailable { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// What a client sees until `/k/end` is written; when it is cut for being slow it goes on where it was.
async fn all_changes(store: Arc<dyn Store>, start: Revision) -> Vec<(String, Revision)> {
    let mut seen: Vec<(String, Revision)> = Vec::new();
    loop {
        let after = seen.last().map_or(start, |(_, revision)| *revision);
        let mut watch = match store.watch("/k/", after).await {
            Ok(watch) => watch,
            Err(StoreError::Unavailable { .. }) => continue,
            Err(error) => panic!("{error}"),
        };
        loop {
            match events::next(&mut watch).await.expect("it goes on") {
                Ok(heddle_server::store::Notice::Changes(events)) => {
                    seen.extend(events.into_iter().map(|event| (event.key, event.revision)));
                }
                Ok(heddle_server::store::Notice::Progress(_)) => {}
                Err(StoreError::SlowWatcher { .. }) => break,
                Err(error) => panic!("{error}"),
            }
            if seen.last().is_some_and(|(key, _)| key == "/k/end") {
                return seen;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_store_watches_outlive_their_member() {
    let mut cluster = Cluster::start(1).await;
    let store: Arc<dyn Store> = Arc::new(cluster.store().await);
    let start = store.revision().await.expect("a revision");
    let mut watch = store.watch("/", start).await.expect("a watch");
    let one = store.create("/a", "1").await;
    assert_eq!(told(&changes(&mut watch).await), ["/a: - > 1"]);

    cluster.members[0].restart();
    // A read is tried again until the member is back.
    assert_eq!(store.text("/a").await.as_deref(), Some("1"));
    let mut last = one;
    for number in 2..20 {
        last = store.update("/a", last, &number.to_string()).await;
    }
    let events = changes_until(&mut watch, last).await;
    let expected: Vec<_> = (2..20).map(|number| format!("/a: {} > {number}", number - 1)).collect();
    assert_eq!(told(&events), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_store_says_so_when_nobody_answers() {
    let mut cluster = Cluster::start(1).await;
    let config = EtcdConfig { timeout: Duration::from_secs(1), ..cluster.config() };
    let store: Arc<dyn Store> =
        Arc::new(EtcdStore::connect(config.clone()).await.expect("a store"));
    cluster.members[0].kill();
    let write = store.commit(vec![put("/a", Condition::Absent, "1")]).await;
    let errors = [
        write.expect_err("nobody is there"),
        store.get("/a").await.expect_err("nobody is there"),
        store.list(Range::default()).await.expect_err("nobody is there"),
        store.watch("/", Revision(1)).await.expect_err("nobody is there"),
        store.revision().await.expect_err("nobody is there"),
        store.compact(Revision(1)).await.expect_err("nobody is there"),
        EtcdStore::connect(config).await.expect_err("nobody is there"),
    ];
    for error in errors {
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains(&cluster.members[0].client), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_store_tells_more_than_fits_in_a_message() {
    let cluster = Cluster::start(1).await;
    let store: Arc<dyn Store> = Arc::new(cluster.store().await);
    let start = store.revision().await.expect("a revision");
    let large = "x".repeat(1_000_000);
    for number in 0..8 {
        store.create(&format!("/large/{number}"), &large).await;
    }
    for batch in 0..21 {
        let keys = (0..60).map(|number| format!("/many/{batch:02}/{number:02}"));
        store.done(keys.map(|key| put(&key, Condition::Absent, "")).collect()).await;
    }
    let below = |prefix: &str| Range { prefix: prefix.into(), ..Range::default() };
    let page = store.list(below("/large/")).await.expect("more than 4 MB");
    assert_eq!(page.records.len(), 8);
    let page = store.list(below("/many/")).await.expect("more than one chunk");
    assert_eq!((page.records.len(), page.remaining), (1260, 0));
    assert!(page.records.is_sorted_by(|a, b| a.key < b.key));
    let page = store.list(Range { limit: 1100, ..below("/many/") }).await.expect("a page");
    assert_eq!((page.records.len(), page.remaining), (1100, 160));
    let mut watch = store.watch("/large/", start).await.expect("a watch");
    for _ in 0..8 {
        assert_eq!(changes(&mut watch).await.len(), 1);
    }
}

fn write(home: &Path, name: &str, text: &str) -> PathBuf {
    let path = home.join(name);
    fs::write(&path, text).expect("a file");
    path
}

fn certificates(home: &Path) -> Certificates {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new([]).expect("names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = write(home, "ca.crt", &params.self_signed(&key).expect("a certificate").pem());
    let issuer = Issuer::new(params, key);
    let signed = |name: &str| {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["127.0.0.1".into()]).expect("names");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate").pem();
        let certificate = write(home, &format!("{name}.crt"), &certificate);
        (certificate, write(home, &format!("{name}.key"), &key.serialize_pem()))
    };
    Certificates { ca, server: signed("server"), client: signed("client") }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_store_speaks_tls_and_shows_its_certificate() {
    let cluster = Cluster::start_with(1, |home| Some(certificates(home))).await;
    let store: Arc<dyn Store> = Arc::new(cluster.store().await);
    let made = store.create("/a", "1").await;
    let mut watch = store.watch("/", Revision(made.0 - 1)).await.expect("a watch");
    assert_eq!(told(&changes(&mut watch).await), ["/a: - > 1"]);

    let config = EtcdConfig { timeout: Duration::from_secs(2), ..cluster.config() };
    let tls = config.tls.clone().expect("TLS");
    let nobody = heddle_server::store::etcd::EtcdTls { identity: None, ..tls.clone() };
    let stranger = heddle_server::store::etcd::EtcdTls {
        ca: tls.identity.as_ref().map(|i| i.0.clone()),
        ..tls
    };
    for (tls, why) in
        [(Some(nobody), "no certificate of ours"), (Some(stranger), "another CA"), (None, "no TLS")]
    {
        let error = EtcdStore::connect(EtcdConfig { tls, ..config.clone() }).await;
        assert!(matches!(error, Err(StoreError::Unavailable { .. })), "{why}: {error:?}");
    }
    let missing = heddle_server::store::etcd::EtcdTls {
        ca: Some(cluster.home.path().join("none")),
        identity: None,
    };
    let error =
        EtcdStore::connect(EtcdConfig { tls: Some(missing), ..config }).await.expect_err("no file");
    assert!(
        matches!(&error, StoreError::Unusable { reason, .. } if reason.contains("none")),
        "{error}"
    );
}
