//! Evictions and the budgets that they live on.

use serde_json::{Value, json};

use crate::client::Fixture;

const PODS: &str = "/api/v1/namespaces/default/pods";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

async fn ready_pod(server: &Fixture, name: &str) {
    let pod = json!({"metadata": {"name": name, "labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}});
    assert_eq!(server.post(PODS, pod).await.code, 201);
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    assert_eq!(server.patch(&format!("{PODS}/{name}/status"), "merge", status).await.code, 200);
}

async fn budget(server: &Fixture, name: &str, allowed: i64) {
    let spec = json!({"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}});
    server.post(BUDGETS, json!({"metadata": {"name": name}, "spec": spec})).await;
    let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2}});
    let told = server.patch(&format!("{BUDGETS}/{name}/status"), "merge", status).await;
    assert_eq!(told.code, 200, "{}", told.text);
}

async fn evict(server: &Fixture, pod: &str, query: &str) -> (u16, Value) {
    let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}});
    let answer = server.post(&format!("{PODS}/{pod}/eviction{query}"), body).await;
    (answer.code, answer.json())
}

#[tokio::test]
async fn no_two_evictions_live_on_one_allowance() {
    let server = Fixture::new().await;
    ready_pod(&server, "a").await;
    ready_pod(&server, "b").await;
    budget(&server, "calm", 1).await;
    assert_eq!(evict(&server, "a", "?dryRun=All").await.0, 201);
    let ((one, _), (other, _)) = tokio::join!(evict(&server, "a", ""), evict(&server, "b", ""));
    let mut codes = [one, other];
    codes.sort_unstable();
    assert_eq!(codes, [201, 429]);
    let spent = server.get(&format!("{BUDGETS}/calm")).await.json();
    assert_eq!(spent["status"]["disruptionsAllowed"], 0);
    assert_eq!(spent["status"]["disruptedPods"].as_object().map(serde_json::Map::len), Some(1));
    assert_eq!(spent["status"]["conditions"][0]["status"], "False");
}

#[tokio::test]
async fn a_pod_that_ends_in_its_time_says_why() {
    let server = Fixture::new().await;
    ready_pod(&server, "a").await;
    let binding = json!({"target": {"kind": "Node", "name": "n1"}});
    server.post(&format!("{PODS}/a/binding"), binding).await;
    assert_eq!(evict(&server, "a", "").await.0, 201);
    let pod = server.get(&format!("{PODS}/a")).await.json();
    assert!(pod["metadata"]["deletionTimestamp"].is_string());
    let reasons: Vec<_> = pod["status"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["reason"].clone())
        .collect();
    assert!(reasons.contains(&json!("EvictionByEvictionAPI")), "{reasons:?}");
    // it goes already: no budget is asked
    budget(&server, "calm", 0).await;
    assert_eq!(evict(&server, "a", "").await.0, 201);
}

#[tokio::test]
async fn two_budgets_of_one_pod_are_a_mistake_to_tell() {
    let server = Fixture::new().await;
    ready_pod(&server, "a").await;
    budget(&server, "one", 1).await;
    budget(&server, "two", 1).await;
    let (code, told) = evict(&server, "a", "").await;
    assert_eq!(code, 500);
    let message = told["message"].as_str().unwrap();
    assert!(message.starts_with("This pod has more than one PodDisruptionBudget"), "{message}");
}
