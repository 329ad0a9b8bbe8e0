//! The verbs over HTTP: what clients rely on, one test each.

use crate::client::Fixture;
use heddle_server::store::{Condition, Operation, Write};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"a": "1"}})
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}})
}

fn deployment(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}},
    }})
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().expect("a version").parse().expect("a number")
}

#[tokio::test]
async fn an_object_is_made_read_changed_and_deleted() {
    let server = Fixture::new().await;
    let made = server.post(MAPS, map("m")).await;
    assert_eq!(made.code, 201, "{}", made.text);
    let made = made.json();
    assert_eq!((&made["kind"], &made["apiVersion"]), (&json!("ConfigMap"), &json!("v1")));
    assert!(
        made["metadata"]["uid"].is_string() && made["metadata"]["creationTimestamp"].is_string()
    );
    assert_eq!(server.get(&format!("{MAPS}/m")).await.json(), made);
    let again = server.post(MAPS, map("m")).await;
    assert_eq!((again.code, again.message().as_str()), (409, "configmaps \"m\" already exists"));

    let mut changed = made.clone();
    changed["data"]["a"] = json!("2");
    let put = server.put(&format!("{MAPS}/m"), changed).await.json();
    assert!(revision(&put) > revision(&made));
    assert_eq!(put["metadata"]["uid"], made["metadata"]["uid"]);

    let gone = server.delete(&format!("{MAPS}/m"), json!({})).await.json();
    assert_eq!(
        (&gone["status"], &gone["details"]["uid"]),
        (&json!("Success"), &made["metadata"]["uid"])
    );
    // kubectl debug reads the details of what is not there
    let nothing = server.get(&format!("{PODS}/p/ephemeralcontainers")).await.json();
    assert!(nothing["details"].is_object(), "{nothing}");
    let missing = server.get(&format!("{MAPS}/m")).await;
    assert_eq!((missing.code, missing.message().as_str()), (404, "configmaps \"m\" not found"));
}

