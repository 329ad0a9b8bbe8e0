//! Volumes that outlive pods: kept as they are told; who provisions them is another program.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, columns, items, name, text};
use super::defaults::{child, default};
use super::kind::{Kind, Subresource};
use super::strategy::Strategy;
use crate::meta::field_error::{FieldError, Mistake};
use crate::meta::findings::{Findings, Spot, same};
use crate::meta::name as names;

const ACCESS_MODES: &[&str] =
    &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// `v1 PersistentVolume`, `v1 PersistentVolumeClaim`, `storage.k8s.io/v1 StorageClass`.
pub fn kinds() -> [Kind; 3] {
    [
        Kind::new("", "v1", "PersistentVolume", "persistentvolumes")
            .cluster_scoped()
            .short(&["pv"])
            .with(&[Subresource::Status])
            .columns(columns(
                "Name Capacity Access_Modes Reclaim_Policy Status Claim StorageClass VolumeAttributesClass Reason Age +VolumeMode",
            ))
            .behaves(Volume),
        Kind::new("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
            .short(&["pvc"])
            .with(&[Subresource::Status])
            .columns(columns(
                "Name Status Volume Capacity Access_Modes StorageClass VolumeAttributesClass Age +VolumeMode",
            ))
            .behaves(Claim),
        Kind::new("storage.k8s.io", "v1", "StorageClass", "storageclasses")
            .cluster_scoped()
            .short(&["sc"])
            .columns(columns("Name Provisioner ReclaimPolicy VolumeBindingMode AllowVolumeExpansion Age"))
            .behaves(Class),
    ]
}

/// Modes as kubectl shortens them.
fn modes(list: &[Value]) -> String {
    let short = |mode: &Value| match mode.as_str().unwrap_or_default() {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    list.iter().map(short).filter(|mode| !mode.is_empty()).collect::<Vec<_>>().join(",")
}

fn or_unset(text: &str) -> String {
    if text.is_empty() { "<unset>".to_owned() } else { text.to_owned() }
}

/// The class may also stand in the annotation that came before the field.
fn class_of(object: &Value) -> &str {
    match text(object, "/metadata/annotations/volume.beta.kubernetes.io~1storage-class") {
        "" => text(object, "/spec/storageClassName"),
        old => old,
    }
}

fn check_modes(spec: &Spot<'_>, missing: &str, findings: &mut Findings) {
    let modes = spec.field("accessModes");
    if modes.is_empty() {
        findings.required(&modes, missing);
    }
    for mode in modes.items() {
        findings.one_of(&mode, ACCESS_MODES);
    }
    if modes.len() > 1 && modes.items().any(|mode| mode.text() == "ReadWriteOncePod") {
        findings.forbidden(&modes, "may not use ReadWriteOncePod with other access modes");
    }
    findings.one_of(&spec.field("volumeMode"), &["Block", "Filesystem"]);
    let class = spec.field("storageClassName");
    if !class.is_empty() {
        findings.sentences(&class, names::dns_subdomain(class.text()));
    }
}

struct Volume;

impl Strategy for Volume {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = child(object, "spec") {
            default(spec, "persistentVolumeReclaimPolicy", "Retain");
            default(spec, "volumeMode", "Filesystem");
        }
    }

    fn first_status(&self, _: &Value) -> Option<Value> {
        Some(json!({"phase": "Pending"}))
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let spec = Spot::root(object).field("spec");
        check_modes(&spec, "", &mut findings);
        if spec.field("capacity").is_empty() {
            findings.required(&spec.field("capacity"), "");
        } else if spec.field("capacity").field("storage").is_absent() {
            findings.one_of(
                &Spot::at(&json!(first_key(&spec.field("capacity"))), spec.field("capacity").path),
                &["storage"],
            );
        }
        findings
            .one_of(&spec.field("persistentVolumeReclaimPolicy"), &["Delete", "Recycle", "Retain"]);
        let sources = source_fields(&spec);
        if sources.is_empty() {
            findings.required(&spec, "must specify a volume type");
        }
        for more in sources.iter().skip(1) {
            findings.forbidden(&spec.field(more), "may not specify more than 1 volume type");
        }
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let mode = "/spec/volumeMode";
        findings.immutable(&Spot::root(object).pointer(mode), &Spot::root(old).pointer(mode));
        let (spec, before) =
            (Spot::root(object).field("spec"), old.get("spec").unwrap_or(&Value::Null));
        let sources = source_fields(&Spot::root(before));
        if sources.iter().any(|field| before.get(field) != spec.value.get(field))
            || sources != source_fields(&spec)
        {
            findings.forbidden(
                &spec.field("persistentvolumesource"),
                "spec.persistentvolumesource is immutable after creation",
            );
        }
        findings.into_vec()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let claim = match text(object, "/spec/claimRef/name") {
            "" => String::new(),
            claim => format!("{}/{claim}", text(object, "/spec/claimRef/namespace")),
        };
        vec![
            json!(name(object)),
            json!(text(object, "/spec/capacity/storage")),
            json!(modes(items(object, "/spec/accessModes"))),
            json!(text(object, "/spec/persistentVolumeReclaimPolicy")),
            json!(phase(object)),
            json!(claim),
            json!(class_of(object)),
            json!(or_unset(text(object, "/spec/volumeAttributesClassName"))),
            json!(text(object, "/status/reason")),
            json!(age(object, now)),
            json!(or_unset(text(object, "/spec/volumeMode"))),
        ]
    }
}

fn first_key<'a>(map: &Spot<'a>) -> &'a str {
    map.entries().next().map(|(key, _)| key).unwrap_or_default()
}

