//! Schemas of custom kinds: a `CustomResourceDefinition`'s `openAPIV3Schema`.
//!
//! A schema must be structural: what a field is stands once, in its place, and `allOf`, `anyOf`, `oneOf` and `not` only narrow it. Then it
//! has a shape like a built-in kind's, and unknown fields can be dropped.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>
//!
//! Rules in CEL (`x-kubernetes-validations`) are compiled when the schema is read. One that this server cannot evaluate is refused there: a rule
//! that is stored and not kept would be a lie.

mod before;
mod bounds;
mod check;
mod cost;
mod declare;
mod default;
mod format;
mod keep;
mod pattern;
mod rules;
mod shape;
mod validate;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::Shape;
use crate::meta::field_error::{FieldError, FieldPath, Mistake};
use pattern::Pattern;
use rules::{Keeper, Rule};

/// A schema that was found to be structural.
#[derive(Clone, Debug)]
pub struct Structural {
    schema: Schema,
    shape: Shape,
    rules: Option<Box<Keeper>>,
}

impl Structural {
    /// Reads `openAPIV3Schema`, which stands at `path` in its definition. All mistakes are told of, not only the first.
    pub fn read(schema: &Value, path: &FieldPath) -> Result<Self, Vec<FieldError>> {
        let mut schema = Schema::deserialize(schema).map_err(|error| {
            vec![FieldError::new(path.clone(), Mistake::Invalid(Value::Null), error.to_string())]
        })?;
        pattern::compile(&mut schema);
        let mistakes = check::structural(&schema, path);
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let rules = rules::compile(&schema, path)?.map(Box::new);
        let shape = shape::of_resource(&schema);
        Ok(Self { schema, shape, rules })
    }

    /// The shape of the objects, metadata included: for [`super::decode::Target`] (with `custom`), patches and apply. Decoding by it
    /// drops what is unknown.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Fills in what is absent and has a default; `null` where there may be none is absent.
    pub fn default(&self, object: &mut Value) {
        default::fill(&self.schema, object);
    }

    /// The mistakes in an object's values. `old` is what it was before, `None` for a new one: what is wrong already and stays as it is, is
    /// let pass. Its rules are another matter: [`Structural::keep`].
    pub fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        validate::object(&self.schema, object, old)
    }

    /// Whether there are rules.
    pub fn has_rules(&self) -> bool {
        self.rules.is_some()
    }

    /// The rules that an object breaks. `old` is what it was before, `None` for a new one. The object's values must be right but for what
    /// [`Structural::validate`] says of them without being in the way of rules ([`blocks_rules`]).
    pub fn keep(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        self.rules.as_ref().map_or_else(Vec::new, |rules| keep::object(rules, object, old))
    }
}

/// Whether an object with this mistake is not what rules are written for: they are not asked then.
pub fn blocks_rules(mistake: &Mistake) -> bool {
    matches!(
        mistake,
        Mistake::NotSupported(..)
            | Mistake::Required
            | Mistake::TooLong(_)
            | Mistake::TooMany(..)
            | Mistake::TypeInvalid(_)
    )
}

/// Whether a value has a format of the schema language.
pub(super) fn has_format(format: &str, value: &Value) -> bool {
    format::holds(format, value)
}

/// A schema as it is written (`JSONSchemaProps`); prose is passed over.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a word of the schema language, and they are independent"
)]
struct Schema {
    #[serde(rename = "type")]
    kind: Option<Box<str>>,
    properties: BTreeMap<Box<str>, Schema>,
    additional_properties: Option<SchemaOrBool>,
    items: Option<SchemaOrMany>,
    nullable: bool,
    default: Option<Value>,
    #[serde(rename = "x-kubernetes-preserve-unknown-fields")]
    preserve_unknown: Option<bool>,
    #[serde(rename = "x-kubernetes-embedded-resource")]
    embedded_resource: bool,
    #[serde(rename = "x-kubernetes-int-or-string")]
    int_or_string: bool,
    #[serde(rename = "x-kubernetes-list-type")]
    list_type: Option<Box<str>>,
    #[serde(rename = "x-kubernetes-list-map-keys")]
    list_keys: Vec<Box<str>>,
    #[serde(rename = "x-kubernetes-map-type")]
    map_type: Option<Box<str>>,
    // what narrows values
    required: Vec<Box<str>>,
    #[serde(rename = "enum")]
    one_of_values: Option<Vec<Value>>,
    format: Option<Box<str>>,
    pattern: Option<Pattern>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    exclusive_minimum: bool,
    exclusive_maximum: bool,
    multiple_of: Option<f64>,
    min_length: Option<u64>,
    max_length: Option<u64>,
    min_items: Option<u64>,
    max_items: Option<u64>,
    min_properties: Option<u64>,
    max_properties: Option<u64>,
    all_of: Vec<Schema>,
    any_of: Vec<Schema>,
    one_of: Vec<Schema>,
    not: Option<Box<Schema>>,
    // what is looked at in order to be refused
    unique_items: bool,
    title: Option<IgnoredAny>,
    description: Option<IgnoredAny>,
    #[serde(rename = "x-kubernetes-validations")]
    rules: Vec<Rule>,
    #[serde(rename = "$ref")]
    reference: Option<Value>,
    id: Option<Value>,
    pattern_properties: Option<Value>,
    definitions: Option<Value>,
    dependencies: Option<Value>,
    additional_items: Option<Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum SchemaOrBool {
    Bool(bool),
    Schema(Box<Schema>),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum SchemaOrMany {
    Many(
        #[expect(
            dead_code,
            reason = "it tells a list from a schema; what is in it is refused unseen"
        )]
        Vec<IgnoredAny>,
    ),
    One(Box<Schema>),
}

impl Schema {
    /// Fields that nobody knows stay.
    fn keeps_unknown(&self) -> bool {
        self.preserve_unknown == Some(true)
    }

    /// What lists hold.
    fn item(&self) -> Option<&Self> {
        match &self.items {
            Some(SchemaOrMany::One(item)) => Some(item),
            _ => None,
        }
    }

    /// What fields hold that have no name in the schema.
    fn other(&self) -> Option<&Self> {
        match &self.additional_properties {
            Some(SchemaOrBool::Schema(other)) => Some(other),
            _ => None,
        }
    }

    /// The schemas that narrow this one, with the words by which they stand in it.
    fn juncts(&self) -> impl Iterator<Item = (&'static str, Option<usize>, &Self)> {
        let many = [("allOf", &self.all_of), ("anyOf", &self.any_of), ("oneOf", &self.one_of)];
        let many = many.into_iter().flat_map(|(name, all)| {
            all.iter().enumerate().map(move |(at, one)| (name, Some(at), one))
        });
        many.chain(self.not.as_deref().map(|not| ("not", None, not)))
    }
}

#[cfg(test)]
mod cost_tests;
#[cfg(test)]
mod rule_tests;
#[cfg(test)]
mod tests;
