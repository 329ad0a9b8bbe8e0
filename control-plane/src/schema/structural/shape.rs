//! The shape of a structural schema.

use super::super::definitions::OBJECT_META;
use super::super::{Field, List, Object, PatchStrategy, Scalar, Shape, Topology};
use super::{Schema, SchemaOrBool};

/// The shape of a whole object: every one has a kind and metadata, whatever its schema says of them.
pub(super) fn of_resource(schema: &Schema) -> Shape {
    Shape::Object(Box::new(with_metadata(object(schema))))
}

/// The shape of a value within an object.
pub(super) fn of_value(schema: &Schema) -> Shape {
    let scalar = match schema.kind.as_deref() {
        _ if schema.int_or_string => Scalar::IntOrString,
        Some("string") => Scalar::String,
        Some("integer") => Scalar::Integer,
        Some("number") => Scalar::Number,
        Some("boolean") => Scalar::Boolean,
        Some("array") => {
            let items = schema.item().map_or(Shape::Any, of_value);
            return Shape::List(Box::new(List { items, topology: topology(schema) }));
        }
        Some("object") if schema.embedded_resource => return of_resource(schema),
        Some("object") => return Shape::Object(Box::new(object(schema))),
        _ => return Shape::Any,
    };
    Shape::Scalar(scalar)
}

fn object(schema: &Schema) -> Object {
    let described = |field: &Schema| plain(of_value(field), field.default.clone());
    Object {
        fields: schema
            .properties
            .iter()
            .map(|(name, field)| (name.clone(), described(field)))
            .collect(),
        required: schema.required.clone(),
        others: match &schema.additional_properties {
            Some(SchemaOrBool::Schema(other)) => Some(of_value(other)),
            Some(SchemaOrBool::Bool(true)) => Some(Shape::Any),
            _ => None,
        },
        keep_unknown: schema.keeps_unknown(),
        atomic: schema.map_type.as_deref() == Some("atomic"),
    }
}

fn plain(shape: Shape, default: Option<serde_json::Value>) -> Field {
    Field { shape, default, patch: PatchStrategy::default() }
}

fn with_metadata(mut object: Object) -> Object {
    for name in ["apiVersion", "kind"] {
        object.fields.insert(name.into(), plain(Shape::Scalar(Scalar::String), None));
    }
    object.fields.insert("metadata".into(), plain(Shape::Named(OBJECT_META.into()), None));
    object
}

fn topology(schema: &Schema) -> Topology {
    match schema.list_type.as_deref() {
        Some("set") => Topology::Set,
        Some("map") => Topology::Map(schema.list_keys.clone()),
        _ => Topology::Atomic,
    }
}
