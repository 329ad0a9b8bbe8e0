//! Storage classes: how volumes are made.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, columns, name, text};
use super::defaults::default;
use super::kind::Kind;
use super::node_label;
use super::strategy::Strategy;
use crate::meta::field_error::{FieldError, Mistake};
use crate::meta::findings::{Findings, Spot, same};
use crate::meta::name as names;

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// `storage.k8s.io/v1 StorageClass`.
pub fn kind() -> Kind {
    Kind::new("storage.k8s.io", "v1", "StorageClass", "storageclasses")
        .cluster_scoped()
        .short(&["sc"])
        .columns(columns(
            "Name Provisioner ReclaimPolicy VolumeBindingMode AllowVolumeExpansion Age",
        ))
        .behaves(Class)
}

struct Class;

/// How many parameters there may be, and how many bytes they may have together.
const MOST_PARAMETERS: usize = 512;
const LONGEST_PARAMETERS: usize = 256 * 1024;

fn check_parameters(parameters: &Spot<'_>, findings: &mut Findings) {
    let too_long = |most| FieldError::new(parameters.path.clone(), Mistake::TooLong(most), "");
    if parameters.len() > MOST_PARAMETERS {
        findings.add(too_long(MOST_PARAMETERS));
        return;
    }
    if parameters.value.get("").is_some() {
        findings.invalid(&Spot::at(&json!(""), parameters.path.clone()), "field can not be empty.");
    }
    let size: usize = parameters.entries().map(|(key, value)| key.len() + value.text().len()).sum();
    if size > LONGEST_PARAMETERS {
        findings.add(too_long(LONGEST_PARAMETERS));
    }
}

/// Where volumes may be: terms, each by the labels of nodes.
fn check_topologies(terms: &Spot<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for term in terms.items() {
        let expressions = term.field("matchLabelExpressions");
        let mut by_key = BTreeMap::new();
        for expression in expressions.items() {
            let (key, values) = (expression.field("key"), expression.field("values"));
            let known = check_values(&values, findings);
            findings.sentences(&key, names::qualified(key.text()));
            if by_key.insert(key.text(), known).is_some() {
                findings.duplicate(&key);
            }
        }
        if !seen.insert(by_key) {
            findings.duplicate(&Spot::at(&json!(""), expressions.path));
        }
    }
}

fn check_values<'a>(values: &Spot<'a>, findings: &mut Findings) -> BTreeSet<&'a str> {
    if values.is_empty() {
        findings.required(values, "");
    }
    let mut seen = BTreeSet::new();
    for value in values.items() {
        if !seen.insert(value.text()) {
            findings.duplicate(&value);
        }
    }
    seen
}

impl Strategy for Class {
    fn default(&self, object: &mut Value) {
        default(object, "reclaimPolicy", "Delete");
        default(object, "volumeBindingMode", "Immediate");
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let root = Spot::root(object);
        let provisioner = root.field("provisioner");
        match provisioner.text() {
            "" => findings.required(&provisioner, ""),
            text => findings.sentences(&provisioner, names::qualified(&text.to_lowercase())),
        }
        check_parameters(&root.field("parameters"), &mut findings);
        findings.one_of_if_set(&root.field("reclaimPolicy"), &["Delete", "Retain"]);
        let mode = root.field("volumeBindingMode");
        if mode.is_absent() {
            findings.required(&mode, "");
        }
        findings.one_of(&mode, &["Immediate", "WaitForFirstConsumer"]);
        check_topologies(&root.field("allowedTopologies"), &mut findings);
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let root = Spot::root(object);
        for field in ["parameters", "provisioner", "reclaimPolicy"] {
            let before = Spot::root(old).field(field);
            if !same(root.field(field).value, before.value) {
                findings
                    .forbidden(&root.field(field), format!("updates to {field} are forbidden."));
            }
        }
        let mode = "volumeBindingMode";
        findings.immutable(&root.field(mode), &Spot::root(old).field(mode));
        findings.into_vec()
    }

