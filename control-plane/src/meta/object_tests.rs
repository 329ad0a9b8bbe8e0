use serde_json::json;

use super::*;

fn texts(wrong: &[FieldError]) -> Vec<String> {
    wrong.iter().map(ToString::to_string).collect()
}

#[test]
fn metadata_is_read() {
    let pod = json!({"metadata": {
        "name": "a", "namespace": "b", "uid": "c", "resourceVersion": "7", "generation": 3,
        "labels": {"app": "web"}, "annotations": {"x/y": "z"}, "finalizers": ["a/b"],
        "deletionTimestamp": "2026-11-21T14:20:06Z",
        "ownerReferences": [
            {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u1"},
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u2", "controller": true},
        ],
    }});
    let meta = Meta::of(&pod);
    assert_eq!((meta.name(), meta.namespace(), meta.uid()), ("a", "b", "c"));
    assert_eq!((meta.resource_version(), meta.generation()), ("7", 3));
    assert_eq!((meta.label("app"), meta.annotation("x/y")), (Some("web"), Some("z")));
    assert_eq!(meta.finalizers(), ["a/b"]);
    assert_eq!(meta.deletion_timestamp(), Some("2026-11-21T14:20:06Z"));
    assert_eq!(meta.controller().map(|owner| owner.name), Some("r"));
}

#[test]
fn what_is_absent_or_of_another_type_reads_as_empty() {
    for object in [
        json!(null),
        json!([]),
        json!({}),
        json!({"metadata": {"name": 1, "finalizers": {}, "labels": []}}),
    ] {
        let meta = Meta::of(&object);
        assert_eq!((meta.name(), meta.generation(), meta.label("a")), ("", 0, None));
        assert!(meta.finalizers().is_empty() && meta.owner_references().is_empty());
    }
}

#[test]
fn metadata_is_written() {
    let mut object = json!({"metadata": {"labels": {"a": "b"}}});
    let mut meta = MetaMut::of(&mut object);
    meta.set("name", "web");
    meta.set("generation", 2);
    meta.set_label("a", None);
    meta.set_label("absent", None);
    meta.set_annotation("x", Some("y"));
    meta.add_finalizer("a/b");
    meta.add_finalizer("a/b");
    meta.add_finalizer("c/d");
    meta.remove_finalizer("a/b");
    assert_eq!(
        object,
        json!({"metadata": {"name": "web", "generation": 2, "annotations": {"x": "y"}, "finalizers": ["c/d"]}})
    );
    let mut meta = MetaMut::of(&mut object);
    meta.set("name", "");
    meta.remove_finalizer("c/d");
    assert_eq!(meta.remove("generation"), Some(json!(2)));
    meta.set_annotation("x", None);
    assert_eq!(object, json!({"metadata": {}}));
    let mut scalar = json!(1);
    MetaMut::of(&mut scalar).set("name", "a");
    assert_eq!(scalar, json!({"metadata": {"name": "a"}}));
}

#[test]
fn new_metadata_is_validated() {
    let good = json!({"metadata": {"name": "a", "namespace": "b", "generateName": "a-"}});
    assert_eq!(validate(&good, Scope::Namespaced, name::dns_subdomain), []);
    assert_eq!(
        texts(&validate(&good, Scope::Cluster, name::dns_subdomain)),
        ["metadata.namespace: Forbidden: not allowed on this type"]
    );
    let bad = json!({"metadata": {
        "generation": -1, "finalizers": ["orphan", "foregroundDeletion"],
        "ownerReferences": [
            {"apiVersion": "v1", "kind": "A", "name": "a", "uid": "1", "controller": true},
            {"apiVersion": "x/", "kind": "B", "name": "b", "controller": true},
            {"apiVersion": "v1", "kind": "Event", "name": "e", "uid": "2"},
        ],
    }});
    let found = texts(&validate(&bad, Scope::Namespaced, name::dns_subdomain));
    assert_eq!(found[0], "metadata.name: Required value: name or generateName is required");
    assert_eq!(found[1], "metadata.namespace: Required value");
    assert_eq!(
        found[2],
        "metadata.generation: Invalid value: -1: must be greater than or equal to 0"
    );
    assert_eq!(
        found[3],
        "metadata.ownerReferences.apiVersion: Invalid value: \"x/\": version must not be empty"
    );
    assert_eq!(found[4], "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty");
    assert!(found[5].ends_with("/v1, Kind=Event is disallowed from being an owner"));
    assert!(found[6].ends_with("Found \"true\" in references for A/a and B/b"));
    assert!(found[7].ends_with("finalizer orphan and foregroundDeletion cannot be both set"));
    assert_eq!(found.len(), 8);
}

#[test]
fn changed_metadata_is_validated() {
    let old = json!({"metadata": {
        "name": "a", "uid": "u", "resourceVersion": "1", "generation": 2,
        "finalizers": ["a/b"], "deletionTimestamp": "2026-11-21T14:20:06Z",
    }});
    assert_eq!(validate_update(&old, &old), []);
    let new = json!({"metadata": {
        "name": "b", "uid": "u", "generation": 1,
        "finalizers": ["a/b", "c/d"], "deletionTimestamp": "2026-11-21T14:20:06Z",
    }});
    assert_eq!(
        texts(&validate_update(&new, &old)),
        [
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"c/d\"}",
            "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
            "metadata.generation: Invalid value: 1: must not be decremented",
            "metadata.name: Invalid value: \"b\": field is immutable",
        ]
    );
}
