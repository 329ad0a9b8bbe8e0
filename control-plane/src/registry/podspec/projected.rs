//! Volumes of files that the node writes: configuration, secrets, tokens, fields of the pod.

use std::collections::BTreeSet;

use serde_json::Value;

use super::environment::{Reader, check_field, check_resource};
use super::source::need;
use super::volume::check_descending;
use crate::meta::field_error::{FieldError, FieldPath};
use crate::meta::findings::{Findings, Spot};

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

pub(super) fn check_files(source: &Spot<'_>, name_field: &str, findings: &mut Findings) {
    need(source, &[name_field], findings);
    check_mode(&source.field("defaultMode"), findings);
    check_items(&source.field("items"), findings);
}

fn check_items(items: &Spot<'_>, findings: &mut Findings) {
    for item in items.items() {
        need(&item, &["key", "path"], findings);
        check_local_file(&item.field("path"), findings);
        check_mode(&item.field("mode"), findings);
    }
}

pub(super) fn check_mode(mode: &Spot<'_>, findings: &mut Findings) {
    if mode.integer().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        findings.invalid(mode, MODE);
    }
}

/// Fields of the pod as files. Kubernetes tells of each of them as if it were the volume.
pub(super) fn check_downward(items: &Spot<'_>, place: &FieldPath, findings: &mut Findings) {
    for item in items.items() {
        let item = Spot::at(item.value, place.clone());
        need(&item, &["path"], findings);
        check_local_file(&item.field("path"), findings);
        let (field, resource) = (item.field("fieldRef"), item.field("resourceFieldRef"));
        match (field.is_there(), resource.is_there()) {
            (true, both) => {
                check_field(&field, Reader::File, findings);
                if both {
                    let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                    let told = Value::from("resource");
                    findings.add(FieldError::invalid(place.clone(), &told, why));
                }
            }
            (false, true) => check_resource(&resource, Reader::File, findings),
            (false, false) => {
                findings.required(&item, "one of fieldRef and resourceFieldRef is required");
            }
        }
        check_mode(&item.field("mode"), findings);
    }
}

pub(super) fn check_projected(source: &Spot<'_>, findings: &mut Findings) {
    check_mode(&source.field("defaultMode"), findings);
    let mut paths = BTreeSet::new();
    for part in source.field("sources").items() {
        check_part(&part, source, findings);
        for (path, told) in paths_of(&part) {
            if !paths.insert(path) {
                let why = "conflicting duplicate paths";
                findings.add(FieldError::invalid(source.path.clone(), &told.into(), why));
            }
        }
    }
}

/// The paths of a source that others may not have, each with what is told of it when it is taken.
fn paths_of<'a>(part: &Spot<'a>) -> Vec<(&'a str, &'a str)> {
    let mut paths = Vec::new();
    for kind in ["secret", "configMap", "downwardAPI"] {
        let from = part.field(kind);
        for path in from.field("items").items().map(|item| item.field("path").text()) {
            let told = if kind == "downwardAPI" { path } else { from.field("name").text() };
            paths.push((path, told));
        }
    }
    let bundle = part.field("clusterTrustBundle").field("path").text();
    paths.push((bundle, bundle));
    paths.retain(|(path, _)| !path.is_empty());
    paths
}

fn check_part(part: &Spot<'_>, volume: &Spot<'_>, findings: &mut Findings) {
    let kinds = ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle"];
    let set: Vec<_> = kinds.into_iter().filter(|kind| part.field(kind).is_there()).collect();
    for kind in &set {
        let source = part.field(kind);
        match *kind {
            "secret" | "configMap" => {
                need(&source, &["name"], findings);
                check_items(&source.field("items"), findings);
            }
            "downwardAPI" => check_downward(&source.field("items"), &source.path, findings),
            "serviceAccountToken" => check_token(&source, volume, findings),
            _ => {}
        }
    }
    if set.len() > 1 {
        findings.forbidden(part, "may not specify more than 1 volume type");
    }
}

/// A token that lives shorter than ten minutes would be renewed all the time; one of more than 2^32 seconds cannot be signed.
fn check_token(token: &Spot<'_>, volume: &Spot<'_>, findings: &mut Findings) {
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
    // Kubernetes tells of it as if it were the volume's
    let path = Spot::at(token.field("path").value, volume.path.field("path"));
    if path.is_empty() {
        findings.required(&path, "");
    } else {
        check_local_file(&path, findings);
    }
}

/// A path inside the volume that no file of the kubelet's own can be at.
fn check_local_file(path: &Spot<'_>, findings: &mut Findings) {
    check_descending(path, findings);
    if path.text().starts_with("..") && !path.text().starts_with("../") {
        findings.invalid(path, "must not start with '..'");
    }
}
