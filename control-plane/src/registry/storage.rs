//! Volumes that outlive pods, and claims to them: kept as they are told; who provisions them is another program.

use serde_json::Value;

use super::column::{columns, text};
use super::kind::{Kind, Subresource};
use super::{claim, storage_class, volume};
use crate::meta::field_error::FieldPath;
use crate::meta::findings::{Findings, Spot};
use crate::meta::object::Meta;

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
            .behaves(volume::Volume),
        Kind::new("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
            .short(&["pvc"])
            .with(&[Subresource::Status])
            .columns(columns(
                "Name Status Volume Capacity Access_Modes StorageClass VolumeAttributesClass Age +VolumeMode",
            ))
            .behaves(claim::Claim),
        storage_class::kind(),
    ]
}

/// Modes as kubectl shortens them.
pub(super) fn modes(list: &[Value]) -> String {
    let short = |mode: &Value| match mode.as_str().unwrap_or_default() {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    list.iter().map(short).filter(|mode| !mode.is_empty()).collect::<Vec<_>>().join(",")
}

pub(super) fn or_unset(text: &str) -> String {
    if text.is_empty() { "<unset>".to_owned() } else { text.to_owned() }
}

/// The class may also stand in the annotation that came before the field.
pub(super) fn class_of(object: &Value) -> &str {
    match text(object, "/metadata/annotations/volume.beta.kubernetes.io~1storage-class") {
        "" => text(object, "/spec/storageClassName"),
        old => old,
    }
}

/// Annotations that became fields, and what is told of them.
pub(super) const CLASS: (&str, &str) = (
    "volume.beta.kubernetes.io/storage-class",
    r#"deprecated since v1.8; use "storageClassName" attribute instead"#,
);
pub(super) const MOUNTS: (&str, &str) = (
    "volume.beta.kubernetes.io/mount-options",
    r#"deprecated since v1.31; use "mountOptions" attribute instead"#,
);

pub(super) fn old_annotations(object: &Value, old: &[(&str, &str)]) -> Vec<String> {
    let there = old.iter().filter(|(key, _)| Meta::of(object).annotation(key).is_some());
    there.map(|(key, why)| format!("metadata.annotations[{key}]: {why}")).collect()
}

/// Classes of attributes are off by default in Kubernetes 1.32; so are sources in other namespaces.
pub(super) fn drop_classes(object: &mut Value, old: Option<&Value>) {
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

/// The mode of a volume stays, of which Kubernetes tells without its spec.
pub(super) fn check_mode_stays(object: &Value, old: &Value, findings: &mut Findings) {
    let mode = "/spec/volumeMode";
    let (root, before) = (Spot::root(object), Spot::root(old));
    let told = Spot::at(root.pointer(mode).value, FieldPath::root("volumeMode"));
    findings.immutable(&told, &before.pointer(mode));
}

pub(super) fn phase(object: &Value) -> &str {
    match text(object, "/metadata/deletionTimestamp") {
        "" => text(object, "/status/phase"),
        _ => "Terminating",
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

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
}
