//! Snapshots of a server that runs.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use heddle_server::command::snapshot::{Action, Place};
use heddle_server::server::Storage;
use heddle_server::store::redb::{RedbConfig, RedbStore};
use heddle_server::store::{Condition, Operation, Range, Revision, Store, Write, snapshot};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::secure::{Secure, lines};

const PATH: &str = "/heddle/v1/snapshot";

fn redb(path: &Path) -> Arc<dyn Store> {
    Arc::new(RedbStore::open(path, RedbConfig::default()).expect("a store"))
}

async fn put(store: &Arc<dyn Store>, key: String, bytes: usize) {
    let write = Write::Put(vec![b'x'; bytes].into());
    let operation = Operation { key, condition: Condition::Absent, write };
    store.commit(vec![operation]).await.expect("written");
}

/// A kubeconfig for a token, and with an authority for TLS.
fn kubeconfig(at: &Path, server: &str, authority: Option<&Path>, token: &str) -> PathBuf {
    let mut cluster = json!({"server": server});
    if let Some(authority) = authority {
        let pem = std::fs::read(authority).expect("an authority");
        cluster["certificate-authority-data"] = json!(STANDARD.encode(pem));
    }
    let config = json!({
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    });
    let path = at.join(format!("{token}.kubeconfig"));
    std::fs::write(&path, config.to_string()).expect("written");
    path
}

fn save(file: &Path, kubeconfig: Option<PathBuf>, data_dir: &Path) -> Action {
    let from = Place { data_dir: data_dir.to_owned(), storage: Storage::default() };
    Action::Save { file: file.to_owned(), from, kubeconfig, server: None }
}

/// A server on a file, whose clients find it as `boss`.
async fn running(home: &Path) -> (Secure, Arc<dyn Store>, PathBuf) {
    let store = redb(&home.join("store.redb"));
    let server = Secure::on(store.clone(), |config, _| {
        let policy = home.join("policy.yaml");
        let rules = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: RequestResponse, nonResourceURLs: [/heddle*]}]\n";
        std::fs::write(&policy, rules).expect("written");
        config.audit_policy_file = Some(policy);
        config.audit_log_path = Some(home.join("audit.log"));
    });
    let server = server.await.expect("a server");
    let url = format!("https://localhost:{}", server.running.address.port());
    let authority = server.data.path().join("pki/ca.crt");
    let config = kubeconfig(home, &url, Some(&authority), "boss");
    (server, store, config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_server_is_saved_while_it_is_written_to() {
    let home = tempfile::tempdir().expect("a directory");
    let (server, store, config) = running(home.path()).await;
    for number in 0..40 {
        put(&store, format!("/registry/old/{number:05}"), 100_000).await;
    }
    let ended = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let (store, ended) = (store.clone(), ended.clone());
        async move {
            let mut number = 0;
            while !ended.load(Ordering::Relaxed) {
                // what comes late in the order of keys, and what comes early
                put(&store, format!("/registry/zz/{number:05}"), 1000).await;
                put(&store, format!("/registry/aa/{number:05}"), 1000).await;
                number += 1;
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        }
    });
    let file = home.path().join("saved");
    let said = save(&file, Some(config), home.path()).run().await.expect("it is saved");
    ended.store(true, Ordering::Relaxed);
    writing.await.expect("a writer");

    let revision: u64 =
        said.split(' ').nth(5).and_then(|word| word.parse().ok()).expect("a revision");
    let then = Range { at: Some(Revision(revision)), ..Range::default() };
    let then = store.list(then).await.expect("the state then");
    assert!(then.records.len() >= 40);
    snapshot::restore(&file, &home.path().join("restored.redb"), 0).expect("it is restored");
    let restored = redb(&home.path().join("restored.redb"));
    assert_eq!(restored.list(Range::default()).await.expect("a list"), then);
    assert_eq!(std::fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);

    // without a word about where it is: the administrator's kubeconfig of the data directory
    let data = server.data.path();
    std::fs::hard_link(home.path().join("store.redb"), data.join("store.redb")).expect("linked");
    let own = kubeconfig(data, "", None, "x");
    let url = format!("https://localhost:{}", server.running.address.port());
    let text = std::fs::read_to_string(data.join("pki/admin.kubeconfig")).expect("a kubeconfig");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config["clusters"][0]["cluster"]["server"] = json!(url);
    std::fs::write(data.join("pki/admin.kubeconfig"), config.to_string()).expect("written");
    std::fs::remove_file(own).expect("removed");
    let said = save(&home.path().join("second"), None, data).run().await.expect("saved");
    assert!(said.starts_with("saved "), "{said}");

    let all = lines(&home.path().join("audit.log"), PATH, 6).await;
    let boss = all.iter().filter(|line| line["user"]["username"] == "boss");
    let stages: Vec<&str> = boss.filter_map(|line| line["stage"].as_str()).collect();
    assert_eq!(stages, ["RequestReceived", "ResponseStarted", "ResponseComplete"]);
}

