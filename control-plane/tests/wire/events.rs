//! Events in both of their forms.

use serde_json::{Value, json};

use crate::client::Fixture;

const OLD: &str = "/api/v1/namespaces/default/events";
const NEW: &str = "/apis/events.k8s.io/v1/namespaces/default/events";

/// As client-go's recorder of `events.k8s.io/v1` sends it.
fn new_form(name: &str) -> Value {
    json!({
        "metadata": {"name": name}, "eventTime": "2026-01-01T00:09:00.000000Z", "type": "Normal",
        "reportingController": "kubernetes.io/kubelet", "reportingInstance": "kubelet-n1", "action": "Pull",
        "reason": "Pulled", "note": "image is there", "regarding": {"kind": "Pod", "name": "web", "namespace": "default"},
    })
}

/// As client-go's recorder of `v1` sends it.
fn old_form(name: &str) -> Value {
    json!({
        "metadata": {"name": name}, "type": "Warning", "reason": "BackOff", "message": "again", "count": 3,
        "involvedObject": {"kind": "Pod", "name": "db", "namespace": "default"}, "source": {"component": "kubelet", "host": "n1"},
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:09:30Z",
    })
}

#[tokio::test]
async fn each_form_reads_what_the_other_wrote() {
    let server = Fixture::new().await;
    let begin = server.get(NEW).await.json()["metadata"]["resourceVersion"].clone();
    let since = |path: &str| {
        format!("{path}?watch=true&resourceVersion={}", begin.as_str().expect("a revision"))
    };
    let (mut old_watch, mut new_watch) =
        (server.watch(&since(OLD)).await, server.watch(&since(NEW)).await);
    let made = server.post(NEW, new_form("a")).await;
    assert_eq!(made.code, 201, "{}", made.text);
    assert_eq!(
        (&made.json()["apiVersion"], &made.json()["note"]),
        (&json!("events.k8s.io/v1"), &json!("image is there"))
    );
    assert_eq!(server.post(OLD, old_form("b")).await.code, 201);

    let seen = server.get(&format!("{OLD}/a")).await.json();
    assert_eq!((&seen["apiVersion"], &seen["message"]), (&json!("v1"), &json!("image is there")));
    assert_eq!(seen["involvedObject"]["name"], "web");
    assert_eq!(seen["reportingComponent"], "kubernetes.io/kubelet");
    assert!(seen["note"].is_null() && seen["regarding"].is_null());

    let seen = server.get(&format!("{NEW}/b")).await.json();
    assert_eq!((&seen["note"], &seen["deprecatedCount"]), (&json!("again"), &json!(3)));
    assert_eq!(seen["deprecatedSource"], json!({"component": "kubelet", "host": "n1"}));
    assert_eq!(seen["deprecatedFirstTimestamp"], "2026-01-01T00:00:00Z");
    assert_eq!(seen["deprecatedLastTimestamp"], "2026-01-01T00:09:30Z");
    assert!(["count", "source", "message"].iter().all(|field| seen[*field].is_null()), "{seen}");

    for (watch, version) in [(&mut old_watch, "v1"), (&mut new_watch, "events.k8s.io/v1")] {
        for name in ["a", "b"] {
            let event = watch.next().await.expect("an event");
            assert_eq!(
                (&event["object"]["metadata"]["name"], &event["object"]["apiVersion"]),
                (&json!(name), &json!(version))
            );
        }
    }
    let chosen = server.get(&format!("{NEW}?fieldSelector=regarding.name%3Ddb")).await.json();
    assert_eq!(chosen["kind"], "EventList");
    assert_eq!(chosen["items"][0]["metadata"]["name"], "b");
    assert_eq!(chosen["items"].as_array().expect("a list").len(), 1);
    let headers = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = server.ask("GET", NEW, &headers, "").await.json();
    let cells = |row: usize| table["rows"][row]["cells"].clone();
    assert_eq!((&cells(0)[3], &cells(0)[6]), (&json!("pod/web"), &json!("image is there")));
    assert_eq!((&cells(1)[3], &cells(1)[8]), (&json!("pod/db"), &json!(3)));
}

#[tokio::test]
async fn a_series_goes_on_and_the_rest_stays() {
    let server = Fixture::new().await;
    server.post(NEW, new_form("a")).await;
    let series = json!({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:10:00.000000Z"}});
    let one = format!("{NEW}/a");
    let patched = server.patch(&one, "strategic-merge", series.clone()).await;
    assert_eq!(patched.code, 200, "{}", patched.text);
    assert_eq!(server.get(&format!("{OLD}/a")).await.json()["series"], series["series"]);
    let refused = server.patch(&one, "merge", json!({"note": "other"})).await;
    assert_eq!(refused.code, 422);
    // mistakes are told by the names of v1
    assert!(refused.message().contains("message: Invalid value"), "{}", refused.text);

    let mut whole = server.get(&one).await.json();
    whole["series"]["count"] = json!(3);
    assert_eq!(server.put(&one, whole).await.code, 200);
    assert_eq!(server.get(&format!("{OLD}/a")).await.json()["series"]["count"], 3);

    let mut bad = new_form("c");
    bad["deprecatedCount"] = json!(2);
    bad["type"] = json!("Odd");
    bad.as_object_mut().expect("an object").remove("action");
    let refused = server.post(NEW, bad).await;
    assert_eq!(refused.code, 422);
    for field in ["count", "type", "action"] {
        assert!(refused.message().contains(&format!("{field}: ")), "{}", refused.text);
    }
    assert_eq!(server.delete(&one, json!({})).await.code, 200);
    assert_eq!(server.get(&format!("{OLD}/a")).await.code, 404);
}
