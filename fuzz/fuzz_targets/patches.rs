//! Objects and what clients want of them, `[object, patch]`: every way to patch answers or refuses, what comes of it can be read again,
//! and sets of fields are written as they were read.
#![no_main]

use heddle_server::apply::engine::{Engine, all_but_status};
use heddle_server::apply::fieldset::FieldSet;
use heddle_server::meta::time::Time;
use heddle_server::patch::{json, merge, strategic};
use heddle_server::schema::{Field, List, Object, PatchStrategy, Scalar, Schemas, Shape, Topology};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fn field(name: &str, shape: Shape, key: Option<&str>) -> (Box<str>, Field) {
    let patch = PatchStrategy { merge: true, retain_keys: true, merge_key: key.map(Into::into) };
    (name.into(), Field { shape, default: None, patch })
}

fn object<const N: usize>(fields: [(Box<str>, Field); N]) -> Shape {
    Shape::Object(Box::new(Object { fields: fields.into(), ..Object::default() }))
}

fn list(items: Shape, topology: Topology) -> Shape {
    Shape::List(Box::new(List { items, topology }))
}

/// Maps, lists by key, sets and atomic lists within each other, named by one letter.
fn schemas() -> Schemas {
    let text = || Shape::Scalar(Scalar::String);
    let keyed = Topology::Map(vec!["k".into()]);
    let any = object([
        field("a", Shape::Named("A".into()), None),
        field("k", text(), None),
        field("l", list(Shape::Named("A".into()), keyed), Some("k")),
        field("s", list(text(), Topology::Set), None),
        field("t", list(text(), Topology::Atomic), None),
        field("metadata", Shape::Named("A".into()), None),
        field("apiVersion", text(), None),
        field("x", Shape::Any, None),
    ]);
    Schemas::new([("A".into(), any)])
}

fn readable(value: &Value) {
    let text = value.to_string();
    assert!(serde_json::from_str::<Value>(&text).is_ok(), "{text}");
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(input) = serde_json::from_slice::<Value>(bytes) else { return };
    if let Ok(set) = FieldSet::from_json(&input) {
        assert_eq!(FieldSet::from_json(&set.to_json()).as_ref(), Ok(&set));
    }
    let (object, patch) = (&input[0], &input[1]);
    let (schemas, shape) = (schemas(), Shape::Named("A".into()));
    let results = [
        json::apply(object.clone(), patch),
        merge::apply(object.clone(), patch.clone()),
        strategic::apply(object.clone(), patch.clone(), &shape, &schemas),
    ];
    results.iter().flatten().for_each(readable);
    let engine = Engine {
        schemas: &schemas,
        shape: &shape,
        api_version: "v1",
        subresource: "",
        ignored: &all_but_status(),
        version: &|version| (version == "v1").then_some(&shape),
        now: Time::now(),
    };
    engine.update(Some(object), patch.clone(), "updater");
    let Ok(once) = engine.apply(Some(object), patch, "applier", true) else { return };
    readable(&once);
    if let Ok(twice) = engine.apply(Some(&once), patch, "applier", false) {
        assert_eq!(once, twice, "applying again changes nothing");
    }
});
