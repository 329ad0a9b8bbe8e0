//! What the parts of an object are to rules.

use std::sync::Arc;

use super::super::cel::declared::{Declared, Kind, List, Object, Topology};
use super::Schema;

/// What rules see of a value; `None`: nothing, for nothing is known of it. At the root of an object, and of one within it, its kind and names
/// are seen whether the schema tells of them or not.
pub(super) fn part(schema: &Schema, root: bool) -> Option<Declared> {
    let kind = match schema.kind.as_deref() {
        _ if schema.int_or_string => Kind::IntOrString,
        Some("boolean") => Kind::Bool,
        Some("integer") => Kind::Int,
        Some("number") => Kind::Double,
        Some("string") => match schema.format.as_deref() {
            Some("byte") => Kind::Bytes,
            Some("duration") => Kind::Duration,
            Some("date") => Kind::Date,
            Some("date-time") => Kind::Timestamp,
            _ => Kind::String,
        },
        Some("array") => {
            let item = schema.item()?;
            let item = part(item, item.embedded_resource)?;
            Kind::List(Arc::new(List { item, topology: topology(schema) }))
        }
        Some("object") => object(schema, root)?,
        _ => return None,
    };
    Some(Declared { kind, nullable: schema.nullable })
}

fn topology(schema: &Schema) -> Topology {
    match schema.list_type.as_deref() {
        Some("set") => Topology::Set,
        Some("map") => Topology::Map(schema.list_keys.clone()),
        _ => Topology::Atomic,
    }
}

fn object(schema: &Schema, root: bool) -> Option<Kind> {
    if let Some(other) = schema.other() {
        return part(other, other.embedded_resource).map(|other| Kind::Map(Arc::new(other)));
    }
    let mut object = Object::default();
    for (name, field) in &schema.properties {
        if let Some(field) = part(field, field.embedded_resource) {
            object.add(name, field);
        }
    }
    if root {
        let mut metadata = Object::default();
        metadata.add("name", Declared::of(Kind::String));
        metadata.add("generateName", Declared::of(Kind::String));
        object.add("apiVersion", Declared::of(Kind::String));
        object.add("kind", Declared::of(Kind::String));
        object.add("metadata", Declared::of(Kind::Object(Arc::new(metadata))));
    }
    Some(Kind::Object(Arc::new(object)))
}