#[tokio::test]
async fn a_write_from_an_old_state_is_a_conflict_and_one_without_effect_is_none() {
    let server = Fixture::new().await;
    let first = server.post(MAPS, map("m")).await.json();
    let same = server.put(&format!("{MAPS}/m"), first.clone()).await.json();
    assert_eq!(same, first);
    let patched =
        server.patch(&format!("{MAPS}/m"), "merge", json!({"data": {"b": "2"}})).await.json();
    assert!(revision(&patched) > revision(&first));
    let old = server.put(&format!("{MAPS}/m"), first.clone()).await;
    assert_eq!(old.code, 409);
    assert!(
        old.message().contains("the object has been modified; please apply your changes"),
        "{}",
        old.message()
    );
    let pinned = json!({"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "data": {"c": "3"}});
    assert_eq!(server.patch(&format!("{MAPS}/m"), "merge", pinned).await.code, 409);
    assert_eq!(
        server.patch(&format!("{MAPS}/m"), "merge", json!({"data": {"b": "2"}})).await.json(),
        patched
    );
}

#[tokio::test]
async fn names_are_generated_and_dry_runs_keep_nothing() {
    let server = Fixture::new().await;
    let made = server.post(MAPS, json!({"metadata": {"generateName": "m-"}})).await.json();
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("m-") && name.len() == 7, "{name}");
    let dry = server.post(&format!("{MAPS}?dryRun=All"), map("dry")).await;
    assert_eq!(dry.code, 201);
    assert_eq!(server.get(&format!("{MAPS}/dry")).await.code, 404);
    assert_eq!(server.post(&format!("{MAPS}?dryRun=Some"), map("dry")).await.code, 400);
    let bad = server.post(MAPS, json!({"metadata": {"name": "No"}})).await;
    assert_eq!(
        (bad.code, &bad.json()["details"]["causes"][0]["field"]),
        (422, &json!("metadata.name"))
    );
}

#[tokio::test]
async fn unknown_fields_are_told_or_refused() {
    let server = Fixture::new().await;
    let mut body = pod("p");
    body["spec"]["foo"] = json!(1);
    let strict = server.post(&format!("{PODS}?fieldValidation=Strict"), body.clone()).await;
    assert_eq!(strict.code, 400);
    assert!(
        strict.message().contains(r#"strict decoding error: unknown field "spec.foo""#),
        "{}",
        strict.message()
    );
    let warned = server.post(PODS, body).await;
    assert_eq!(warned.code, 201);
    assert_eq!(warned.headers["warning"], r#"299 - "unknown field \"spec.foo\"""#);
    assert_eq!(warned.json()["spec"].get("foo"), None);
    let wrong = server.post(PODS, json!({"metadata": {"name": "q"}, "spec": "x"})).await;
    assert_eq!(wrong.code, 400, "{}", wrong.text);
    for told in [strict.message(), wrong.message()] {
        let head = r#"Pod in version "v1" cannot be handled as a Pod: "#;
        assert!(told.starts_with(head), "{told}");
    }
    let operations = json!([{"op": "test", "path": "/kind", "value": "Pod", "shoe": 1}]);
    let path = format!("{PODS}/p");
    let warned = server.patch(&path, "json", operations.clone()).await;
    assert_eq!(warned.headers["warning"], r#"299 - "json patch unknown field \"[0].shoe\"""#);
    let strict = server.patch(&format!("{path}?fieldValidation=Strict"), "json", operations).await;
    assert_eq!(strict.code, 422);
    let told = r#"strict decoding error: json patch unknown field "[0].shoe""#;
    assert!(strict.message().ends_with(told), "{}", strict.message());
}

#[tokio::test]
async fn what_cannot_be_made_here_is_told_as_in_kubernetes() {
    let server = Fixture::new().await;
    // of another kind: that its fields are not known here is not what matters
    for spec in [json!({"shoe": 1}), json!("x")] {
        let body = json!({"kind": "Pod", "metadata": {"name": "p"}, "data": spec});
        let other = server.post(&format!("{MAPS}?fieldValidation=Strict"), body).await;
        assert_eq!(other.code, 400);
        assert_eq!(
            other.message(),
            r#"Pod in version "v1" cannot be handled as a ConfigMap: converting (v1.Pod) to (core.ConfigMap): unknown conversion"#
        );
    }
    let old = json!({"metadata": {"name": "m", "resourceVersion": "7"}});
    let old = server.post(MAPS, old).await;
    assert_eq!((old.code, old.json().get("reason")), (500, None));
    assert_eq!(old.message(), "resourceVersion should not be set on objects to be created");
    let space = json!({"metadata": {"name": "n", "namespace": "default-not"}});
    let space = server.post("/api/v1/namespaces", space).await;
    assert_eq!((space.code, space.json()["metadata"].get("namespace")), (201, None));
}

#[tokio::test]
async fn every_way_to_write_warns() {
    let server = Fixture::new().await;
    let old = json!({"nodeSelector": {"beta.kubernetes.io/os": "linux"}});
    let told = r#"299 - "spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead""#;
    let mut web = deployment("web");
    web["spec"]["template"]["spec"]["nodeSelector"] = old["nodeSelector"].clone();
    let path = format!("{DEPLOYMENTS}/web");
    let tried = server.post(&format!("{DEPLOYMENTS}?dryRun=All"), web.clone()).await;
    let made = server.post(DEPLOYMENTS, web.clone()).await;
    let mut body = made.json();
    body["spec"]["replicas"] = json!(2);
    let put = server.put(&path, body).await;
    let patched = server.patch(&path, "merge", json!({"spec": {"replicas": 3}})).await;
    web["apiVersion"] = json!("apps/v1");
    web["kind"] = json!("Deployment");
    web["spec"]["replicas"] = json!(4);
    let media = [("content-type", "application/apply-patch+yaml")];
    let force = format!("{path}?fieldManager=me&force=true");
    let applied = server.ask("PATCH", &force, &media, &web.to_string()).await;
    for answer in [&tried, &made, &put, &patched, &applied] {
        assert!(answer.code < 300, "{}", answer.text);
        assert_eq!(answer.headers["warning"], told, "{}", answer.text);
    }
    // nothing of the spec is new
    let labelled = server.patch(&path, "merge", json!({"metadata": {"labels": {"a": "b"}}})).await;
    assert_eq!((labelled.code, labelled.headers.get("warning")), (200, None));
    // a refusal tells what the decoder had to tell
    web["spec"]["replicas"] = json!(-1);
    web["spec"]["replica"] = json!(1);
    let refused = server.put(&path, web).await;
    assert_eq!(refused.code, 422);
    assert_eq!(refused.headers["warning"], r#"299 - "unknown field \"spec.replica\"""#);
}

#[tokio::test]
async fn spec_and_status_do_not_touch_each_other() {
    let server = Fixture::new().await;
    let mut made = server.post(DEPLOYMENTS, deployment("web")).await.json();
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["spec"]["replicas"], 1);
    made["spec"]["replicas"] = json!(7);
    made["status"] = json!({"replicas": 3});
    let path = format!("{DEPLOYMENTS}/web");
    let status = server.put(&format!("{path}/status"), made.clone()).await.json();
    assert_eq!(
        (&status["spec"]["replicas"], &status["status"]["replicas"]),
        (&json!(1), &json!(3))
    );
    assert_eq!(status["metadata"]["generation"], 1);
    made["metadata"]["resourceVersion"] = status["metadata"]["resourceVersion"].clone();
    made["status"] = json!({"replicas": 9});
    let main = server.put(&path, made).await.json();
    assert_eq!((&main["spec"]["replicas"], &main["status"]["replicas"]), (&json!(7), &json!(3)));
    assert_eq!(main["metadata"]["generation"], 2);
}

#[tokio::test]
async fn a_scale_is_a_view_of_its_object() {
    let server = Fixture::new().await;
    server.post(DEPLOYMENTS, deployment("web")).await;
    let path = format!("{DEPLOYMENTS}/web/scale");
    let scale = server.get(&path).await.json();
    assert_eq!(
        (&scale["kind"], &scale["status"]["selector"]),
        (&json!("Scale"), &json!("app=web"))
    );
    let patched = server.patch(&path, "merge", json!({"spec": {"replicas": 4}})).await.json();
    assert_eq!(patched["spec"]["replicas"], 4);
    // kubectl sends this one without a content type
    let put = server.ask("PUT", &path, &[], &patched.to_string()).await;
    assert_eq!(put.code, 200, "{}", put.text);
    assert_eq!(server.put(&path, scale).await.code, 409);
    let negative = server.patch(&path, "merge", json!({"spec": {"replicas": -1}})).await;
    assert_eq!(negative.code, 422, "{}", negative.text);
    assert_eq!(server.get(&format!("{DEPLOYMENTS}/web")).await.json()["spec"]["replicas"], 4);
}

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_one_is_gone() {
    let server = Fixture::new().await;
    let mut body = map("m");
    body["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.post(MAPS, body).await;
    let path = format!("{MAPS}/m");
    let held = server.delete(&path, json!({})).await.json();
    assert!(held["metadata"]["deletionTimestamp"].is_string());
    let more = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}});
    assert_eq!(server.patch(&path, "merge", more).await.code, 422);
    let freed = server.patch(&path, "merge", json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(freed.code, 200, "{}", freed.text);
    assert_eq!(server.get(&path).await.code, 404);
}

/// What an earlier version of the program let in.
#[tokio::test]
async fn an_old_mistake_holds_no_object() {
    let server = Fixture::new().await;
    let mut old = server.post(DEPLOYMENTS, deployment("web")).await.json();
    old["metadata"]["name"] = json!("old");
    old["metadata"]["finalizers"] = json!(["example.com/hold"]);
    old["spec"]["strategy"]["type"] = json!("Recreate");
    let put = Operation {
        key: "/registry/deployments/default/old".to_owned(),
        condition: Condition::Absent,
        write: Write::Put(old.to_string().into()),
    };
    server.store.commit(vec![put]).await.unwrap();
    let path = format!("{DEPLOYMENTS}/old");
    let changed = server.patch(&path, "merge", json!({"spec": {"replicas": 2}})).await;
    assert_eq!(changed.code, 200, "{}", changed.text);
    let worse = server.patch(&path, "merge", json!({"spec": {"replicas": -1}})).await;
    assert_eq!(
        (worse.code, worse.json()["details"]["causes"].as_array().map(Vec::len)),
        (422, Some(1))
    );
    assert_eq!(server.delete(&path, json!({})).await.code, 200);
    let free = json!({"metadata": {"finalizers": null}});
    assert_eq!(server.patch(&path, "merge", free).await.code, 200);
    assert_eq!(server.get(&path).await.code, 404);
}

#[tokio::test]
async fn a_pod_on_a_node_ends_in_its_own_time() {
    let server = Fixture::new().await;
    server.post(PODS, pod("p")).await;
    let path = format!("{PODS}/p");
    let binding = json!({"target": {"kind": "Node", "name": "n1"}});
    assert_eq!(server.post(&format!("{path}/binding"), binding.clone()).await.code, 201);
    assert_eq!(server.post(&format!("{path}/binding"), binding).await.code, 409);
    let bound = server.get(&path).await.json();
    assert_eq!(
        (&bound["spec"]["nodeName"], &bound["status"]["conditions"][0]["type"]),
        (&json!("n1"), &json!("PodScheduled"))
    );
    let ending = server.delete(&path, json!({})).await.json();
    assert_eq!(ending["metadata"]["deletionGracePeriodSeconds"], 30);
    let wrong = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "other"}});
    assert_eq!(server.delete(&path, wrong).await.code, 409);
    assert_eq!(server.delete(&path, json!({"gracePeriodSeconds": 0})).await.code, 200);
    assert_eq!(server.get(&path).await.code, 404);
}

