use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::patch::testing::{any_json, deployment, schemas};

fn patched(object: Value, patch: Value) -> Result<Value, PatchError> {
    apply(object, patch, &deployment(), &schemas())
}

/// A patch of the pod template's spec.
fn pod(object: Value, patch: Value) -> Value {
    let whole = |spec| json!({"spec": {"template": {"spec": spec}}});
    let mut result = patched(whole(object), whole(patch)).unwrap();
    result["spec"]["template"]["spec"].take()
}

fn refused(object: Value, patch: Value) -> String {
    patched(object, patch).unwrap_err().to_string()
}

#[test]
fn maps_are_merged_and_null_removes() {
    assert_eq!(
        patched(
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"replicas": 1}}),
            json!({"metadata": {"labels": {"a": null, "c": "3", "d": null}}, "spec": {"paused": true}}),
        ),
        Ok(
            json!({"metadata": {"labels": {"b": "2", "c": "3"}}, "spec": {"replicas": 1, "paused": true}})
        )
    );
}

#[test]
fn lists_without_a_strategy_are_replaced() {
    assert_eq!(
        pod(
            json!({"containers": [{"name": "a", "args": ["x", "y"]}]}),
            json!({"containers": [{"name": "a", "args": ["z"]}]}),
        ),
        json!({"containers": [{"name": "a", "args": ["z"]}]})
    );
}

#[test]
fn lists_of_maps_are_merged_by_their_key() {
    let live =
        json!({"containers": [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]});
    // what is new goes before what only the server has, what is known keeps its place
    assert_eq!(
        pod(
            live.clone(),
            json!({"containers": [{"name": "c", "image": "c:1"}, {"name": "b", "image": "b:2"}]})
        ),
        json!({"containers": [{"name": "c", "image": "c:1"}, {"name": "a", "image": "a:1"}, {"name": "b", "image": "b:2"}]})
    );
    assert_eq!(
        pod(
            live.clone(),
            json!({"containers": [{"name": "b", "$patch": "delete"}, {"name": "a", "image": null}]})
        ),
        json!({"containers": [{"name": "a"}]})
    );
    assert_eq!(
        pod(live, json!({"containers": [{"$patch": "replace"}, {"name": "x", "image": "x:1"}]})),
        json!({"containers": [{"name": "x", "image": "x:1"}]})
    );
}

#[test]
fn an_item_can_be_replaced_or_emptied_only_as_a_whole_list_or_map() {
    let live =
        json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    for (patch, strategy) in [
        (json!({"$patch": "replace", "type": "Recreate"}), json!({"type": "Recreate"})),
        (json!({"$patch": "delete"}), json!({})),
        (
            json!({"$patch": "merge", "type": "Recreate"}),
            json!({"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}),
        ),
        (json!({"$retainKeys": ["type"], "type": "Recreate"}), json!({"type": "Recreate"})),
        (json!({"$retainKeys": ["type"], "rollingUpdate": null}), json!({"type": "RollingUpdate"})),
    ] {
        let result = patched(live.clone(), json!({"spec": {"strategy": patch}})).unwrap();
        assert_eq!(result["spec"]["strategy"], strategy);
    }
    assert_eq!(patched(live, json!({"$patch": "replace", "kind": "X"})), Ok(json!({"kind": "X"})));
}

#[test]
fn a_volume_changes_its_source_by_retain_keys() {
    assert_eq!(
        pod(
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"volumes": [{"$retainKeys": ["name", "hostPath"], "name": "v", "hostPath": {"path": "/x"}}]}),
        ),
        json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]})
    );
}

