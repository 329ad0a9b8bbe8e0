//! What is asked of whole objects, and of the extensions that make a value one.

use serde_json::json;

use super::super::Schema;
use super::Found;
use crate::meta::field_error::FieldPath;

impl Found {
    /// Extensions that exclude each other, and what an object within an object needs.
    pub(super) fn extensions(&mut self, schema: &Schema, path: &FieldPath) {
        let either = "must be false if x-kubernetes-int-or-string is true";
        if schema.int_or_string && schema.keeps_unknown() {
            self.invalid(path.field("x-kubernetes-preserve-unknown-fields"), json!(true), either);
        }
        if schema.int_or_string && schema.embedded_resource {
            self.invalid(path.field("x-kubernetes-embedded-resource"), json!(true), either);
        }
        if schema.preserve_unknown == Some(false) {
            let at = path.field("x-kubernetes-preserve-unknown-fields");
            self.invalid(at, json!(false), "must be true or undefined");
        }
        if !schema.embedded_resource {
            return;
        }
        if schema.kind.as_deref() != Some("object") {
            let detail = "must be object if x-kubernetes-embedded-resource is true";
            self.typed_otherwise(schema, path, detail);
        }
        if schema.additional_properties.is_some() {
            let detail = "must not be used if x-kubernetes-embedded-resource is set";
            self.forbidden(path.field("additionalProperties"), detail);
        }
        if schema.properties.is_empty() && !schema.keeps_unknown() {
            let detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
            self.required(path.field("properties"), detail);
        }
        self.resource(schema, path);
    }

    /// What every object has is of the type that it has everywhere.
    pub(super) fn resource(&mut self, schema: &Schema, path: &FieldPath) {
        for (name, kind) in [("apiVersion", "string"), ("kind", "string"), ("metadata", "object")] {
            let Some(field) = schema.properties.get(name) else { continue };
            if field.kind.as_deref() != Some(kind) {
                let at = path.field("properties").key(name).field("type");
                self.invalid(at, json!(field.kind), format!("must be {kind}"));
            }
        }
    }

    /// At the root only the name may be narrowed of the metadata: the rest is the server's.
    pub(super) fn metadata(&mut self, schema: &Schema, path: &FieldPath) {
        for name in ["apiVersion", "kind", "metadata"] {
            let field = schema.properties.get(name);
            if field.is_some_and(|field| field.default.is_some()) {
                let at = path.field("properties").key(name).field("default");
                self.forbidden(at, format!("must not be set in top-level {name}"));
            }
        }
        let Some(metadata) = schema.properties.get("metadata") else { return };
        let known = |name: &str| matches!(name, "name" | "generateName");
        let more = metadata.properties.keys().any(|name| !known(name))
            || metadata.title.is_some()
            || metadata.description.is_some()
            || metadata.nullable
            || metadata.additional_properties.is_some()
            || metadata.preserve_unknown.is_some()
            || metadata.embedded_resource
            || metadata.map_type.is_some()
            || !metadata.required.is_empty();
        if more {
            let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
            self.forbidden(path.field("properties").key("metadata"), detail);
        }
    }
}
