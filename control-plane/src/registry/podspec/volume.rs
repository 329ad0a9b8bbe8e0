//! A pod's volumes.

use std::collections::BTreeSet;

use super::environment::{Reader, check_field, check_resource};
use crate::meta::findings::{Findings, Spot};
use crate::meta::name;

/// Fields that say what a volume is made of.
const SOURCES: &[&str] = &[
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "glusterfs",
    "hostPath",
    "image",
    "iscsi",
    "nfs",
    "persistentVolumeClaim",
    "photonPersistentDisk",
    "portworxVolume",
    "projected",
    "quobyte",
    "rbd",
    "scaleIO",
    "secret",
    "storageos",
    "vsphereVolume",
];
const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Looks at all volumes; answers with the names that mounts may use.
pub(super) fn check_volumes<'a>(list: &Spot<'a>, findings: &mut Findings) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for volume in list.items() {
        let before = findings.len();
        check_volume(&volume, findings);
        let volume_name = volume.field("name");
        match volume_name.text() {
            "" => findings.required(&volume_name, ""),
            text => findings.sentences(&volume_name, name::dns_label(text)),
        }
        if names.contains(volume_name.text()) {
            findings.duplicate(&volume_name);
        } else if findings.len() == before {
            names.insert(volume_name.text());
        }
    }
    names
}

fn check_volume(volume: &Spot<'_>, findings: &mut Findings) {
    let mut set = SOURCES
        .iter()
        .map(|kind| (*kind, volume.field(kind)))
        .filter(|(_, source)| source.is_there());
    match set.next() {
        None => findings.required(volume, "must specify a volume type"),
        Some((kind, source)) => check_source(kind, &source, findings),
    }
    for (_, more) in set {
        findings.forbidden(&more, "may not specify more than 1 volume type");
    }
}

fn check_source(kind: &str, source: &Spot<'_>, findings: &mut Findings) {
    match kind {
        "configMap" => check_files(source, "name", findings),
        "secret" => check_files(source, "secretName", findings),
        "downwardAPI" => {
            check_mode(&source.field("defaultMode"), findings);
            check_downward(&source.field("items"), findings);
        }
        "emptyDir" => {
            let limit = source.field("sizeLimit");
            if super::resources::is_negative(&limit) {
                findings.forbidden(&limit, "SizeLimit field must be a valid resource quantity");
            }
        }
        "ephemeral" => need(source, &["volumeClaimTemplate"], findings),
        "csi" => need(source, &["driver"], findings),
        "hostPath" => check_host_path(source, findings),
        "nfs" => {
            need(source, &["server", "path"], findings);
            if !source.field("path").is_empty() && !source.field("path").text().starts_with('/') {
                findings.invalid(&source.field("path"), "must be an absolute path");
            }
        }
        "persistentVolumeClaim" => need(source, &["claimName"], findings),
        "projected" => check_projected(source, findings),
        _ => {}
    }
}

fn need(source: &Spot<'_>, fields: &[&str], findings: &mut Findings) {
    for field in fields {
        if source.field(field).is_empty() {
            findings.required(&source.field(field), "");
        }
    }
}

fn check_files(source: &Spot<'_>, name_field: &str, findings: &mut Findings) {
    need(source, &[name_field], findings);
    check_mode(&source.field("defaultMode"), findings);
    check_items(&source.field("items"), findings);
}

fn check_items(items: &Spot<'_>, findings: &mut Findings) {
    for item in items.items() {
        need(&item, &["key"], findings);
        check_local_file(&item.field("path"), findings);
        check_mode(&item.field("mode"), findings);
    }
}

fn check_mode(mode: &Spot<'_>, findings: &mut Findings) {
    if mode.integer().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        findings.invalid(mode, MODE);
    }
}

fn check_downward(items: &Spot<'_>, findings: &mut Findings) {
    for item in items.items() {
        check_local_file(&item.field("path"), findings);
        check_mode(&item.field("mode"), findings);
        let (field, resource) = (item.field("fieldRef"), item.field("resourceFieldRef"));
        match (field.is_there(), resource.is_there()) {
            (true, true) => findings.invalid(
                &item,
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            ),
            (true, false) => check_field(&field, Reader::File, findings),
            (false, true) => check_resource(&resource, Reader::File, findings),
            (false, false) => {
                findings.required(&item, "one of fieldRef and resourceFieldRef is required");
            }
        }
    }
}

