//! What a definition of a custom kind may hold in languages of its own: rules in CEL, regular expressions, and, beside them, schedules. Read
//! or refused in bounded time and memory; what is taken is evaluated, and its cost can be told.
#![no_main]

use heddle_server::meta::field_error::FieldPath;
use heddle_server::registry::Registry;
use heddle_server::schema::structural::Structural;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// A field of each type, with the text as its pattern or as the rule of the whole.
fn schema(pattern: Option<&str>, rule: Option<&str>) -> Value {
    let mut schema = json!({"type": "object", "properties": {
        "s": {"type": "string", "maxLength": 64}, "i": {"type": "integer"}, "d": {"type": "number"}, "b": {"type": "boolean"},
        "any": {"x-kubernetes-int-or-string": true}, "at": {"type": "string", "format": "date-time"},
        "span": {"type": "string", "format": "duration"}, "maybe": {"type": "string", "nullable": true},
        "ints": {"type": "array", "maxItems": 8, "items": {"type": "integer"}},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {
            "type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "port": {"type": "integer"}}}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    }});
    if let Some(pattern) = pattern {
        schema["properties"]["s"]["pattern"] = json!(pattern);
    }
    if let Some(rule) = rule {
        schema["x-kubernetes-validations"] = json!([{"rule": rule, "optionalOldSelf": false}]);
    }
    schema
}

fn object() -> Value {
    json!({
        "s": "Größe 10.0.0.1/8", "i": 7, "d": 1.5, "b": true, "any": "50%", "at": "2024-02-29T12:30:15.250Z", "span": "1h30m", "maybe": null,
        "ints": [3, 1, 2], "set": ["x", "y"], "ports": [{"name": "a", "port": 1}, {"name": "b"}], "labels": {"app": "web", "a/b": "c"},
    })
}

fuzz_target!(|text: &str| {
    let path = FieldPath::root("schema");
    let object = object();
    for schema in [schema(Some(text), None), schema(None, Some(text))] {
        let Ok(structural) = Structural::read(&schema, &path) else { continue };
        assert_eq!(structural.costs(&path), structural.costs(&path), "an estimate is one");
        structural.validate(&object, None);
        structural.keep(&object, None);
        structural.keep(&object, Some(&object));
    }
    let registry = Registry::built_in();
    let kind = registry.at("batch", "v1", "cronjobs").expect("a kind");
    for field in ["schedule", "timeZone"] {
        let mut object =
            json!({"metadata": {"name": "a"}, "spec": {"schedule": "* * * * *", field: text}});
        kind.strategy.default(&mut object);
        kind.strategy.validate(&object);
        kind.strategy.validate_create(&object);
    }
});
