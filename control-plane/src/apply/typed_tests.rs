use serde_json::json;

use super::*;
use crate::patch::testing::{defaulted, integer, keyed, map_of, object, plain, text};

fn shape() -> Shape {
    let item = object([("port", plain(integer())), ("protocol", defaulted(text(), json!("TCP")))]);
    object([
        ("items", plain(keyed(item, &["port", "protocol"]))),
        ("labels", plain(map_of(text()))),
        ("map", plain(object([("a", plain(text())), ("b", plain(text()))]))),
    ])
}

fn fields(value: &Value) -> Value {
    Typed::lenient(&Schemas::default()).fields(value, &shape()).unwrap().to_json()
}

#[test]
fn paths_are_leaves_items_entries_and_what_is_empty() {
    assert_eq!(
        fields(&json!({"items": [{"port": 1}], "labels": {"x": "y"}, "map": {"a": "1"}})),
        json!({
            "f:items": {"k:{\"port\":1,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}},
            "f:labels": {"f:x": {}}, "f:map": {"f:a": {}},
        })
    );
    assert_eq!(
        fields(&json!({"items": [], "labels": {}, "map": null, "unknown": {"x": 1}})),
        json!({"f:labels": {}, "f:unknown": {}})
    );
    let twice = json!({"items": [{"port": 1}, {"port": 1, "protocol": "TCP"}]});
    assert_eq!(fields(&twice), json!({"f:items": {"k:{\"port\":1,\"protocol\":\"TCP\"}": {}}}));
}

#[test]
fn what_differs_is_told_by_path() {
    let schemas = Schemas::default();
    let changes = |old: Value, new: Value| {
        let changes = Typed::lenient(&schemas).compare(&old, &new, &shape()).unwrap();
        json!([changes.added.to_json(), changes.modified.to_json(), changes.removed.to_json()])
    };
    assert_eq!(
        changes(
            json!({"items": [{"port": 1}, {"port": 2}], "map": {"a": "1", "b": "2"}}),
            json!({"items": [{"port": 2}, {"port": 3}], "map": {"a": "2"}, "labels": {"x": "y"}}),
        ),
        json!([
            {"f:items": {"k:{\"port\":3,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}, "f:labels": {".": {}, "f:x": {}}},
            {"f:map": {"f:a": {}}},
            {"f:items": {"k:{\"port\":1,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}, "f:map": {"f:b": {}}},
        ])
    );
    // null is absent, numbers are their values, the order of items is nobody's
    assert_eq!(
        changes(
            json!({"map": null, "items": [{"port": 1}, {"port": 2}]}),
            json!({"items": [{"port": 2.0}, {"port": 1}]})
        ),
        json!([{"f:items": {"k:{\"port\":2.0,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}}, {}, {"f:items": {"k:{\"port\":2,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}}])
    );
    assert_eq!(
        changes(json!({"map": 1}), json!({"map": {"a": "1"}})),
        json!([{}, {"f:map": {}}, {}])
    );
}

#[test]
fn what_is_taken_away_takes_empty_maps_along() {
    let schemas = Schemas::default();
    let typed = Typed::lenient(&schemas);
    let value =
        json!({"items": [{"port": 1}, {"port": 2}], "map": {"a": "1"}, "labels": {"x": "y"}});
    let set = |json: Value| FieldSet::from_json(&json).unwrap();
    assert_eq!(
        typed.remove(value.clone(), &set(json!({"f:items": {"k:{\"port\":1,\"protocol\":\"TCP\"}": {}}, "f:map": {"f:a": {}}})), &shape()),
        Some(json!({"items": [{"port": 2}], "labels": {"x": "y"}}))
    );
    assert_eq!(
        typed.remove(
            value.clone(),
            &set(json!({"f:items": {}, "f:map": {}, "f:labels": {}})),
            &shape()
        ),
        None
    );
    assert_eq!(
        typed.remove(value.clone(), &set(json!({"f:items": {"i:0": {}}, "f:x": {}})), &shape()),
        Some(value)
    );
}
