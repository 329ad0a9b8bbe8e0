//! Volumes that outlive pods.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::claim_spec::{check_class, check_modes};
use super::column::{age, items, name, text};
use super::defaults::{child, default, default_text};
use super::podspec::{OLD_VOLUMES, check_node_terms, default_volume_source};
use super::storage::{
    CLASS, MOUNTS, check_mode_stays, class_of, drop_classes, modes, old_annotations, or_unset,
    phase,
};
use super::strategy::Strategy;
use super::{node_label, volume_source};
use crate::meta::field_error::{FieldError, FieldPath, Mistake};
use crate::meta::findings::{Findings, Spot};
use crate::meta::quantity::Quantity;

pub(super) struct Volume;

impl Strategy for Volume {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = child(object, "spec") {
            default_text(spec, "persistentVolumeReclaimPolicy", "Retain");
            default(spec, "volumeMode", "Filesystem");
            default_volume_source(spec);
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
        let mut before = old.get("spec").cloned().unwrap_or_default();
        // what is kept may be from a time without these defaults
        default_volume_source(&mut before);
        let (spec, before) = (Spot::root(object).field("spec"), &before);
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
        let mut plain = volume.clone();
        plain["spec"]["hostPath"] = json!({"path": "/a"});
        assert_eq!(volume["spec"]["hostPath"]["type"], "");
        assert!(Volume.validate_update(&volume, &plain).is_empty(), "it was always the default");
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
    }
}