#[tokio::test]
async fn a_namespace_on_its_way_out_takes_nothing_new() {
    let server = Fixture::new().await;
    let missing = server.post("/api/v1/namespaces/none/configmaps", map("m")).await;
    assert_eq!((missing.code, missing.message().as_str()), (404, "namespaces \"none\" not found"));
    server.post("/api/v1/namespaces", json!({"metadata": {"name": "ns"}})).await;
    let ending = server.delete("/api/v1/namespaces/ns", json!({})).await.json();
    assert_eq!(ending["status"]["phase"], "Terminating");
    assert_eq!(ending["metadata"].get("deletionGracePeriodSeconds"), None);
    let late = server.post("/api/v1/namespaces/ns/configmaps", map("m")).await;
    assert_eq!(
        (late.code, &late.json()["details"]["causes"][0]["reason"]),
        (403, &json!("NamespaceTerminating"))
    );
    let mut freed = ending;
    freed["spec"]["finalizers"] = json!([]);
    assert_eq!(server.put("/api/v1/namespaces/ns/finalize", freed).await.code, 200);
    assert_eq!(server.get("/api/v1/namespaces/ns").await.code, 404);
}

#[tokio::test]
async fn lists_come_in_pages_of_one_state() {
    let server = Fixture::new().await;
    for index in 0..7 {
        server.post(MAPS, map(&format!("m{index}"))).await;
    }
    let first = server.get(&format!("{MAPS}?limit=3")).await.json();
    assert_eq!(
        (first["items"].as_array().unwrap().len(), &first["metadata"]["remainingItemCount"]),
        (3, &json!(4))
    );
    server.delete(&format!("{MAPS}/m5"), json!({})).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = server.get(&format!("{MAPS}?limit=10&continue={token}")).await.json();
    assert_eq!(
        second["items"].as_array().unwrap().len(),
        4,
        "the deleted one is in the state of the first page"
    );
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert_eq!(second["metadata"].get("continue"), None);

    server.store.compact(server.store.revision().await.unwrap()).await.unwrap();
    let expired = server.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    let status = expired.json();
    assert_eq!((expired.code, &status["reason"]), (410, &json!("Expired")));
    assert!(
        status["message"].as_str().unwrap().contains("use the continue token in this response")
    );
    // the rest can be had as it is now
    let token = status["metadata"]["continue"].as_str().unwrap();
    let rest = server.get(&format!("{MAPS}?limit=2&continue={token}")).await.json();
    assert_eq!(
        (rest["items"].as_array().unwrap().len(), &rest["metadata"]["remainingItemCount"]),
        (2, &json!(1))
    );
    for bad in [
        "limit=x",
        "continue=%00",
        "continue=eyJ2IjoxfQ",
        "resourceVersion=-3",
        "resourceVersion=1&resourceVersionMatch=Some",
    ] {
        assert_eq!(server.get(&format!("{MAPS}?{bad}")).await.code, 400, "{bad}");
    }
    let future = server.get(&format!("{MAPS}?resourceVersion=99999")).await;
    assert_eq!(
        (future.code, &future.json()["details"]["causes"][0]["reason"]),
        (504, &json!("ResourceVersionTooLarge"))
    );
}

