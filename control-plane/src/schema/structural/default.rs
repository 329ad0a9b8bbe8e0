//! Defaults.

use serde_json::Value;

use super::Schema;

/// Fills in the defaults below this schema.
pub(super) fn fill(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (name, field) in &schema.properties {
                let Some(default) = &field.default else { continue };
                // null where there may be none is what a client writes that means "as you like"
                let absent =
                    object.get(&**name).is_none_or(|value| value.is_null() && !field.nullable);
                if absent {
                    object.insert(name.to_string(), default.clone());
                }
            }
            for (name, value) in object {
                if let Some(schema) =
                    schema.properties.get(name.as_str()).or_else(|| schema.other())
                {
                    // an entry of a map has no default but that of its schema
                    if let (Value::Null, false, Some(default)) =
                        (&*value, schema.nullable, &schema.default)
                    {
                        *value = default.clone();
                    }
                    fill(schema, value);
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = schema.item() else { return };
            for item in items {
                if let (Value::Null, false, Some(default)) =
                    (&*item, schema.nullable, &schema.default)
                {
                    *item = default.clone();
                }
                fill(schema, item);
            }
        }
        _ => {}
    }
}
