//! Whatever is sent, the answer is never an error of the server's own.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::client::Fixture;

const PLACES: [&str; 9] = [
    "/api/v1/namespaces/default/pods",
    "/api/v1/namespaces/default/services",
    "/api/v1/namespaces/default/secrets",
    "/api/v1/namespaces/default/events",
    "/api/v1/nodes",
    "/apis/apps/v1/namespaces/default/deployments",
    "/apis/apps/v1/namespaces/default/statefulsets",
    "/apis/batch/v1/namespaces/default/cronjobs",
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
];

/// Fields that the server looks at, and values that do not belong there.
fn value() -> impl Strategy<Value = Value> {
    const NAMES: &str = "metadata|spec|status|name|labels|finalizers|ownerReferences|template|containers|ports|selector|matchLabels|matchExpressions|replicas|data|type|conditions|resourceVersion|uid|deletionTimestamp|jobTemplate|schedule|addresses|endpoints|subsets|image|volumes|resources|limits|targetPort|tolerations|managedFields|generation";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z0-9./=%-]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(
                prop::sample::select(NAMES.split('|').collect::<Vec<_>>()),
                inner,
                0..5
            )
            .prop_map(|map| map
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}

fn check(
    cases: u32,
    strategy: impl Strategy<Value = (usize, Value, String)>,
    test: impl AsyncFn(&Fixture, usize, Value, String) -> Vec<(String, u16)>,
) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = runtime.block_on(Fixture::new());
    let mut runner =
        TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let run = runner.run(&strategy, |(index, value, text)| {
        for (what, code) in runtime.block_on(test(&server, index, value, text)) {
            prop_assert!(code < 500 || code == 504, "{what}: {code}");
        }
        Ok(())
    });
    run.expect("every answer is the caller's mistake or a success");
}

#[test]
fn objects_and_patches() {
    check(150, (0..PLACES.len(), value(), "[a-z]{1,3}"), async |server, index, value, name| {
        let place = PLACES[index];
        let mut named = value.clone();
        if let Some(map) = named.as_object_mut() {
            map.insert("metadata".to_owned(), json!({"name": name, "labels": value}));
        }
        let mut codes = Vec::new();
        for body in [&value, &named] {
            codes.push((
                format!("POST {place} {body}"),
                server.post(place, body.clone()).await.code,
            ));
        }
        let object = format!("{place}/{name}");
        for kind in ["json", "merge", "strategic-merge"] {
            codes.push((
                format!("{kind} {object} {value}"),
                server.patch(&object, kind, value.clone()).await.code,
            ));
        }
        codes.push((format!("PUT {object} {named}"), server.put(&object, named).await.code));
        let media = [("content-type", "application/apply-patch+yaml")];
        let answer = server
            .ask(
                "PATCH",
                &format!("{object}?fieldManager=m&force=true"),
                &media,
                &value.to_string(),
            )
            .await;
        codes.push((format!("apply {object} {value}"), answer.code));
        let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
        codes.push((format!("GET {place}"), server.ask("GET", place, &accept, "").await.code));
        codes.push((format!("DELETE {object} {value}"), server.delete(&object, value).await.code));
        codes
    });
}

#[test]
fn queries_and_paths() {
    let text = "[a-zA-Z0-9=%&,!()./+-]{0,40}";
    check(300, (0..PLACES.len(), Just(Value::Null), text), async |server, index, _, text| {
        let place = PLACES[index];
        let mut codes = Vec::new();
        for query in [
            "",
            "limit=2&continue=",
            "labelSelector=",
            "fieldSelector=",
            "resourceVersion=",
            "watch=1&timeoutSeconds=1&sendInitialEvents=",
        ] {
            let path = format!("{place}?{query}{text}");
            // a watch may last; its head is the answer
            let code = server.open("GET", &path, &[], "").await.status().as_u16();
            codes.push((path, code));
        }
        let path = format!("/api/v1/namespaces/{}", text.replace('&', "/"));
        codes.push((path.clone(), server.open("GET", &path, &[], "").await.status().as_u16()));
        codes
    });
}
