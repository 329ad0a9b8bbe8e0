//! What is wrong with the spec of a claim, or of the template of one. Sentences are those of
//! `k8s.io/kubernetes/pkg/apis/core/validation`.

use serde_json::{Value, json};

use crate::meta::findings::{Findings, Spot};
use crate::meta::quantity::Quantity;
use crate::meta::{name, selector};

const ACCESS_MODES: &[&str] =
    &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// How a volume may be mounted. `missing` is what is told when nothing is said.
pub fn check_modes(spec: &Spot<'_>, missing: &str, findings: &mut Findings) {
    let modes = spec.field("accessModes");
    if modes.is_empty() {
        findings.required(&modes, missing);
    }
    for mode in modes.items() {
        // Kubernetes tells of the list
        findings.one_of(&Spot::at(mode.value, modes.path.clone()), ACCESS_MODES);
    }
    let once = |mode: &Spot<'_>| mode.text() == "ReadWriteOncePod";
    let other = |mode: &Spot<'_>| ACCESS_MODES.contains(&mode.text()) && !once(mode);
    if modes.items().any(|mode| once(&mode)) && modes.items().any(|mode| other(&mode)) {
        findings.forbidden(&modes, "may not use ReadWriteOncePod with other access modes");
    }
}

/// Looks at a spec.
pub fn check(spec: &Spot<'_>, findings: &mut Findings) {
    check_modes(spec, "at least 1 access mode is required", findings);
    let volumes = spec.field("selector");
    findings.extend(selector::validate(volumes.value, &volumes.path));
    check_size(spec, findings);
    check_class(&spec.field("storageClassName"), findings);
    findings.one_of(&spec.field("volumeMode"), &["Block", "Filesystem"]);
    let (source, reference) = (spec.field("dataSource"), spec.field("dataSourceRef"));
    for one in [&source, &reference] {
        check_source(one, findings);
    }
    let same = |field: &str| source.field(field).value == reference.field(field).value;
    if source.is_there()
        && reference.is_there()
        && !["apiGroup", "kind", "name"].iter().all(|field| same(field))
    {
        let told = json!("dataSource");
        findings.invalid(&Spot::at(&told, spec.path.clone()), "must match dataSourceRef");
    }
}

fn check_size(spec: &Spot<'_>, findings: &mut Findings) {
    let asked = spec.field("resources").field("requests").field("storage");
    let place = Spot::at(asked.value, spec.field("resources").path.key("storage"));
    match Quantity::from_json(asked.value) {
        _ if asked.is_absent() => findings.required(&place, ""),
        Ok(size) if size <= Quantity::ZERO => {
            let told = Value::from(size.to_string());
            findings.invalid(&Spot::at(&told, place.path), "must be greater than zero");
        }
        Ok(_) => {}
        Err(error) => findings.invalid(&place, error.to_string()),
    }
}

/// The name of a class, if one is said.
pub fn check_class(class: &Spot<'_>, findings: &mut Findings) {
    if !class.is_empty() {
        findings.sentences(class, name::dns_subdomain(class.text()));
    }
}

/// What a volume begins with.
fn check_source(source: &Spot<'_>, findings: &mut Findings) {
    if source.is_absent() {
        return;
    }
    super::podspec::need(source, &["name", "kind"], findings);
    let (group, kind) = (source.field("apiGroup"), source.field("kind"));
    if group.is_empty() && kind.text() != "PersistentVolumeClaim" {
        let told = Spot::at(kind.value, source.path.clone());
        let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        findings.invalid(&told, why);
    }
    if !group.is_empty() {
        findings.sentences(&group, name::dns_subdomain(group.text()));
    }
}
