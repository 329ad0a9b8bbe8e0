//! Volumes that outlive pods: kept as they are told; who provisions them is another program.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::claim_spec::{self, check_class, check_modes};
use super::column::{age, columns, items, name, text};
use super::defaults::{child, default};
use super::kind::{Kind, Subresource};
use super::podspec::{OLD_VOLUMES, check_node_terms, claim_warnings};
use super::strategy::Strategy;
use super::{node_label, storage_class, volume_source};
use crate::meta::field_error::{FieldError, FieldPath, Mistake};
use crate::meta::findings::{Findings, Spot};
use crate::meta::object::Meta;
use crate::meta::quantity::Quantity;

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
        storage_class::kind(),
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

/// Annotations that became fields, and what is told of them.
const CLASS: (&str, &str) = (
    "volume.beta.kubernetes.io/storage-class",
    r#"deprecated since v1.8; use "storageClassName" attribute instead"#,
);
const MOUNTS: (&str, &str) = (
    "volume.beta.kubernetes.io/mount-options",
    r#"deprecated since v1.31; use "mountOptions" attribute instead"#,
);

fn old_annotations(object: &Value, old: &[(&str, &str)]) -> Vec<String> {
    let there = old.iter().filter(|(key, _)| Meta::of(object).annotation(key).is_some());
    there.map(|(key, why)| format!("metadata.annotations[{key}]: {why}")).collect()
}

/// Classes of attributes are off by default in Kubernetes 1.32; so are sources in other namespaces.
fn drop_classes(object: &mut Value, old: Option<&Value>) {
    let there = |pointer: &str| {
        old.and_then(|old| old.pointer(pointer)).is_some_and(|value| !value.is_null())
    };
    let (class, source) = (there("/spec/volumeAttributesClassName"), there("/spec/dataSourceRef"));
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if !class {
        spec.remove("volumeAttributesClassName");
    }
    let elsewhere =
        spec.get("dataSourceRef").is_some_and(|from| !text(from, "/namespace").is_empty());
    if !source && elsewhere {
        spec.remove("dataSourceRef");
    }
}

