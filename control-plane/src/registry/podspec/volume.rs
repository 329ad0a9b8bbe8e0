//! A pod's volumes.

use std::collections::BTreeMap;

use super::projected::{check_downward, check_files, check_mode, check_projected};
use super::source;
use crate::meta::findings::{Findings, Spot};
use crate::meta::name;

/// The volumes that mounts may use: the field that says what it is made of, by name.
pub(super) type Volumes<'a> = BTreeMap<&'a str, &'static str>;

/// Fields that say what a volume is made of, in the order in which they are looked at.
const SOURCES: &[&str] = &[
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];

/// Looks at all volumes of a spec; answers with those that mounts may use. `pod` is the name of the pod, if it is one.
pub(super) fn check_volumes<'a>(
    list: &Spot<'a>,
    pod: Option<&str>,
    findings: &mut Findings,
) -> Volumes<'a> {
    let mut volumes = Volumes::new();
    for volume in list.items() {
        let before = findings.len();
        let kind = check_volume(&volume, pod, findings);
        let volume_name = volume.field("name");
        match volume_name.text() {
            "" => findings.required(&volume_name, ""),
            text => findings.sentences(&volume_name, name::dns_label(text)),
        }
        if volumes.contains_key(volume_name.text()) {
            findings.duplicate(&volume_name);
        } else if let (Some(kind), true) = (kind, findings.len() == before) {
            volumes.insert(volume_name.text(), kind);
        }
    }
    if let Some(pod) = pod.filter(|pod| !pod.is_empty()) {
        check_own_claims(list, pod, findings);
    }
    volumes
}

/// Nobody can say what a claim is called that is made for the pod itself.
fn check_own_claims(list: &Spot<'_>, pod: &str, findings: &mut Findings) {
    let made: Vec<String> = list
        .items()
        .filter(|volume| volume.field("ephemeral").is_there())
        .map(|volume| format!("{pod}-{}", volume.field("name").text()))
        .collect();
    for volume in list.items() {
        let claim = volume.field("persistentVolumeClaim").field("claimName");
        if made.iter().any(|made| made == claim.text()) {
            let why = "must not reference a PVC that gets created for an ephemeral volume";
            findings.invalid(&claim, why);
        }
    }
}

fn check_volume(
    volume: &Spot<'_>,
    pod: Option<&str>,
    findings: &mut Findings,
) -> Option<&'static str> {
    let mut set = SOURCES
        .iter()
        .map(|kind| (*kind, volume.field(kind)))
        .filter(|(_, source)| source.is_there());
    let Some((kind, source)) = set.next() else {
        findings.required(volume, "must specify a volume type");
        return None;
    };
    check_source(kind, &source, findings);
    for (_, more) in set {
        findings.forbidden(&more, "may not specify more than 1 volume type");
    }
    check_names(kind, volume, pod, findings);
    Some(kind)
}

/// What the name of a volume is part of.
fn check_names(kind: &str, volume: &Spot<'_>, pod: Option<&str>, findings: &mut Findings) {
    const LONG: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
    let (own, source) = (volume.field("name"), volume.field(kind));
    if kind == "iscsi" && source.field("initiatorName").is_there() {
        let length = own.text().len() + 1 + source.field("targetPortal").text().len();
        if length > 64 {
            findings.invalid(&own, LONG);
        }
    }
    if let (Some(pod), "ephemeral", false) = (pod, kind, own.is_empty())
        && !pod.is_empty()
    {
        let claim = format!("{pod}-{}", own.text());
        let sentences = name::dns_subdomain(&claim);
        findings.sentences(&own, sentences.iter().map(|why| format!("PVC name {claim:?}: {why}")));
    }
}

fn check_source(kind: &str, source: &Spot<'_>, findings: &mut Findings) {
    match kind {
        "configMap" => check_files(source, "name", findings),
        "secret" => check_files(source, "secretName", findings),
        "downwardAPI" => {
            check_mode(&source.field("defaultMode"), findings);
            check_downward(&source.field("items"), &source.path, findings);
        }
        "emptyDir" => {
            let limit = source.field("sizeLimit");
            if super::resources::is_negative(&limit) {
                findings.forbidden(&limit, "SizeLimit field must be a valid resource quantity");
            }
        }
        "ephemeral" => check_claim(&source.field("volumeClaimTemplate"), findings),
        "persistentVolumeClaim" => source::need(source, &["claimName"], findings),
        "projected" => check_projected(source, findings),
        _ => source::check(kind, source, findings),
    }
}

fn check_claim(template: &Spot<'_>, findings: &mut Findings) {
    if template.is_absent() {
        findings.required(template, "");
        return;
    }
    let metadata = template.field("metadata");
    let (labels, annotations) = (metadata.field("labels"), metadata.field("annotations"));
    findings.extend(crate::meta::label::annotations(annotations.value, &annotations.path));
    findings.extend(crate::meta::label::labels(labels.value, &labels.path));
    let fields = metadata.value.as_object().into_iter().flatten();
    for (field, value) in fields.filter(|(field, _)| !matches!(&***field, "labels" | "annotations"))
    {
        if !(value.is_null() || value.as_str() == Some("")) {
            findings.forbidden(&metadata.field(field), "cannot be set");
        }
    }
    crate::registry::claim_spec::check(&template.field("spec"), findings);
}

/// A path that does not lead out of where it begins.
pub(super) fn check_descending(path: &Spot<'_>, findings: &mut Findings) {
    if path.text().starts_with('/') {
        findings.invalid(path, "must be a relative path");
    }
    check_no_steps_back(path, findings);
}

/// A path without `..`.
pub(in crate::registry) fn check_no_steps_back(path: &Spot<'_>, findings: &mut Findings) {
    if path.text().split('/').any(|part| part == "..") {
        findings.invalid(path, "must not contain '..'");
    }
}
