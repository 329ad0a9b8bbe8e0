//! Regular expressions of schemas. Like Go's they take time in proportion to the text, whatever the expression is.

use regex_lite::Regex;
use serde::{Deserialize, Deserializer};

use super::super::re2;
use super::{Schema, SchemaOrBool, SchemaOrMany};

/// An expression; it may be broken, which is told of with its place in the schema.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    pub text: Box<str>,
    pub regex: Result<Regex, String>,
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let text = Box::<str>::deserialize(source)?;
        Ok(Self { text, regex: Err("it was not compiled".to_owned()) })
    }
}

/// Compiles all expressions of a schema.
pub(super) fn compile(schema: &mut Schema) {
    part(schema, &mut { re2::TOGETHER });
}

fn part(schema: &mut Schema, left: &mut usize) {
    if let Some(pattern) = &mut schema.pattern {
        pattern.regex = re2::compile_within(&pattern.text, left).map(|compiled| compiled.regex);
    }
    let other = match &mut schema.additional_properties {
        Some(SchemaOrBool::Schema(other)) => Some(&mut **other),
        _ => None,
    };
    let item = match &mut schema.items {
        Some(SchemaOrMany::One(item)) => Some(&mut **item),
        _ => None,
    };
    let juncts = [&mut schema.all_of, &mut schema.any_of, &mut schema.one_of];
    let below = schema.properties.values_mut().chain(other).chain(item);
    let below = below.chain(juncts.into_iter().flatten()).chain(schema.not.as_deref_mut());
    for schema in below {
        part(schema, left);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::meta::field_error::FieldPath;

    #[test]
    fn expressions_of_a_schema_are_compiled_wherever_they_stand_and_bounded_together() {
        let broken = |schema: Value| {
            let mut schema: Schema = serde_json::from_value(schema).unwrap();
            compile(&mut schema);
            let errors = super::super::check::structural(&schema, &FieldPath::root("s"));
            errors.iter().filter(|error| error.detail.contains("regular expression")).count()
        };
        let text = |pattern: &str| json!({"type": "string", "pattern": pattern});
        let schema = |field: Value| json!({"type": "object", "properties": {"a": field}});
        for (pattern, expected) in [("^a$", 0), ("(", 1)] {
            let field = text(pattern);
            assert_eq!(broken(schema(field.clone())), expected);
            assert_eq!(broken(schema(json!({"type": "array", "items": field}))), expected);
            let map = json!({"type": "object", "additionalProperties": field});
            assert_eq!(broken(schema(map)), expected);
            for word in ["allOf", "anyOf", "oneOf"] {
                assert_eq!(
                    broken(schema(json!({"type": "string", word: [{"pattern": pattern}]}))),
                    expected
                );
            }
            assert_eq!(
                broken(schema(json!({"type": "string", "not": {"pattern": pattern}}))),
                expected
            );
        }
        let many: serde_json::Map<String, Value> =
            (0..200).map(|at| (format!("f{at}"), text(r"^\pL{500}$"))).collect();
        let began = std::time::Instant::now();
        let told = broken(json!({"type": "object", "properties": many}));
        assert!((100..200).contains(&told), "{told}");
        assert!(began.elapsed().as_secs() < 20);
    }
}
