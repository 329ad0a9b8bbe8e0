//! Where a container's variables come from; downward API volumes name the same sources.

use crate::meta::findings::{Findings, Spot};
use crate::meta::name;

const IN_VARIABLES: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const IN_FILES: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// Who reads a field of the pod: not every field can be had in both ways.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    Variable,
    File,
}

pub(super) fn check_variables(list: &Spot<'_>, findings: &mut Findings) {
    for variable in list.items() {
        let variable_name = variable.field("name");
        match variable_name.text() {
            "" => findings.required(&variable_name, ""),
            text => findings.sentences(&variable_name, name_of_variable(text)),
        }
        check_source(&variable, findings);
    }
}

/// Since 1.32 any printable ASCII will do (`RelaxedEnvironmentVariableValidation`).
fn name_of_variable(text: &str) -> Option<String> {
    let good = text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=');
    (!good).then(|| {
        "a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned()
    })
}

fn check_source(variable: &Spot<'_>, findings: &mut Findings) {
    let source = variable.field("valueFrom");
    if source.is_absent() {
        return;
    }
    let mut count = 0;
    for kind in ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef"] {
        let part = source.field(kind);
        if part.is_absent() {
            continue;
        }
        count += 1;
        match kind {
            "fieldRef" => check_field(&part, Reader::Variable, findings),
            "resourceFieldRef" => check_resource(&part, Reader::Variable, findings),
            _ => check_key(&part, findings),
        }
    }
    let told = Spot::at(&EMPTY, source.path.clone());
    if count == 0 {
        findings.invalid(&told, "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`");
    } else if !variable.field("value").is_empty() {
        findings.invalid(&told, "may not be specified when `value` is not empty");
    } else if count > 1 {
        findings.invalid(&told, "may not have more than one field specified at a time");
    }
}

/// Kubernetes shows an empty text as the value of these mistakes.
static EMPTY: serde_json::Value = serde_json::Value::String(String::new());

pub(super) fn check_field(field: &Spot<'_>, reader: Reader, findings: &mut Findings) {
    if field.field("apiVersion").is_empty() {
        findings.required(&field.field("apiVersion"), "");
    }
    let path = field.field("fieldPath");
    if path.is_empty() {
        findings.required(&path, "");
        return;
    }
    if let Some((map, key)) = subscript(path.text()) {
        check_subscript(&path, map, key, findings);
        return;
    }
    let known = match reader {
        Reader::Variable => IN_VARIABLES,
        Reader::File => IN_FILES,
    };
    if IN_VARIABLES.contains(&path.text()) || IN_FILES.contains(&path.text()) {
        findings.one_of(&path, known);
    } else {
        findings.invalid(
            &path,
            format!("error converting fieldPath: field label not supported: {}", path.text()),
        );
    }
}

/// `metadata.labels['key']` as its two parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

fn check_subscript(path: &Spot<'_>, map: &str, key: &str, findings: &mut Findings) {
    match map {
        "metadata.annotations" => findings.sentences(path, name::qualified(&key.to_lowercase())),
        "metadata.labels" => findings.sentences(path, name::qualified(key)),
        _ => findings.invalid(
            path,
            format!("error converting fieldPath: field label does not support subscript: {map}"),
        ),
    }
}

pub(super) fn check_resource(resource: &Spot<'_>, reader: Reader, findings: &mut Findings) {
    if reader == Reader::File && resource.field("containerName").is_empty() {
        findings.required(&resource.field("containerName"), "");
    }
    let what = resource.field("resource");
    let is_huge = |text: &str| {
        text.starts_with("limits.hugepages-") || text.starts_with("requests.hugepages-")
    };
    match what.text() {
        "" => findings.required(&what, ""),
        text if is_huge(text) => {}
        _ => findings.one_of(&what, RESOURCES),
    }
}

fn check_key(reference: &Spot<'_>, findings: &mut Findings) {
    if reference.field("name").is_empty() {
        findings.required(&reference.field("name"), "");
    }
    let key = reference.field("key");
    match key.text() {
        "" => findings.required(&key, ""),
        text => findings.sentences(&key, name::config_key(text)),
    }
}

pub(super) fn check_variable_lists(list: &Spot<'_>, findings: &mut Findings) {
    for source in list.items() {
        let prefix = source.field("prefix");
        findings.sentences(&prefix, name_of_variable(prefix.text()));
        let set: Vec<_> = ["configMapRef", "secretRef"]
            .map(|kind| source.field(kind))
            .into_iter()
            .filter(Spot::is_there)
            .collect();
        for reference in &set {
            if reference.field("name").is_empty() {
                findings.required(&reference.field("name"), "");
            }
        }
        let told = Spot::at(&EMPTY, source.path.clone());
        match set.len() {
            0 => findings.invalid(&told, "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => findings.invalid(&told, "may not have more than one field specified at a time"),
        }
    }
}
