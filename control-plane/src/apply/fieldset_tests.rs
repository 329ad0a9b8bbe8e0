use proptest::prelude::*;
use serde_json::json;

use super::*;

fn read_set(json: Value) -> FieldSet {
    FieldSet::from_json(&json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn a_deployment() -> Value {
    json!({
        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
        "f:spec": {
            "f:replicas": {},
            "f:template": {"f:spec": {"f:containers": {
                "k:{\"name\":\"web\"}": {".": {}, "f:image": {}, "f:ports": {
                    "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}},
                }},
            }}},
        },
        "f:list": {"v:\"a\"": {}, "v:1": {}, "i:3": {}},
    })
}

#[test]
fn what_kubernetes_writes_is_read_and_written_the_same() {
    let set = read_set(a_deployment());
    assert_eq!(set.to_json(), a_deployment());
    let paths: Vec<String> = set.paths().iter().map(ToString::to_string).collect();
    assert_eq!(
        paths,
        [
            ".list[=1]",
            ".list[=\"a\"]",
            ".list[3]",
            ".metadata.labels",
            ".metadata.labels.app",
            ".spec.replicas",
            ".spec.template.spec.containers[name=\"web\"]",
            ".spec.template.spec.containers[name=\"web\"].image",
            ".spec.template.spec.containers[name=\"web\"].ports[containerPort=80,protocol=\"TCP\"]",
            ".spec.template.spec.containers[name=\"web\"].ports[containerPort=80,protocol=\"TCP\"].containerPort",
        ]
    );
    assert!(set.contains(&Path::fields(&["metadata", "labels"])));
    assert!(!set.contains(&Path::fields(&["metadata"])));
    assert!(!set.contains(&Path::default()));
    assert_eq!(FieldSet::of(set.paths()), set);
}

#[test]
fn a_path_is_a_leaf_when_nothing_is_below() {
    let leaves = read_set(json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}})).leaves();
    assert_eq!(leaves.to_json(), json!({"f:a": {"f:b": {}}, "f:c": {}}));
    assert_eq!(read_set(json!({"f:a": {".": {}}})).to_json(), json!({"f:a": {}}));
}

#[test]
fn a_recursive_difference_takes_what_is_below_too() {
    let set = read_set(json!({"f:status": {"f:a": {}}, "f:spec": {".": {}, "f:b": {}}}));
    let status = read_set(json!({"f:status": {}}));
    assert_eq!(set.difference(&status), set);
    assert_eq!(
        set.recursive_difference(&status).to_json(),
        json!({"f:spec": {".": {}, "f:b": {}}})
    );
}

#[test]
fn what_is_of_no_form_is_refused() {
    for json in [
        json!([]),
        json!({"a": {}}),
        json!({"f:a": []}),
        json!({"f:a": {"f:b": 1}}),
        json!({"k:{": {}}),
        json!({"k:[]": {}}),
        json!({"k:{}": {}}),
        json!({"i:x": {}}),
        json!({"v:": {}}),
        json!({"foo:a": {}}),
    ] {
        assert!(FieldSet::from_json(&json).is_err(), "{json}");
    }
    assert!(read_set(json!({"x:later": {"what": 1}})).is_empty());
}

pub(in crate::apply) fn any_set() -> impl Strategy<Value = FieldSet> {
    let atom = prop_oneof![
        (0..3_i64).prop_map(Value::from),
        "[ab]".prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null)
    ]
    .prop_map(Atom);
    let element = prop_oneof![
        "[a-c:.]{0,2}".prop_map(PathElement::Field),
        prop::collection::btree_map("[ab]", atom.clone(), 1..3)
            .prop_map(|keys| PathElement::Key(keys.into_iter().collect())),
        atom.prop_map(PathElement::Value),
        (0..3_i64).prop_map(PathElement::Index),
    ];
    prop::collection::vec(prop::collection::vec(element, 1..4).prop_map(Path), 0..8)
        .prop_map(FieldSet::of)
}

proptest! {
    #[test]
    fn what_is_written_is_read_the_same(set in any_set()) {
        prop_assert_eq!(FieldSet::from_json(&set.to_json()), Ok(set));
    }

    #[test]
    fn sets_are_sets(one in any_set(), two in any_set()) {
        let both = one.clone().union(two.clone());
        prop_assert_eq!(&both, &two.clone().union(one.clone()));
        let (mine, common, yours) = (one.difference(&two), one.intersection(&two), two.difference(&one));
        prop_assert_eq!(&both, &mine.clone().union(common.clone()).union(yours));
        prop_assert!(mine.intersection(&two).is_empty());
        prop_assert_eq!(common, two.intersection(&one));
        prop_assert!(one.difference(&one).is_empty() && one.recursive_difference(&one).is_empty());
        for path in both.paths() {
            prop_assert_eq!(mine.contains(&path), one.contains(&path) && !two.contains(&path));
        }
    }

    #[test]
    fn no_json_is_too_strange(text in "[fkvi.:{}\"a1,\\[\\]]{0,24}") {
        if let Ok(json) = serde_json::from_str(&text) {
            let _ = FieldSet::from_json(&json);
        }
        let _ = FieldSet::from_json(&json!({ text: {} }));
    }
}
