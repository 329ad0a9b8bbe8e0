//! Custom kinds over HTTP: defined, served, changed, told of and gone again.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Answer, Fixture};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const V1: &str = "/apis/stable.example.com/v1/namespaces/default/crontabs";
const V2: &str = "/apis/stable.example.com/v2/namespaces/default/crontabs";

fn version(name: &str, storage: bool) -> Value {
    json!({
        "name": name, "served": true, "storage": storage,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "spec": {"type": "object", "required": ["cron"], "properties": {
                "cron": {"type": "string", "description": "When it runs.", "pattern": r"^\S+$"},
                "replicas": {"type": "integer", "minimum": 0, "default": 1},
                "color": {"type": "string"},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {
                    "type": "object", "required": ["name"],
                    "properties": {"name": {"type": "string"}, "port": {"type": "integer"}},
                }},
            }},
            "status": {"type": "object", "properties": {
                "replicas": {"type": "integer"}, "selector": {"type": "string"}, "ready": {"type": "boolean"},
            }},
        }}},
        "subresources": {"status": {}, "scale": {
            "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector",
        }},
        "selectableFields": [{"jsonPath": ".spec.color"}],
        "additionalPrinterColumns": [
            {"name": "Cron", "type": "string", "jsonPath": ".spec.cron"},
            {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas", "priority": 1},
            {"name": "Ready", "type": "boolean", "jsonPath": ".status.ready"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ],
    })
}

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com", "scope": "Namespaced",
            "names": {"plural": "crontabs", "kind": "CronTab", "shortNames": ["ct"], "categories": ["all"]},
            "versions": [version("v1", true), version("v2", false)],
        },
    })
}

fn crontab(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"cron": "@daily"}})
}

