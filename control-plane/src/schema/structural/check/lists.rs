//! What is asked of lists.

use serde_json::json;

use super::super::{Schema, SchemaOrMany};
use super::Found;
use crate::meta::field_error::FieldPath;
use crate::meta::go_value::TEXTS;

const LIST_TYPE: &str = "x-kubernetes-list-type";
const KEYS: &str = "x-kubernetes-list-map-keys";

impl Found {
    pub(super) fn lists(&mut self, schema: &Schema, path: &FieldPath) {
        let is_array = schema.kind.as_deref() == Some("array");
        match &schema.items {
            Some(SchemaOrMany::Many(_)) => {
                self.forbidden(
                    path.field("items"),
                    "items must be a schema object and not an array",
                );
            }
            None if is_array => self.required(path.field("items"), "must be specified"),
            _ => {}
        }
        let list_type = schema.list_type.as_deref();
        match list_type {
            Some(_) if !is_array => {
                let detail = "must be array if x-kubernetes-list-type is specified";
                self.typed_otherwise(schema, path, detail);
            }
            Some("map") if schema.list_keys.is_empty() => {
                let detail = "must not be empty if x-kubernetes-list-type is map";
                self.required(path.field(KEYS), detail);
            }
            Some("map") => self.keys(schema, path),
            Some("set") => self.set(schema, path),
            None | Some("atomic") => {}
            Some(other) => {
                self.not_supported(path.field(LIST_TYPE), other, &["atomic", "set", "map"]);
            }
        }
        if let Some(kind @ ("map" | "set")) = list_type
            && schema.item().is_some_and(|item| item.nullable)
        {
            let detail = format!("cannot be nullable when x-kubernetes-list-type is {kind}");
            self.forbidden(path.field("items").field("nullable"), detail);
        }
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        match list_type {
            _ if schema.list_keys.is_empty() => {}
            None => self.required(path.field(LIST_TYPE), detail),
            Some("map") => {}
            Some(other) => self.invalid(path.field(LIST_TYPE), json!(other), detail),
        }
    }

    /// Items are the same when their keys are: each must be there, and be a scalar.
    fn keys(&mut self, schema: &Schema, path: &FieldPath) {
        let Some(item) = schema.item() else { return };
        let (items, keys) = (path.field("items"), path.field(KEYS));
        if item.kind.as_deref() != Some("object") {
            let detail = "must be object if parent array's x-kubernetes-list-type is map";
            self.invalid(items.field("type"), json!(item.kind), detail);
            return;
        }
        for (index, key) in schema.list_keys.iter().enumerate() {
            if schema.list_keys[..index].contains(key) {
                let detail = "must not contain duplicate entries";
                self.invalid_of(keys.clone(), json!(schema.list_keys), &TEXTS, detail);
                continue;
            }
            let Some(field) = item.properties.get(key) else {
                let detail = "entries must all be names of item properties";
                self.invalid_of(keys.clone(), json!(schema.list_keys), &TEXTS, detail);
                continue;
            };
            self.key(field, item.required.contains(key), &items.field("properties").key(key));
        }
    }

    fn key(&mut self, field: &Schema, required: bool, path: &FieldPath) {
        if matches!(field.kind.as_deref(), Some("array" | "object")) {
            let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            self.invalid(path.field("type"), json!(field.kind), detail);
        }
        if field.default.is_none() && !required {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            self.required(path.field("default"), detail);
        }
        if field.nullable {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            self.forbidden(path.field("nullable"), detail);
        }
    }

    /// Items of sets are compared as a whole.
    fn set(&mut self, schema: &Schema, path: &FieldPath) {
        let Some(item) = schema.item() else { return };
        let (place, found) = match item.kind.as_deref() {
            Some("object") if item.map_type.as_deref() != Some("atomic") => {
                ("x-kubernetes-map-type", &item.map_type)
            }
            Some("array") if item.list_type.as_deref().is_some_and(|kind| kind != "atomic") => {
                (LIST_TYPE, &item.list_type)
            }
            _ => return,
        };
        let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
        self.invalid(path.field("items").field(place), json!(found), detail);
    }
}
