use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::patch::testing::{any_json, deployment, schemas};

/// An engine for Deployments, for as long as a test runs.
struct Server {
    schemas: Schemas,
    shape: Shape,
    ignored: FieldSet,
    subresource: &'static str,
}

impl Server {
    fn new() -> Self {
        Self { schemas: schemas(), shape: deployment(), ignored: all_but_status(), subresource: "" }
    }

    fn status() -> Self {
        Self { ignored: only_status(), subresource: "status", ..Self::new() }
    }

    fn at<T>(&self, second: i64, write: impl FnOnce(&Engine<'_>) -> T) -> T {
        let engine = Engine {
            schemas: &self.schemas,
            shape: &self.shape,
            api_version: "apps/v1",
            subresource: self.subresource,
            ignored: &self.ignored,
            version: &|version| version.starts_with("apps/").then_some(&self.shape),
            now: Time(jiff::Timestamp::from_second(second).unwrap()),
        };
        write(&engine)
    }

    fn apply(
        &self,
        live: Option<&Value>,
        config: &Value,
        manager: &str,
        force: bool,
    ) -> Result<Value, ApplyError> {
        self.at(0, |engine| engine.apply(live, config, manager, force))
    }

    fn applied(&self, live: Option<&Value>, config: &Value, manager: &str) -> Value {
        self.apply(live, config, manager, false).unwrap_or_else(|error| panic!("{error}"))
    }

    fn updated(&self, live: Option<&Value>, new: Value, manager: &str) -> Value {
        self.at(0, |engine| engine.update(live, new, manager))
    }
}

fn deploy(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec})
}

fn labels(labels: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": labels}})
}

fn pods(spec: Value) -> Value {
    deploy(json!({"template": {"spec": spec}}))
}

/// What a manager owns, in JSON; null for nobody.
fn owns(object: &Value, manager: &str) -> Value {
    let list = Meta::of(object).get("managedFields").as_array().cloned().unwrap_or_default();
    let mine = list.into_iter().find(|entry| entry["manager"] == manager);
    mine.map(|entry| entry["fieldsV1"].clone()).unwrap_or_default()
}

fn bare(object: &Value) -> Value {
    without_managed(object)
}

#[test]
fn who_applies_owns_what_it_applied() {
    let server = Server::new();
    let config = deploy(json!({
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"spec": {"containers": [
            {"name": "web", "image": "web:1", "securityContext": {}, "ports": [{"containerPort": 80}], "args": ["a"]}
        ]}},
    }));
    let object = server.applied(None, &config, "kubectl");
    assert_eq!(bare(&object), config);
    assert_eq!(
        object["metadata"]["managedFields"],
        json!([{
            "manager": "kubectl", "operation": "Apply", "apiVersion": "apps/v1", "time": "1970-01-01T00:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {
                "f:replicas": {}, "f:selector": {},
                "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {
                    ".": {}, "f:name": {}, "f:image": {}, "f:securityContext": {}, "f:args": {},
                    "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                }}}},
            }},
        }])
    );
}

