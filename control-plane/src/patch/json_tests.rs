use proptest::prelude::*;
use serde_json::json;

use super::*;

fn refused(object: Value, patch: &Value) -> String {
    match apply(object, patch) {
        Err(PatchError::Rejected(sentence)) => sentence,
        other => panic!("{patch}: {other:?}"),
    }
}

/// The examples of RFC 6902, appendix A.
#[test]
fn the_examples_of_the_rfc_hold() {
    for (object, patch, result) in [
        (
            json!({"foo": "bar"}),
            json!([{"op": "add", "path": "/baz", "value": "qux"}]),
            json!({"baz": "qux", "foo": "bar"}),
        ),
        (
            json!({"foo": ["bar", "baz"]}),
            json!([{"op": "add", "path": "/foo/1", "value": "qux"}]),
            json!({"foo": ["bar", "qux", "baz"]}),
        ),
        (
            json!({"baz": "qux", "foo": "bar"}),
            json!([{"op": "remove", "path": "/baz"}]),
            json!({"foo": "bar"}),
        ),
        (
            json!({"foo": ["bar", "qux", "baz"]}),
            json!([{"op": "remove", "path": "/foo/1"}]),
            json!({"foo": ["bar", "baz"]}),
        ),
        (
            json!({"baz": "qux", "foo": "bar"}),
            json!([{"op": "replace", "path": "/baz", "value": "boo"}]),
            json!({"baz": "boo", "foo": "bar"}),
        ),
        (
            json!({"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}}),
            json!([{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}]),
            json!({"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}}),
        ),
        (
            json!({"foo": ["all", "grass", "cows", "eat"]}),
            json!([{"op": "move", "from": "/foo/1", "path": "/foo/3"}]),
            json!({"foo": ["all", "cows", "eat", "grass"]}),
        ),
        (
            json!({"baz": "qux", "foo": ["a", 2, "c"]}),
            json!([
                {"op": "test", "path": "/baz", "value": "qux"},
                {"op": "test", "path": "/foo/1", "value": 2.0},
            ]),
            json!({"baz": "qux", "foo": ["a", 2, "c"]}),
        ),
        (
            json!({"foo": "bar"}),
            json!([{"op": "add", "path": "/child", "value": {"grandchild": {}}}]),
            json!({"foo": "bar", "child": {"grandchild": {}}}),
        ),
        (
            json!({"/": 9, "~1": 10}),
            json!([{"op": "test", "path": "/~01", "value": 10}, {"op": "remove", "path": "/~1"}]),
            json!({"~1": 10}),
        ),
        (
            json!({"foo": ["bar"]}),
            json!([{"op": "add", "path": "/foo/-", "value": ["abc"]}]),
            json!({"foo": ["bar", ["abc"]]}),
        ),
        (
            json!({"foo": [1, 2]}),
            json!([{"op": "copy", "from": "/foo/-1", "path": "/bar"}, {"op": "replace", "path": "/foo/-2", "value": 0}]),
            json!({"foo": [0, 2], "bar": 2}),
        ),
        (json!({"a": 1}), json!([{"op": "test", "path": "/b", "value": null}]), json!({"a": 1})),
        (
            json!({"a": 1}),
            json!([{"op": "replace", "path": "", "value": {"b": 1}}]),
            json!({"b": 1}),
        ),
    ] {
        assert_eq!(apply(object, &patch), Ok(result), "{patch}");
    }
}

#[test]
fn what_does_not_apply_has_a_sentence() {
    let object = json!({"a": [1], "b": {"c": 1}});
    for (patch, sentence) in [
        (
            json!({"op": "test", "path": "/a/0", "value": 2}),
            "testing value /a/0 failed: test failed",
        ),
        (
            json!({"op": "add", "path": "/x/y", "value": 1}),
            "add operation does not apply: doc is missing path: \"/x/y\": missing value",
        ),
        (
            json!({"op": "remove", "path": "/x"}),
            "error in remove for path: '/x': Unable to remove nonexistent key: x: missing value",
        ),
        (
            json!({"op": "replace", "path": "/b/x", "value": 1}),
            "replace operation does not apply: doc is missing key: /b/x: missing value",
        ),
        (
            json!({"op": "add", "path": "/a/2", "value": 1}),
            "error in add for path: '/a/2': Unable to access invalid index: 2: invalid index referenced",
        ),
        (
            json!({"op": "add", "path": "/a/x", "value": 1}),
            "error in add for path: '/a/x': value was not a proper array index: 'x'",
        ),
        (json!({"op": "frob", "path": "/a"}), "Unexpected kind: frob"),
        (
            json!({"op": "add", "path": "a", "value": 1}),
            "add operation does not apply: doc is missing path: \"a\": missing value",
        ),
        (
            json!({"op": "add", "path": "/a"}),
            "add operation failed to decode value: operation missing value field: missing value",
        ),
        (
            json!({"op": "move", "from": "/b", "path": "/b/c"}),
            "move operation does not apply: /b cannot be moved into itself: /b/c",
        ),
    ] {
        assert_eq!(refused(object.clone(), &json!([patch])), sentence);
    }
}

#[test]
fn what_is_no_patch_has_the_words_of_go() {
    let object = json!({"a": 1});
    for (patch, words) in [
        (json!({}), "object into Go value of type []handlers.jsonPatchOp"),
        (json!("a"), "string into Go value of type []handlers.jsonPatchOp"),
        (json!([1]), "number into Go value of type handlers.jsonPatchOp"),
        (json!([{"op": 1}]), "number into Go struct field jsonPatchOp.op of type string"),
        (
            json!([{"op": "add", "path": []}]),
            "array into Go struct field jsonPatchOp.path of type string",
        ),
        (
            json!([{"op": "remove", "path": "/a"}, {"op": "copy", "from": true}]),
            "bool into Go struct field jsonPatchOp.from of type string",
        ),
    ] {
        let words = format!("error decoding patch: json: cannot unmarshal {words}");
        assert_eq!(apply(object.clone(), &patch), Err(PatchError::Malformed(words)));
    }
    assert_eq!(apply(object.clone(), &Value::Null), Ok(object.clone()));
    assert_eq!(refused(object, &json!([null])), "Unexpected kind: unknown");
}

#[test]
fn a_small_patch_cannot_make_a_large_object() {
    let double: Vec<Value> = (0..9_000)
        .map(|index| json!({"op": "copy", "from": "", "path": format!("/{index}")}))
        .collect();
    let sentence = refused(json!({"a": "b"}), &double.into());
    assert!(
        sentence.starts_with("Unable to complete the copy, the accumulated size"),
        "{sentence}"
    );
    let many = vec![json!({"op": "test", "path": ""}); OPERATIONS_MAX + 1];
    assert_eq!(
        apply(json!({}), &many.into()),
        Err(PatchError::TooLarge(
            "The allowed maximum operations in a JSON patch is 10000, got 10001".to_owned()
        ))
    );
}

#[test]
fn a_small_patch_cannot_move_a_long_list_for_hours() {
    let front = vec![json!({"op": "add", "path": "/a/0", "value": 1}); 2_000];
    let result = apply(json!({"a": vec![0; 40_000]}), &front.into());
    assert!(matches!(result, Err(PatchError::TooLarge(_))), "{result:?}");
}

#[test]
fn fields_that_no_operation_has_are_told() {
    let patch = json!([{"op": "test", "path": "/a", "value": {"shoe": 1}}, {"from": "", "shoe": 1, "Op": "x"}, 1]);
    let mut told = unknown_fields(&patch);
    told.sort();
    assert_eq!(
        told,
        [r#"json patch unknown field "[1].Op""#, r#"json patch unknown field "[1].shoe""#]
    );
    assert_eq!(unknown_fields(&json!({"shoe": 1})), [""; 0]);
}

#[test]
fn neighbours_among_large_numbers_are_not_equal() {
    let test = |value: Value| {
        apply(json!({"a": i64::MAX}), &json!([{"op": "test", "path": "/a", "value": value}]))
    };
    assert!(test(json!(i64::MAX)).is_ok());
    assert!(test(json!(i64::MAX - 1)).is_err());
}

#[test]
fn a_patch_cannot_make_an_object_that_cannot_be_read_again() {
    let deeper = vec![json!({"op": "copy", "from": "/a", "path": "/a/a"}); 200];
    let sentence = refused(json!({"a": {}}), &deeper.into());
    assert!(sentence.contains("within each other"), "{sentence}");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        "[ab~/]{0,2}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[ab]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_operation() -> impl Strategy<Value = Value> {
    let kind = prop::sample::select(vec!["add", "remove", "replace", "move", "copy", "test"]);
    (kind, "(/([ab01-]|-1|~1)){0,3}", "(/[ab01-]){0,3}", any_json()).prop_map(
        |(op, path, from, value)| json!({"op": op, "path": path, "from": from, "value": value}),
    )
}

proptest! {
    #[test]
    fn no_patch_is_too_strange(object in any_json(), patch in prop::collection::vec(any_operation(), 0..8)) {
        let _ = apply(object, &patch.into());
    }

    #[test]
    fn what_was_added_stands_there(object in any_json(), value in any_json()) {
        let patch = json!([{"op": "add", "path": "", "value": object}, {"op": "add", "path": "", "value": {"a": value.clone()}}, {"op": "test", "path": "/a", "value": value}]);
        prop_assert!(apply(Value::Null, &patch).is_ok());
    }
}