fn check_host_path(source: &Spot<'_>, findings: &mut Findings) {
    let path = source.field("path");
    if path.is_empty() {
        findings.required(&path, "");
    } else if path.text().split('/').any(|part| part == "..") {
        findings.invalid(&path, "must not contain '..'");
    }
    if !source.field("type").is_empty() {
        findings.one_of(
            &source.field("type"),
            &[
                "",
                "BlockDevice",
                "CharDevice",
                "Directory",
                "DirectoryOrCreate",
                "File",
                "FileOrCreate",
                "Socket",
            ],
        );
    }
}

fn check_projected(source: &Spot<'_>, findings: &mut Findings) {
    check_mode(&source.field("defaultMode"), findings);
    let mut paths = BTreeSet::new();
    for part in source.field("sources").items() {
        check_projected_part(&part, findings);
        for path in paths_of(&part) {
            if !paths.insert(path.text().to_owned()) {
                findings.add(crate::meta::field_error::FieldError::new(
                    source.path.clone(),
                    crate::meta::field_error::Mistake::Invalid(path.value.clone()),
                    "conflicting duplicate paths",
                ));
            }
        }
    }
}

fn paths_of<'a>(part: &Spot<'a>) -> Vec<Spot<'a>> {
    let listed = ["secret", "configMap", "downwardAPI"].map(|kind| part.field(kind).field("items"));
    let mut paths: Vec<_> =
        listed.iter().flat_map(Spot::items).map(|item| item.field("path")).collect();
    paths.push(part.field("serviceAccountToken").field("path"));
    paths.retain(|path| !path.is_empty());
    paths
}

fn check_projected_part(part: &Spot<'_>, findings: &mut Findings) {
    let kinds = ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle"];
    let set: Vec<_> = kinds.into_iter().filter(|kind| part.field(kind).is_there()).collect();
    for kind in &set {
        let source = part.field(kind);
        match *kind {
            "secret" | "configMap" => {
                need(&source, &["name"], findings);
                check_items(&source.field("items"), findings);
            }
            "downwardAPI" => check_downward(&source.field("items"), findings),
            "serviceAccountToken" => check_token(&source, findings),
            _ => {}
        }
    }
    if set.is_empty() {
        findings.required(part, "must specify at least one source");
    }
    for more in set.iter().skip(1) {
        findings.forbidden(&part.field(more), "may not specify more than 1 volume type per source");
    }
}

/// A token that lives shorter than ten minutes would be renewed all the time; one of more than 2^32 seconds cannot be signed.
fn check_token(token: &Spot<'_>, findings: &mut Findings) {
    let seconds = token.field("expirationSeconds");
    match seconds.integer() {
        Some(few) if few < 600 => {
            findings.invalid(&seconds, "may not specify a duration less than 10 minutes");
        }
        Some(many) if many > 1 << 32 => {
            findings.invalid(&seconds, "may not specify a duration larger than 2^32 seconds");
        }
        _ => {}
    }
    if token.field("path").is_empty() {
        findings.required(&token.field("path"), "");
    } else {
        check_local_file(&token.field("path"), findings);
    }
}

/// A path inside the volume that no file of the kubelet's own can be at.
fn check_local_file(path: &Spot<'_>, findings: &mut Findings) {
    if path.is_empty() {
        findings.required(path, "");
        return;
    }
    check_descending(path, findings);
    if path.text().starts_with("..") {
        findings.invalid(path, "must not start with '..'");
    }
}

/// A path that does not lead out of where it begins.
pub(super) fn check_descending(path: &Spot<'_>, findings: &mut Findings) {
    if path.text().starts_with('/') {
        findings.invalid(path, "must be a relative path");
    }
    if path.text().split('/').any(|part| part == "..") {
        findings.invalid(path, "must not contain '..'");
    }
}