/// `dataSource` and `dataSourceRef` say the same; what the former never could say it does not.
fn settle_sources(spec: &mut Value) {
    let from = spec.get("dataSource").filter(|from| from.is_object()).cloned();
    let reference = spec.get("dataSourceRef").filter(|from| from.is_object()).cloned();
    match (from, reference) {
        (Some(from), None) => {
            let known =
                [("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")];
            if known.contains(&(text(&from, "/apiGroup"), text(&from, "/kind"))) {
                spec["dataSourceRef"] = from;
            } else if let Some(map) = spec.as_object_mut() {
                map.remove("dataSource");
            }
        }
        (None, Some(reference)) if text(&reference, "/namespace").is_empty() => {
            spec["dataSource"] = reference;
        }
        _ => {}
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

    fn drop_disabled(&self, object: &mut Value, old: Option<&Value>) {
        drop_classes(object, old);
    }

    fn first_status(&self, _: &Value) -> Option<Value> {
        Some(json!({"phase": "Pending"}))
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let spec = Spot::root(object).field("spec");
        check_modes(&spec, "", &mut findings);
        check_capacity(&spec.field("capacity"), &mut findings);
        findings
            .one_of(&spec.field("persistentVolumeReclaimPolicy"), &["Delete", "Recycle", "Retain"]);
        let affinity = spec.field("nodeAffinity");
        match affinity.field("required") {
            _ if affinity.is_absent() => {}
            required if required.is_absent() => {
                findings.required(&required, "must specify required node constraints");
            }
            required => check_node_terms(&required, &mut findings),
        }
        volume_source::check_sources(object, &source_fields(&spec), &mut findings);
        check_class(&spec.field("storageClassName"), &mut findings);
        findings.one_of(&spec.field("volumeMode"), &["Block", "Filesystem"]);
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        check_mode_stays(object, old, &mut findings);
        let (spec, before) =
            (Spot::root(object).field("spec"), old.get("spec").unwrap_or(&Value::Null));
        let sources = source_fields(&Spot::root(before));
        let changed = |field: &String| {
            let (mut new, old) = (spec.value[field].clone(), &before[field]);
            // with which secret a volume is made larger may be said later
            if field == "csi"
                && old.get("controllerExpandSecretRef").is_none()
                && let Some(map) = new.as_object_mut()
            {
                map.remove("controllerExpandSecretRef");
            }
            new != *old
        };
        if sources.iter().any(changed) || sources != source_fields(&spec) {
            findings.forbidden(
                &spec.field("persistentvolumesource"),
                "spec.persistentvolumesource is immutable after creation",
            );
        }
        let affinity = spec.field("nodeAffinity");
        let was = before.get("nodeAffinity").filter(|was| !was.is_null());
        if was.is_some_and(|was| renamed(was, affinity.value) != *was) {
            let told = Spot::at(affinity.value, FieldPath::root("nodeAffinity"));
            findings
                .invalid(&told, "field is immutable, except for updating from beta label to GA");
        }
        findings.into_vec()
    }

    fn warnings(&self, object: &Value, _: Option<&Value>) -> Vec<String> {
        let root = Spot::root(object);
        let mut told: Vec<String> = old_annotations(object, &[CLASS, MOUNTS]);
        let spec = root.field("spec");
        let terms = spec.pointer("/nodeAffinity/required/nodeSelectorTerms");
        told.extend(terms.items().flat_map(|term| node_label::term_warnings(&term)));
        let policy = spec.field("persistentVolumeReclaimPolicy");
        if policy.text() == "Recycle" {
            told.push(format!("{}: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.", policy.path));
        }
        for (field, shown, why) in OLD_VOLUMES {
            if spec.field(field).is_there() {
                told.push(format!("{}: {why}", spec.path.field(shown)));
            }
        }
        told
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

fn check_capacity(capacity: &Spot<'_>, findings: &mut Findings) {
    if capacity.is_empty() {
        findings.required(capacity, "");
    }
    if capacity.field("storage").is_absent() || capacity.len() > 1 {
        let mistake = Mistake::NotSupported(capacity.value.clone(), vec!["storage".to_owned()]);
        findings.add(FieldError::new(capacity.path.clone(), mistake, ""));
    }
    for (_, amount) in capacity.entries() {
        let Ok(size) = Quantity::from_json(amount.value) else { continue };
        let told = |value: Value, why: &str, findings: &mut Findings| {
            findings.invalid(&Spot::at(&value, amount.path.clone()), why);
        };
        if size.value() < 0 {
            told(json!(size.value()), "must be a valid resource quantity", findings);
        }
        if size <= Quantity::ZERO {
            told(json!(size.to_string()), "must be greater than zero", findings);
        }
    }
}

/// The mode of a volume stays, of which Kubernetes tells without its spec.
fn check_mode_stays(object: &Value, old: &Value, findings: &mut Findings) {
    let mode = "/spec/volumeMode";
    let (root, before) = (Spot::root(object), Spot::root(old));
    let told = Spot::at(root.pointer(mode).value, FieldPath::root("volumeMode"));
    findings.immutable(&told, &before.pointer(mode));
}

/// An affinity in which labels of nodes have their old names wherever the old one has them.
fn renamed(old: &Value, new: &Value) -> Value {
    match (old, new) {
        (Value::Object(was), Value::Object(is)) => {
            let pair = |(field, value): (&String, &Value)| {
                let value = was.get(field).map_or_else(|| value.clone(), |was| renamed(was, value));
                (field.clone(), value)
            };
            Value::Object(is.iter().map(pair).collect())
        }
        (Value::Array(was), Value::Array(is)) if was.len() == is.len() => {
            was.iter().zip(is).map(|(was, is)| renamed(was, is)).collect()
        }
        (Value::String(was), Value::String(is)) if node_label::successor(was) == Some(is) => {
            old.clone()
        }
        _ => new.clone(),
    }
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
            settle_sources(spec);
            default(spec, "volumeMode", "Filesystem");
        }
    }

    fn drop_disabled(&self, object: &mut Value, old: Option<&Value>) {
        drop_classes(object, old);
    }

    fn first_status(&self, _: &Value) -> Option<Value> {
        Some(json!({"phase": "Pending"}))
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        claim_spec::check(&Spot::root(object).field("spec"), &mut findings);
        findings.into_vec()
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let mut findings = Findings::default();
        let mut rest = object.get("spec").cloned().unwrap_or_default();
        let before = old.get("spec").cloned().unwrap_or_default();
        let unnamed = text(old, "/spec/volumeName").is_empty();
        let class = before.get("storageClassName").is_none_or(Value::is_null);
        for (field, may) in [
            ("volumeName", unnamed),
            ("volumeAttributesClassName", true),
            ("storageClassName", class),
        ] {
            if let (true, Some(map)) = (may, rest.as_object_mut()) {
                match before.get(field) {
                    Some(value) => drop(map.insert(field.to_owned(), value.clone())),
                    None => drop(map.remove(field)),
                }
            }
        }
        let size = "/resources/requests/storage";
        if text(object, "/status/phase") == "Bound"
            && let (Some(new), Some(old)) = (rest.pointer_mut(size), before.pointer(size))
        {
            *new = old.clone();
        }
        if rest != before {
            findings.forbidden(
                &Spot::root(object).field("spec"),
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
            );
        }
        let amount = |object: &Value, pointer: &str| {
            object.pointer(pointer).and_then(|value| Quantity::from_json(value).ok())
        };
        let asked = Spot::root(object).pointer("/spec/resources/requests/storage");
        if amount(object, "/spec/resources/requests/storage")
            < amount(old, "/spec/resources/requests/storage")
        {
            let has = amount(old, "/status/capacity/storage").unwrap_or(Quantity::ZERO);
            // who asked for more than there is may ask for less again
            if amount(object, "/spec/resources/requests/storage").is_none_or(|size| size <= has) {
                findings.forbidden(&asked, "field can not be less than status.capacity");
            }
        }
        check_mode_stays(object, old, &mut findings);
        findings.into_vec()
    }

    fn warnings(&self, object: &Value, _: Option<&Value>) -> Vec<String> {
        let mut told = old_annotations(object, &[CLASS]);
        told.extend(claim_warnings(&Spot::root(object).field("spec")));
        told
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
                r#"spec.accessModes: Unsupported value: "Often": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod""#,
                "spec.capacity: Required value",
                r#"spec.capacity: Unsupported value: "null": supported values: "storage""#,
                "spec.nfs: Forbidden: may not specify more than 1 volume type",
            ]
        );
        let other = json!({"spec": {"volumeMode": "Block", "nfs": {}}});
        assert_eq!(Volume.validate_update(&other, &volume).len(), 2);
    }

    #[test]
    fn a_claim_grows_only_when_it_is_bound() {
        let claim = |size: &str, volume: &str| json!({"status": {"phase": if volume.is_empty() { "Pending" } else { "Bound" }}, "spec": {"accessModes": ["ReadWriteOnce"], "volumeName": volume, "resources": {"requests": {"storage": size}}}});
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
    fn every_column_has_a_cell() {
        for kind in kinds() {
            assert_eq!(
                kind.columns.len(),
                kind.strategy.row(&json!({}), Timestamp::UNIX_EPOCH).len(),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn what_has_another_name_by_now_is_told() {
        let class = r#"metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use "storageClassName" attribute instead"#;
        let volume = json!({
            "metadata": {"annotations": {CLASS.0: "a", MOUNTS.0: "b"}},
            "spec": {"persistentVolumeReclaimPolicy": "Recycle", "cephfs": {}, "nodeAffinity": {"required": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "a"}, {"key": "beta.kubernetes.io/os"}]}]}}},
        });
        assert_eq!(
            Volume.warnings(&volume, None),
            [
                class,
                r#"metadata.annotations[volume.beta.kubernetes.io/mount-options]: deprecated since v1.31; use "mountOptions" attribute instead"#,
                r#"spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[1].key: beta.kubernetes.io/os is deprecated since v1.14; use "kubernetes.io/os" instead"#,
                "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.",
                "spec.cephfs: deprecated in v1.28, non-functional in v1.31+",
            ]
        );
        let claim = json!({"metadata": {"annotations": {CLASS.0: "a"}},
            "spec": {"resources": {"requests": {"storage": "1500m"}, "limits": {"storage": "1Gi"}}}});
        let fraction = r#"spec.resources.requests[storage]: fractional byte value "1500m" is invalid, must be an integer"#;
        assert_eq!(Claim.warnings(&claim, Some(&claim)), [class, fraction]);
    }
}
