//! Every kind, with objects as operators have them and whatever may become of them: nothing stops the server.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::{Kind, Registry};
use crate::schema::decode::Target;
use crate::schema::definitions::Definitions;

const SEEDS: &str = include_str!("../../tests/manifests/operators.yaml");

/// An object and its kind.
struct Seed {
    kind: Arc<Kind>,
    object: Value,
}

impl Seed {
    /// What the API makes of a body; nothing is known of the fields of some kinds.
    fn typed(&self, object: Value) -> Option<Value> {
        let Kind { group, version, kind, .. } = &*self.kind;
        match Target::kind(Definitions::kubernetes(), group, version, kind) {
            Some(target) => Some(target.value(object).ok()?.value),
            None => Some(object),
        }
    }
}

fn seeds() -> Vec<Seed> {
    let kinds = Registry::built_in().all();
    SEEDS.split("\n---\n").map(|text| seed(&kinds, text)).collect()
}

fn seed(kinds: &[Arc<Kind>], text: &str) -> Seed {
    let line = |field: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        line.unwrap_or_else(|| panic!("no {field} in {text}"))
    };
    let (group, version) = line("apiVersion: ").rsplit_once('/').unwrap_or(("", "v1"));
    let name = line("kind: ");
    let kind = kinds
        .iter()
        .find(|kind| (&*kind.group, &*kind.version, &*kind.kind) == (group, version, name))
        .unwrap_or_else(|| panic!("{group} has no {name}"));
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let object = serde_saphyr::from_str_with_options(text, options).expect("readable");
    let mut seed = Seed { kind: kind.clone(), object };
    seed.object = seed.typed(seed.object.clone()).expect("of the right types");
    // a Job is selected by it
    seed.object["metadata"]["uid"] = json!("6f1c34a2-5d0e-4f5b-9d0a-0c8f6b1f2e11");
    seed
}

/// A change of one place of an object.
#[derive(Clone, Debug)]
enum Change {
    Set(Value),
    Remove,
    Twice,
    Copy(Index),
}

/// Texts of the small languages of fields, and what is at their borders.
#[rustfmt::skip]
const TEXTS: &[&str] = &[
    "", " ", "-", ".", "..", "/", "//", ":", "*", "%", "0", "-1", "00", "0x1", "1.5Gi", "1e9999", "-0",
    "99999999999999999999", "9223372036854775807", "0-", "-0-1", "0,0", "3-1", "0-4294967295", "100%", "-1%",
    "4294967296%", "١٪", "é", "\u{0}", "\u{1F600}", "1.2.3.4", "1.2.3.4/33", "::", "::/0", "::ffff:1.2.3.4",
    "10.0.0.0/8", "None", "* * * * *", "@every 0s", "*/0 * * * *", "0 0 31 2 *", "TZ=UTC * * * * *",
    "9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "$(A)", "{.a[?(@.b", "^(", "a/b/c", "a=b",
    "iqn.", "Always", "TCP", "NodePort", "ExternalName", "Indexed", "In", "Exists", "kubernetes.io/tls",
];
#[rustfmt::skip]
const NUMBERS: [i64; 12] =
    [0, 1, -1, 2, 100, 101, 65535, 65536, i32::MAX as i64, i32::MIN as i64, i64::MAX, i64::MIN];

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => prop::sample::select(TEXTS).prop_map(|text| Change::Set(text.into())),
        3 => prop::sample::select(NUMBERS.to_vec()).prop_map(|number| Change::Set(number.into())),
        3 => prop::sample::select(vec![json!(null), json!({}), json!([]), json!([null]), json!([{}]), json!({"": null}), json!({"a": "b"}), json!(true), json!(1.5e300)])
            .prop_map(Change::Set),
        1 => "\\PC{0,300}".prop_map(|text| Change::Set(text.into())),
        4 => Just(Change::Remove),
        2 => Just(Change::Twice),
        4 => any::<Index>().prop_map(Change::Copy),
    ]
}

/// The JSON pointers of everything in an object.
fn places(value: &Value, here: &str, found: &mut Vec<String>) {
    let mut go = |key: &str, value: &Value| {
        let here = format!("{here}/{}", key.replace('~', "~0").replace('/', "~1"));
        found.push(here.clone());
        places(value, &here, found);
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| go(key, value)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, value)| go(&at.to_string(), value));
        }
        _ => {}
    }
}

fn apply(object: &mut Value, at: Index, change: &Change) {
    let mut all = Vec::new();
    places(object, "", &mut all);
    all.retain(|place| !matches!(place.as_str(), "/apiVersion" | "/kind" | "/metadata"));
    if all.is_empty() {
        return;
    }
    let place = at.get(all.as_slice());
    match change {
        Change::Set(value) => *object.pointer_mut(place).expect("a place") = value.clone(),
        Change::Copy(from) => {
            let copy = object.pointer(from.get::<String>(all.as_slice())).expect("a place").clone();
            *object.pointer_mut(place).expect("a place") = copy;
        }
        Change::Remove => within(
            object,
            place,
            |map, key| drop(map.remove(key)),
            |items, at| drop(items.remove(at)),
        ),
        Change::Twice => {
            within(object, place, |_, _| {}, |items, at| items.push(items[at].clone()));
        }
    }
}

