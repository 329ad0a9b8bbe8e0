//! `apiextensions.k8s.io/v1 CustomResourceDefinition`; what it makes is in `custom`, who serves it in
//! `controllers::customresources`. Sentences are those of `k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{columns, items, name, text};
use super::custom::storage_version;
use super::defaults::{child, default, default_text};
use super::definition_version;
use super::kind::{Kind, Subresource, Text};
use super::strategy::Strategy;
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};
use crate::meta::name as names;
use crate::meta::object::{Meta, MetaMut};

/// Holds a definition until its objects are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// Groups that belong to Kubernetes: definitions in them say who approved them.
const APPROVED: &str = "api-approved.kubernetes.io";

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
                default_text(names, "singular", &kind.to_lowercase());
                default_text(names, "listKind", &format!("{kind}List"));
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
        needed_names(&spec.field("names"), &mut findings);
        check_names(&spec.field("names"), &mut findings);
        definition_version::check_all(&spec.field("versions"), &mut findings);
        conversion(&spec.field("conversion"), &mut findings);
        findings.into_vec()
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        definition_version::costs(object, &Value::Null)
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        findings.extend(definition_version::costs(object, old));
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
        let status = Spot::root(object).field("status");
        check_names(&status.field("acceptedNames"), &mut findings);
        let stored = status.field("storedVersions");
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
    let wrong = names::dns_subdomain(group.text());
    if !wrong.is_empty() {
        findings.invalid(group, wrong.join(","));
    } else if !group.text().contains('.') {
        findings.invalid(group, "should be a domain with at least one dot");
    }
    let belongs = |domain: &str| {
        group.text().strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    if belongs("k8s.io") || belongs("kubernetes.io") {
        let approval = Meta::of(root.value).annotation(APPROVED).unwrap_or_default();
        let path = root.field("metadata").field("annotations").path.key(APPROVED);
        let see = "see https://github.com/kubernetes/enhancements/pull/1111";
        let must = format!("protected groups must have approval annotation {APPROVED:?}");
        let is_url = || {
            let (scheme, rest) = approval.split_once("://").unwrap_or_default();
            !scheme.is_empty() && !rest.is_empty() && !rest.starts_with('/')
        };
        if approval.is_empty() {
            findings.required(&Spot::at(&Value::Null, path), format!("{must}, {see}"));
        } else if !approval.starts_with("unapproved") && !is_url() {
            let why = format!(
                r#"{must} with either a URL or a reason starting with "unapproved", {see}"#
            );
            findings.invalid(&Spot::at(&json!(approval), path), why);
        }
    }
}

/// Names that are needed of a definition, but not of its status.
fn needed_names(spot: &Spot<'_>, findings: &mut Findings) {
    for one in ["plural", "singular", "kind", "listKind"].map(|field| spot.field(field)) {
        if one.is_empty() {
            findings.required(&one, "");
        }
    }
}

fn check_names(spot: &Spot<'_>, findings: &mut Findings) {
    let mut check = |one: &Spot<'_>, text: &str, before: &str| {
        let wrong = names::dns_1035_label(text);
        if !wrong.is_empty() {
            findings.invalid(one, format!("{before}{}", wrong.join(",")));
        }
    };
    let named = |field: &str| Some(spot.field(field)).filter(|one| !one.is_empty());
    for one in ["plural", "singular"].into_iter().filter_map(named) {
        check(&one, one.text(), "");
    }
    for one in ["kind", "listKind"].into_iter().filter_map(named) {
        let mixed = "may have mixed case, but should otherwise match: ";
        check(&one, &one.text().to_lowercase(), mixed);
    }
    for one in spot.field("shortNames").items().chain(spot.field("categories").items()) {
        check(&one, one.text(), "");
    }
    let list = spot.field("listKind");
    if !list.is_empty() && list.text() == spot.field("kind").text() {
        findings.invalid(&list, "kind and listKind may not be the same");
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
    // the names are those that these fields had before `v1`
    let webhook = spot.field("webhook");
    for (now, before) in [
        ("clientConfig", "webhookClientConfig"),
        ("conversionReviewVersions", "conversionReviewVersions"),
    ] {
        if !webhook.field(now).is_empty() {
            let why = "should not be set when strategy is not set to Webhook";
            findings.forbidden(&spot.field(before), why);
        }
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
    #[expect(clippy::too_many_lines, reason = "a table")]
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
                r#"type: Invalid value: "text": must be one of boolean,date,integer,number,string"#,
            ),
            (
                "/spec/group",
                json!("a_.b"),
                "spec.group: Invalid value: \"a_.b\": a lowercase RFC 1123 subdomain",
            ),
            (
                "/spec/names/kind",
                json!("Cron Tab"),
                "may have mixed case, but should otherwise match: a DNS-1035 label",
            ),
            (
                "/spec/names/shortNames",
                json!(["C"]),
                "spec.names.shortNames[0]: Invalid value: \"C\"",
            ),
            (
                "/spec/conversion",
                json!({"strategy": "None", "webhook": {"conversionReviewVersions": ["v1"]}}),
                "spec.conversion.conversionReviewVersions: Forbidden: should not be set when strategy",
            ),
            (
                "/spec/conversion",
                json!({"strategy": "None", "webhook": {"clientConfig": {"url": "https://a"}}}),
                "spec.conversion.webhookClientConfig: Forbidden: should not be set when strategy",
            ),
            (
                "/spec/versions",
                json!([]),
                "must have exactly one version marked as storage version",
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
    fn who_defines_kinds_of_kubernetes_says_so() {
        for (annotation, expected) in [
            (Value::Null, "Required value: protected groups must have approval annotation"),
            (json!("yes"), "with either a URL or a reason starting with \"unapproved\""),
            (json!("unapproved, experimental"), ""),
            (json!("https://github.com/kubernetes/kubernetes/pull/78458"), ""),
        ] {
            let found = told(|object| {
                object["metadata"] =
                    json!({"name": "crontabs.a.k8s.io", "annotations": {APPROVED: annotation}});
                object["spec"]["group"] = json!("a.k8s.io");
            });
            assert_eq!(found.is_empty(), expected.is_empty(), "{found:?}");
            assert!(found.iter().all(|one| one.contains(expected)), "{found:?}");
        }
    }

    #[test]
    fn rules_that_are_too_dear_are_refused_unless_they_are_there_already() {
        let mut dear = crontabs();
        let schema = "/spec/versions/0/schema/openAPIV3Schema";
        *dear.pointer_mut(schema).unwrap() = json!({"type": "object", "properties": {"list": {
            "type": "array", "items": {"type": "integer"},
            "x-kubernetes-validations": [{"rule": "self.all(x, self.all(y, x == y))"}],
        }}});
        let costs = |object: &Value, old: Option<&Value>| {
            let told = old.map_or_else(
                || Definition.validate_create(object),
                |old| Definition.validate_update(object, old),
            );
            told.iter().filter(|error| error.to_string().contains("cost")).count()
        };
        assert!(Definition.validate(&dear).is_empty());
        assert_eq!(costs(&dear, None), 3);
        assert_eq!(costs(&crontabs(), None), 0);
        assert_eq!(costs(&dear, Some(&crontabs())), 3);
        assert_eq!(costs(&dear, Some(&dear)), 0);
        let mut changed = dear.clone();
        changed.pointer_mut(schema).unwrap()["properties"]["more"] = json!({"type": "string"});
        assert_eq!(costs(&changed, Some(&dear)), 3);
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
