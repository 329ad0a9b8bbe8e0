//! Events.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{columns, name, number, since, text};
use super::kind::{Form, Kind, Selectable};
use super::strategy::Strategy;
use crate::meta::field_error::{FieldError, FieldPath};
use crate::meta::findings::{Findings, Spot};
use crate::meta::name::qualified;

/// `v1 Event`.
pub fn kind() -> Kind {
    let mut kind = Kind::new("", "v1", "Event", "events")
        .short(&["ev"])
        .select_by(&[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "type",
        ])
        .columns(columns(
            "Last_Seen Type Reason Object +Subobject +Source Message +First_Seen +Count +Name",
        ))
        .behaves(Event);
    kind.selectable.push(Selectable {
        pointers: vec!["/source/component".to_owned(), "/reportingComponent".to_owned()],
        ..Selectable::field("source")
    });
    kind.create_on_update = true;
    kind
}

/// `events.k8s.io/v1 Event`: the same objects, which are kept as `v1 Event`.
pub fn regarding() -> Kind {
    let mut kind = Kind::new("events.k8s.io", "v1", "Event", "events")
        .short(&["ev"])
        .select_by(&[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
        ])
        .behaves(Regarding);
    kind.columns = self::kind().columns;
    kind.form = Some(Form { shown, kept });
    kind.create_on_update = true;
    kind
}

/// What is called otherwise: in `v1`, in `events.k8s.io/v1`.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

fn shown(event: &mut Value) {
    rename(event, "events.k8s.io/v1", NAMES);
}

fn kept(event: &mut Value) {
    rename(event, "v1", NAMES.map(|(old, new)| (new, old)));
}

fn rename(event: &mut Value, version: &str, names: [(&str, &str); 7]) {
    let Some(fields) = event.as_object_mut() else { return };
    fields.insert("apiVersion".to_owned(), json!(version));
    for (from, to) in names {
        if let Some(value) = fields.remove(from) {
            fields.insert(to.to_owned(), value);
        }
    }
}

fn as_core(event: &Value) -> Value {
    let mut core = event.clone();
    kept(&mut core);
    core
}

/// The longest that texts of a new event may be.
const LONGEST: [(&str, usize); 4] =
    [("reportingInstance", 128), ("action", 128), ("reason", 128), ("message", 1024)];
/// What only old events have.
const OLD: [&str; 4] = ["firstTimestamp", "lastTimestamp", "count", "source"];
/// What stays as it was made: of an event that goes on only its series changes.
const FIXED: [&str; 13] = [
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingComponent",
    "reportingInstance",
];
/// What is shown of values that are not.
static NOTHING: Value = Value::String(String::new());

struct Regarding;

impl Strategy for Regarding {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        legacy(&as_core(object), "reportingController", &mut findings);
        findings.into_vec()
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let core = as_core(object);
        let root = Spot::root(&core);
        check_series(&root.field("series"), &mut findings);
        if root.field("eventTime").text().is_empty() {
            findings.required(&root.field("eventTime"), "");
        }
        if !matches!(text(object, "/type"), "Normal" | "Warning") {
            let why = format!("has invalid value: {}", text(object, "/type"));
            findings.invalid(&Spot::at(&NOTHING, FieldPath::root("type")), why);
        }
        let used = |value: &Value| !value.is_null() && *value != json!(0) && *value != json!({});
        for old in OLD.map(|field| root.field(field)).iter().filter(|old| used(old.value)) {
            findings.invalid(&Spot::at(&NOTHING, old.path.clone()), "needs to be unset");
        }
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let (new, old) = (as_core(object), as_core(old));
        if new.get("series") != old.get("series") {
            check_series(&Spot::root(&new).field("series"), &mut findings);
        }
        for field in FIXED {
            let told = if field == "reportingComponent" { "reportingController" } else { field };
            let spot = Spot { path: FieldPath::root(told), ..Spot::root(&new).field(field) };
            findings.immutable(&spot, &Spot::root(&old).field(field));
        }
        findings.into_vec()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        Event.row(&as_core(object), now)
    }
}

