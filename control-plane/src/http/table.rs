//! Objects in other forms: tables as `kubectl get` shows them, and metadata alone.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::api::options::Query;
use crate::api::status::{Status, bad_option};
use crate::registry::Kind;
use crate::registry::column::{Column, age, columns, name, number};

/// What stands in a row beside its cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// The object's metadata.
    #[default]
    Metadata,
    /// The object.
    Object,
}

impl Include {
    /// Reads `includeObject`.
    pub fn of(query: &Query) -> Result<Self, Status> {
        match query.get("includeObject") {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => Err(bad_option(
                "includeObject",
                other,
                "must be \"None\", \"Metadata\" or \"Object\"",
            )),
        }
    }
}

/// An object's metadata alone.
pub fn partial(object: &Value) -> Value {
    let metadata = object.get("metadata").cloned().unwrap_or_else(|| json!({}));
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}

/// A list of metadata.
pub fn partial_list(metadata: Value, objects: &[Value]) -> Value {
    let items: Vec<Value> = objects.iter().map(partial).collect();
    json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items})
}

/// A table of objects. `heading`: with the definitions of its columns, which a watch sends once.
pub fn table(
    kind: &Kind,
    metadata: Value,
    objects: &[Value],
    include: Include,
    heading: bool,
) -> Value {
    let now = Timestamp::now();
    let rows: Vec<Value> = objects.iter().map(|object| row(kind, object, include, now)).collect();
    let columns = if heading { self::heading(kind) } else { Value::Null };
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": columns, "rows": rows})
}

/// The definitions of the columns of a kind.
pub fn heading(kind: &Kind) -> Value {
    kind.columns.iter().map(Column::to_value).collect()
}

/// A table of one `autoscaling/v1 Scale`.
pub fn of_scale(scale: &Value, include: Include) -> Value {
    let columns: Value =
        columns("Name #Desired #Available Age").iter().map(Column::to_value).collect();
    let cells = vec![
        json!(name(scale)),
        json!(number(scale, "/spec/replicas")),
        json!(number(scale, "/status/replicas")),
        json!(age(scale, Timestamp::now())),
    ];
    let rows = [row_of(cells, scale, include)];
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": revision_of(scale), "columnDefinitions": columns, "rows": rows})
}

/// A row of a table.
pub fn row(kind: &Kind, object: &Value, include: Include, now: Timestamp) -> Value {
    row_of(kind.strategy.row(object, now), object, include)
}

fn row_of(cells: Vec<Value>, object: &Value, include: Include) -> Value {
    let mut row = Map::new();
    row.insert("cells".to_owned(), cells.into());
    match include {
        Include::None => {}
        Include::Metadata => drop(row.insert("object".to_owned(), partial(object))),
        Include::Object => drop(row.insert("object".to_owned(), object.clone())),
    }
    row.into()
}

/// The metadata of a table of one object.
pub fn revision_of(object: &Value) -> Value {
    match object.pointer("/metadata/resourceVersion") {
        Some(revision) => json!({"resourceVersion": revision}),
        None => json!({}),
    }
}
