//! `apiextensions.k8s.io/v1 CustomResourceDefinition`; what it makes is in `custom`, who serves it in
//! `controllers::customresources`. Sentences are those of `k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{columns, items, name, text};
use super::custom::{schema_of, storage_version};
use super::defaults::{child, default};
use super::jsonpath::JsonPath;
use super::kind::{Kind, Subresource, Text};
use super::strategy::Strategy;
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};
use crate::meta::name as names;
use crate::meta::object::{Meta, MetaMut};

/// Holds a definition until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// The types of printer columns.
pub const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
/// Groups that belong to Kubernetes: definitions in them say who approved them.
const APPROVED: &str = "api-approved.kubernetes.io";
/// The most selectable fields of a version.
const MOST_SELECTABLE: usize = 8;

/// The kind.
pub fn kind() -> Kind {
    let mut kind = Kind::new(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
    )
    .cluster_scoped()
    .stored_as("apiextensions.k8s.io/customresourcedefinitions")
    .short(&["crd", "crds"])
    .with(&[Subresource::Status])
    .with_generation()
    .columns(columns("Name Created_At"))
    .behaves(Definition);
    kind.categories.push(Text::Borrowed("api-extensions"));
    kind
}

/// A condition of a definition is true.
pub fn is(definition: &Value, condition: &str) -> bool {
    let conditions = items(definition, "/status/conditions").iter();
    conditions.into_iter().any(|one| one["type"] == condition && one["status"] == "True")
}

struct Definition;

/// The versions under which objects may be stored, this one among them.
fn stored_versions(object: &Value) -> Value {
    let mut stored: Vec<Value> = items(object, "/status/storedVersions").to_vec();
    if let Some(version) = storage_version(object).map(|version| version["name"].clone())
        && !stored.contains(&version)
    {
        stored.push(version);
    }
    stored.into()
}

impl Strategy for Definition {
    fn default(&self, object: &mut Value) {
        if Meta::of(object).deletion_timestamp().is_none() {
            MetaMut::of(object).add_finalizer(FINALIZER);
        }
        if let Some(spec) = child(object, "spec") {
            default(spec, "conversion", json!({"strategy": "None"}));
            if let Some(names) = child(spec, "names") {
                let kind = text(names, "/kind").to_owned();
                default(names, "singular", kind.to_lowercase());
                default(names, "listKind", format!("{kind}List"));
            }
        }
    }

    fn first_status(&self, object: &Value) -> Option<Value> {
        let version = storage_version(object).map(|version| version["name"].clone());
        Some(json!({
            "acceptedNames": {"kind": "", "plural": ""}, "conditions": [],
            "storedVersions": version.into_iter().collect::<Vec<_>>(),
        }))
    }

