//! Config maps.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, columns, map, name};
use super::kind::Kind;
use super::strategy::Strategy;
use crate::meta::field_error::{FieldError, FieldPath, Mistake};
use crate::meta::findings::Findings;
use crate::meta::name::config_key;

/// The most bytes that the values of a `ConfigMap` or a `Secret` may have together.
pub const DATA_MAX: usize = 1024 * 1024;

/// `v1 ConfigMap`.
pub fn kind() -> Kind {
    Kind::new("", "v1", "ConfigMap", "configmaps")
        .short(&["cm"])
        .columns(columns("Name Data Age"))
        .behaves(ConfigMap)
}

struct ConfigMap;

impl Strategy for ConfigMap {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        findings.extend(keys(object, "/data"));
        findings.extend(keys(object, "/binaryData"));
        for key in map(object, "/data").into_iter().flatten().map(|(key, _)| key) {
            if map(object, "/binaryData").is_some_and(|binary| binary.contains_key(key)) {
                let at = FieldPath::root("data").key(key);
                let why = "duplicate of key present in binaryData";
                findings.add(FieldError::invalid(at, &json!(key), why));
            }
        }
        if size(object, "/data") + size(object, "/binaryData") > DATA_MAX {
            findings.add(FieldError::new(FieldPath::default(), Mistake::TooLong(DATA_MAX), ""));
        }
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        immutable_data(object, old, &["data", "binaryData"])
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let count = entries(object, "/data") + entries(object, "/binaryData");
        vec![json!(name(object)), json!(count), json!(age(object, now))]
    }
}

/// How many entries a map has.
pub fn entries(object: &Value, pointer: &str) -> usize {
    map(object, pointer).map_or(0, serde_json::Map::len)
}

/// How many bytes the texts of a map have.
pub fn size(object: &Value, pointer: &str) -> usize {
    map(object, pointer)
        .into_iter()
        .flatten()
        .filter_map(|(_, value)| value.as_str())
        .map(str::len)
        .sum()
}

/// Keys must be file names.
pub fn keys(object: &Value, pointer: &str) -> Vec<FieldError> {
    let at = FieldPath::of_pointer(pointer);
    map(object, pointer)
        .into_iter()
        .flatten()
        .flat_map(|(key, _)| config_key(key).into_iter().map(move |why| (key, why)))
        .map(|(key, why)| FieldError::invalid(at.key(key), &json!(key), why))
        .collect()
}

/// With `immutable: true`, neither that nor the data changes any more.
pub fn immutable_data(object: &Value, old: &Value, fields: &[&str]) -> Vec<FieldError> {
    const WHY: &str = "field is immutable when `immutable` is set";
    if old["immutable"] != json!(true) {
        return Vec::new();
    }
    let same = |field: &str| {
        object.get(field).unwrap_or(&Value::Null) == old.get(field).unwrap_or(&Value::Null)
    };
    std::iter::once(&"immutable")
        .chain(fields)
        .filter(|field| !same(field))
        .map(|field| FieldError::new(FieldPath::root(field), Mistake::Forbidden, WHY))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_immutable_map_stays_as_it_is() {
        let old = json!({"immutable": true, "data": {"a": "1"}});
        let errors = ConfigMap.validate_update(&json!({"data": {"a": "2"}}), &old);
        let sentences: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            sentences,
            [
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set",
            ]
        );
        assert!(ConfigMap.validate_update(&old, &old).is_empty());
    }

    #[test]
    fn keys_are_file_names_and_stand_in_one_map_only() {
        let object = json!({"data": {"a/b": "", "ok": ""}, "binaryData": {"ok": ""}});
        let paths: Vec<_> =
            ConfigMap.validate(&object).iter().map(|e| e.path.to_string()).collect();
        assert_eq!(paths, ["data[a/b]", "data[ok]"]);
    }
}
