//! Where the volumes of a pod are in a container: as directories, or as devices.

use std::collections::BTreeSet;

use super::volume::{Volumes, check_descending};
use crate::meta::findings::{Findings, Spot};

/// Looks at a container's mounts and devices.
pub(super) fn check_mounts(container: &Spot<'_>, volumes: &Volumes<'_>, findings: &mut Findings) {
    let (mounts, devices) = (container.field("volumeMounts"), container.field("volumeDevices"));
    let of_devices = [texts(&devices, "name"), texts(&devices, "devicePath")];
    let mut places = BTreeSet::new();
    for mount in mounts.items() {
        let (name, place) = (mount.field("name"), mount.field("mountPath"));
        if name.is_empty() {
            findings.required(&name, "");
        }
        if !volumes.contains_key(name.text()) {
            findings.not_found(&name);
        }
        if place.is_empty() {
            findings.required(&place, "");
        }
        if !places.insert(place.text()) {
            findings.invalid(&place, "must be unique");
        }
        if of_devices[0].contains(name.text()) {
            findings.invalid(&name, "must not already exist in volumeDevices");
        }
        if of_devices[1].contains(place.text()) {
            findings.invalid(&place, "must not already exist as a path in volumeDevices");
        }
        check_sub_paths(&mount, &mounts, findings);
        check_propagation(&mount, &mounts, container, findings);
    }
    check_devices(&devices, &mounts, volumes, findings);
}

fn texts<'a>(list: &Spot<'a>, field: &str) -> BTreeSet<&'a str> {
    list.items().map(|item| item.field(field).text()).collect()
}

/// A field of an item as Kubernetes tells of some of them: as if it were the list's.
fn of_list<'a>(item: &Spot<'a>, list: &Spot<'_>, field: &str) -> Spot<'a> {
    Spot::at(item.field(field).value, list.path.field(field))
}

fn check_sub_paths(mount: &Spot<'_>, mounts: &Spot<'_>, findings: &mut Findings) {
    let [path, expression] = ["subPath", "subPathExpr"].map(|field| of_list(mount, mounts, field));
    check_descending(&path, findings);
    if !path.is_empty() && !expression.is_empty() {
        let why = "subPathExpr and subPath are mutually exclusive";
        findings.invalid(&mount.field("subPathExpr"), why);
    }
    check_descending(&expression, findings);
}

fn check_propagation(
    mount: &Spot<'_>,
    mounts: &Spot<'_>,
    container: &Spot<'_>,
    findings: &mut Findings,
) {
    let propagation = of_list(mount, mounts, "mountPropagation");
    findings.one_of(&propagation, &["Bidirectional", "HostToContainer", "None"]);
    if propagation.text() == "Bidirectional"
        && !container.field("securityContext").field("privileged").is_true()
    {
        findings.forbidden(
            &propagation,
            "Bidirectional mount propagation is available only to privileged containers",
        );
    }
    let recursive = mount.field("recursiveReadOnly");
    findings.one_of(&recursive, &["Disabled", "Enabled", "IfPossible"]);
    if !matches!(recursive.text(), "Enabled" | "IfPossible") {
        return;
    }
    if !mount.field("readOnly").is_true() {
        findings.forbidden(&recursive, "may only be specified when readOnly is true");
    }
    if propagation.is_there() && propagation.text() != "None" {
        let why = "may only be specified when mountPropagation is None or not specified";
        findings.forbidden(&recursive, why);
    }
}

fn check_devices(
    devices: &Spot<'_>,
    mounts: &Spot<'_>,
    volumes: &Volumes<'_>,
    findings: &mut Findings,
) {
    let of_mounts = [texts(mounts, "name"), texts(mounts, "mountPath")];
    let (mut names, mut places) = (BTreeSet::new(), BTreeSet::new());
    for device in devices.items() {
        let (name, place) = (device.field("name"), device.field("devicePath"));
        if name.is_empty() {
            findings.required(&name, "");
        } else if !names.insert(name.text()) {
            findings.invalid(&name, "must be unique");
        }
        match volumes.get(name.text()) {
            None => findings.not_found(&name),
            Some(&("persistentVolumeClaim" | "ephemeral")) => {}
            Some(_) => findings.invalid(&name, "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"),
        }
        if place.is_empty() {
            findings.required(&place, "");
        }
        if place.text().split('/').any(|part| part == "..") {
            findings.invalid(&place, "can not contain backsteps ('..')");
        } else if !places.insert(place.text()) {
            findings.invalid(&place, "must be unique");
        }
        if of_mounts[0].contains(name.text()) {
            findings.invalid(&name, "must not already exist in volumeMounts");
        }
        if of_mounts[1].contains(place.text()) {
            findings.invalid(&place, "must not already exist as a path in volumeMounts");
        }
    }
}