/// Does something where a place is kept.
fn within(
    object: &mut Value,
    place: &str,
    in_map: impl Fn(&mut serde_json::Map<String, Value>, &str),
    in_list: impl Fn(&mut Vec<Value>, usize),
) {
    let (above, last) = place.rsplit_once('/').expect("a place");
    match object.pointer_mut(above) {
        Some(Value::Object(map)) => in_map(map, &last.replace("~1", "/").replace("~0", "~")),
        Some(Value::Array(items)) => in_list(items, last.parse().expect("an index")),
        _ => {}
    }
}

/// What a request goes through, without metadata that all kinds share; whether the object is valid.
fn create(kind: &Kind, object: &mut Value) -> bool {
    let strategy = &kind.strategy;
    strategy.drop_disabled(object, None);
    strategy.prepare_create(object);
    strategy.default(object);
    let status = strategy.first_status(object);
    let valid = [strategy.validate_create(object), strategy.validate(object)].concat().is_empty();
    strategy.warnings(object, None);
    look(kind, object);
    if let Some(status) = status {
        object["status"] = status;
    }
    strategy.complete(object);
    valid
}

fn update(kind: &Kind, new: &mut Value, old: &Value) {
    let strategy = &kind.strategy;
    strategy.settle_status(&mut new.clone(), old);
    strategy.validate_status(new, old);
    strategy.keep(new, old);
    strategy.drop_disabled(new, Some(old));
    strategy.default(new);
    strategy.validate(new);
    strategy.validate_update(new, old);
    strategy.warnings(new, Some(old));
    look(kind, new);
}

fn look(kind: &Kind, object: &Value) {
    kind.strategy.row(object, Timestamp::UNIX_EPOCH);
    kind.strategy.grace(object, None);
    kind.strategy.grace(object, Some(u64::MAX));
}

/// All that may happen to an object; what is wrong, if something is.
fn check(seed: &Seed, mutant: &Value) -> Result<(), String> {
    let kind = &*seed.kind;
    let Some(typed) = seed.typed(mutant.clone()) else { return Ok(()) };
    let mut made = typed.clone();
    if create(kind, &mut made) {
        unchanged(kind, &made)?;
    }
    let mut old = seed.object.clone();
    create(kind, &mut old);
    update(kind, &mut typed.clone(), &old);
    update(kind, &mut old, &typed);
    Ok(())
}

/// A write that changes nothing is let in, and fills in nothing more.
fn unchanged(kind: &Kind, made: &Value) -> Result<(), String> {
    let mut again = made.clone();
    kind.strategy.keep(&mut again, made);
    kind.strategy.drop_disabled(&mut again, Some(made));
    kind.strategy.default(&mut again);
    if again != *made {
        return Err(format!("filled in again: {again}"));
    }
    let mut wrong = kind.strategy.validate_update(&again, made);
    // of a Node that says where it is when it registers, its status is looked at with the first change only; so it is in Kubernetes
    wrong.retain(|mistake| !mistake.path.to_string().starts_with("status."));
    if wrong.is_empty() { Ok(()) } else { Err(format!("the same is refused: {wrong:?}")) }
}

#[test]
fn there_is_an_object_of_every_kind() {
    let seeds = seeds();
    let missing: Vec<_> = Registry::built_in()
        .all()
        .into_iter()
        .filter(|kind| kind.verbs.iter().any(|verb| verb == "get"))
        .filter(|kind| {
            !seeds.iter().any(|seed| Arc::ptr_eq(&seed.kind, kind) || seed.kind.kind == kind.kind)
        })
        .map(|kind| kind.kind.clone())
        .collect();
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn objects_of_operators_are_valid_and_stay_as_they_are() {
    for seed in seeds() {
        let mut made = seed.object.clone();
        assert!(create(&seed.kind, &mut made), "{}", seed.object);
        unchanged(&seed.kind, &made).unwrap_or_else(|wrong| panic!("{}: {wrong}", seed.object));
    }
}

#[test]
fn whatever_becomes_of_an_object_is_judged() {
    let seeds = seeds();
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    let mut runner = TestRunner::new(Config {
        cases: cases.unwrap_or(2_000),
        failure_persistence: None,
        ..Config::default()
    });
    let changes = prop::collection::vec((any::<Index>(), change()), 1..5);
    let run = runner.run(&(any::<Index>(), changes), |(which, changes)| {
        let seed = which.get(&seeds);
        let mut mutant = seed.object.clone();
        for (at, change) in &changes {
            apply(&mut mutant, *at, change);
        }
        let judged = catch_unwind(AssertUnwindSafe(|| check(seed, &mutant)));
        let judged = judged.map_err(|_| TestCaseError::fail(format!("panic: {mutant}")))?;
        judged.map_err(|wrong| TestCaseError::fail(format!("{wrong} of {mutant}")))
    });
    run.expect("every object is judged");
}