/// The fields of a volume's spec that say what it is made of: all that are not the volume's own.
fn source_fields(spec: &Spot<'_>) -> Vec<String> {
    const OWN: &[&str] = &[
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    ];
    let set = spec.entries().filter(|(field, value)| !OWN.contains(field) && value.is_there());
    set.map(|(field, _)| field.to_owned()).collect()
}

fn phase(object: &Value) -> &str {
    match text(object, "/metadata/deletionTimestamp") {
        "" => text(object, "/status/phase"),
        _ => "Terminating",
    }
}

struct Claim;

impl Strategy for Claim {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = child(object, "spec") {
            default(spec, "volumeMode", "Filesystem");
        }
    }

    fn first_status(&self, _: &Value) -> Option<Value> {
        Some(json!({"phase": "Pending"}))
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let spec = Spot::root(object).field("spec");
        check_modes(&spec, "at least 1 access mode is required", &mut findings);
        let storage = spec.field("resources").field("requests").field("storage");
        if storage.is_absent() {
            let place = Spot { path: spec.field("resources").path.key("storage"), ..storage };
            findings.required(&place, "");
        }
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let mut rest = object.get("spec").cloned().unwrap_or_default();
        let before = old.get("spec").cloned().unwrap_or_default();
        let bound = !text(old, "/spec/volumeName").is_empty();
        for (field, may) in
            [("resources", bound), ("volumeName", !bound), ("volumeAttributesClassName", true)]
        {
            if let (true, Some(map)) = (may, rest.as_object_mut()) {
                match before.get(field) {
                    Some(value) => drop(map.insert(field.to_owned(), value.clone())),
                    None => drop(map.remove(field)),
                }
            }
        }
        if rest != before {
            findings.forbidden(
                &Spot::root(object).field("spec"),
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
            );
        }
        findings.into_vec()
    }

    fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let bound = !text(object, "/spec/volumeName").is_empty();
        let of_status = |cell: String| if bound { cell } else { String::new() };
        vec![
            json!(name(object)),
            json!(phase(object)),
            json!(text(object, "/spec/volumeName")),
            json!(of_status(text(object, "/status/capacity/storage").to_owned())),
            json!(of_status(modes(items(object, "/status/accessModes")))),
            json!(class_of(object)),
            json!(or_unset(text(object, "/spec/volumeAttributesClassName"))),
            json!(age(object, now)),
            json!(or_unset(text(object, "/spec/volumeMode"))),
        ]
    }
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
    fn a_volume_is_made_of_one_thing() {
        let mut volume = json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/a"}}});
        Volume.default(&mut volume);
        assert_eq!(volume["spec"]["persistentVolumeReclaimPolicy"], "Retain");
        assert!(Volume.validate(&volume).is_empty());
        let two = json!({"spec": {"accessModes": ["Often"], "hostPath": {"path": "/a"}, "nfs": {"server": "s", "path": "/"}}});
        assert_eq!(
            told(&Volume.validate(&two)),
            [
                r#"spec.accessModes[0]: Unsupported value: "Often": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod""#,
                "spec.capacity: Required value",
                "spec.nfs: Forbidden: may not specify more than 1 volume type",
            ]
        );
        let other = json!({"spec": {"volumeMode": "Block", "nfs": {}}});
        assert_eq!(Volume.validate_update(&other, &volume).len(), 2);
    }

    #[test]
    fn a_claim_grows_only_when_it_is_bound() {
        let claim = |size: &str, volume: &str| json!({"spec": {"accessModes": ["ReadWriteOnce"], "volumeName": volume, "resources": {"requests": {"storage": size}}}});
        assert!(Claim.validate(&claim("1Gi", "")).is_empty());
        assert!(Claim.validate_update(&claim("2Gi", "v"), &claim("1Gi", "v")).is_empty());
        assert_eq!(Claim.validate_update(&claim("2Gi", ""), &claim("1Gi", "")).len(), 1);
        assert!(Claim.validate_update(&claim("1Gi", "v"), &claim("1Gi", "")).is_empty());
        assert_eq!(Claim.validate_update(&claim("1Gi", "w"), &claim("1Gi", "v")).len(), 1);
        assert_eq!(
            told(&Claim.validate(&json!({"spec": {}}))),
            [
                "spec.accessModes: Required value: at least 1 access mode is required",
                "spec.resources[storage]: Required value"
            ]
        );
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
    fn every_column_has_a_cell() {
        let class = json!({"metadata": {"name": "fast", "annotations": {DEFAULT_CLASS: "true"}}, "provisioner": "a.b/c"});
        assert_eq!(Class.row(&class, Timestamp::UNIX_EPOCH)[0], "fast (default)");
        for kind in kinds() {
            assert_eq!(
                kind.columns.len(),
                kind.strategy.row(&json!({}), Timestamp::UNIX_EPOCH).len(),
                "{kind:?}"
            );
        }
    }
}
