//! Shapes for tests, written by hand: a Deployment with the fields whose merging differs.

use serde_json::{Value, json};

use crate::schema::{Field, List, Object, PatchStrategy, Scalar, Schemas, Shape, Topology};

pub(crate) fn text() -> Shape {
    Shape::Scalar(Scalar::String)
}

pub(crate) fn integer() -> Shape {
    Shape::Scalar(Scalar::Integer)
}

pub(crate) fn plain(shape: Shape) -> Field {
    Field { shape, default: None, patch: PatchStrategy::default() }
}

pub(crate) fn defaulted(shape: Shape, default: Value) -> Field {
    Field { shape, default: Some(default), patch: PatchStrategy::default() }
}

pub(crate) fn merged(shape: Shape, key: Option<&str>) -> Field {
    let patch = PatchStrategy { merge: true, retain_keys: false, merge_key: key.map(Into::into) };
    Field { shape, default: None, patch }
}

fn retaining(shape: Shape) -> Field {
    let patch = PatchStrategy { retain_keys: true, ..PatchStrategy::default() };
    Field { shape, default: None, patch }
}

pub(crate) fn object<const N: usize>(fields: [(&str, Field); N]) -> Shape {
    let fields = fields.into_iter().map(|(name, field)| (name.into(), field)).collect();
    Shape::Object(Box::new(Object { fields, ..Object::default() }))
}

pub(crate) fn atomic<const N: usize>(fields: [(&str, Field); N]) -> Shape {
    let fields = fields.into_iter().map(|(name, field)| (name.into(), field)).collect();
    Shape::Object(Box::new(Object { fields, atomic: true, ..Object::default() }))
}

pub(crate) fn map_of(values: Shape) -> Shape {
    Shape::Object(Box::new(Object { others: Some(values), ..Object::default() }))
}

pub(crate) fn list(items: Shape, topology: Topology) -> Shape {
    Shape::List(Box::new(List { items, topology }))
}

pub(crate) fn keyed(items: Shape, keys: &[&str]) -> Shape {
    list(items, Topology::Map(keys.iter().map(|key| (*key).into()).collect()))
}

fn metadata() -> Shape {
    let owner = object([("uid", plain(text())), ("name", plain(text()))]);
    object([
        ("name", plain(text())),
        ("namespace", plain(text())),
        ("labels", plain(map_of(text()))),
        ("annotations", plain(map_of(text()))),
        ("creationTimestamp", plain(text())),
        ("resourceVersion", plain(text())),
        ("generation", plain(integer())),
        ("uid", plain(text())),
        ("finalizers", merged(list(text(), Topology::Set), None)),
        ("ownerReferences", merged(keyed(owner, &["uid"]), Some("uid"))),
        ("managedFields", plain(list(Shape::Any, Topology::Atomic))),
    ])
}

fn container() -> Shape {
    let port = object([
        ("containerPort", plain(integer())),
        ("protocol", defaulted(text(), json!("TCP"))),
        ("name", plain(text())),
    ]);
    let env = object([("name", plain(text())), ("value", plain(text()))]);
    object([
        ("name", plain(text())),
        ("image", plain(text())),
        ("args", plain(list(text(), Topology::Atomic))),
        ("ports", merged(keyed(port, &["containerPort", "protocol"]), Some("containerPort"))),
        ("env", merged(keyed(env, &["name"]), Some("name"))),
        ("securityContext", plain(object([("runAsUser", plain(integer()))]))),
    ])
}

fn pod_spec() -> Shape {
    let volume = object([
        ("name", plain(text())),
        ("emptyDir", plain(object([("medium", plain(text()))]))),
        ("hostPath", plain(object([("path", plain(text()))]))),
    ]);
    let mut volumes = merged(keyed(volume, &["name"]), Some("name"));
    volumes.patch.retain_keys = true;
    object([
        ("containers", merged(keyed(Shape::Named("Container".into()), &["name"]), Some("name"))),
        ("volumes", volumes),
        ("nodeSelector", plain(atomic_map(text()))),
        ("unschedulable", plain(Shape::Scalar(Scalar::Boolean))),
        ("taints", plain(list(map_of(text()), Topology::Atomic))),
    ])
}

fn atomic_map(values: Shape) -> Shape {
    Shape::Object(Box::new(Object { others: Some(values), atomic: true, ..Object::default() }))
}

/// A Deployment's shape, by the name of its definition.
pub(crate) fn schemas() -> Schemas {
    let template = object([("metadata", plain(metadata())), ("spec", plain(pod_spec()))]);
    let strategy = object([
        ("type", plain(text())),
        ("rollingUpdate", plain(object([("maxSurge", plain(Shape::Scalar(Scalar::IntOrString)))]))),
    ]);
    let spec = object([
        ("replicas", plain(integer())),
        ("paused", plain(Shape::Scalar(Scalar::Boolean))),
        ("selector", plain(atomic([("matchLabels", plain(map_of(text())))]))),
        ("strategy", retaining(strategy)),
        ("template", plain(template)),
        ("raw", plain(Shape::Any)),
    ]);
    let condition = object([("type", plain(text())), ("status", plain(text()))]);
    let status = object([
        ("replicas", plain(integer())),
        ("conditions", merged(keyed(condition, &["type"]), Some("type"))),
    ]);
    let deployment = object([
        ("apiVersion", plain(text())),
        ("kind", plain(text())),
        ("metadata", plain(metadata())),
        ("spec", plain(spec)),
        ("status", plain(status)),
    ]);
    Schemas::new([("Deployment".into(), deployment), ("Container".into(), container())])
}

pub(crate) fn deployment() -> Shape {
    Shape::Named("Deployment".into())
}

/// Any value of a few names, deep enough to meet every topology.
pub(crate) fn any_json() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let names = prop::sample::select(vec![
        "metadata",
        "spec",
        "template",
        "containers",
        "name",
        "ports",
        "containerPort",
        "protocol",
        "finalizers",
        "labels",
        "raw",
        "selector",
        "args",
        "$patch",
        "$retainKeys",
        "$setElementOrder/containers",
        "$deleteFromPrimitiveList/finalizers",
    ]);
    let words = prop::sample::select(vec!["a", "b", "delete", "replace", "name"]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..3).prop_map(Value::from),
        words.prop_map(Value::from)
    ];
    leaf.prop_recursive(7, 64, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..5).prop_map(|map| Value::Object(
                map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            )),
        ]
    })
}