/// Asks until the answer is as expected.
async fn until(server: &Fixture, path: &str, holds: impl Fn(&Answer) -> bool) -> Answer {
    for _ in 0..600 {
        let answer = server.get(path).await;
        if holds(&answer) {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{path} is not as expected: {}", server.get(path).await.text)
}

fn condition(definition: &Value, kind: &str) -> String {
    let all = definition["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let one = all.into_iter().find(|one| one["type"] == kind).unwrap_or_default();
    one["status"].as_str().unwrap_or_default().to_owned()
}

async fn establish(server: &Fixture, definition: Value) -> Value {
    let made = server.post(DEFINITIONS, definition).await;
    assert_eq!(made.code, 201, "{}", made.text);
    let name = made.json()["metadata"]["name"].as_str().unwrap().to_owned();
    let path = format!("{DEFINITIONS}/{name}");
    until(server, &path, |answer| condition(&answer.json(), "Established") == "True").await.json()
}

async fn with_crontabs() -> Fixture {
    let server = Fixture::new().await;
    establish(&server, definition()).await;
    server
}

#[tokio::test]
async fn what_is_established_is_served_and_described() {
    let server = Fixture::new().await;
    assert_eq!(server.get(V1).await.code, 404);
    let made = establish(&server, definition()).await;
    assert_eq!(condition(&made, "NamesAccepted"), "True");
    assert_eq!(made["status"]["acceptedNames"]["listKind"], "CronTabList");
    assert_eq!(made["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(server.get(V1).await.json()["kind"], "CronTabList");

    let group = server.get("/apis/stable.example.com").await.json();
    assert_eq!(group["preferredVersion"]["version"], "v2");
    let resources = server.get("/apis/stable.example.com/v1").await.json();
    assert_eq!(resources["resources"][0]["shortNames"], json!(["ct"]));
    assert_eq!(resources["resources"][2]["name"], "crontabs/scale");
    let document = server.get("/openapi/v3/apis/stable.example.com/v1").await.json();
    let schema = &document["components"]["schemas"]["com.example.stable.v1.CronTab"];
    assert_eq!(schema["properties"]["spec"]["properties"]["cron"]["description"], "When it runs.");
    // from this kubectl knows which patch to send
    let path = "/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}";
    let patches = document["paths"][path]["patch"]["requestBody"]["content"].as_object().unwrap();
    assert!(patches.contains_key("application/merge-patch+json"));
    assert!(!patches.contains_key("application/strategic-merge-patch+json"));
}

#[tokio::test]
async fn objects_are_pruned_defaulted_and_validated() {
    let server = with_crontabs().await;
    let mut body = crontab("a");
    body["spec"]["unknown"] = json!(1);
    body["spec"]["free"] = json!({"any": {"thing": [1]}});
    body["status"] = json!({"ready": true});
    let strict = server.post(&format!("{V1}?fieldValidation=Strict"), body.clone()).await;
    assert_eq!(strict.code, 400, "{}", strict.text);
    assert!(strict.message().contains(r#"unknown field "spec.unknown""#), "{}", strict.message());
    let made = server.post(V1, body).await;
    assert_eq!(made.headers["warning"], r#"299 - "unknown field \"spec.unknown\"""#);
    let made = made.json();
    assert_eq!(
        made["spec"],
        json!({"cron": "@daily", "replicas": 1, "free": {"any": {"thing": [1]}}})
    );
    assert_eq!((made.get("status"), &made["metadata"]["generation"]), (None, &json!(1)));

    let mut wrong = crontab("b");
    wrong["spec"] = json!({"replicas": -1});
    let refused = server.post(V1, wrong).await;
    assert_eq!(refused.code, 422);
    let message = refused.message();
    assert!(message.starts_with(r#"CronTab.stable.example.com "b" is invalid"#), "{message}");
    assert!(message.contains("spec.cron: Required value"), "{message}");
    assert!(
        message.contains("spec.replicas in body should be greater than or equal to 0"),
        "{message}"
    );
    let protobuf = [("content-type", "application/vnd.kubernetes.protobuf")];
    assert_eq!(server.ask("POST", V1, &protobuf, "k8s\0").await.code, 415);
}

#[tokio::test]
async fn every_version_shows_the_same_objects() {
    let server = with_crontabs().await;
    let mut events = server.watch(&format!("{V1}?watch=true")).await;
    let mut others = server.watch(&format!("{V2}?watch=true")).await;
    let made = server.post(V2, crontab("a")).await.json();
    assert_eq!(made["apiVersion"], "stable.example.com/v2");
    let seen = server.get(&format!("{V1}/a")).await.json();
    assert_eq!(seen["apiVersion"], "stable.example.com/v1");
    assert_eq!(seen["metadata"]["uid"], made["metadata"]["uid"]);
    for (lines, expected) in [(&mut events, "v1"), (&mut others, "v2")] {
        let event = lines.next().await.expect("an event");
        assert_eq!(event["object"]["apiVersion"], format!("stable.example.com/{expected}"));
    }
    let key = "/registry/stable.example.com/crontabs/default/a";
    let stored = server.store.get(key).await.expect("a store").expect("the object");
    let stored: Value = serde_json::from_slice(&stored.value).expect("JSON");
    assert_eq!(stored["apiVersion"], "stable.example.com/v1");
    let listed = server.get(V2).await.json();
    assert_eq!(listed["items"][0]["apiVersion"], "stable.example.com/v2");
    assert_eq!(listed["apiVersion"], "stable.example.com/v2");
}

#[tokio::test]
async fn patches_but_the_strategic_one_change_objects() {
    let server = with_crontabs().await;
    server.post(V1, crontab("a")).await;
    let path = format!("{V1}/a");
    let merged = server.patch(&path, "merge", json!({"spec": {"color": "red"}})).await.json();
    assert_eq!(
        (&merged["spec"]["color"], &merged["metadata"]["generation"]),
        (&json!("red"), &json!(2))
    );
    let change = json!([{"op": "replace", "path": "/spec/cron", "value": "@hourly"}]);
    assert_eq!(server.patch(&path, "json", change).await.json()["spec"]["cron"], "@hourly");
    let strategic =
        server.patch(&path, "strategic-merge", json!({"spec": {"color": "blue"}})).await;
    assert_eq!(strategic.code, 415);
    assert_eq!(
        strategic.message(),
        "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
    );
    let selected = server.get(&format!("{V1}?fieldSelector=spec.color%3Dred")).await.json();
    assert_eq!(selected["items"].as_array().unwrap().len(), 1);
    let none = server.get(&format!("{V1}?fieldSelector=spec.color%3Dblue")).await.json();
    assert_eq!(none["items"], json!([]));
    assert_eq!(server.get(&format!("{V1}?fieldSelector=spec.cron%3Dx")).await.code, 400);
}

#[tokio::test]
async fn lists_are_merged_and_owned_by_the_custom_shape() {
    let server = with_crontabs().await;
    let apply = async |manager: &str, name: &str, port: u16, force: bool| {
        let body = json!({
            "apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "a"},
            "spec": {"cron": "@daily", "ports": [{"name": name, "port": port}]},
        });
        let path = format!("{V1}/a?fieldManager={manager}&force={force}");
        let headers = [("content-type", "application/apply-patch+yaml")];
        server.ask("PATCH", &path, &headers, &body.to_string()).await
    };
    assert_eq!(apply("one", "http", 80, false).await.code, 201);
    let both = apply("two", "https", 443, false).await;
    assert_eq!(both.code, 200, "{}", both.text);
    let ports = json!([{"name": "http", "port": 80}, {"name": "https", "port": 443}]);
    assert_eq!(both.json()["spec"]["ports"], ports);
    let conflict = apply("two", "http", 81, false).await;
    assert_eq!(conflict.code, 409);
    let field = &conflict.json()["details"]["causes"][0]["field"];
    assert_eq!(field, ".spec.ports[name=\"http\"].port");
    let forced = apply("two", "http", 81, true).await.json();
    assert_eq!(forced["spec"]["ports"], json!([{"name": "http", "port": 81}]));
}

#[tokio::test]
async fn status_and_scale_are_parts_of_their_own() {
    let server = with_crontabs().await;
    let mut made = server.post(V1, crontab("a")).await.json();
    made["status"] = json!({"replicas": 3, "selector": "a=b", "unknown": 1});
    made["spec"]["cron"] = json!("@never");
    let status = server.put(&format!("{V1}/a/status"), made.clone()).await.json();
    assert_eq!(status["status"], json!({"replicas": 3, "selector": "a=b"}));
    assert_eq!(
        (&status["spec"]["cron"], &status["metadata"]["generation"]),
        (&json!("@daily"), &json!(1))
    );
    let wrong = json!({"status": {"ready": "no"}});
    assert_eq!(server.patch(&format!("{V1}/a/status"), "merge", wrong).await.code, 422);

    let scale = server.get(&format!("{V1}/a/scale")).await.json();
    assert_eq!(
        (&scale["spec"], &scale["status"]),
        (&json!({"replicas": 1}), &json!({"replicas": 3, "selector": "a=b"}))
    );
    let scaled =
        server.patch(&format!("{V1}/a/scale"), "merge", json!({"spec": {"replicas": 5}})).await;
    assert_eq!(scaled.json()["spec"]["replicas"], 5, "{}", scaled.text);
    let now = server.get(&format!("{V1}/a")).await.json();
    assert_eq!((&now["spec"]["replicas"], &now["metadata"]["generation"]), (&json!(5), &json!(2)));
}

#[tokio::test]
async fn tables_have_the_columns_of_the_definition() {
    let server = with_crontabs().await;
    server.post(V1, crontab("a")).await;
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = server.ask("GET", V1, &table, "").await.json();
    let columns: Vec<_> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| (column["name"].clone(), column["type"].clone(), column["priority"].clone()))
        .collect();
    let column = |name: &str, kind: &str, priority: u8| (json!(name), json!(kind), json!(priority));
    assert_eq!(
        columns,
        [
            column("Name", "string", 0),
            column("Cron", "string", 0),
            column("Replicas", "integer", 1),
            column("Ready", "boolean", 0),
            column("Age", "date", 0),
        ]
    );
    let cells = &table["rows"][0]["cells"];
    assert_eq!(
        cells.as_array().unwrap()[..4],
        [json!("a"), json!("@daily"), json!(1), Value::Null]
    );
    assert!(cells[4].as_str().unwrap().ends_with('s'), "{cells}");
}

#[tokio::test]
async fn names_of_others_are_waited_for() {
    let server = with_crontabs().await;
    let mut other = definition();
    other["metadata"]["name"] = json!("cronies.stable.example.com");
    other["spec"]["names"] =
        json!({"plural": "cronies", "kind": "CronTab", "listKind": "CronyList"});
    server.post(DEFINITIONS, other).await;
    let path = format!("{DEFINITIONS}/cronies.stable.example.com");
    let refused =
        until(&server, &path, |answer| condition(&answer.json(), "NamesAccepted") == "False").await;
    assert_eq!(condition(&refused.json(), "Established"), "False");
    assert!(refused.text.contains(r#"\"CronTab\" is already in use"#), "{}", refused.text);
    assert_eq!(server.get("/apis/stable.example.com/v1/cronies").await.code, 404);

    server.delete(&format!("{DEFINITIONS}/crontabs.stable.example.com"), json!({})).await;
    until(&server, "/apis/stable.example.com/v1/cronies", |answer| answer.code == 200).await;
}

#[tokio::test]
async fn a_definition_takes_its_objects_with_it() {
    let server = with_crontabs().await;
    let mut held = crontab("held");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.post(V1, held).await;
    server.post(V1, crontab("free")).await;
    let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
    let ending = server.delete(&path, json!({})).await.json();
    assert_eq!(
        ending["metadata"]["finalizers"],
        json!(["customresourcecleanup.apiextensions.k8s.io"])
    );
    until(&server, &format!("{V1}/free"), |answer| answer.code == 404).await;
    assert_eq!(condition(&server.get(&path).await.json(), "Terminating"), "True");
    let late = server.post(V1, crontab("late")).await;
    assert_eq!(late.code, 405, "{}", late.text);
    let release = json!({"metadata": {"finalizers": null}});
    assert_eq!(server.patch(&format!("{V1}/held"), "merge", release).await.code, 200);
    until(&server, &path, |answer| answer.code == 404).await;
    until(&server, "/apis/stable.example.com/v1", |answer| answer.code == 404).await;
    let stored = server.store.get("/registry/stable.example.com/crontabs/default/held").await;
    assert!(stored.expect("a store").is_none());
    // the same definition again begins without objects
    establish(&server, definition()).await;
    assert_eq!(server.get(V1).await.json()["items"], json!([]));
}

#[tokio::test]
async fn another_server_on_the_store_serves_at_once() {
    let first = with_crontabs().await;
    first.post(V1, crontab("a")).await;
    let second = Fixture::on(first.store.clone()).await;
    assert_eq!(second.get(&format!("{V2}/a")).await.code, 200);
    // both keep the set of kinds while both run
    let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
    let change = json!([{"op": "replace", "path": "/spec/versions/1/served", "value": false}]);
    assert_eq!(first.patch(&path, "json", change).await.code, 200);
    for server in [&first, &second] {
        until(server, &format!("{V2}/a"), |answer| answer.code == 404).await;
        assert_eq!(server.get(&format!("{V1}/a")).await.code, 200);
    }
}

#[tokio::test]
async fn a_change_of_the_schema_counts_from_then_on() {
    let server = with_crontabs().await;
    let mut body = crontab("a");
    body["spec"]["size"] = json!(3);
    assert_eq!(server.post(V1, body.clone()).await.json()["spec"].get("size"), None);
    let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
    let size = json!({"type": "integer", "default": 7});
    let change = json!([{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/size", "value": size}]);
    assert_eq!(server.patch(&path, "json", change).await.code, 200);
    // what is stored without it has the default
    until(&server, &format!("{V1}/a"), |answer| answer.json()["spec"]["size"] == 7).await;
    body["metadata"]["name"] = json!("b");
    assert_eq!(server.post(V1, body).await.json()["spec"]["size"], 3);
}

#[tokio::test]
async fn a_definition_of_a_built_in_name_does_no_harm() {
    let server = with_crontabs().await;
    let mut evil = definition();
    evil["metadata"] = json!({
        "name": "customresourcedefinitions.apiextensions.k8s.io",
        "annotations": {"api-approved.kubernetes.io": "unapproved"},
    });
    evil["spec"]["group"] = json!("apiextensions.k8s.io");
    evil["spec"]["scope"] = json!("Cluster");
    evil["spec"]["names"] =
        json!({"plural": "customresourcedefinitions", "kind": "CustomResourceDefinition"});
    let made = server.post(DEFINITIONS, evil).await;
    assert_eq!(made.code, 201, "{}", made.text);
    let path = format!("{DEFINITIONS}/customresourcedefinitions.apiextensions.k8s.io");
    until(&server, &path, |answer| condition(&answer.json(), "NamesAccepted") == "False").await;
    server.delete(&path, json!({})).await;
    until(&server, &path, |answer| answer.code == 404).await;
    let others = server.get(DEFINITIONS).await.json();
    assert_eq!(others["items"].as_array().unwrap().len(), 1);
    assert_eq!(others["items"][0]["metadata"].get("deletionTimestamp"), None);
}

/// A definition whose objects have rules: at the root, of a change, and with a message of its own.
fn with_rules() -> Value {
    let mut definition = definition();
    let schema = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    schema["x-kubernetes-validations"] = json!([
        {"rule": "!has(self.status) || !has(self.status.ready) || self.spec.replicas > 0", "message": "nothing runs that could be ready"},
    ]);
    let fields = &mut schema["properties"]["spec"]["properties"];
    fields["color"]["x-kubernetes-validations"] =
        json!([{"rule": "self == oldSelf", "message": "color is for ever"}]);
    fields["replicas"]["x-kubernetes-validations"] = json!([{"rule": "self < 10", "messageExpression": "'%d are too many'.format([self])", "reason": "FieldValueForbidden"}]);
    definition["spec"]["versions"].as_array_mut().unwrap().truncate(1);
    definition
}

// with threads, as the server has them: rules are evaluated aside
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_in_cel_are_kept_by_every_write() {
    let server = Fixture::new().await;
    let mut broken = with_rules();
    broken["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"][0]["rule"] =
        json!("self.spec.replica > 0");
    let answer = server.post(DEFINITIONS, broken).await;
    let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
    assert_eq!(answer.code, 422, "{message}");
    assert!(message.contains("x-kubernetes-validations[0].rule: Invalid value"), "{message}");
    assert!(
        message.contains("compilation failed: ERROR: <input>:1:10: undefined field 'replica'"),
        "{message}"
    );
    establish(&server, with_rules()).await;

    let mut object = crontab("a");
    object["spec"]["replicas"] = json!(10);
    let answer = server.post(V1, object.clone()).await.json();
    assert_eq!(answer["code"], 422);
    assert_eq!(
        answer["details"]["causes"],
        json!([{"reason": "FieldValueForbidden", "field": "spec.replicas", "message": "Forbidden: 10 are too many"}])
    );
    // with a mistake of that kind nobody asks the rules
    object["spec"]["cron"] = Value::Null;
    let answer = server.post(V1, object.clone()).await.json();
    let message = answer["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("some validation rules were not checked because the object was invalid"),
        "{message}"
    );
    assert!(!message.contains("too many"), "{message}");

    let mut object = crontab("a");
    object["spec"]["color"] = json!("red");
    assert_eq!(server.post(&format!("{V1}?dryRun=All"), object.clone()).await.code, 201);
    assert_eq!(server.post(V1, object).await.code, 201);
    let path = format!("{V1}/a");
    let blue = json!({"spec": {"color": "blue"}});
    for query in ["", "?dryRun=All"] {
        let answer = server.patch(&format!("{path}{query}"), "merge", blue.clone()).await;
        assert_eq!(answer.code, 422, "{}", answer.text);
        assert_eq!(
            answer.json()["details"]["causes"][0]["message"],
            r#"Invalid value: "string": color is for ever"#
        );
    }
    let mut changed = server.get(&path).await.json();
    changed["spec"]["color"] = json!("blue");
    assert_eq!(server.put(&path, changed).await.code, 422);
    let applied = json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "a"},
        "spec": {"cron": "@daily", "replicas": 11}});
    let media = [("content-type", "application/apply-patch+yaml")];
    let owned = format!("{path}?fieldManager=m&force=true");
    let answer = server.ask("PATCH", &owned, &media, &applied.to_string()).await;
    assert_eq!(answer.code, 422, "{}", answer.text);
    // what there was not before may come
    let gone = server.patch(&path, "merge", json!({"spec": {"color": null, "replicas": 0}})).await;
    assert_eq!(gone.code, 200, "{}", gone.text);
    assert_eq!(server.patch(&path, "merge", blue).await.code, 200);
    let ready = json!({"status": {"ready": true}});
    let answer = server.patch(&format!("{path}/status"), "merge", ready).await;
    assert_eq!(answer.code, 422, "{}", answer.text);
    let cause = &answer.json()["details"]["causes"][0];
    assert_eq!(cause["message"], r#"Invalid value: "object": nothing runs that could be ready"#);
    let scaled = json!({"spec": {"replicas": 12}});
    let answer = server.patch(&format!("{path}/scale"), "merge", scaled).await;
    assert_eq!(answer.code, 422, "{}", answer.text);
}
