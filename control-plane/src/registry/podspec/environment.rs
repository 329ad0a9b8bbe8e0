//! Where a container's variables come from; downward API volumes name the same sources.

use crate::meta::findings::{Findings, Spot};
use crate::meta::name;
use crate::meta::quantity::Quantity;

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
    check_divisor(what.text(), resource, findings);
}

/// In which units an amount can be had.
fn check_divisor(what: &str, resource: &Spot<'_>, findings: &mut Findings) {
    const OF_BYTES: [&str; 13] =
        ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let (kind, units): (_, &[&str]) = match what.split_once('.').map_or("", |(_, kind)| kind) {
        "cpu" => ("cpu", &["1m", "1"]),
        "memory" => ("memory", &OF_BYTES),
        "ephemeral-storage" => ("local ephemeral storage", &OF_BYTES),
        kind if kind.starts_with("hugepages-") => ("hugepages", &OF_BYTES),
        _ => return,
    };
    let divisor = resource.field("divisor");
    let Ok(unit) = Quantity::from_json(divisor.value) else { return };
    if unit.is_zero() || units.contains(&unit.to_string().as_str()) {
        return;
    }
    let list = if kind == "cpu" { "1m and 1".to_owned() } else { OF_BYTES.join(", ") };
    let told = serde_json::Value::from(what);
    let why = format!("only divisor's values {list} are supported with the {kind} resource");
    findings.invalid(&Spot::at(&told, divisor.path), why);
}

fn check_key(reference: &Spot<'_>, findings: &mut Findings) {
    let of = reference.field("name");
    let empty = if of.is_absent() { Spot::at(&EMPTY, of.path.clone()) } else { of };
    findings.sentences(&empty, name::dns_subdomain(empty.text()));
    let key = reference.field("key");
    match key.text() {
        "" => findings.required(&key, ""),
        text => findings.sentences(&key, name::config_key(text)),
    }
}

pub(super) fn check_variable_lists(list: &Spot<'_>, findings: &mut Findings) {
    for source in list.items() {
        let prefix = source.field("prefix");
        if !prefix.is_empty() {
            findings.sentences(&prefix, name_of_variable(prefix.text()));
        }
        let set: Vec<_> = ["configMapRef", "secretRef"]
            .map(|kind| source.field(kind))
            .into_iter()
            .filter(Spot::is_there)
            .collect();
        for reference in &set {
            let of = reference.field("name");
            match of.text() {
                "" => findings.required(&of, ""),
                text => findings.sentences(&of, name::dns_subdomain(text)),
            }
        }
        // Kubernetes tells of the list
        let told = Spot::at(&EMPTY, list.path.clone());
        match set.len() {
            0 => findings.invalid(&told, "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => findings.invalid(&told, "may not have more than one field specified at a time"),
        }
    }
}
