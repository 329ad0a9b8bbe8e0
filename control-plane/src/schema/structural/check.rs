//! Whether a schema is structural.

use serde_json::{Value, json};

use super::super::decode::Target;
use super::super::definitions::Definitions;
use super::{Schema, SchemaOrBool, SchemaOrMany, default, shape, validate};
use crate::meta::field_error::{FieldError, FieldPath, Mistake};
use crate::meta::go_value::GoType;

mod lists;
mod resource;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// All that keeps a schema from being structural.
pub(super) fn structural(schema: &Schema, path: &FieldPath) -> Vec<FieldError> {
    let mut found = Found { mistakes: Vec::new() };
    match schema.kind.as_deref() {
        None | Some("") => found.required(path.field("type"), "must not be empty at the root"),
        Some("object") => {}
        Some(other) => {
            found.invalid(path.field("type"), json!(other), "must be object at the root");
        }
    }
    if schema.nullable {
        found.forbidden(path.field("nullable"), "nullable cannot be true at the root");
    }
    if schema.additional_properties.is_some() {
        found.forbidden(path.field("additionalProperties"), "must not be used at the root");
    }
    found.part(schema, path);
    found.resource(schema, path);
    found.metadata(schema, path);
    found.mistakes
}

struct Found {
    mistakes: Vec<FieldError>,
}

impl Found {
    fn required(&mut self, path: FieldPath, detail: impl Into<String>) {
        self.mistakes.push(FieldError::new(path, Mistake::Required, detail));
    }

    fn forbidden(&mut self, path: FieldPath, detail: impl Into<String>) {
        self.mistakes.push(FieldError::new(path, Mistake::Forbidden, detail));
    }

    fn invalid(&mut self, path: FieldPath, value: Value, detail: impl Into<String>) {
        self.invalid_of(path, value, &GoType::Any, detail);
    }

    fn invalid_of(
        &mut self,
        path: FieldPath,
        value: Value,
        of: &'static GoType,
        detail: impl Into<String>,
    ) {
        self.mistakes.push(FieldError::new(path, Mistake::Invalid(value), detail).of(of));
    }

    /// A schema that says what a value is, and what stands within it.
    fn part(&mut self, schema: &Schema, path: &FieldPath) {
        self.known(schema, path);
        self.extensions(schema, path);
        self.maps(schema, path);
        self.lists(schema, path);
        self.default(schema, path);
        for (name, field) in &schema.properties {
            let path = path.field("properties").key(name);
            self.typed(field, &path, "must not be empty for specified object fields");
            self.part(field, &path);
        }
        if let Some(other) = schema.other() {
            let path = path.field("additionalProperties");
            self.typed(other, &path, "must not be empty for specified object fields");
            self.part(other, &path);
        }
        if let Some(item) = schema.item() {
            let path = path.field("items");
            self.typed(item, &path, "must not be empty for specified array items");
            self.part(item, &path);
        }
        for (name, index, junct) in schema.juncts() {
            let path =
                index.map_or_else(|| path.field(name), |index| path.field(name).index(index));
            let int_or_string = schema.int_or_string && matches!(name, "anyOf" | "allOf");
            self.narrowing(junct, &path, int_or_string);
            if name != "allOf" {
                self.without_rules(junct, &path);
            }
        }
        self.complete(schema, path);
    }

    fn typed(&mut self, schema: &Schema, path: &FieldPath, detail: &str) {
        let free = schema.int_or_string || schema.keeps_unknown();
        match schema.kind.as_deref() {
            None | Some("") if !free => self.required(path.field("type"), detail),
            Some(_) if schema.int_or_string => {
                self.forbidden(
                    path.field("type"),
                    "must be empty if x-kubernetes-int-or-string is true",
                );
            }
            _ => {}
        }
    }

