//! Large lists: many at once, slow clients, and those who ask for little meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use heddle_server::http::limits::LimitsConfig;
use heddle_server::memory;
use heddle_server::store::memory::MemoryStore;
use heddle_server::store::redb::{RedbConfig, RedbStore};
use heddle_server::store::{Condition, Operation, Store, Write};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::client::Fixture;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Config maps of a kilobyte each.
async fn fill(store: &Arc<dyn Store>, count: usize) {
    let text = "x".repeat(800);
    for begin in (0..count).step_by(100) {
        let operations = (begin..(begin + 100).min(count)).map(|number| {
            let name = format!("m{number:06}");
            let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": text},
                "metadata": {"name": name, "namespace": "default", "uid": name}});
            let write = Write::Put(object.to_string().into());
            let key = format!("/registry/configmaps/default/{name}");
            Operation { key, condition: Condition::Absent, write }
        });
        store.commit(operations.collect()).await.expect("written");
    }
}

async fn rest(mut body: Incoming, mut read: usize) -> Result<usize, hyper::Error> {
    while let Some(frame) = body.frame().await {
        read += frame?.into_data().map_or(0, |data| data.len());
    }
    Ok(read)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_list_everything_and_read_slowly_need_little_memory() {
    const CLIENTS: usize = 20;
    memory::economise();
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("store.redb");
    let store: Arc<dyn Store> =
        Arc::new(RedbStore::open(&path, RedbConfig::default()).expect("a store"));
    fill(&store, 20_000).await;
    let server = Fixture::on(store).await;
    let one = server.get(&format!("{MAPS}?limit=100")).await;
    let before = memory::resident().expect("the kernel tells");
    let mut bodies = Vec::new();
    for _ in 0..CLIENTS {
        let answer = server.open("GET", MAPS, &[], "").await;
        assert_eq!(answer.status(), 200);
        bodies.push((answer.into_body(), 0));
    }
    let mut most = before;
    for _ in 0..30 {
        for (body, read) in &mut bodies {
            let frame = body.frame().await.expect("there is more").expect("a frame");
            *read += frame.into_data().map_or(0, |data| data.len());
        }
        most = most.max(memory::resident().expect("the kernel tells"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let all = one.text.len() / 100 * 20_000 * CLIENTS;
    let grown = most - before;
    assert!(grown < 160 << 20, "{grown} bytes for lists of {all} bytes together");
    let (body, read) = bodies.swap_remove(0);
    drop(bodies);
    let read = rest(body, read).await.expect("all of it");
    assert!(read > one.text.len() / 100 * 19_990, "{read}");
}

#[tokio::test]
async fn who_finds_no_room_is_told_to_come_back_and_small_requests_pass() {
    // room for one large list of a user
    let limits = LimitsConfig { list_bytes: 6 << 20, ..LimitsConfig::default() };
    let server = Fixture::with(limits).await;
    fill(&server.store, 8_000).await;
    let first = server.open("GET", MAPS, &[], "").await;
    assert_eq!(first.status(), 200);
    let second = server.get(MAPS);
    let small = async {
        for _ in 0..20 {
            assert_eq!(server.get(&format!("{MAPS}/m000001")).await.code, 200);
            assert_eq!(server.get(&format!("{MAPS}?limit=200")).await.code, 200);
        }
    };
    let (second, ()) = tokio::join!(second, small);
    assert_eq!(second.code, 429, "{}", second.text);
    assert_eq!(second.headers["retry-after"], "1");
    let metrics = server.get("/metrics").await.text;
    let in_flight = |kind: &str| {
        let line = metrics.lines().find(|line| {
            line.starts_with("apiserver_current_inflight_requests") && line.contains(kind)
        });
        line.and_then(|line| line.rsplit(' ').next()).expect("a number").to_owned()
    };
    assert_eq!(in_flight("readOnly"), "2", "the list that is being sent, and this request");
    let read = rest(first.into_body(), 0).await.expect("all of it");
    assert!(read > 8_000 * 800);
    for _ in 0..3 {
        assert_eq!(server.get(MAPS).await.code, 200, "there is room again");
    }
}

#[tokio::test]
async fn a_small_request_does_not_wait_for_a_huge_list() {
    for coding in ["identity", "gzip"] {
        let server = Arc::new(Fixture::new().await);
        fill(&server.store, 10_000).await;
        let ended = Arc::new(AtomicBool::new(false));
        let listing = tokio::spawn({
            let (server, ended) = (server.clone(), ended.clone());
            async move {
                let answer = server.open("GET", MAPS, &[("accept-encoding", coding)], "").await;
                assert_eq!(answer.headers().contains_key("content-encoding"), coding == "gzip");
                let read = rest(answer.into_body(), 0).await;
                ended.store(true, Ordering::Relaxed);
                read
            }
        });
        let mut answered = 0;
        while !ended.load(Ordering::Relaxed) {
            assert_eq!(server.get(&format!("{MAPS}/m000001")).await.code, 200);
            answered += 1;
        }
        listing.await.expect("no panic").expect("all of it");
        // about six parts: had one thread made them, there would be a few answers between two of them
        assert!(answered > 30, "{answered} answers while the list was made ({coding})");
    }
}

#[tokio::test]
async fn half_of_a_list_does_not_pass_for_all_of_it() {
    let server = Fixture::on(Arc::new(MemoryStore::default())).await;
    fill(&server.store, 30_000).await;
    let mut body = server.open("GET", MAPS, &[], "").await.into_body();
    body.frame().await.expect("there is more").expect("a frame");
    // what the list is read at is forgotten
    let space = server.post("/api/v1/namespaces", json!({"metadata": {"name": "x"}})).await;
    assert_eq!(space.code, 201);
    let latest = server.store.revision().await.expect("a revision");
    server.store.compact(latest).await.expect("compacted");
    assert!(rest(body, 0).await.is_err(), "the connection breaks");
    assert_eq!(server.get(&format!("{MAPS}?limit=2")).await.code, 200);
}

#[tokio::test]
async fn yaml_says_what_json_says() {
    let server = Fixture::new().await;
    fill(&server.store, 3_000).await;
    let hard = json!({"metadata": {"name": "hard"}, "data": {"k": "a: b\n- c\n\n  d\n", "n": "12", "e": "", "t": "\t#x"}});
    assert_eq!(server.post(MAPS, hard).await.code, 201);
    let select = format!("{MAPS}?fieldSelector=metadata.name%3Dhard");
    let secrets = "/api/v1/namespaces/default/secrets".to_owned();
    for path in [MAPS.to_owned(), select, secrets, format!("{MAPS}?limit=3")] {
        for form in
            ["", ";as=Table;v=v1;g=meta.k8s.io", ";as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"]
        {
            let read = async |media: &str| {
                let accept = format!("application/{media}{form}");
                let answer = server.ask("GET", &path, &[("accept", &accept)], "").await;
                assert!(answer.headers["content-type"].to_str().expect("text").contains(media));
                answer.text
            };
            let mut json: Value = serde_json::from_str(&read("json").await).expect("JSON");
            let mut yaml: Value = serde_saphyr::from_str(&read("yaml").await).expect("YAML");
            // ages may have moved on by a second
            for value in [&mut json, &mut yaml] {
                for row in value["rows"].as_array_mut().into_iter().flatten() {
                    row["cells"].as_array_mut().expect("cells").pop();
                }
            }
            assert_eq!(yaml, json, "{path} {form}");
        }
    }
}