struct Event;

impl Strategy for Event {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        legacy(object, "reportingComponent", &mut findings);
        findings.into_vec()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let either = |first: &str, other: String| match text(object, first) {
            "" => other,
            moment => since(moment, now),
        };
        let first = either("/firstTimestamp", since(text(object, "/eventTime"), now));
        let (last, count) = match object.get("series").filter(|series| series.is_object()) {
            Some(series) => {
                (since(text(series, "/lastObservedTime"), now), number(series, "/count"))
            }
            None => (either("/lastTimestamp", first.clone()), number(object, "/count").max(1)),
        };
        vec![
            json!(last),
            json!(text(object, "/type")),
            json!(text(object, "/reason")),
            json!(target(object)),
            json!(text(object, "/involvedObject/fieldPath")),
            json!(source(object)),
            json!(text(object, "/message").trim()),
            json!(first),
            json!(count),
            json!(name(object)),
        ]
    }
}

/// What is asked of an event whichever form it came in: `event` is of `v1`, and mistakes are told of in its words, but for `reporter`.
fn legacy(event: &Value, reporter: &str, findings: &mut Findings) {
    let root = Spot::root(event);
    if root.field("eventTime").text().is_empty() {
        check_place(&root, &["default"], findings);
        return;
    }
    // that new events are about an object elsewhere is let pass
    if root.pointer("/involvedObject/namespace").is_empty() {
        check_place(&root, &["default", "kube-system"], findings);
    }
    let found = root.field("reportingComponent");
    let spot = Spot { path: FieldPath::root(reporter), ..found };
    if spot.is_empty() {
        findings.required(&spot, "");
    }
    findings.sentences(&Spot::at(&json!(spot.text()), spot.path.clone()), qualified(spot.text()));
    for (field, most) in LONGEST {
        let spot = root.field(field);
        if spot.is_empty() && field != "message" {
            findings.required(&spot, "");
        }
        if spot.text().len() > most {
            let why = format!("can have at most {most} characters");
            findings.invalid(&Spot::at(&NOTHING, spot.path), why);
        }
    }
}

/// An event that goes on was seen more than once.
fn check_series(series: &Spot<'_>, findings: &mut Findings) {
    if !series.value.is_object() {
        return;
    }
    if number(series.value, "/count") < 2 {
        let count = Spot::at(&NOTHING, series.field("count").path);
        findings.invalid(&count, "should be at least 2");
    }
    if series.field("lastObservedTime").text().is_empty() {
        findings.required(&series.field("lastObservedTime"), "");
    }
}

/// An event is where that is which it is about; what is in no namespace has its events in one of these.
fn check_place(event: &Spot<'_>, homes: &[&str], findings: &mut Findings) {
    let own = event.pointer("/metadata/namespace").text();
    let of = event.pointer("/involvedObject/namespace");
    if of.text() != own && !(of.is_empty() && homes.contains(&own)) {
        let shown = json!(of.text());
        findings.invalid(&Spot::at(&shown, of.path), "does not match event.namespace");
    }
}

