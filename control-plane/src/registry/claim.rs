//! Claims to volumes.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{age, items, name, text};
use super::defaults::{child, default};
use super::podspec::claim_warnings;
use super::storage::{
    CLASS, check_mode_stays, class_of, drop_classes, modes, old_annotations, or_unset, phase,
};
use super::strategy::Strategy;
use super::{claim_spec, claim_status};
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};
use crate::meta::quantity::Quantity;

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

pub(super) struct Claim;

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

    fn validate_status(&self, object: &Value, _: &Value) -> Vec<FieldError> {
        claim_status::mistakes(object)
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
    fn what_has_another_name_by_now_is_told() {
        let class = r#"metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use "storageClassName" attribute instead"#;
        let claim = json!({"metadata": {"annotations": {CLASS.0: "a"}},
            "spec": {"resources": {"requests": {"storage": "1500m"}, "limits": {"storage": "1Gi"}}}});
        let fraction = r#"spec.resources.requests[storage]: fractional byte value "1500m" is invalid, must be an integer"#;
        assert_eq!(Claim.warnings(&claim, Some(&claim)), [class, fraction]);
    }
}