#[tokio::test]
async fn selectors_choose() {
    let server = Fixture::new().await;
    for (name, tier) in [("a", "x"), ("b", "y"), ("c", "y")] {
        let mut body = pod(name);
        body["metadata"]["labels"] = json!({"tier": tier});
        server.post(PODS, body).await;
    }
    let names = async |query: &str| -> Vec<String> {
        let list = server.get(&format!("/api/v1/pods?{query}")).await.json();
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names("labelSelector=tier%3Dy").await, ["b", "c"]);
    assert_eq!(names("labelSelector=tier%20notin%20(y)").await, ["a"]);
    assert_eq!(names("fieldSelector=metadata.name%3Db").await, ["b"]);
    assert_eq!(
        names(
            "fieldSelector=spec.nodeName%3D,status.phase!%3DRunning&labelSelector=tier%3Dy&limit=1"
        )
        .await,
        ["b"]
    );
    assert_eq!(server.get("/api/v1/pods?fieldSelector=spec.foo%3D1").await.code, 400);
    let gone = server.delete(&format!("{PODS}?labelSelector=tier%3Dy"), json!({})).await.json();
    assert_eq!(gone["items"].as_array().unwrap().len(), 2);
    assert_eq!(names("").await, ["a"]);
}

#[tokio::test]
async fn answers_come_in_the_form_that_is_asked_for() {
    let server = Fixture::new().await;
    server.post(PODS, pod("p")).await;
    let accept = |value: &'static str| [("accept", value)];
    let table = server
        .ask("GET", PODS, &accept("application/json;as=Table;v=v1;g=meta.k8s.io"), "")
        .await
        .json();
    assert_eq!(table["kind"], "Table");
    assert_eq!(
        table["columnDefinitions"][0],
        json!({"name": "Name", "type": "string", "format": "name", "description": "Name must be unique within a namespace.", "priority": 0})
    );
    assert_eq!(
        table["rows"][0]["cells"].as_array().unwrap()[..4],
        [json!("p"), json!("0/1"), json!("Pending"), json!("0")]
    );
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let full = server
        .ask(
            "GET",
            &format!("{PODS}?includeObject=Object"),
            &accept("application/json;as=Table;v=v1;g=meta.k8s.io"),
            "",
        )
        .await
        .json();
    assert_eq!(full["rows"][0]["object"]["kind"], "Pod");
    let partial = server
        .ask(
            "GET",
            PODS,
            &accept("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"),
            "",
        )
        .await
        .json();
    assert_eq!(
        (&partial["kind"], partial["items"][0].get("spec")),
        (&json!("PartialObjectMetadataList"), None)
    );
    let yaml = server.ask("GET", &format!("{PODS}/p"), &accept("application/yaml"), "").await;
    assert!(
        yaml.headers["content-type"] == "application/yaml" && yaml.text.contains("kind: Pod"),
        "{}",
        yaml.text
    );
    assert_eq!(server.ask("GET", PODS, &accept("text/html"), "").await.code, 406);
    let media = [("content-type", "text/csv")];
    assert_eq!(server.ask("POST", PODS, &media, "a,b").await.code, 415);
    let sent = server
        .ask(
            "POST",
            MAPS,
            &[("content-type", "application/yaml")],
            "metadata: {name: yam}\ndata: {a: b}\n",
        )
        .await;
    assert_eq!(sent.code, 201, "{}", sent.text);
}