fn target(object: &Value) -> String {
    let kind = text(object, "/involvedObject/kind").to_lowercase();
    match text(object, "/involvedObject/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source(object: &Value) -> String {
    let either = |first: &str, other: &str| match text(object, first) {
        "" => text(object, other).to_owned(),
        found => found.to_owned(),
    };
    let component = either("/source/component", "/reportingComponent");
    match either("/source/host", "/reportingInstance").as_str() {
        "" => component,
        host => format!("{component}, {host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_events_have_a_row() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let old = json!({
            "metadata": {"name": "e"}, "type": "Warning", "reason": "BackOff", "message": " again \n", "count": 3,
            "involvedObject": {"kind": "Pod", "name": "web"}, "source": {"component": "kubelet", "host": "n1"},
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:09:30Z",
        });
        assert_eq!(
            Event.row(&old, now),
            [
                json!("30s"),
                json!("Warning"),
                json!("BackOff"),
                json!("pod/web"),
                json!(""),
                json!("kubelet, n1"),
                json!("again"),
                json!("10m"),
                json!(3),
                json!("e")
            ]
        );
        let new =
            json!({"eventTime": "2026-01-01T00:09:00.000000Z", "involvedObject": {"kind": "Node"}});
        let row = Event.row(&new, now);
        assert_eq!((&row[0], &row[3], &row[8]), (&json!("60s"), &json!("node"), &json!(1)));
    }

    fn new_event() -> Value {
        json!({"metadata": {"namespace": "default"}, "eventTime": "2026-01-01T00:09:00.000000Z", "type": "Normal",
            "reportingController": "a.io/b", "reportingInstance": "b-1", "action": "Pull", "reason": "Pulled", "note": "n",
            "regarding": {"kind": "Pod", "name": "web", "namespace": "default"}})
    }

    #[test]
    fn new_events_say_who_saw_what() {
        let good = new_event();
        for (field, value, expected) in [
            ("note", json!(""), &[][..]),
            ("regarding", json!({"namespace": "other"}), &[]),
            ("regarding", json!({}), &[]),
            ("eventTime", Value::Null, &["eventTime: Required value"]),
            ("type", json!("Bad"), &["type: Invalid value: \"\": has invalid value: Bad"]),
            ("action", json!(""), &["action: Required value"]),
            (
                "reason",
                json!("r".repeat(129)),
                &["reason: Invalid value: \"\": can have at most 128 characters"],
            ),
            (
                "note",
                json!("n".repeat(1025)),
                &["message: Invalid value: \"\": can have at most 1024 characters"],
            ),
            (
                "reportingController",
                json!("a b"),
                &["reportingController: Invalid value: \"a b\": name part"],
            ),
            ("deprecatedCount", json!(1), &["count: Invalid value: \"\": needs to be unset"]),
            (
                "deprecatedSource",
                json!({"host": "a"}),
                &["source: Invalid value: \"\": needs to be unset"],
            ),
            (
                "series",
                json!({"count": 1}),
                &[
                    "series.count: Invalid value: \"\": should be at least 2",
                    "series.lastObservedTime: Required value",
                ],
            ),
        ] {
            let mut event = good.clone();
            event[field] = value;
            let mut told: Vec<String> =
                Regarding.validate(&event).iter().map(ToString::to_string).collect();
            told.extend(Regarding.validate_create(&event).iter().map(ToString::to_string));
            assert_eq!(told.len(), expected.len(), "{event}: {told:?}");
            assert!(
                told.iter().zip(expected).all(|(one, start)| one.starts_with(start)),
                "{told:?}"
            );
        }
        let mut other = good.clone();
        other["metadata"]["namespace"] = json!("dev");
        other["regarding"] = json!({});
        assert_eq!(
            Regarding.validate(&other)[0].to_string(),
            r#"involvedObject.namespace: Invalid value: "": does not match event.namespace"#
        );
    }

    #[test]
    fn what_a_change_may_not_touch() {
        let good = new_event();
        let on = |count: i64, more: &str| {
            let mut event = good.clone();
            event["series"] = json!({"count": count, "lastObservedTime": more});
            event
        };
        assert!(
            Regarding.validate_update(&on(1, ""), &on(1, "")).is_empty(),
            "what is there stays"
        );
        assert_eq!(Regarding.validate_update(&on(1, ""), &good).len(), 2);
        for (field, told) in [
            ("note", "message"),
            ("deprecatedSource", "source"),
            ("reportingController", "reportingController"),
        ] {
            let mut new = good.clone();
            new[field] = json!("other");
            let errors = Regarding.validate_update(&new, &good);
            assert_eq!(
                errors[0].to_string(),
                format!("{told}: Invalid value: \"other\": field is immutable")
            );
        }
    }
}
