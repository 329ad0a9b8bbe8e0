//! The schemas of a document: those of the kinds, and of all that they are made of.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{GroupVersionKind, Served};
use crate::schema::definitions::{Definitions, OBJECT_META};

pub(super) const REFERENCE: &str = "#/components/schemas/";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
/// What operations name besides the kinds.
const SHARED: [&str; 3] = ["DeleteOptions", "Status", "ListMeta"];

/// Schemas by name: our own data goes out as it is.
pub(super) type Schemas<'a> = BTreeMap<Cow<'a, str>, Box<RawValue>>;

/// The name of a kind's definition: custom ones are named after their group, backwards.
pub(super) fn name(kind: &GroupVersionKind) -> String {
    let GroupVersionKind { group, version, kind: name } = kind;
    if let Some(known) = Definitions::kubernetes().kind(group, version, name) {
        return known.to_string();
    }
    let mut parts: Vec<&str> = group.split('.').collect();
    parts.reverse();
    format!("{}.{version}.{name}", parts.join("."))
}

/// The schemas for these resources; `definitions` is the text of all of Kubernetes' own.
pub(super) fn of<'a>(served: &[Served], definitions: &'a str) -> Schemas<'a> {
    let all: BTreeMap<&str, &RawValue> = serde_json::from_str(definitions)
        .expect("the data is part of the program, and a test reads it");
    let mut schemas = Schemas::new();
    let mut waiting: Vec<String> = SHARED.iter().map(|shared| format!("{META}{shared}")).collect();
    waiting.push(OBJECT_META.to_owned());
    for resource in served {
        if let Some(schema) = &resource.schema {
            schemas.extend(custom(&resource.kind, schema));
        }
        waiting.push(name(&resource.kind));
        waiting.push(name(&list_of(&resource.kind)));
        waiting.extend(resource.subresources.iter().map(|subresource| name(&subresource.kind)));
    }
    while let Some(name) = waiting.pop() {
        let Some((name, schema)) = all.get_key_value(name.as_str()) else { continue };
        if !schemas.contains_key(*name) {
            waiting.extend(references(schema.get()).map(str::to_owned));
            schemas.insert(Cow::Borrowed(name), (*schema).to_owned());
        }
    }
    schemas
}

/// The names that a schema's text refers to. In our own data a quote ends each.
fn references(schema: &str) -> impl Iterator<Item = &str> {
    schema.split(REFERENCE).skip(1).filter_map(|rest| rest.split('"').next())
}

/// The kind of a resource's lists.
pub(super) fn list_of(kind: &GroupVersionKind) -> GroupVersionKind {
    GroupVersionKind { kind: format!("{}List", kind.kind), ..kind.clone() }
}

/// The schema of a custom kind and of its list, completed by what every kind has.
fn custom(kind: &GroupVersionKind, schema: &Value) -> [(Cow<'static, str>, Box<RawValue>); 2] {
    let reference = |name: &str| json!({ "allOf": [{ "$ref": format!("{REFERENCE}{name}") }] });
    let text = |about: &str| json!({ "type": "string", "description": about });
    let mut own = schema.clone();
    if !own.is_object() {
        own = json!({});
    }
    own["type"] = "object".into();
    own["x-kubernetes-group-version-kind"] = json!([kind]);
    if !own["properties"].is_object() {
        own["properties"] = json!({});
    }
    own["properties"]["apiVersion"] = text("The group and version of this object.");
    own["properties"]["kind"] = text("The kind of this object.");
    own["properties"]["metadata"] = reference(OBJECT_META);
    let list_kind = list_of(kind);
    let list = json!({
        "description": format!("{} is a list of {}", list_kind.kind, kind.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": text("The group and version of this list."),
            "kind": text("The kind of this list."),
            "metadata": reference(&format!("{META}ListMeta")),
            "items": { "type": "array", "items": reference(&name(kind)) },
        },
        "x-kubernetes-group-version-kind": [list_kind],
    });
    [(name(kind), own), (name(&list_kind), list)].map(|(name, schema)| {
        let written = serde_json::value::to_raw_value(&schema);
        (Cow::Owned(name), written.expect("JSON is written as JSON"))
    })
}
