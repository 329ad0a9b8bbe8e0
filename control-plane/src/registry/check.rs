//! Checks that several kinds share. Each appends what is wrong; sentences are those of `k8s.io/kubernetes/pkg/apis/core/validation`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::column::text;
use crate::meta::field_error::{FieldError, FieldPath, Mistake};
use crate::meta::name::Rule;
use crate::meta::selector::{self, Selector};

/// Mistakes as they are collected.
pub type Errors = Vec<FieldError>;

/// The path of a JSON pointer's value.
pub fn path(pointer: &str) -> FieldPath {
    pointer
        .split('/')
        .filter(|part| !part.is_empty())
        .fold(FieldPath::default(), |path, part| path.field(part))
}

/// A mistake in a value.
pub fn invalid(path: &FieldPath, value: &Value, detail: impl Into<String>) -> FieldError {
    FieldError::new(path.clone(), Mistake::Invalid(value.clone()), detail)
}

/// A value must be there.
pub fn required(path: &FieldPath, detail: &str) -> FieldError {
    FieldError::new(path.clone(), Mistake::Required, detail)
}

/// The text at a pointer must follow a rule, when it is there.
pub fn named(object: &Value, pointer: &str, rule: Rule, errors: &mut Errors) {
    let value = text(object, pointer);
    if !value.is_empty() {
        errors
            .extend(rule(value).into_iter().map(|why| invalid(&path(pointer), &json!(value), why)));
    }
}

/// The number at a pointer must not be negative, when it is there.
pub fn not_negative(object: &Value, pointer: &str, errors: &mut Errors) {
    if let Some(value) = object.pointer(pointer)
        && value.as_i64().is_some_and(|number| number < 0)
    {
        errors.push(invalid(&path(pointer), value, "must be greater than or equal to 0"));
    }
}

/// The text of a field must be one of these, when it is there.
pub fn one_of(
    object: &Value,
    pointer: &str,
    at: &FieldPath,
    allowed: &[&str],
    errors: &mut Errors,
) {
    let value = text(object, pointer);
    if !value.is_empty() && !allowed.contains(&value) {
        let names = allowed.iter().map(|&name| name.to_owned()).collect();
        errors.push(FieldError::new(at.clone(), Mistake::NotSupported(json!(value), names), ""));
    }
}

/// A port must be 1 to 65535.
pub fn port(value: &Value, at: &FieldPath, errors: &mut Errors) {
    if !value.as_i64().is_some_and(|port| (1..=65535).contains(&port)) {
        errors.push(invalid(at, value, "must be between 1 and 65535, inclusive"));
    }
}

/// No two items of a list may have the same text at `pointer`.
pub fn unique<'a>(list: &'a [Value], pointer: &str, at: &FieldPath, errors: &mut Errors) {
    let mut seen: BTreeSet<&'a str> = BTreeSet::new();
    for (index, item) in list.iter().enumerate() {
        let value = text(item, pointer);
        if !value.is_empty() && !seen.insert(value) {
            let at =
                pointer.split('/').skip(1).fold(at.index(index), |path, part| path.field(part));
            errors.push(FieldError::new(at, Mistake::Duplicate(json!(value)), ""));
        }
    }
}

/// The value at a pointer must stay what it was.
pub fn immutable(object: &Value, old: &Value, pointer: &str, errors: &mut Errors) {
    let (now, before) = (object.pointer(pointer), old.pointer(pointer));
    if now.unwrap_or(&Value::Null) != before.unwrap_or(&Value::Null) {
        errors.push(invalid(&path(pointer), now.unwrap_or(&Value::Null), "field is immutable"));
    }
}

/// A label selector must select something, be well formed, and select the template's own labels.
pub fn selector_of_template(object: &Value, errors: &mut Errors) {
    let at = path("/spec/selector");
    let Some(asked) = object.pointer("/spec/selector").filter(|found| !found.is_null()) else {
        errors.push(required(&at, ""));
        return;
    };
    let wrong = selector::validate(asked, &at);
    let parsed = Selector::from_object(asked);
    if wrong.is_empty() && parsed.as_ref().is_ok_and(Selector::is_everything) {
        let kind = text(object, "/kind").to_lowercase();
        errors.push(invalid(&at, asked, format!("empty selector is invalid for {kind}")));
    } else if wrong.is_empty() {
        let labels = object.pointer("/spec/template/metadata/labels").unwrap_or(&Value::Null);
        if !parsed.is_ok_and(|selector| selector.matches_labels(labels)) {
            let at = path("/spec/template/metadata/labels");
            errors.push(invalid(&at, labels, "`selector` does not match template `labels`"));
        }
    }
    errors.extend(wrong);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_must_select_its_template() {
        let deployment = |selector: Value| {
            let object = json!({"spec": {"selector": selector, "template": {"metadata": {"labels": {"app": "web"}}}}});
            let mut errors = Errors::new();
            selector_of_template(&object, &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(deployment(json!({"matchLabels": {"app": "web"}})).is_empty());
        assert!(
            deployment(json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}))
                .is_empty()
        );
        assert_eq!(
            deployment(json!({"matchLabels": {"app": "db"}})),
            [
                r#"spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`"#
            ]
        );
        assert_eq!(deployment(Value::Null), ["spec.selector: Required value"]);
        assert_eq!(
            deployment(json!({"matchExpressions": [{"key": "app", "operator": "Like"}]})),
            [
                r#"spec.selector.matchExpressions[0].operator: Invalid value: "Like": not a valid selector operator"#
            ]
        );
    }
}