#[tokio::test]
async fn discovery_has_both_forms_and_an_etag() {
    let server = Fixture::new().await;
    let accept = (
        "accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
    );
    let answer = server.ask("GET", "/apis", &[accept], "").await;
    assert_eq!(
        answer.headers["content-type"],
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    );
    let document = answer.json();
    assert_eq!(
        (&document["kind"], &document["items"][0]["metadata"]["name"]),
        (&json!("APIGroupDiscoveryList"), &json!("apps"))
    );
    let etag = answer.headers["etag"].to_str().unwrap();
    let again = server.ask("GET", "/apis", &[accept, ("if-none-match", etag)], "").await;
    assert_eq!((again.code, again.text.as_str()), (304, ""));
    let legacy = server.get("/api/v1").await.json();
    let names: Vec<&str> = legacy["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"pods/eviction") && names.contains(&"namespaces/finalize"),
        "{names:?}"
    );
    assert_eq!(
        server.get("/apis").await.json()["groups"][0]["preferredVersion"]["groupVersion"],
        "apps/v1"
    );
    assert_eq!(server.get("/apis/none/v1").await.code, 404);
    // kubectl looks for a title in it, and for kinds that version three does not have
    let protobuf = [("accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")];
    let two = server.ask("GET", "/openapi/v2", &protobuf, "").await;
    assert_eq!((two.code, two.text.as_bytes()[1]), (200, 3));
    // which Go's parser of media types can read, unlike what it asked for
    assert!(!two.headers["content-type"].to_str().unwrap().contains('@'));
    assert_eq!(server.get("/openapi/v2").await.json()["swagger"], "2.0");
    assert_eq!(server.get("/version").await.json()["minor"], "32");
    assert!(server.get("/readyz?verbose").await.text.contains("[+]store ok"));
}

