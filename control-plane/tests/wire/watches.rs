//! Watches over HTTP.

use crate::client::Fixture;
use heddle_server::http::limits::LimitsConfig;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn make(server: &Fixture, name: &str, labels: Value) -> u64 {
    let made =
        server.post(MAPS, json!({"metadata": {"name": name, "labels": labels}})).await.json();
    made["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

async fn label(server: &Fixture, name: &str, labels: Value) {
    let answer = server
        .patch(&format!("{MAPS}/{name}"), "merge", json!({"metadata": {"labels": labels}}))
        .await;
    assert_eq!(answer.code, 200, "{}", answer.text);
}

#[tokio::test]
async fn every_change_is_told_once_and_in_order() {
    let server = Fixture::new().await;
    let start = make(&server, "a", json!({})).await;
    let mut watch = server.watch(&format!("{MAPS}?watch=true&resourceVersion={start}")).await;
    make(&server, "b", json!({})).await;
    label(&server, "b", json!({"x": "1"})).await;
    server.delete(&format!("{MAPS}/b"), json!({})).await;
    let mut last = start;
    for expected in ["ADDED", "MODIFIED", "DELETED"] {
        let (what, name, revision) = watch.short().await;
        assert_eq!((what.as_str(), name.as_str()), (expected, "b"));
        assert!(revision > last, "the deletion has a revision of its own");
        last = revision;
    }
}

#[tokio::test]
async fn an_object_that_leaves_the_selection_is_deleted_for_the_watcher() {
    let server = Fixture::new().await;
    let start = make(&server, "a", json!({})).await;
    let mut watch = server
        .watch(&format!("{MAPS}?watch=true&resourceVersion={start}&labelSelector=x%3D1"))
        .await;
    label(&server, "a", json!({"x": "1"})).await;
    label(&server, "a", json!({"y": "1"})).await;
    label(&server, "a", json!({"x": "2"})).await;
    label(&server, "a", json!({"y": "2"})).await;
    label(&server, "a", json!({"x": "1"})).await;
    for expected in ["ADDED", "MODIFIED", "DELETED", "ADDED"] {
        assert_eq!(watch.short().await.0, expected);
    }
}

#[tokio::test]
async fn a_list_as_a_watch_ends_with_a_marked_bookmark() {
    let server = Fixture::new().await;
    make(&server, "a", json!({})).await;
    let last = make(&server, "b", json!({})).await;
    let query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = server.watch(&format!("{MAPS}?{query}")).await;
    assert_eq!(watch.short().await.1, "a");
    assert_eq!(watch.short().await.1, "b");
    let bookmark = watch.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(bookmark["object"]["metadata"]["resourceVersion"], last.to_string());
    make(&server, "c", json!({})).await;
    assert_eq!(watch.short().await.1, "c");
}

#[tokio::test]
async fn a_watch_from_before_the_window_catches_up_with_it() {
    let server = Fixture::new().await;
    let start = make(&server, "a", json!({})).await;
    make(&server, "b", json!({})).await;
    // the window begins with the first watcher of the kind, so after b
    let _first = server.watch(&format!("{MAPS}?watch=true")).await;
    make(&server, "c", json!({})).await;
    let mut late = server.watch(&format!("{MAPS}?watch=true&resourceVersion={start}")).await;
    make(&server, "d", json!({})).await;
    for expected in ["b", "c", "d"] {
        assert_eq!(late.short().await.1, expected);
    }
}

#[tokio::test]
async fn history_that_is_gone_is_an_error_within_the_watch() {
    let server = Fixture::new().await;
    let start = make(&server, "a", json!({})).await;
    make(&server, "b", json!({})).await;
    server.store.compact(server.store.revision().await.unwrap()).await.unwrap();
    let mut watch = server.watch(&format!("{MAPS}?watch=true&resourceVersion={start}")).await;
    let event = watch.next().await.unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["code"], &event["object"]["reason"]),
        (&json!("ERROR"), &json!(410), &json!("Expired"))
    );
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn bad_watches_are_refused() {
    let server = Fixture::new().await;
    for (query, code) in [
        ("watch=maybe", 400),
        ("watch=true&resourceVersion=x", 400),
        ("watch=true&resourceVersion=999999", 504),
        ("watch=true&sendInitialEvents=true", 400),
        ("watch=true&timeoutSeconds=-1", 400),
        ("watch=true&labelSelector=%3D%3D", 400),
    ] {
        assert_eq!(server.get(&format!("{MAPS}?{query}")).await.code, code, "{query}");
    }
    assert_eq!(server.get(&format!("{MAPS}?watch=true&timeoutSeconds=1")).await.code, 200);
}

#[tokio::test]
async fn a_table_is_watched_with_its_columns_once() {
    let server = Fixture::new().await;
    make(&server, "a", json!({})).await;
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let answer = server.open("GET", &format!("{MAPS}?watch=true"), &accept, "").await;
    let mut watch = crate::client::Lines::of(answer);
    make(&server, "b", json!({})).await;
    let (first, second) = (watch.next().await.unwrap(), watch.next().await.unwrap());
    assert_eq!(first["object"]["columnDefinitions"][1]["name"], "Data");
    assert_eq!(second["object"]["columnDefinitions"], Value::Null);
    assert_eq!(second["object"]["rows"][0]["cells"][0], "b");
}

#[tokio::test]
async fn watches_of_a_user_are_counted() {
    let limits = LimitsConfig { watches_per_user: 1, ..LimitsConfig::default() };
    let server = Fixture::with(limits).await;
    let first = server.watch(&format!("{MAPS}?watch=true")).await;
    let second = server.get(&format!("{MAPS}?watch=true")).await;
    assert_eq!((second.code, second.headers["retry-after"].to_str().unwrap()), (429, "1"));
    drop(first);
    for _ in 0..600 {
        if server.open("GET", &format!("{MAPS}?watch=true"), &[], "").await.status().as_u16() == 200
        {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the slot of a watch that ended was not given back");
}

#[tokio::test]
async fn the_end_of_the_server_ends_watches() {
    let server = Fixture::new().await;
    let mut watch = server.watch(&format!("{MAPS}?watch=true")).await;
    server.running.end().await;
    assert!(watch.next().await.is_none());
}

/// Three times what a window holds, in objects so large that no socket's buffer swallows them.
#[tokio::test]
async fn a_watcher_that_does_not_read_is_cut_off_and_holds_up_nobody() {
    const COUNT: usize = 30;
    let server = Fixture::new().await;
    let query = "watch=true&resourceVersion=";
    let start = make(&server, "a", json!({})).await;
    let mut slow = server.watch(&format!("{MAPS}?{query}{start}")).await;
    let mut quick = server.watch(&format!("{MAPS}?{query}{start}")).await;
    let value = "x".repeat(900 * 1024);
    for index in 0..COUNT {
        let name = format!("c{index:02}");
        let object = json!({"metadata": {"name": name}, "data": {"k": value}});
        assert_eq!(server.post(MAPS, object).await.code, 201);
        assert_eq!(quick.short().await.1, name, "who reads is told at once");
    }
    let mut told = Vec::new();
    while let Some(event) = slow.next().await {
        assert_eq!(event["type"], "ADDED");
        told.push(event["object"]["metadata"]["name"].as_str().unwrap().to_owned());
    }
    assert!(told.len() < COUNT, "it was told all {COUNT} of them");
    let expected: Vec<_> = (0..told.len()).map(|index| format!("c{index:02}")).collect();
    assert_eq!(told, expected, "what it was told before has no gap");
}
