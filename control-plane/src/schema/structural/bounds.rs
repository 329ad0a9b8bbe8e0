//! How large the values of a schema may be: by its limits, or by what a request can hold where it has none.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::cel::cost::Bounds;
use super::super::cel::declared::escape;
use super::Schema;

/// The most bytes of a request, as Kubernetes estimates with.
pub(super) const REQUEST: u64 = 3 * 1024 * 1024;
/// The most signs of a text, between quotes, and the most bytes between brackets.
const INNER: u64 = REQUEST - 2;

/// The bounds of a value that rules see, in parallel to what it is declared to be.
pub(super) fn part(schema: &Schema, root: bool) -> Option<Bounds> {
    if schema.int_or_string {
        return Some(scalar(1, text_limit(schema, INNER)));
    }
    match schema.kind.as_deref()? {
        "boolean" => Some(scalar(4, 0)),
        "integer" | "number" => Some(scalar(1, 0)),
        "string" => Some(text(schema)),
        "array" => {
            let item = schema.item()?;
            let item = part(item, item.embedded_resource)?;
            // a comma behind each
            let most = schema.max_items.unwrap_or(INNER / (item.least_bytes + 1));
            Some(Bounds { is_list: true, ..collection(item, most) })
        }
        "object" => object(schema, root),
        _ => None,
    }
}

fn scalar(least_bytes: u64, most: u64) -> Bounds {
    Bounds { most, least_bytes, ..Bounds::default() }
}

fn collection(items: Bounds, most: u64) -> Bounds {
    Bounds { items: Some(Box::new(items)), ..scalar(2, most) }
}

/// A sign has up to four bytes.
fn text_limit(schema: &Schema, otherwise: u64) -> u64 {
    schema.max_length.map_or(otherwise, |most| most.saturating_mul(4))
}

fn text(schema: &Schema) -> Bounds {
    match schema.format.as_deref() {
        Some("byte") => scalar(2, schema.max_length.unwrap_or(INNER)),
        Some("duration") => scalar(3, 32),
        Some("date") => scalar(12, 12),
        Some("date-time") => scalar(21, 32),
        _ => {
            let values = schema.one_of_values.iter().flatten().filter_map(Value::as_str);
            let longest = values.map(|value| value.len() as u64).max();
            scalar(2, text_limit(schema, longest.unwrap_or(INNER)))
        }
    }
}

fn object(schema: &Schema, root: bool) -> Option<Bounds> {
    if let Some(other) = schema.other() {
        let other = part(other, other.embedded_resource)?;
        // two bytes of a key, its quotes, a colon and a comma
        let most = schema.max_properties.unwrap_or(INNER / (other.least_bytes + 6));
        return Some(collection(other, most));
    }
    let mut least_bytes = 2;
    let mut fields = BTreeMap::new();
    for (name, field) in &schema.properties {
        let Some(bounds) = part(field, field.embedded_resource) else { continue };
        // one with a default need not be in a request
        if schema.required.contains(name) && field.default.is_none() {
            least_bytes += name.len() as u64 + bounds.least_bytes + 4;
        }
        if let Some(escaped) = escape(name) {
            fields.insert(escaped.into(), bounds);
        }
    }
    if root {
        let name = || scalar(2, INNER);
        let names = ["name", "generateName"].map(|field| (field.into(), name()));
        let metadata = Bounds { fields: names.into(), ..scalar(2, 0) };
        fields.extend([
            ("apiVersion".into(), name()),
            ("kind".into(), name()),
            ("metadata".into(), metadata),
        ]);
    }
    Some(Bounds { fields, ..scalar(least_bytes, 0) })
}
