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
    with_metadata(object.get("metadata").cloned())
}

/// The same of an object that is not needed any more: nothing is copied.
pub fn into_partial(mut object: Value) -> Value {
    with_metadata(object.get_mut("metadata").map(Value::take))
}

fn with_metadata(metadata: Option<Value>) -> Value {
    let metadata = metadata.unwrap_or_else(|| Map::new().into());
    document("PartialObjectMetadata", [("metadata", metadata)])
}

/// An object of the API that all kinds share. Not `json!`, which copies each value that it is given.
fn document<const N: usize>(kind: &str, fields: [(&str, Value); N]) -> Value {
    let mut document = Map::new();
    document.insert("kind".to_owned(), kind.into());
    document.insert("apiVersion".to_owned(), "meta.k8s.io/v1".into());
    document.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    document.into()
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
    table_of(metadata, columns, rows)
}

fn table_of(metadata: Value, columns: Value, rows: Vec<Value>) -> Value {
    let rows = rows.into();
    document("Table", [("metadata", metadata), ("columnDefinitions", columns), ("rows", rows)])
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
    table_of(revision_of(scale), columns, vec![row_of(cells, included(scale, include))])
}

/// A row of a table.
fn row(kind: &Kind, object: &Value, include: Include, now: Timestamp) -> Value {
    row_of(kind.strategy.row(object, now), included(object, include))
}

/// The same of an object that is not needed any more.
pub fn into_row(kind: &Kind, object: Value, include: Include, now: Timestamp) -> Value {
    let cells = kind.strategy.row(&object, now);
    let object = match include {
        Include::None => None,
        Include::Metadata => Some(into_partial(object)),
        Include::Object => Some(object),
    };
    row_of(cells, object)
}

fn included(object: &Value, include: Include) -> Option<Value> {
    match include {
        Include::None => None,
        Include::Metadata => Some(partial(object)),
        Include::Object => Some(object.clone()),
    }
}

fn row_of(cells: Vec<Value>, object: Option<Value>) -> Value {
    let mut row = Map::new();
    row.insert("cells".to_owned(), cells.into());
    row.extend(object.map(|object| ("object".to_owned(), object)));
    row.into()
}

/// The metadata of a table of one object.
pub fn revision_of(object: &Value) -> Value {
    match object.pointer("/metadata/resourceVersion") {
        Some(revision) => json!({"resourceVersion": revision}),
        None => json!({}),
    }
}
