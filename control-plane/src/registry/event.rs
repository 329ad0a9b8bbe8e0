//! Events.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::check::{Errors, invalid, path};
use super::column::{columns, name, number, since, text};
use super::kind::{Kind, Selectable};
use super::strategy::Strategy;

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

struct Event;

impl Strategy for Event {
    fn validate(&self, object: &Value) -> Errors {
        let (own, of) =
            (text(object, "/metadata/namespace"), text(object, "/involvedObject/namespace"));
        let cluster = of.is_empty() && own == "default";
        if of == own || cluster {
            return Errors::new();
        }
        vec![invalid(
            &path("/involvedObject/namespace"),
            &json!(of),
            "does not match event.namespace",
        )]
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