#[test]
fn another_value_for_an_owned_field_is_a_conflict() {
    let server = Server::new();
    let live = server.updated(
        None,
        deploy(json!({"replicas": 1, "paused": true})),
        "kubectl-client-side-apply",
    );
    let conflicts = |config: &Value| match server.apply(Some(&live), config, "me", false) {
        Err(ApplyError::Conflicts(conflicts)) => conflicts,
        other => panic!("{other:?}"),
    };
    let one = conflicts(&deploy(json!({"replicas": 2})));
    assert_eq!(
        one.to_string(),
        r#"Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using apps/v1: .spec.replicas"#
    );
    assert_eq!(
        one.causes(),
        [super::super::conflict::Cause {
            field: ".spec.replicas".to_owned(),
            message: r#"conflict with "kubectl-client-side-apply" using apps/v1"#.to_owned(),
        }]
    );
    let two = conflicts(&deploy(json!({"replicas": 2, "paused": false})));
    assert_eq!(
        two.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"kubectl-client-side-apply\" using apps/v1:\n- .spec.paused\n- .spec.replicas"
    );
    let forced = server.apply(Some(&live), &deploy(json!({"replicas": 2})), "me", true).unwrap();
    assert_eq!(forced["spec"], json!({"replicas": 2, "paused": true}));
    assert_eq!(
        owns(&forced, "kubectl-client-side-apply"),
        json!({"f:spec": {".": {}, "f:paused": {}}})
    );
    assert_eq!(owns(&forced, "me"), json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn a_conflict_in_a_list_names_the_item() {
    let server = Server::new();
    let container = |image: &str| pods(json!({"containers": [{"name": "web", "image": image}]}));
    let live = server.applied(None, &container("web:1"), "a");
    let error = server.apply(Some(&live), &container("web:2"), "b", false).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"Apply failed with 1 conflict: conflict with "a": .spec.template.spec.containers[name="web"].image"#
    );
}

#[test]
fn two_may_own_the_same_value_and_the_last_one_removes_it() {
    let server = Server::new();
    let config = deploy(json!({"replicas": 1, "paused": true}));
    let both = server.applied(Some(&server.applied(None, &config, "a")), &config, "b");
    assert_eq!(owns(&both, "a"), owns(&both, "b"));
    let less = server.applied(Some(&both), &deploy(json!({"replicas": 1})), "a");
    assert_eq!(less["spec"], json!({"replicas": 1, "paused": true}));
    let none = server.applied(Some(&less), &deploy(json!({"replicas": 1})), "b");
    assert_eq!(none["spec"], json!({"replicas": 1}));
}

#[test]
fn what_is_not_applied_any_more_goes() {
    let server = Server::new();
    let config = pods(json!({
        "containers": [{"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "b:1"}],
        "volumes": [{"name": "v", "hostPath": {"path": "/x"}}],
    }));
    let live = server.applied(None, &config, "me");
    // somebody adds a container of its own, and changes nothing else
    let mut more = live.clone();
    let containers = more["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap();
    containers.push(json!({"name": "side", "image": "side:1"}));
    let live = server.updated(Some(&live), more, "injector");
    let less = server.applied(
        Some(&live),
        &pods(json!({"containers": [{"name": "a", "image": "a:1"}]})),
        "me",
    );
    assert_eq!(
        less["spec"]["template"]["spec"],
        json!({"containers": [{"name": "a", "image": "a:1"}, {"name": "side", "image": "side:1"}]})
    );
    let nothing = server.applied(Some(&less), &labels(json!({})), "me");
    assert_eq!(
        nothing["spec"]["template"]["spec"]["containers"],
        json!([{"name": "side", "image": "side:1"}])
    );
}

#[test]
fn an_item_that_another_only_changed_goes_with_its_owner() {
    let server = Server::new();
    let live = server.applied(
        None,
        &pods(json!({"containers": [{"name": "a", "image": "a:1"}, {"name": "b"}]})),
        "me",
    );
    let mut new = live.clone();
    new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("a:2");
    let live = server.updated(Some(&live), new, "other");
    let less = server.applied(Some(&live), &pods(json!({"containers": [{"name": "b"}]})), "me");
    assert_eq!(less["spec"]["template"]["spec"]["containers"], json!([{"name": "b"}]));
    assert_eq!(owns(&less, "other"), Value::Null);
}

#[test]
fn the_order_of_items_is_that_of_what_is_applied() {
    let server = Server::new();
    let names = |names: &[&str]| {
        let items: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        pods(json!({"containers": items}))
    };
    let live = server.updated(None, names(&["a", "x", "b", "y"]), "u");
    for (config, order) in [
        (names(&["b", "a"]), names(&["x", "b", "y", "a"])),
        (names(&["n", "b"]), names(&["a", "x", "n", "b", "y"])),
        (names(&["a", "b", "n"]), names(&["a", "x", "b", "y", "n"])),
    ] {
        let mut config = config;
        config["spec"]["replicas"] = json!(1);
        let object = server.applied(Some(&live), &config, "me");
        assert_eq!(object["spec"]["template"], order["spec"]["template"]);
    }
    // an order alone is nobody's, and no change
    let same = server.applied(Some(&live), &names(&["b", "a"]), "me");
    assert_eq!(same["spec"], live["spec"]);
}

#[test]
fn sets_atomic_values_and_anything_are_owned_as_they_merge() {
    let server = Server::new();
    let mut config =
        deploy(json!({"raw": {"a": {"b": 1}}, "template": {"spec": {"nodeSelector": {"x": "1"}}}}));
    config["metadata"]["finalizers"] = json!(["a/b"]);
    let live = server.applied(None, &config, "me");
    assert_eq!(
        owns(&live, "me"),
        json!({"f:metadata": {"f:finalizers": {"v:\"a/b\"": {}}},
               "f:spec": {"f:raw": {}, "f:template": {"f:spec": {"f:nodeSelector": {}}}}})
    );
    let mut other = labels(json!({}));
    other["metadata"]["finalizers"] = json!(["c/d"]);
    let both = server.applied(Some(&live), &other, "other");
    assert_eq!(both["metadata"]["finalizers"], json!(["a/b", "c/d"]));
    let conflict = server.apply(Some(&both), &deploy(json!({"raw": {"z": 1}})), "other", false);
    assert!(conflict.unwrap_err().to_string().ends_with(": .spec.raw"));
    let mine = server.applied(Some(&both), &deploy(json!({"raw": {"z": 1}})), "me");
    assert_eq!(mine["spec"], json!({"raw": {"z": 1}}));
    assert_eq!(mine["metadata"]["finalizers"], json!(["c/d"]));
}

#[test]
fn empty_maps_and_nulls_are_owned_but_nulls_are_not_kept() {
    let server = Server::new();
    let live = server.applied(None, &deploy(json!({"strategy": {}, "paused": null})), "me");
    assert_eq!(live["spec"], json!({"strategy": {}}));
    assert_eq!(owns(&live, "me"), json!({"f:spec": {"f:paused": {}, "f:strategy": {}}}));
    let live = server.updated(None, deploy(json!({"replicas": 1})), "u");
    let gone = server.apply(Some(&live), &deploy(json!({"replicas": null})), "me", true).unwrap();
    assert_eq!(gone["spec"], json!({}));
}

#[test]
fn nulls_in_metadata_mean_nothing() {
    let server = Server::new();
    let mut new = labels(json!({"a": "b"}));
    new["metadata"]["creationTimestamp"] = json!("2026-11-21T14:20:06Z");
    let live = server.updated(None, new, "u");
    let mut config = labels(json!(null));
    config["metadata"]["creationTimestamp"] = Value::Null;
    let object = server.applied(Some(&live), &config, "me");
    assert_eq!(object, live);
}

#[test]
fn what_is_too_deep_to_be_read_again_is_refused() {
    let deep = (0..130).fold(Value::Null, |inner, _| json!([inner]));
    let error = Server::new().apply(None, &deploy(json!({"raw": deep})), "me", false).unwrap_err();
    assert!(
        matches!(&error, ApplyError::BadRequest(text) if text.contains("within each other")),
        "{error}"
    );
}

#[test]
fn what_cannot_be_applied_is_refused() {
    let server = Server::new();
    for (config, sentence) in [
        (json!([]), "an applied configuration is a map, not []"),
        (
            json!({"apiVersion": "apps/v2"}),
            "Incorrect version specified in apply patch. Specified patch version: apps/v2, expected: apps/v1",
        ),
        (
            json!({"apiVersion": "apps/v1", "metadata": {"managedFields": []}}),
            "metadata.managedFields must be nil",
        ),
        (
            deploy(json!({"frob": 1})),
            "failed to create typed patch object (/web; apps/v1, Kind=Deployment): .spec.frob: field not declared in schema",
        ),
        (
            deploy(json!({"replicas": "x"})),
            "failed to create typed patch object (/web; apps/v1, Kind=Deployment): .spec.replicas: expected numeric (int or float), got \"x\"",
        ),
        (
            pods(json!({"containers": [{"name": "a"}, {"name": "a"}]})),
            "failed to create typed patch object (/web; apps/v1, Kind=Deployment): .spec.template.spec.containers: duplicate entries for key [name=\"a\"]",
        ),
        (
            pods(json!({"containers": [{"image": "a"}]})),
            "failed to create typed patch object (/web; apps/v1, Kind=Deployment): .spec.template.spec.containers: element 0: associative list with keys has an element that omits key field \"name\" (and doesn't have default value)",
        ),
    ] {
        let error = server.apply(None, &config, "me", false).unwrap_err();
        assert_eq!(error.to_string(), sentence);
    }
    let mut broken = deploy(json!({}));
    broken["metadata"]["managedFields"] = json!([{"operation": "Frob"}]);
    let error = server.apply(Some(&broken), &labels(json!({})), "me", false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to decode managed fields: operation must be `Apply` or `Update`"
    );
}

#[test]
fn updates_move_ownership() {
    let server = Server::new();
    let live = server.applied(None, &deploy(json!({"replicas": 1, "paused": true})), "me");
    let mut new = live.clone();
    new["spec"]["replicas"] = json!(3);
    new["spec"]["strategy"] = json!({"type": "Recreate"});
    new["metadata"]["generation"] = json!(2);
    let live = server.at(7, |engine| engine.update(Some(&live), new, "kubectl-scale"));
    assert_eq!(owns(&live, "me"), json!({"f:spec": {"f:paused": {}}}));
    assert_eq!(
        owns(&live, "kubectl-scale"),
        json!({"f:spec": {"f:replicas": {}, "f:strategy": {".": {}, "f:type": {}}}})
    );
    let mut gone = live.clone();
    gone["spec"]["strategy"].take();
    let live = server.at(8, |engine| engine.update(Some(&live), gone, "kubectl-edit"));
    assert_eq!(owns(&live, "kubectl-scale"), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(owns(&live, "kubectl-edit"), Value::Null);
    // a write that changes nothing changes nothing here, the time included
    let same = server.at(9, |engine| engine.update(Some(&live), live.clone(), "kubectl-edit"));
    assert_eq!(same, live);
    // the applier is told
    let error =
        server.apply(Some(&live), &deploy(json!({"replicas": 1})), "me", false).unwrap_err();
    assert!(
        error
            .to_string()
            .contains(r#"conflict with "kubectl-scale" using apps/v1: .spec.replicas"#)
    );
}

#[test]
fn status_is_owned_through_its_subresource() {
    let (server, status) = (Server::new(), Server::status());
    let mut new = deploy(json!({"replicas": 1}));
    new["status"] = json!({"replicas": 5});
    let live = server.updated(None, new, "kubectl-create");
    assert_eq!(owns(&live, "kubectl-create"), json!({"f:spec": {".": {}, "f:replicas": {}}}));
    let mut new = live.clone();
    new["status"] = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    // what is sent along is not the status writer's, the owners included
    new["metadata"]["managedFields"] = json!([]);
    let live = status.updated(Some(&live), new, "controller");
    assert_eq!(
        live["metadata"]["managedFields"][0],
        json!({
            "manager": "controller", "operation": "Update", "apiVersion": "apps/v1", "subresource": "status",
            "time": "1970-01-01T00:00:00Z", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:status": {"f:conditions": {".": {}, "k:{\"type\":\"Ready\"}": {".": {}, "f:type": {}, "f:status": {}}}}},
        })
    );
    // applying a status through the main resource owns nothing of it
    let mut config = deploy(json!({"replicas": 1}));
    config["status"] = json!({"replicas": 9});
    let applied = server.applied(Some(&live), &config, "me");
    assert_eq!(owns(&applied, "me"), json!({"f:spec": {"f:replicas": {}}}));
    let error = status.apply(
        Some(&live),
        &json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
        "me",
        false,
    );
    assert!(error.unwrap_err().to_string().contains(r#"conflict with "controller" with subresource "status" using apps/v1: .status.conditions[type="Ready"].status"#));
}

#[test]
fn owners_can_be_reset_and_edited() {
    let server = Server::new();
    let live = server.applied(None, &deploy(json!({"replicas": 1})), "me");
    for reset in [json!([]), json!([{}]), json!([{"manager": "", "time": null}])] {
        let mut new = live.clone();
        new["metadata"]["managedFields"] = reset;
        assert_eq!(server.updated(Some(&live), new, "u"), bare(&live));
    }
    let mut new = live.clone();
    new["metadata"]["managedFields"][0]["manager"] = json!("you");
    assert_eq!(server.updated(Some(&live), new.clone(), "u"), new);
    for unreadable in [Value::Null, json!("x"), json!([{"operation": "Frob"}, {}])] {
        let mut new = live.clone();
        new["metadata"]["managedFields"] = unreadable;
        assert_eq!(server.updated(Some(&live), new, "u"), live);
    }
}

#[test]
fn what_was_there_before_anybody_applied_has_an_owner() {
    let server = Server::new();
    let live = deploy(json!({"replicas": 1, "paused": true}));
    let error =
        server.apply(Some(&live), &deploy(json!({"replicas": 2})), "me", false).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with(r#"conflict with "before-first-apply" using apps/v1: .spec.replicas"#)
    );
    let live = server.applied(Some(&live), &deploy(json!({"replicas": 1})), "me");
    assert_eq!(
        owns(&live, "before-first-apply"),
        json!({"f:spec": {".": {}, "f:paused": {}, "f:replicas": {}}})
    );
}

#[test]
fn owners_in_a_version_that_is_not_served_are_forgotten() {
    let server = Server::new();
    let live = server.applied(None, &deploy(json!({"replicas": 1})), "me");
    let in_version = |version: &str| {
        let mut live = live.clone();
        live["metadata"]["managedFields"][0]["apiVersion"] = json!(version);
        live
    };
    let config = deploy(json!({"replicas": 2}));
    assert!(server.apply(Some(&in_version("apps/v1beta1")), &config, "other", false).is_err());
    let object = server.applied(Some(&in_version("gone/v1")), &config, "other");
    assert_eq!(owns(&object, "me"), Value::Null);
    // and so is what the manager itself applied in it: nothing of that goes
    let object =
        server.applied(Some(&in_version("gone/v1")), &deploy(json!({"paused": true})), "me");
    assert_eq!(object["spec"], json!({"replicas": 1, "paused": true}));
}

#[test]
fn kubectl_goes_over_from_client_side_apply() {
    let server = Server::new();
    let mut first = deploy(json!({"replicas": 1}));
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    first["metadata"]["annotations"] =
        json!({annotation: deploy(json!({"replicas": 1})).to_string()});
    let live = server.updated(None, first, "kubectl-client-side-apply");
    let config = deploy(json!({"replicas": 2}));
    assert!(server.apply(Some(&live), &config, "someone", false).is_err());
    let mine = server.applied(Some(&live), &config, "kubectl");
    assert_eq!(mine["spec"]["replicas"], 2);
    assert_eq!(mine["metadata"]["annotations"][annotation], format!("{config}\n"));
    // what somebody else changed since is a conflict for kubectl as well
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(9);
    let scaled = server.updated(Some(&live), scaled, "hpa");
    let error = server.apply(Some(&scaled), &config, "kubectl", false).unwrap_err();
    assert!(error.to_string().ends_with(r#"conflict with "hpa" using apps/v1: .spec.replicas"#));
}

#[test]
fn ports_with_one_number_can_stand_in_a_live_object() {
    let server = Server::new();
    let twice = json!([{"containerPort": 53, "name": "a"}, {"containerPort": 53, "name": "b"}]);
    let live =
        server.updated(None, pods(json!({"containers": [{"name": "c", "ports": twice}]})), "u");
    let other = server.applied(Some(&live), &labels(json!({"a": "b"})), "me");
    assert_eq!(other["spec"], live["spec"]);
    let one =
        pods(json!({"containers": [{"name": "c", "ports": [{"containerPort": 53, "name": "d"}]}]}));
    let one = server.apply(Some(&live), &one, "me", true).unwrap();
    assert_eq!(
        one["spec"]["template"]["spec"]["containers"][0]["ports"],
        json!([{"containerPort": 53, "name": "d"}])
    );
}

#[test]
fn a_time_moves_only_with_a_change() {
    let server = Server::new();
    let config = deploy(json!({"replicas": 1}));
    let live = server.at(1, |engine| engine.apply(None, &config, "me", false)).unwrap();
    let same = server.at(2, |engine| engine.apply(Some(&live), &config, "me", false)).unwrap();
    assert_eq!(same, live);
    let more = server
        .at(3, |engine| engine.apply(Some(&live), &deploy(json!({"replicas": 2})), "me", false));
    assert_eq!(more.unwrap()["metadata"]["managedFields"][0]["time"], "1970-01-01T00:00:03Z");
}

#[test]
fn long_lists_cost_no_more_than_their_length() {
    let server = Server::new();
    let items = |image: &str| -> Value {
        let item = |index: usize| json!({"name": index.to_string(), "image": image});
        pods(json!({"containers": (0..2_000).map(item).collect::<Vec<_>>()}))
    };
    let live = server.applied(None, &items("1"), "me");
    let live = server.applied(Some(&live), &items("2"), "me");
    assert!(server.apply(Some(&live), &items("3"), "you", false).is_err());
    let none = server.applied(Some(&live), &labels(json!({"a": "b"})), "me");
    assert_eq!(none["spec"], Value::Null);
}

/// A configuration that fits the schema: some labels, some fields, some containers.
fn any_config() -> impl Strategy<Value = Value> {
    let labels = prop::collection::btree_map("[a-c]", "[xy]", 0..3);
    let env = prop::collection::btree_map("[AB]", "[xy]", 0..3);
    let containers = prop::collection::btree_map("[a-c]", (prop::option::of("[xy]"), env), 0..3);
    (
        labels,
        prop::option::of(0..3_i64),
        prop::collection::btree_set("[a-c]", 0..3),
        containers,
        any::<bool>(),
    )
        .prop_map(|(labels, replicas, finalizers, containers, strategy)| {
            let container = |(name, (image, env)): (
                String,
                (Option<String>, std::collections::BTreeMap<String, String>),
            )| {
                let env: Vec<Value> = env
                    .into_iter()
                    .map(|(name, value)| json!({"name": name, "value": value}))
                    .collect();
                let mut container = json!({"name": name, "env": env});
                if let Some(image) = image {
                    container["image"] = image.into();
                }
                container
            };
            let containers: Vec<Value> = containers.into_iter().map(container).collect();
            let mut config = pods(json!({"containers": containers}));
            config["metadata"]["labels"] = json!(labels);
            config["metadata"]["finalizers"] = json!(finalizers);
            if let Some(replicas) = replicas {
                config["spec"]["replicas"] = replicas.into();
            }
            if strategy {
                config["spec"]["strategy"] = json!({"type": "Recreate"});
            }
            config
        })
}

/// Every leaf of an object but those that nobody owns.
fn leaves(object: &Value) -> FieldSet {
    let (schemas, shape) = (schemas(), deployment());
    let fields = Typed::lenient(&schemas).fields(&bare(object), &shape).unwrap();
    fields.leaves().difference(&never_owned())
}

fn owned(object: &Value) -> FieldSet {
    let owners = Managed::read(Meta::of(object).get("managedFields")).unwrap();
    owners.0.into_values().fold(FieldSet::default(), |all, entry| all.union(entry.fields))
}

proptest! {
    #[test]
    fn applying_twice_is_applying_once(before in any_config(), config in any_config()) {
        let server = Server::new();
        let live = server.updated(None, before, "u");
        let once = server.apply(Some(&live), &config, "me", true).unwrap();
        let twice = server.at(9, |engine| engine.apply(Some(&once), &config, "me", false)).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn what_is_applied_is_there_and_owned(before in any_config(), config in any_config()) {
        let server = Server::new();
        let live = server.updated(None, before, "u");
        let object = server.apply(Some(&live), &config, "me", true).unwrap();
        let (schemas, shape) = (schemas(), deployment());
        let typed = Typed::lenient(&schemas);
        let changes = typed.compare(&bare(&object), &typed.merge(bare(&object), &config, &shape).unwrap(), &shape).unwrap();
        prop_assert!(changes.is_same(), "{:?}", changes);
        prop_assert!(leaves(&config).difference(&owned(&object)).is_empty());
    }

    #[test]
    fn two_with_nothing_in_common_do_not_mind_the_order(one in any_config(), other in any_config()) {
        let server = Server::new();
        let mut other = other;
        // the other one only has labels that the first one cannot have
        let renamed = other["metadata"]["labels"].as_object().cloned().unwrap_or_default();
        other = labels(renamed.into_iter().map(|(key, value)| (format!("{key}{key}"), value)).collect::<Map<_, _>>().into());
        let ab = server.applied(Some(&server.applied(None, &one, "a")), &other, "b");
        let ba = server.applied(Some(&server.applied(None, &other, "b")), &one, "a");
        prop_assert_eq!(ab, ba);
    }

    #[test]
    fn applying_and_dropping_restores(before in any_config(), config in any_config()) {
        let server = Server::new();
        let live = server.applied(None, &before, "owner");
        let Ok(both) = server.apply(Some(&live), &config, "me", false) else { return Ok(()) };
        let dropped = server.applied(Some(&both), &labels(json!({})), "me");
        let (schemas, shape) = (schemas(), deployment());
        let typed = Typed::lenient(&schemas);
        let changes = typed.compare(&bare(&live), &bare(&dropped), &shape).unwrap();
        prop_assert!(changes.modified.is_empty(), "{:?}", changes);
        // what is owned came back; lists that nobody put anything into, and so nobody owns, may be gone
        let fields = |object: &Value| typed.fields(&bare(object), &shape).unwrap();
        let (before, after) = (fields(&live), fields(&dropped));
        prop_assert!(before.difference(&after).is_empty(), "{:?}", before.difference(&after).paths());
        let labels = FieldSet::of([Path::fields(&["metadata", "labels"])]);
        prop_assert!(after.difference(&before).difference(&labels).is_empty(), "{:?}", after.paths());
    }

    #[test]
    fn every_leaf_has_an_owner_after_updates(writes in prop::collection::vec(any_config(), 1..6)) {
        let server = Server::new();
        let mut live: Option<Value> = None;
        for (index, write) in writes.into_iter().enumerate() {
            let object = server.updated(live.as_ref(), write, &format!("u{index}"));
            prop_assert!(leaves(&object).difference(&owned(&object)).is_empty());
            live = Some(object);
        }
    }

    #[test]
    fn nobody_owns_what_is_not_there(writes in prop::collection::vec((any_config(), any::<bool>()), 1..6)) {
        let server = Server::new();
        let mut live: Option<Value> = None;
        for (index, (write, apply)) in writes.into_iter().enumerate() {
            let manager = format!("m{}", index % 3);
            let object = if apply {
                server.apply(live.as_ref(), &write, &manager, true).unwrap()
            } else {
                server.updated(live.as_ref(), write, &manager)
            };
            let (schemas, shape) = (schemas(), deployment());
            let typed = Typed::lenient(&schemas);
            let there = typed.present(&bare(&object), &shape).unwrap();
            prop_assert!(owned(&object).difference(&there).is_empty(), "{:?}", owned(&object).difference(&there).paths());
            live = Some(object);
        }
    }

    #[test]
    fn owners_of_what_is_not_there_do_no_harm(
        live in any_config(), mine in any_config(), theirs in any_config(), config in any_config()
    ) {
        let server = Server::new();
        let (schemas, shape) = (schemas(), deployment());
        let fields = |object: &Value| Typed::lenient(&schemas).fields(object, &shape).unwrap().to_json();
        let entry = |manager: &str, object: &Value| json!({
            "manager": manager, "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": fields(object),
        });
        let mut live = live;
        live["metadata"]["managedFields"] = json!([entry("me", &mine), entry("other", &theirs)]);
        let once = server.apply(Some(&live), &config, "me", true).unwrap();
        let present = |object: &Value| Typed::lenient(&schemas).present(&bare(object), &shape).unwrap();
        prop_assert!(present(&config).difference(&present(&once)).is_empty());
        let twice = server.at(9, |engine| engine.apply(Some(&once), &config, "me", false)).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn no_object_is_too_strange(live in any_json(), config in any_json(), new in any_json()) {
        let server = Server::new();
        let typed = |mut value: Value| {
            if let Some(map) = value.as_object_mut() {
                map.insert("apiVersion".to_owned(), json!("apps/v1"));
            }
            value
        };
        let _ = server.apply(Some(&live), &typed(config.clone()), "me", false);
        let _ = server.apply(None, &typed(config.clone()), "kubectl", true);
        if let Ok(once) = server.apply(Some(&live), &typed(config.clone()), "me", true) {
            let twice = server.at(9, |engine| engine.apply(Some(&once), &typed(config), "me", false));
            prop_assert_eq!(once, twice.unwrap());
        }
        let updated = server.updated(Some(&live), new.clone(), "u");
        let _ = server.apply(Some(&updated), &typed(new), "me", true);
    }
}
