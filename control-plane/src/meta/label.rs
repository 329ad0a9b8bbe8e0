//! Labels and annotations of an object.

use serde_json::Value;

use super::field_error::{FieldError, FieldPath, Mistake};
use super::name;

/// How many bytes the keys and values of an object's annotations may have together.
pub const ANNOTATIONS_MAX: usize = 256 * 1024;

/// What is wrong with labels. `labels` is what stands at the path; its texts only: other values are the decoder's to refuse.
pub fn labels(labels: &Value, path: &FieldPath) -> Vec<FieldError> {
    texts(labels).flat_map(|(key, value)| label(key, value, path)).collect()
}

fn label(key: &str, value: &str, path: &FieldPath) -> Vec<FieldError> {
    let mut wrong = invalid(path, key, name::qualified(key));
    wrong.extend(invalid(path, value, name::label_value(value)));
    wrong
}

/// What is wrong with annotations: keys are checked without regard to case, values only by their size.
pub fn annotations(annotations: &Value, path: &FieldPath) -> Vec<FieldError> {
    let mut wrong: Vec<FieldError> = texts(annotations)
        .flat_map(|(key, _)| invalid(path, key, name::qualified(&key.to_lowercase())))
        .collect();
    let size: usize = texts(annotations).map(|(key, value)| key.len() + value.len()).sum();
    if size > ANNOTATIONS_MAX {
        wrong.push(FieldError::new(path.clone(), Mistake::TooLong(ANNOTATIONS_MAX), ""));
    }
    wrong
}

/// One mistake for each sentence about a text.
pub fn invalid(path: &FieldPath, text: &str, sentences: Vec<String>) -> Vec<FieldError> {
    let mistake = |sentence| FieldError::new(path.clone(), Mistake::Invalid(text.into()), sentence);
    sentences.into_iter().map(mistake).collect()
}

/// The entries of a map whose values are texts.
pub fn texts(map: &Value) -> impl Iterator<Item = (&str, &str)> {
    map.as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_and_values_are_checked() {
        let path = FieldPath::root("metadata").field("labels");
        assert_eq!(labels(&json!({"a.b/c": "d", "e": ""}), &path), []);
        assert_eq!(labels(&Value::Null, &path), []);
        let wrong = labels(&json!({"a b": "c d"}), &path);
        assert_eq!(wrong.len(), 2);
        assert!(
            wrong[0]
                .to_string()
                .starts_with(r#"metadata.labels: Invalid value: "a b": name part must"#)
        );
        assert!(
            wrong[1]
                .to_string()
                .starts_with(r#"metadata.labels: Invalid value: "c d": a valid label"#)
        );
    }

    #[test]
    fn annotations_have_a_size() {
        let path = FieldPath::root("metadata").field("annotations");
        let fits = "x".repeat(ANNOTATIONS_MAX - 1);
        assert_eq!(annotations(&json!({"A": fits}), &path), []);
        let wrong = annotations(&json!({"ab": fits}), &path);
        assert_eq!(
            wrong[0].to_string(),
            "metadata.annotations: Too long: may not be more than 262144 bytes"
        );
        assert_eq!(annotations(&json!({"a/b/c": ""}), &path).len(), 1);
    }
}
