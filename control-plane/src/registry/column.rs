//! Columns and cells as `kubectl get` shows them, and the small readings that rows are made of.
//!
//! Words and order follow kube-apiserver's printers; durations follow `k8s.io/apimachinery/pkg/util/duration`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its heading.
    pub name: String,
    /// The type: `string`, `integer`, …
    pub kind: &'static str,
    /// The format; `name` marks the object's name.
    pub format: &'static str,
    /// What it means.
    pub description: String,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: u8,
}

impl Column {
    /// A column of texts that is always shown.
    pub fn text(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: "string",
            format: "",
            description: String::new(),
            priority: 0,
        }
    }

    /// A column of whole numbers that is always shown.
    pub fn integer(name: &str) -> Self {
        Self { kind: "integer", ..Self::text(name) }
    }

    /// The name of the object.
    pub fn object_name() -> Self {
        let description = "Name must be unique within a namespace.".to_owned();
        Self { format: "name", description, ..Self::text("Name") }
    }

    /// Shown with `-o wide` only.
    #[must_use]
    pub fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }

    /// What kinds without columns of their own have.
    pub fn name_and_age() -> Vec<Self> {
        columns("Name Age")
    }

    /// As it stands in a `Table`.
    pub fn to_value(&self) -> Value {
        json!({
            "name": self.name, "type": self.kind, "format": self.format,
            "description": self.description, "priority": self.priority,
        })
    }
}

/// Columns from one line: `#` before a name makes it a column of numbers, `+` one for `-o wide`; `_` stands for a space.
pub fn columns(line: &str) -> Vec<Column> {
    line.split_whitespace()
        .map(|word| {
            let plain = word.trim_start_matches(['#', '+']).replace('_', " ");
            let column = match plain.as_str() {
                "Name" if !word.starts_with('+') => Column::object_name(),
                plain if word.contains('#') => Column::integer(plain),
                plain => Column::text(plain),
            };
            if word.contains('+') { column.wide() } else { column }
        })
        .collect()
}

/// The text at a JSON pointer, or nothing.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The number at a JSON pointer, or 0.
pub fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

/// The items of the list at a JSON pointer, or none.
pub fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The map at a JSON pointer, if there is one.
pub fn map<'a>(object: &'a Value, pointer: &str) -> Option<&'a Map<String, Value>> {
    object.pointer(pointer)?.as_object()
}

/// Whether the status says that a condition holds.
pub fn has_condition(object: &Value, of: &str) -> bool {
    items(object, "/status/conditions")
        .iter()
        .any(|one| text(one, "/type") == of && text(one, "/status") == "True")
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// How long ago the object was made.
pub fn age(object: &Value, now: Timestamp) -> String {
    since(text(object, "/metadata/creationTimestamp"), now)
}

/// How long ago a moment was, `<unknown>` if there is none.
pub fn since(moment: &str, now: Timestamp) -> String {
    match moment.parse::<Timestamp>() {
        Ok(moment) => human(now.as_second() - moment.as_second()),
        Err(_) => "<unknown>".to_owned(),
    }
}

/// Seconds between two moments; `None` unless both are there.
pub fn between(from: &str, to: &str) -> Option<i64> {
    let (from, to) = (from.parse::<Timestamp>().ok()?, to.parse::<Timestamp>().ok()?);
    Some(to.as_second() - from.as_second())
}

/// A duration in seconds as kubectl writes it: two or three significant digits.
pub fn human(seconds: i64) -> String {
    let with = |big: i64, unit: &str, small: i64, part: &str| match small {
        0 => format!("{big}{unit}"),
        small => format!("{big}{unit}{small}{part}"),
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match () {
        () if seconds < -1 => "<invalid>".to_owned(),
        () if seconds < 0 => "0s".to_owned(),
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => with(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => with(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 24 * 8 => with(hours / 24, "d", hours % 24, "h"),
        () if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        () if hours < 24 * 365 * 8 => with(hours / 24 / 365, "y", hours / 24 % 365, "d"),
        () => format!("{}y", hours / 24 / 365),
    }
}

/// `<none>` for an empty text.
pub fn or_none(text: &str) -> String {
    if text.is_empty() { "<none>".to_owned() } else { text.to_owned() }
}

/// Names and images of a pod template's containers, as two cells.
pub fn containers(template: &Value) -> [Value; 2] {
    let of = |field: &str| {
        let found: Vec<&str> =
            items(template, "/spec/containers").iter().map(|item| text(item, field)).collect();
        json!(found.join(","))
    };
    [of("/name"), of("/image")]
}

/// `a=b,c=d`, sorted by key; `<none>` for nothing.
pub fn labels(map: Option<&Map<String, Value>>) -> String {
    let mut pairs: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    pairs.sort_unstable();
    or_none(&pairs.join(","))
}

/// A `LabelSelector` in the form in which `-l` takes it; `<none>` for one that selects everything.
pub fn selector(selector: Option<&Value>) -> String {
    let Some(selector) = selector else { return "<none>".to_owned() };
    let mut terms: Vec<String> = map(selector, "/matchLabels")
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    terms.extend(items(selector, "/matchExpressions").iter().map(expression));
    terms.sort_unstable();
    or_none(&terms.join(","))
}

fn expression(term: &Value) -> String {
    let key = text(term, "/key");
    let mut values: Vec<&str> = items(term, "/values").iter().filter_map(Value::as_str).collect();
    values.sort_unstable();
    let values = values.join(",");
    match text(term, "/operator") {
        "In" => format!("{key} in ({values})"),
        "NotIn" => format!("{key} notin ({values})"),
        "DoesNotExist" => format!("!{key}"),
        _ => key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_kubectl_writes_them() {
        let (minute, hour, day) = (60, 3600, 86400);
        for (seconds, expected) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (119, "119s"),
            (2 * minute, "2m"),
            (2 * minute + 5, "2m5s"),
            (10 * minute + 5, "10m"),
            (179 * minute, "179m"),
            (3 * hour, "3h"),
            (3 * hour + minute, "3h1m"),
            (8 * hour + minute, "8h"),
            (47 * hour, "47h"),
            (2 * day, "2d"),
            (2 * day + hour, "2d1h"),
            (8 * day + hour, "8d"),
            (729 * day, "729d"),
            (730 * day, "2y"),
            (731 * day, "2y1d"),
            (8 * 365 * day, "8y"),
        ] {
            assert_eq!(human(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn a_line_makes_columns() {
        let made = columns("Name #Desired +Nominated_Node +#Count");
        let seen: Vec<_> = made.iter().map(|c| (&*c.name, c.kind, c.format, c.priority)).collect();
        assert_eq!(
            seen,
            [
                ("Name", "string", "name", 0),
                ("Desired", "integer", "", 0),
                ("Nominated Node", "string", "", 1),
                ("Count", "integer", "", 1),
            ]
        );
    }

    #[test]
    fn selectors_read_as_they_are_typed() {
        let both = json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["b", "a"]},
                {"key": "old", "operator": "DoesNotExist"},
            ],
        });
        assert_eq!(selector(Some(&both)), "!old,app=web,tier in (a,b)");
        assert_eq!(selector(Some(&json!({}))), "<none>");
        assert_eq!(selector(None), "<none>");
    }
}