    /// What is refused wherever it stands.
    fn known(&mut self, schema: &Schema, path: &FieldPath) {
        match schema.kind.as_deref() {
            Some("null") => self.forbidden(
                path.field("type"),
                "type cannot be set to null, use nullable as an alternative",
            ),
            Some(kind) if !kind.is_empty() && !TYPES.contains(&kind) => {
                let types = TYPES.iter().map(ToString::to_string).collect();
                self.mistakes.push(FieldError::new(
                    path.field("type"),
                    Mistake::NotSupported(json!(kind), types),
                    "",
                ));
            }
            _ => {}
        }
        for (name, is_there) in [
            ("$ref", schema.reference.is_some()),
            ("id", schema.id.is_some()),
            ("patternProperties", schema.pattern_properties.is_some()),
            ("definitions", schema.definitions.is_some()),
            ("dependencies", schema.dependencies.is_some()),
            ("additionalItems", schema.additional_items.is_some()),
        ] {
            if is_there {
                self.forbidden(path.field(name), format!("{name} is not supported"));
            }
        }
        if schema.unique_items {
            let detail =
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.forbidden(path.field("uniqueItems"), detail);
        }
        if let Some(pattern) = &schema.pattern
            && let Err(error) = &pattern.regex
        {
            let detail = format!("must be a valid regular expression, but isn't: {error}");
            self.invalid(path.field("pattern"), json!(pattern.text), detail);
        }
    }

    fn maps(&mut self, schema: &Schema, path: &FieldPath) {
        let others = path.field("additionalProperties");
        match &schema.additional_properties {
            Some(SchemaOrBool::Bool(false)) => {
                self.forbidden(others, "additionalProperties cannot be set to false");
            }
            Some(SchemaOrBool::Schema(_)) if !schema.properties.is_empty() => {
                self.forbidden(others, "additionalProperties and properties are mutual exclusive");
            }
            _ => {}
        }
        let is_object = schema.kind.as_deref() == Some("object");
        let Some(map_type) = schema.map_type.as_deref() else { return };
        if !is_object {
            self.typed_otherwise(
                schema,
                path,
                "must be object if x-kubernetes-map-type is specified",
            );
        }
        if !matches!(map_type, "atomic" | "granular") {
            self.not_supported(
                path.field("x-kubernetes-map-type"),
                map_type,
                &["atomic", "granular"],
            );
        }
    }

    /// Of another type than an extension asks for, or of none.
    fn typed_otherwise(&mut self, schema: &Schema, path: &FieldPath, detail: &str) {
        match schema.kind.as_deref() {
            None | Some("") => self.required(path.field("type"), detail),
            Some(kind) => self.invalid(path.field("type"), json!(kind), detail),
        }
    }

    fn not_supported(&mut self, path: FieldPath, found: &str, supported: &[&str]) {
        let supported = supported.iter().map(ToString::to_string).collect();
        self.mistakes.push(FieldError::new(
            path,
            Mistake::NotSupported(json!(found), supported),
            "",
        ));
    }

    /// A default must be a value of its schema, and nothing of it may be pruned.
    fn default(&mut self, schema: &Schema, path: &FieldPath) {
        let Some(written) = &schema.default else { return };
        let path = path.field("default");
        let shape = shape::of_value(schema);
        let target = Target { definitions: Definitions::kubernetes(), shape: &shape, custom: true };
        match target.value(written.clone()) {
            Err(error) => return self.invalid(path, written.clone(), error.to_string()),
            Ok(kept) if kept.value != *written => {
                return self.invalid(path, written.clone(), "must not have unknown fields");
            }
            Ok(_) => {}
        }
        let mut value = written.clone();
        default::fill(schema, &mut value);
        for mistake in validate::value(schema, &value, &FieldPath::root("default")) {
            let path = match mistake.path.to_string().strip_prefix("default") {
                Some("") | None => path.clone(),
                Some(below) => path.field(below.trim_start_matches('.')),
            };
            self.mistakes.push(FieldError { path, ..mistake });
        }
    }

