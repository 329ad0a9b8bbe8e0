//! Events.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{columns, name, number, since, text};
use super::kind::{Form, Kind, Selectable};
use super::strategy::Strategy;
use crate::meta::field_error::{FieldError, FieldPath};
use crate::meta::findings::{Findings, Spot};

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
    [("/reportingInstance", 128), ("/action", 128), ("/reason", 128), ("/note", 1024)];
/// What only old events have.
const OLD: [&str; 4] = [
    "/deprecatedSource",
    "/deprecatedFirstTimestamp",
    "/deprecatedLastTimestamp",
    "/deprecatedCount",
];
/// What stays as it was made: of an event that goes on only its series changes.
const FIXED: [&str; 12] = [
    "/regarding",
    "/related",
    "/reason",
    "/note",
    "/type",
    "/action",
    "/eventTime",
    "/reportingController",
    "/reportingInstance",
    "/deprecatedFirstTimestamp",
    "/deprecatedLastTimestamp",
    "/deprecatedCount",
];

struct Regarding;

impl Strategy for Regarding {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let root = Spot::root(object);
        findings.extend(misplaced(object, "/regarding/namespace"));
        let series = root.field("series");
        if !series.value.is_object() {
            return findings.into_vec();
        }
        if number(series.value, "/count") < 2 {
            findings.invalid(&series.field("count"), "should be at least 2");
        }
        if series.field("lastObservedTime").text().is_empty() {
            findings.required(&series.field("lastObservedTime"), "");
        }
        findings.into_vec()
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let root = Spot::root(object);
        for pointer in
            ["/eventTime", "/reportingController", "/reportingInstance", "/action", "/reason"]
        {
            if root.pointer(pointer).text().is_empty() {
                findings.required(&root.pointer(pointer), "");
            }
        }
        for (pointer, most) in LONGEST {
            if root.pointer(pointer).text().len() > most {
                let why = format!("can have at most {most} characters");
                findings.invalid(&root.pointer(pointer), why);
            }
        }
        if !matches!(text(object, "/type"), "Normal" | "Warning") {
            let why = format!("has invalid value: {}", text(object, "/type"));
            findings.add(FieldError::invalid(FieldPath::root("type"), &json!(""), why));
        }
        let used = |value: &Value| !value.is_null() && *value != json!(0) && *value != json!({});
        for pointer in OLD {
            if object.pointer(pointer).is_some_and(used) {
                let at = FieldPath::of_pointer(pointer);
                findings.add(FieldError::invalid(at, &json!(""), "needs to be unset"));
            }
        }
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let (root, before) = (Spot::root(object), Spot::root(old));
        for pointer in FIXED {
            findings.immutable(&root.pointer(pointer), &before.pointer(pointer));
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
        misplaced(object, "/involvedObject/namespace")
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

/// An event is where that is which it is about; what is in no namespace has its events in `default`.
fn misplaced(object: &Value, pointer: &str) -> Vec<FieldError> {
    let (own, of) = (text(object, "/metadata/namespace"), text(object, pointer));
    if of == own || (of.is_empty() && own == "default") {
        return Vec::new();
    }
    let at = FieldPath::of_pointer(pointer);
    vec![FieldError::invalid(at, &json!(of), "does not match event.namespace")]
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
}