#[tokio::test]
async fn who_applies_a_field_owns_it() {
    let server = Fixture::new().await;
    let apply = async |manager: &str, more: &str, data: Value| {
        let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data});
        let path = format!("{MAPS}/m?fieldManager={manager}{more}");
        let media = [("content-type", "application/apply-patch+yaml")];
        server.ask("PATCH", &path, &media, &config.to_string()).await
    };
    let made = apply("ada", "", json!({"a": "1"})).await;
    assert_eq!(made.code, 201, "{}", made.text);
    assert_eq!(made.json()["metadata"]["managedFields"][0]["manager"], "ada");
    let same = apply("ada", "", json!({"a": "1"})).await;
    assert_eq!((same.code, same.json()), (200, made.json()), "nothing changes");
    let refused = apply("bob", "", json!({"a": "2"})).await;
    assert_eq!(refused.code, 409);
    let cause = &refused.json()["details"]["causes"][0];
    assert_eq!(
        (&cause["reason"], &cause["field"]),
        (&json!("FieldManagerConflict"), &json!(".data.a"))
    );
    assert_eq!(apply("bob", "&force=true", json!({"a": "2", "b": "3"})).await.code, 200);
    let rest = apply("bob", "", json!({"a": "2"})).await.json();
    assert_eq!(rest["data"], json!({"a": "2"}), "what is no longer applied goes");
    assert_eq!(apply("", "", json!({})).await.code, 400);
}

/// `kubectl apply --server-side` takes over what `kubectl apply` wrote before: it hands the fields from one manager to the other.
#[tokio::test]
async fn fields_are_handed_from_one_manager_to_another() {
    let server = Fixture::new().await;
    let path = format!("{MAPS}/m");
    server.post(&format!("{MAPS}?fieldManager=kubectl-client-side-apply"), map("m")).await;
    let made = server.get(&path).await.json();
    let mut owner = made["metadata"]["managedFields"][0].clone();
    owner["manager"] = json!("kubectl");
    owner["operation"] = json!("Apply");
    let steps = json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": [owner]},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": made["metadata"]["resourceVersion"]},
    ]);
    let handed = server.patch(&path, "json", steps).await;
    assert_eq!(handed.code, 200, "{}", handed.text);
    let owners = server.get(&path).await.json()["metadata"]["managedFields"].clone();
    assert_eq!(
        (owners.as_array().map(Vec::len), &owners[0]["manager"]),
        (Some(1), &json!("kubectl"))
    );
}

#[tokio::test]
async fn other_writes_are_noted_by_who_made_them() {
    let server = Fixture::new().await;
    let agent = [("user-agent", "tester/1.0"), ("content-type", "application/json")];
    let made = server.ask("POST", MAPS, &agent, &map("m").to_string()).await.json();
    let owner = &made["metadata"]["managedFields"][0];
    assert_eq!((&owner["manager"], &owner["operation"]), (&json!("tester"), &json!("Update")));
    assert!(owner["fieldsV1"]["f:data"]["f:a"].is_object(), "{owner}");
}