    /// Within allOf, anyOf, oneOf and not a schema may only narrow.
    fn narrowing(&mut self, schema: &Schema, path: &FieldPath, int_or_string: bool) {
        self.known(schema, path);
        let types = int_or_string && matches!(schema.kind.as_deref(), Some("integer" | "string"));
        for (name, is_there, what) in [
            ("type", schema.kind.is_some() && !types, "empty"),
            ("title", schema.title.is_some(), "empty"),
            ("description", schema.description.is_some(), "empty"),
            ("default", schema.default.is_some(), "undefined"),
            ("additionalProperties", schema.additional_properties.is_some(), "undefined"),
            ("nullable", schema.nullable, "false"),
            ("x-kubernetes-preserve-unknown-fields", schema.keeps_unknown(), "false"),
            ("x-kubernetes-embedded-resource", schema.embedded_resource, "false"),
            ("x-kubernetes-int-or-string", schema.int_or_string, "false"),
            ("x-kubernetes-list-type", schema.list_type.is_some(), "undefined"),
            ("x-kubernetes-list-map-keys", !schema.list_keys.is_empty(), "empty"),
            ("x-kubernetes-map-type", schema.map_type.is_some(), "undefined"),
        ] {
            if is_there {
                self.forbidden(path.field(name), format!("must be {what} to be structural"));
            }
        }
        for (name, field) in &schema.properties {
            self.narrowing(field, &path.field("properties").key(name), false);
        }
        if schema.properties.contains_key("metadata") {
            let metadata = path.field("properties").key("metadata");
            self.forbidden(metadata, "must not be specified in a nested context");
        }
        match &schema.items {
            Some(SchemaOrMany::One(item)) => self.narrowing(item, &path.field("items"), false),
            Some(SchemaOrMany::Many(_)) => self
                .forbidden(path.field("items"), "items must be a schema object and not an array"),
            None => {}
        }
        for (name, index, junct) in schema.juncts() {
            let path =
                index.map_or_else(|| path.field(name), |index| path.field(name).index(index));
            self.narrowing(junct, &path, int_or_string);
        }
    }

    /// A rule counts for every value; what may be so or otherwise has none.
    fn without_rules(&mut self, schema: &Schema, path: &FieldPath) {
        if !schema.rules.is_empty() {
            self.forbidden(
                path.field("x-kubernetes-validations"),
                "must be empty to be structural",
            );
        }
        for (name, field) in &schema.properties {
            self.without_rules(field, &path.field("properties").key(name));
        }
        if let Some(item) = schema.item() {
            self.without_rules(item, &path.field("items"));
        }
        for (name, index, junct) in schema.juncts() {
            let path =
                index.map_or_else(|| path.field(name), |index| path.field(name).index(index));
            self.without_rules(junct, &path);
        }
    }

    /// What the narrowing schemas name must stand outside of them as well.
    fn complete(&mut self, schema: &Schema, path: &FieldPath) {
        for (name, index, junct) in schema.juncts() {
            let from =
                index.map_or_else(|| path.field(name), |index| path.field(name).index(index));
            self.covered(schema, path, junct, &from);
        }
    }

    fn covered(&mut self, outer: &Schema, path: &FieldPath, inner: &Schema, from: &FieldPath) {
        for (name, field) in &inner.properties {
            let from = from.field("properties").key(name);
            match (outer.properties.get(name), outer.other()) {
                (Some(found), _) => {
                    self.covered(found, &path.field("properties").key(name), field, &from);
                }
                (None, Some(found)) => {
                    self.covered(found, &path.field("additionalProperties"), field, &from);
                }
                (None, None) => {
                    self.required(
                        path.field("properties").key(name),
                        format!("because it is defined in {from}"),
                    );
                }
            }
        }
        if let Some(item) = inner.item() {
            let from = from.field("items");
            match outer.item() {
                Some(found) => self.covered(found, &path.field("items"), item, &from),
                None => {
                    self.required(path.field("items"), format!("because it is defined in {from}"));
                }
            }
        }
        for (name, index, junct) in inner.juncts() {
            let from =
                index.map_or_else(|| from.field(name), |index| from.field(name).index(index));
            self.covered(outer, path, junct, &from);
        }
    }
}
