//! The form of selectors in objects, `meta/v1 LabelSelector`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Operator, Requirement, Selector, SelectorError};
use crate::meta::field_error::{FieldError, FieldPath, Mistake};
use crate::meta::{label, name};

impl Selector {
    /// The form in objects, `meta/v1 LabelSelector`: null selects nothing, an empty one everything.
    pub fn from_object(selector: &Value) -> Result<Self, SelectorError> {
        let shape = || SelectorError::Shape(selector.clone());
        let fields = match selector {
            Value::Null => return Ok(Self::Nothing),
            Value::Object(fields) => fields,
            _ => return Err(shape()),
        };
        let mut requirements = Vec::new();
        match fields.get("matchLabels") {
            None | Some(Value::Null) => {}
            Some(Value::Object(labels)) => {
                for (key, value) in labels {
                    let value = value.as_str().ok_or_else(shape)?.to_owned();
                    requirements.push(Requirement::new(key, Operator::Equals, [value].into())?);
                }
            }
            Some(_) => return Err(shape()),
        }
        match fields.get("matchExpressions") {
            None | Some(Value::Null) => {}
            Some(Value::Array(list)) => {
                for expression in list {
                    requirements.push(from_expression(expression)?);
                }
            }
            Some(_) => return Err(shape()),
        }
        Ok(Self::sorted(requirements))
    }

    /// The form of a map, as in a Service: every label has this value. Null and an empty map select everything here; a
    /// controller that means nothing by it has to look first.
    pub fn from_map(labels: &Value) -> Result<Self, SelectorError> {
        Self::from_object(&serde_json::json!({ "matchLabels": labels }))
    }
}

fn from_expression(expression: &Value) -> Result<Requirement, SelectorError> {
    let shape = || SelectorError::Shape(expression.clone());
    let text = |field| expression.get(field).and_then(Value::as_str).ok_or_else(shape);
    let operator = match text("operator")? {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => return Err(SelectorError::Operator(other.to_owned())),
    };
    let values = match expression.get("values") {
        None | Some(Value::Null) => BTreeSet::new(),
        Some(Value::Array(values)) => values
            .iter()
            .map(|value| value.as_str().map(str::to_owned).ok_or_else(shape))
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(shape()),
    };
    Requirement::new(text("key")?, operator, values)
}

/// What is wrong with a selector in an object, by field (`ValidateLabelSelector`). What is not of the form at all is the
/// decoder's to refuse.
pub fn validate(selector: &Value, path: &FieldPath) -> Vec<FieldError> {
    let labels = selector.get("matchLabels").unwrap_or(&Value::Null);
    let mut wrong = label::labels(labels, &path.field("matchLabels"));
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    for (index, expression) in expressions.into_iter().flatten().enumerate() {
        wrong
            .extend(requirement_mistakes(expression, &path.field("matchExpressions").index(index)));
    }
    wrong
}

/// What is wrong with one requirement of a selector in an object.
pub fn requirement_mistakes(expression: &Value, path: &FieldPath) -> Vec<FieldError> {
    let text = |field| expression.get(field).and_then(Value::as_str).unwrap_or_default();
    let values = expression.get("values").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let (at, key) = (path.field("values"), text("key"));
    let mut wrong = match (text("operator"), values.is_empty()) {
        ("In" | "NotIn", true) => vec![FieldError::new(
            at.clone(),
            Mistake::Required,
            "must be specified when `operator` is 'In' or 'NotIn'",
        )],
        ("Exists" | "DoesNotExist", false) => vec![FieldError::new(
            at.clone(),
            Mistake::Forbidden,
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        )],
        ("In" | "NotIn" | "Exists" | "DoesNotExist", _) => Vec::new(),
        (other, _) => label::invalid(
            &path.field("operator"),
            other,
            vec!["not a valid selector operator".to_owned()],
        ),
    };
    wrong.extend(label::invalid(&path.field("key"), key, name::qualified(key)));
    for (index, value) in values.iter().enumerate() {
        let value = value.as_str().unwrap_or_default();
        wrong.extend(label::invalid(&at.index(index), value, name::label_value(value)));
    }
    wrong
}