#[test]
fn lists_of_scalars_are_merged_as_sets() {
    let live = json!({"metadata": {"finalizers": ["a", "b", "c"]}});
    for (patch, finalizers) in [
        (json!({"finalizers": ["d", "b"]}), json!(["d", "a", "b", "c"])),
        (json!({"$deleteFromPrimitiveList/finalizers": ["b", "x"]}), json!(["a", "c"])),
        (
            json!({"$setElementOrder/finalizers": ["c", "d", "a"], "finalizers": ["d"], "$deleteFromPrimitiveList/finalizers": ["b"]}),
            json!(["c", "d", "a"]),
        ),
        (json!({"finalizers": []}), json!(["a", "b", "c"])),
    ] {
        let result = patched(live.clone(), json!({"metadata": patch})).unwrap();
        assert_eq!(result["metadata"]["finalizers"], finalizers);
    }
    let gone = patched(live, json!({"metadata": {"finalizers": null}}));
    assert_eq!(gone, Ok(json!({"metadata": {}})));
    let absent = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"]}});
    assert_eq!(patched(json!({}), absent), Ok(json!({"metadata": {}})));
}

#[test]
fn the_order_of_a_list_can_be_set() {
    let live =
        json!({"containers": [{"name": "a"}, {"name": "side"}, {"name": "b"}, {"name": "c"}]});
    for (patch, order) in [
        (
            json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}]}),
            "side c a b",
        ),
        (
            json!({"$setElementOrder/containers": [{"name": "a"}, {"name": "new"}, {"name": "c"}],
                   "containers": [{"name": "new"}, {"name": "b", "$patch": "delete"}]}),
            "a new side c",
        ),
        (json!({"$setElementOrder/containers": []}), "a side b c"),
    ] {
        let result = pod(live.clone(), patch);
        let names: Vec<&str> = result["containers"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|item| item["name"].as_str())
            .collect();
        assert_eq!(names.join(" "), order);
    }
    let gone = json!({"$setElementOrder/containers": [{"name": "b"}], "containers": null});
    assert_eq!(pod(live, gone), json!({}));
    let fresh = json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
                       "containers": [{"name": "b", "image": null}, {"name": "a"}, {"name": "c", "$patch": "delete"}]});
    assert_eq!(pod(json!({}), fresh), json!({"containers": [{"name": "b"}, {"name": "a"}]}));
}

#[test]
fn what_meets_nothing_is_taken_without_directives_and_nulls() {
    assert_eq!(
        patched(
            json!({}),
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}, "paused": null,
                            "raw": {"x": null, "y": [{"z": null}]}}}),
        ),
        Ok(json!({"spec": {"strategy": {"type": "Recreate"}, "raw": {"y": [{}]}}}))
    );
    // two ports of a new container may have one number: nothing is merged there
    let ports =
        json!([{"containerPort": 53, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP"}]);
    let new = json!({"containers": [{"name": "dns", "ports": ports}]});
    assert_eq!(pod(json!({}), new.clone()), new);
}

/// What kubectl 1.32 sends, word for word.
#[test]
fn the_commands_of_kubectl_do_what_they_say() {
    let live = json!({"containers": [{"name": "web", "image": "web:1"}, {"name": "log", "image": "log:1"}]});
    // set image
    assert_eq!(
        pod(
            live.clone(),
            json!({"$setElementOrder/containers": [{"name": "web"}, {"name": "log"}],
                                 "containers": [{"image": "web:2", "name": "web"}]})
        ),
        json!({"containers": [{"name": "web", "image": "web:2"}, {"name": "log", "image": "log:1"}]})
    );
    // apply without the second container and with a new variable
    assert_eq!(
        pod(
            live.clone(),
            json!({"$setElementOrder/containers": [{"name": "web"}],
            "containers": [{"$setElementOrder/env": [{"name": "A"}], "env": [{"name": "A", "value": "1"}], "name": "web"},
                           {"$patch": "delete", "name": "log"}]})
        ),
        json!({"containers": [{"name": "web", "image": "web:1", "env": [{"name": "A", "value": "1"}]}]})
    );
    // rollout restart
    let restart = json!({"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-11-21T14:20:06Z"}}}}});
    let restarted =
        patched(json!({"spec": {"template": {"spec": live}}}), restart.clone()).unwrap();
    assert_eq!(restarted["spec"]["template"]["metadata"], restart["spec"]["template"]["metadata"]);
    assert_eq!(restarted["spec"]["template"]["spec"], live);
    // cordon, uncordon, taint
    let cordoned =
        patched(json!({"spec": {"replicas": 1}}), json!({"spec": {"unschedulable": true}}))
            .unwrap();
    assert_eq!(cordoned["spec"], json!({"replicas": 1, "unschedulable": true}));
    let free = patched(cordoned, json!({"spec": {"unschedulable": null}}));
    assert_eq!(free, Ok(json!({"spec": {"replicas": 1}})));
    let taint = json!({"taints": [{"effect": "NoSchedule", "key": "k", "value": "v"}]});
    assert_eq!(pod(json!({"taints": [{"key": "old"}]}), taint.clone()), taint);
    assert_eq!(pod(taint, json!({"taints": null})), json!({}));
}