    fn warnings(&self, object: &Value, _: Option<&Value>) -> Vec<String> {
        let mut told = Vec::new();
        for topology in Spot::root(object).field("allowedTopologies").items() {
            for asked in topology.field("matchLabelExpressions").items() {
                let old = node_label::deprecation(asked.field("key").text());
                told.extend(old.map(|why| format!("{}.key: {why}", asked.path)));
            }
        }
        told
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let is_default =
            object.pointer("/metadata/annotations").and_then(|all| all.get(DEFAULT_CLASS));
        let shown = match is_default.and_then(Value::as_str) {
            Some("true") => format!("{} (default)", name(object)),
            _ => name(object).to_owned(),
        };
        let grows = object.get("allowVolumeExpansion").and_then(Value::as_bool).unwrap_or_default();
        vec![
            json!(shown),
            json!(text(object, "/provisioner")),
            json!(text(object, "/reclaimPolicy")),
            json!(text(object, "/volumeBindingMode")),
            json!(grows.to_string()),
            json!(age(object, now)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_class_says_how_volumes_are_made() {
        let zones = |key: &str, values: Value| json!({"matchLabelExpressions": [{"key": key, "values": values}]});
        let two = json!([{"key": "zone", "values": ["a"]}, {"key": "zone", "values": ["b"]}]);
        let many: serde_json::Map<String, Value> =
            (0..=512).map(|key| (key.to_string(), json!(""))).collect();
        for (fields, expected) in [
            (
                json!({"parameters": {"a": "b"}, "allowedTopologies": [zones("zone", json!(["a"])), zones("zone", json!(["b"]))]}),
                "",
            ),
            (
                json!({"parameters": {"": "b"}}),
                "parameters: Invalid value: \"\": field can not be empty.",
            ),
            (json!({"parameters": many}), "parameters: Too long: may not be more than 512 bytes"),
            (
                json!({"parameters": {"a": "b".repeat(256 * 1024)}}),
                "parameters: Too long: may not be more than 262144 bytes",
            ),
            (
                json!({"reclaimPolicy": "Recycle"}),
                "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
            ),
            (json!({"volumeBindingMode": "Late"}), "volumeBindingMode: Unsupported value"),
            (
                json!({"allowedTopologies": [zones("zone", json!([]))]}),
                "allowedTopologies[0].matchLabelExpressions[0].values: Required value",
            ),
            (
                json!({"allowedTopologies": [zones("zone", json!(["a", "a"]))]}),
                "allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: \"a\"",
            ),
            (
                json!({"allowedTopologies": [zones("a b", json!(["a"]))]}),
                "allowedTopologies[0].matchLabelExpressions[0].key: Invalid value",
            ),
            (
                json!({"allowedTopologies": [{"matchLabelExpressions": two}]}),
                "allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value: \"zone\"",
            ),
            (
                json!({"allowedTopologies": [zones("zone", json!(["a", "b"])), zones("zone", json!(["b", "a"]))]}),
                "allowedTopologies[1].matchLabelExpressions: Duplicate value: \"\"",
            ),
        ] {
            let mut class = json!({"provisioner": "a.b/c"});
            class.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap());
            Class.default(&mut class);
            let told = told(&Class.validate(&class));
            assert_eq!(told.len(), usize::from(!expected.is_empty()), "{told:?}");
            assert!(told.iter().all(|one| one.starts_with(expected)), "{told:?}");
        }
        let class = |policy: &str| json!({"provisioner": "a", "reclaimPolicy": policy});
        assert_eq!(
            told(&Class.validate_update(&class("Retain"), &class("Delete"))),
            ["reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden."]
        );
    }

    #[test]
    fn the_default_class_is_marked() {
        let class = json!({"metadata": {"name": "fast", "annotations": {DEFAULT_CLASS: "true"}}, "provisioner": "a.b/c"});
        assert_eq!(Class.row(&class, Timestamp::UNIX_EPOCH)[0], "fast (default)");
    }

    #[test]
    fn what_has_another_name_by_now_is_told() {
        let topologies = json!({"allowedTopologies": [{"matchLabelExpressions": [{"key": "beta.kubernetes.io/arch"}]}]});
        assert_eq!(
            Class.warnings(&topologies, None),
            [
                r#"allowedTopologies[0].matchLabelExpressions[0].key: deprecated since v1.14; use "kubernetes.io/arch" instead"#
            ]
        );
    }
}