    fn keep(&self, object: &mut Value, _: &Value) {
        object["status"]["storedVersions"] = stored_versions(object);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let root = Spot::root(object);
        let spec = root.field("spec");
        let expected =
            format!("{}.{}", text(object, "/spec/names/plural"), text(object, "/spec/group"));
        if name(object) != expected {
            let spot = root.field("metadata").field("name");
            findings.invalid(&spot, r#"must be spec.names.plural+"."+spec.group"#);
        }
        group(&root, &spec.field("group"), &mut findings);
        findings.required_one_of(&spec.field("scope"), &["Cluster", "Namespaced"]);
        if spec.field("preserveUnknownFields").is_true() {
            let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
            findings.invalid(&spec.field("preserveUnknownFields"), why);
        }
        accepted_names(&spec.field("names"), &mut findings);
        versions(&spec.field("versions"), &mut findings);
        conversion(&spec.field("conversion"), &mut findings);
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let (root, before) = (Spot::root(object), Spot::root(old));
        findings.immutable(&root.pointer("/spec/group"), &before.pointer("/spec/group"));
        findings
            .immutable(&root.pointer("/spec/names/plural"), &before.pointer("/spec/names/plural"));
        if is(old, "Established") {
            findings.immutable(&root.pointer("/spec/scope"), &before.pointer("/spec/scope"));
            findings
                .immutable(&root.pointer("/spec/names/kind"), &before.pointer("/spec/names/kind"));
        }
        findings.extend(self.validate_status(object, old));
        findings.into_vec()
    }

    fn validate_status(&self, object: &Value, _: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let known: Vec<&str> =
            items(object, "/spec/versions").iter().map(|version| text(version, "/name")).collect();
        let stored = Spot::root(object).field("status").field("storedVersions");
        if stored.is_empty() {
            findings.invalid(&stored, "must have at least one stored version");
        }
        for version in stored.items().filter(|version| !known.contains(&version.text())) {
            let why = "missing from spec.versions; v1 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 and removes v1 from status.storedVersions";
            findings.invalid(&version, why.replace("v1", version.text()));
        }
        findings.into_vec()
    }

    fn row(&self, object: &Value, _: Timestamp) -> Vec<Value> {
        vec![json!(name(object)), json!(text(object, "/metadata/creationTimestamp"))]
    }
}

fn group(root: &Spot<'_>, group: &Spot<'_>, findings: &mut Findings) {
    if group.is_empty() {
        findings.required(group, "");
        return;
    }
    findings.sentences(group, names::dns_subdomain(group.text()));
    if !group.text().contains('.') {
        findings.invalid(group, "should be a domain with at least one dot");
    }
    let belongs = |domain: &str| {
        group.text().strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    if belongs("k8s.io") || belongs("kubernetes.io") {
        let approval = Meta::of(root.value).annotation(APPROVED).unwrap_or_default();
        let path = root.field("metadata").field("annotations").path.key(APPROVED);
        if approval.is_empty() {
            let why = format!(
                "protected groups must have approval annotation {APPROVED:?}, see https://github.com/kubernetes/enhancements/pull/1111"
            );
            findings.required(&Spot::at(&Value::Null, path), why);
        }
    }
}

fn accepted_names(spot: &Spot<'_>, findings: &mut Findings) {
    let label = |spot: &Spot<'_>, findings: &mut Findings| {
        findings.sentences(spot, names::dns_1035_label(&spot.text().to_lowercase()));
    };
    for field in ["plural", "singular", "kind", "listKind"] {
        let one = spot.field(field);
        if one.is_empty() {
            findings.required(&one, "");
        } else if matches!(field, "plural" | "singular") {
            findings.sentences(&one, names::dns_1035_label(one.text()));
        } else {
            label(&one, findings);
        }
    }
    for one in spot.field("shortNames").items().chain(spot.field("categories").items()) {
        findings.sentences(&one, names::dns_1035_label(one.text()));
    }
    let list = spot.field("listKind");
    if list.is_there() && list.text() == spot.field("kind").text() {
        findings.invalid(&list, "kind and listKind may not be the same");
    }
}

fn versions(spot: &Spot<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    let mut unique = true;
    for (index, version) in spot.items().enumerate() {
        let named = version.field("name");
        unique &= seen.insert(named.text());
        findings.sentences(&named, names::dns_1035_label(named.text()));
        let schema = version.field("schema").field("openAPIV3Schema");
        if schema.is_absent() {
            findings.required(&schema, "schemas are required");
        } else if let Err(errors) = schema_of(version.value, index) {
            findings.extend(errors);
        }
        scale(&version.field("subresources").field("scale"), findings);
        let printed = version.field("additionalPrinterColumns");
        printed.items().for_each(|column| printer_column(&column, findings));
        selectable(&version.field("selectableFields"), findings);
    }
    if !unique {
        findings.invalid(spot, "must contain unique version names");
    }
    if spot.items().filter(|version| version.field("storage").is_true()).count() != 1 {
        findings.invalid(spot, "must have exactly one version marked as storage version");
    }
}

/// A path of fields: `.spec.replicas`.
fn is_plain(path: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty() && part.chars().all(|sign| sign.is_alphanumeric() || "_-".contains(sign))
    };
    path.strip_prefix('.').is_some_and(|path| path.split('.').all(plain))
}

fn scale(spot: &Spot<'_>, findings: &mut Findings) {
    if spot.is_absent() {
        return;
    }
    for (field, below, needed, why) in [
        ("specReplicasPath", &[".spec."][..], true, "should be a json path under .spec"),
        ("statusReplicasPath", &[".status."], true, "should be a json path under .status"),
        (
            "labelSelectorPath",
            &[".spec.", ".status."],
            false,
            "should be a json path under either .spec or .status",
        ),
    ] {
        let path = spot.field(field);
        if path.is_empty() {
            if needed {
                findings.required(&path, "");
            }
        } else if !is_plain(path.text()) {
            findings.invalid(&path, "must be a json path in the dot notation");
        } else if !below.iter().any(|below| path.text().starts_with(below)) {
            findings.invalid(&path, why);
        }
    }
}

fn printer_column(column: &Spot<'_>, findings: &mut Findings) {
    for field in ["name", "jsonPath"] {
        if column.field(field).is_empty() {
            findings.required(&column.field(field), "");
        }
    }
    findings.required_one_of(&column.field("type"), &COLUMN_TYPES);
    let path = column.field("jsonPath");
    if let Err(why) = JsonPath::parse(path.text()) {
        findings.invalid(&path, why);
    }
}

fn selectable(fields: &Spot<'_>, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for field in fields.items() {
        let path = field.field("jsonPath");
        if path.is_empty() {
            findings.required(&path, "");
        } else if !is_plain(path.text()) {
            findings.invalid(&path, "must be a simple json path of fields, such as .spec.color");
        } else if path.text().starts_with(".metadata.") {
            findings.invalid(&path, "must not point to fields in metadata");
        } else if !seen.insert(path.text()) {
            findings.duplicate(&path);
        }
    }
    if fields.len() > MOST_SELECTABLE {
        findings.invalid(fields, format!("must have at most {MOST_SELECTABLE} items"));
    }
}