#[test]
fn malformed_directives_are_told_in_the_words_of_kubernetes() {
    let live = json!({"metadata": {"finalizers": ["a"]}, "spec": {"template": {"spec": {"containers": [{"name": "a"}]}}}});
    let pod = |patch: Value| json!({"spec": {"template": {"spec": patch}}});
    for (patch, sentence) in [
        (
            json!({"$patch": "frob", "kind": "X"}),
            "unknown patch type: frob in map: map[$patch:frob kind:X]",
        ),
        (
            pod(json!({"containers": [{"image": "x"}]})),
            "map: map[image:x] does not contain declared merge key: name",
        ),
        (
            pod(json!({"containers": [{"$patch": "delete"}]})),
            "map: map[$patch:delete] does not contain declared merge key: name",
        ),
        (
            pod(json!({"containers": [{"$patch": "merge", "name": "a"}]})),
            "merging lists cannot yet be specified in the patch",
        ),
        (
            pod(json!({"containers": ["a"]})),
            "list element types are not identical: [[map[name:a]] [a]]",
        ),
        (pod(json!({"containers": [[]]})), "lists of lists are not supported"),
        (json!({"spec": {"$retainKeys": "x"}}), "invalid patch format of retainKeys"),
        (json!({"spec": {"$retainKeys": ["a"], "b": 1}}), "invalid patch format of retainKeys"),
        (
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": 1}}),
            "invalid patch format of primitive list",
        ),
        (
            json!({"metadata": {"$deleteFromPrimitiveList": []}}),
            "invalid patch format of primitive list",
        ),
        (
            json!({"metadata": {"$setElementOrder/finalizers": 1}}),
            "invalid patch format of setElementOrder list",
        ),
        (
            json!({"metadata": {"$setElementOrder/finalizers": ["b"], "finalizers": ["c"]}}),
            "The order in patch list:\n[c]\n doesn't match $setElementOrder list:\n[b]\n",
        ),
    ] {
        assert_eq!(refused(live.clone(), patch), sentence);
    }
    assert!(matches!(patched(live, json!([])), Err(PatchError::Malformed(_))));
}

#[test]
fn long_lists_cost_no_more_than_their_length() {
    let items = |from: usize| -> Vec<Value> {
        (from..from + 20_000).map(|index| json!({"name": index.to_string()})).collect()
    };
    let result = pod(
        json!({"containers": items(0)}),
        json!({"containers": items(10_000), "$setElementOrder/containers": items(10_000)}),
    );
    assert_eq!(result["containers"].as_array().map(Vec::len), Some(30_000));
}

proptest! {
    #[test]
    fn no_patch_is_too_strange(object in any_json(), patch in any_json()) {
        let _ = patched(object, patch);
    }

    #[test]
    fn an_empty_patch_changes_nothing(object in any_json()) {
        prop_assume!(object.is_object());
        prop_assert_eq!(patched(object.clone(), json!({})), Ok(object));
    }

    #[test]
    fn a_patch_does_the_same_twice(finalizers in prop::collection::vec("[a-d]", 0..5), change in prop::collection::vec("[a-f]", 0..5)) {
        let once = patched(json!({"metadata": {"finalizers": finalizers}}), json!({"metadata": {"finalizers": change}})).unwrap();
        let twice = patched(once.clone(), json!({"metadata": {"finalizers": change}})).unwrap();
        prop_assert_eq!(&once, &twice);
    }
}