#[tokio::test]
async fn only_who_may_do_everything_gets_a_snapshot() {
    let home = tempfile::tempdir().expect("a directory");
    let (server, _, _) = running(home.path()).await;
    let role = json!({"metadata": {"name": "paths"}, "rules": [{"nonResourceURLs": ["*"], "verbs": ["get"]}]});
    server.made("/apis/rbac.authorization.k8s.io/v1/clusterroles", role).await;
    let binding = json!({"metadata": {"name": "paths"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "paths"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "ada"}]});
    server.made("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await;
    for user in ["ada", "n1", "builder"] {
        assert_eq!(server.ask(user, ("POST", PATH), Value::Null).await.code, 403, "{user}");
    }
    let port = server.running.address.port();
    let authority = server.data.path().join("pki/ca.crt");
    let url = format!("https://localhost:{port}");
    let config = kubeconfig(home.path(), &url, Some(&authority), "ada");
    let file = home.path().join("none");
    let error = save(&file, Some(config), home.path()).run().await.expect_err("she may not");
    assert!(
        error.to_string().contains("403") && error.to_string().contains("cannot post path"),
        "{error}"
    );
    assert!(!file.exists());
    assert_eq!(server.get("boss", PATH).await.code, 405, "it is no GET");

    // one at a time, and the next one when the first is done
    let begun = server.open("boss", ("POST", PATH), &[], &Value::Null).await;
    assert_eq!(begun.status(), 200);
    assert_eq!(begun.headers()["cache-control"], "no-store");
    begun.into_body().collect().await.expect("a snapshot");
    for _ in 0..100 {
        if server.open("boss", ("POST", PATH), &[], &Value::Null).await.status() == 200 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the turn is not given back");
}

/// Answers each request with a snapshot, as far as it goes and as it is ended.
async fn half_server(body: Vec<u8>, ending: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let head = format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n",
                body.len()
            );
            for part in [head.as_bytes(), &body, ending] {
                let _ = stream.write_all(part).await;
            }
        }
    });
    url
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_nothing_behind() {
    let home = tempfile::tempdir().expect("a directory");
    let store = redb(&home.path().join("store.redb"));
    for number in 0..20 {
        put(&store, format!("/registry/x/{number}"), 1000).await;
    }
    let whole = home.path().join("whole");
    snapshot::save(&*store, &whole).await.expect("saved");
    let whole = std::fs::read(whole).expect("bytes");
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("mine");
    std::fs::write(&file, "an older one").expect("written");
    let killed = place.path().join(".mine.4194999.saving");
    std::fs::write(&killed, "half of it").expect("written");
    let mut changed = whole.clone();
    changed[5000] ^= 1;
    for (body, ending, why) in [
        (whole[..9000].to_vec(), &b""[..], "the connection breaks"),
        (whole.clone(), b"", "the last bytes are there, but not the end of the answer"),
        (whole[..9000].to_vec(), b"\r\n0\r\n\r\n", "it ends too early"),
        (changed, b"\r\n0\r\n\r\n", "a bit is another"),
        (Vec::new(), b"\r\n0\r\n\r\n", "nothing is sent"),
    ] {
        let url = half_server(body, ending).await;
        let config = kubeconfig(home.path(), &url, None, "t");
        let error = save(&file, Some(config), home.path()).run().await.expect_err(why);
        let said = error.to_string();
        assert!(
            said.contains("did not arrive whole") && said.contains("try again"),
            "{why}: {said}"
        );
        assert_eq!(std::fs::read(&file).expect("a file"), b"an older one", "{why}");
        assert_eq!(std::fs::read_dir(place.path()).expect("a list").count(), 1, "{why}");
    }
    let url = half_server(whole.clone(), b"\r\n0\r\n\r\n").await;
    let config = kubeconfig(home.path(), &url, None, "t");
    save(&file, Some(config), home.path()).run().await.expect("it is whole");
    assert_eq!(std::fs::read(&file).expect("a file"), whole);
}