fn conversion(spot: &Spot<'_>, findings: &mut Findings) {
    let strategy = spot.field("strategy");
    if strategy.text() == "Webhook" {
        let why = "this server calls no conversion webhooks; use strategy None, which shows the same fields under every version";
        findings.invalid(&strategy, why);
        return;
    }
    findings.required_one_of(&strategy, &["None", "Webhook"]);
    if spot.field("webhook").is_there() {
        findings.forbidden(
            &spot.field("webhook"),
            "should not be set when strategy is not set to Webhook",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crontabs() -> Value {
        let mut object = json!({
            "metadata": {"name": "crontabs.stable.example.com"},
            "spec": {
                "group": "stable.example.com", "scope": "Namespaced",
                "names": {"plural": "crontabs", "kind": "CronTab"},
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object"}},
                }],
            },
        });
        Definition.default(&mut object);
        object
    }

    fn told(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut object = crontabs();
        change(&mut object);
        Definition.validate(&object).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_are_completed_and_the_definition_is_held() {
        let object = crontabs();
        assert_eq!(object["spec"]["names"]["singular"], "crontab");
        assert_eq!(object["spec"]["names"]["listKind"], "CronTabList");
        assert_eq!(object["spec"]["conversion"], json!({"strategy": "None"}));
        assert_eq!(object["metadata"]["finalizers"], json!([FINALIZER]));
        assert_eq!(Definition.first_status(&object).unwrap()["storedVersions"], json!(["v1"]));
        assert!(told(|_| {}).is_empty());
    }

    #[test]
    fn a_definition_that_is_about_to_go_is_not_held_again() {
        let mut object = crontabs();
        object["metadata"] = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        Definition.default(&mut object);
        assert!(Meta::of(&object).finalizers().is_empty());
    }

    #[test]
    fn mistakes_are_told_as_kubernetes_tells_them() {
        for (pointer, value, expected) in [
            (
                "/metadata/name",
                json!("x"),
                r#"metadata.name: Invalid value: "x": must be spec.names.plural+"."+spec.group"#,
            ),
            ("/spec/scope", json!(""), "spec.scope: Required value"),
            (
                "/spec/versions/0/storage",
                json!(false),
                "must have exactly one version marked as storage version",
            ),
            (
                "/spec/versions/0/schema",
                Value::Null,
                "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required",
            ),
            (
                "/spec/versions/0/schema/openAPIV3Schema/type",
                json!("string"),
                "must be object at the root",
            ),
            (
                "/spec/versions/0/schema/openAPIV3Schema",
                json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.a == 1"}]}),
                r"openAPIV3Schema.x-kubernetes-validations[0].rule: Invalid value",
            ),
            ("/spec/names/listKind", json!("CronTab"), "kind and listKind may not be the same"),
            ("/spec/names/plural", json!("Cron"), "spec.names.plural: Invalid value"),
            (
                "/spec/conversion/strategy",
                json!("Webhook"),
                "this server calls no conversion webhooks",
            ),
            (
                "/spec/conversion/strategy",
                json!("Other"),
                r#"Unsupported value: "Other": supported values: "None", "Webhook""#,
            ),
            ("/spec/group", json!("example"), "should be a domain with at least one dot"),
            ("/spec/group", json!("a.k8s.io"), "protected groups must have approval annotation"),
            (
                "/spec/versions/0/subresources",
                json!({"scale": {"specReplicasPath": ".status.a", "statusReplicasPath": ".status.b"}}),
                "should be a json path under .spec",
            ),
            (
                "/spec/versions/0/additionalPrinterColumns",
                json!([{"name": "A", "type": "text", "jsonPath": ".a"}]),
                r#"Unsupported value: "text""#,
            ),
            (
                "/spec/versions/0/selectableFields",
                json!([{"jsonPath": ".spec.a"}, {"jsonPath": ".spec.a"}]),
                "selectableFields[1].jsonPath: Duplicate value",
            ),
        ] {
            let found = told(|object| {
                let (parent, field) = pointer.rsplit_once('/').unwrap();
                object.pointer_mut(parent).unwrap()[field] = value;
            });
            assert!(found.iter().any(|one| one.contains(expected)), "{pointer}: {found:?}");
        }
    }

    #[test]
    fn versions_that_may_be_stored_cannot_go() {
        let mut old = crontabs();
        old["status"] = Definition.first_status(&old).unwrap();
        let mut new = old.clone();
        new["spec"]["versions"][0]["name"] = json!("v2");
        Definition.keep(&mut new, &old);
        assert_eq!(new["status"]["storedVersions"], json!(["v1", "v2"]));
        let errors = Definition.validate_update(&new, &old);
        assert!(errors[0].to_string().starts_with(
            r#"status.storedVersions[0]: Invalid value: "v1": missing from spec.versions"#
        ));
    }
}
