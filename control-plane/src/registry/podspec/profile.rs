//! Profiles of seccomp and `AppArmor`: those of the fields, and those of the annotations that came before the fields. Sentences are those
//! of `k8s.io/kubernetes/pkg/apis/core/validation`.

use serde_json::{Value, json};

use crate::meta::findings::{Findings, Spot};
use crate::meta::object::{Meta, MetaMut};
use crate::registry::defaults::child;

const KINDS: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];
const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
/// The longest path of Linux, without its end.
const LONGEST: usize = 4095;
/// Annotations; those of containers end in the name of one.
const OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
pub(super) const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// The profile of seccomp that a field names.
pub(super) fn check_seccomp(profile: &Spot<'_>, findings: &mut Findings) {
    if profile.is_absent() {
        return;
    }
    check_kind(profile, "seccompProfile", findings);
    let file = profile.field("localhostProfile");
    match (profile.field("type").text(), file.is_absent()) {
        ("Localhost", true) => {
            findings.required(&file, "must be set when seccomp type is Localhost");
        }
        ("Localhost", false) => super::volume::check_descending(&file, findings),
        (_, false) => findings.invalid(&file, "can only be set when seccomp type is Localhost"),
        (_, true) => {}
    }
}

fn check_kind(profile: &Spot<'_>, field: &str, findings: &mut Findings) {
    let kind = profile.field("type");
    if kind.is_empty() {
        findings.required(&kind, format!("type is required when {field} is set"));
    } else {
        findings.one_of(&kind, &KINDS);
    }
}

/// The profile of `AppArmor` that a field names.
pub(super) fn check_apparmor(profile: &Spot<'_>, findings: &mut Findings) {
    if profile.is_absent() {
        return;
    }
    let file = profile.field("localhostProfile");
    match profile.field("type").text() {
        "Localhost" if file.is_empty() => {
            findings.required(&file, "must be set when AppArmor type is Localhost");
        }
        "Localhost" => {
            if file.text().trim() != file.text() {
                findings.invalid(&file, "must not be padded with whitespace");
            }
            findings.at_most_bytes(&file, LONGEST);
        }
        "RuntimeDefault" | "Unconfined" if file.is_there() => {
            findings.invalid(&file, "can only be set when AppArmor type is Localhost");
        }
        _ => check_kind(profile, "appArmorProfile", findings),
    }
}

/// What annotations name must be profiles, of containers that there are.
pub(super) fn check_annotations(annotations: &Spot<'_>, spec: &Spot<'_>, findings: &mut Findings) {
    let of_seccomp = |key: &str| key == OF_POD || key.starts_with(OF_CONTAINER);
    for (key, found) in annotations.entries().filter(|(key, _)| of_seccomp(key)) {
        // Kubernetes tells of these as of fields
        let spot = Spot::at(found.value, annotations.path.field(key));
        match spot.text() {
            "runtime/default" | "docker/default" | "unconfined" => {}
            text => match text.strip_prefix("localhost/") {
                Some(file) => {
                    let file = json!(file);
                    super::volume::check_descending(&Spot::at(&file, spot.path), findings);
                }
                None => findings.invalid(&spot, "must be a valid seccomp profile"),
            },
        }
    }
    for (key, found) in annotations.entries() {
        let Some(container) = key.strip_prefix(APPARMOR) else { continue };
        if !containers(spec).iter().any(|one| one.field("name").text() == container) {
            let told = json!(container);
            findings.invalid(&Spot::at(&told, found.path.clone()), "container not found");
        }
        let text = found.text();
        if !matches!(text, "" | "runtime/default" | "unconfined") && !text.starts_with("localhost/")
        {
            findings.invalid(&found, format!("invalid AppArmor profile name: {text:?}"));
        }
    }
}

/// Where a new pod has both an annotation and a field, they must say the same.
pub(super) fn check_agreement(pod: &Spot<'_>, findings: &mut Findings) {
    let (spec, annotations) = (pod.field("spec"), pod.pointer("/metadata/annotations"));
    let seccomp = |of: &Spot<'_>, key: &str, findings: &mut Findings| {
        let profile = of.field("securityContext").field("seccompProfile");
        if let Some(said) = annotations.value.get(key).and_then(Value::as_str) {
            let said = if said == "docker/default" { "runtime/default" } else { said };
            agree(&profile, &profile, said, "seccomp", findings);
        }
    };
    seccomp(&spec, OF_POD, findings);
    for container in containers(&spec) {
        let key = format!("{OF_CONTAINER}{}", container.field("name").text());
        seccomp(&container, &key, findings);
    }
    if is_of_windows(spec.value) {
        return;
    }
    let whole = spec.field("securityContext").field("appArmorProfile");
    for container in containers(&spec) {
        let own = container.field("securityContext").field("appArmorProfile");
        let Some(said) = named(annotations.value, container.field("name").text()) else { continue };
        // what the annotation alone says becomes the container's
        if own.is_there() || of_annotation(said).is_none() {
            let counts = if own.is_there() { &own } else { &whole };
            agree(counts, &own, said, "apparmor", findings);
        }
    }
}

/// `place` is where a mistake is told.
fn agree(profile: &Spot<'_>, place: &Spot<'_>, said: &str, what: &str, findings: &mut Findings) {
    let same = match profile.field("type").text() {
        "Unconfined" => said == "unconfined",
        "RuntimeDefault" => said == "runtime/default",
        "Localhost" => match said.strip_prefix("localhost/") {
            Some(file) if file != profile.field("localhostProfile").text() => {
                let why = format!("{what} profile in annotation and field must match");
                findings.forbidden(&place.field("localhostProfile"), why);
                return;
            }
            file => file.is_some(),
        },
        _ => true,
    };
    if !same {
        let why = format!("{what} type in annotation and field must match");
        findings.forbidden(&place.field("type"), why);
    }
}

/// What there is to tell of a new pod whose containers have a profile of `AppArmor` from an annotation only.
pub fn apparmor_warnings(pod: &Value) -> Vec<String> {
    let root = Spot::root(pod);
    let (spec, annotations) = (root.field("spec"), root.pointer("/metadata/annotations"));
    let whole = spec.field("securityContext").field("appArmorProfile");
    let mut told = Vec::new();
    for container in containers(&spec).iter().filter(|_| !is_of_windows(spec.value)) {
        let own = container.field("securityContext").field("appArmorProfile");
        let of = container.field("name").text();
        let Some(said) = named(annotations.value, of).filter(|_| own.is_absent()) else { continue };
        if of_annotation(said).is_none_or(|profile| profile != *whole.value) {
            let at = annotations.path.key(&format!("{APPARMOR}{of}"));
            told.push(format!("{at}: {DEPRECATED}"));
        }
    }
    told
}

pub(super) const DEPRECATED: &str =
    r#"deprecated since v1.30; use the "appArmorProfile" field instead"#;

/// Gives the containers of a new pod the profiles of their annotations, and annotations that say what their fields do: kubelets of old
/// read the ones, those of today the others.
pub fn settle_apparmor(pod: &mut Value) {
    if is_of_windows(&pod["spec"]) {
        return;
    }
    let whole = pod.pointer("/spec/securityContext/appArmorProfile").cloned().unwrap_or_default();
    let annotations = Meta::of(pod).get("annotations").clone();
    let mut more = Vec::new();
    for list in LISTS {
        let found = pod.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut);
        for container in found.into_iter().flatten() {
            let of = container["name"].as_str().unwrap_or_default().to_owned();
            let own =
                container.pointer("/securityContext/appArmorProfile").filter(|own| own.is_object());
            match named(&annotations, &of) {
                None => {
                    more.extend(to_annotation(own.unwrap_or(&whole)).map(|text| (of, text)));
                }
                Some(said) if own.is_none() => {
                    if let Some(profile) = of_annotation(said).filter(|profile| *profile != whole)
                        && let Some(security) = child(container, "securityContext")
                    {
                        security["appArmorProfile"] = profile;
                    }
                }
                Some(_) => {}
            }
        }
    }
    for (of, text) in more {
        MetaMut::of(pod).set_annotation(&format!("{APPARMOR}{of}"), Some(&text));
    }
}

/// What the annotation of a container says.
fn named<'a>(annotations: &'a Value, container: &str) -> Option<&'a str> {
    annotations.get(format!("{APPARMOR}{container}"))?.as_str()
}

/// The profile that an annotation names, if it is in order.
fn of_annotation(text: &str) -> Option<Value> {
    match text {
        "unconfined" => Some(json!({"type": "Unconfined"})),
        "runtime/default" => Some(json!({"type": "RuntimeDefault"})),
        _ => {
            let file = text.strip_prefix("localhost/")?;
            let good = !file.is_empty() && file.trim() == file && file.len() <= LONGEST;
            good.then(|| json!({"type": "Localhost", "localhostProfile": file}))
        }
    }
}

/// The annotation that names a profile.
fn to_annotation(profile: &Value) -> Option<String> {
    match profile.get("type")?.as_str()? {
        "Unconfined" => Some("unconfined".to_owned()),
        "RuntimeDefault" => Some("runtime/default".to_owned()),
        "Localhost" => Some(format!("localhost/{}", profile.get("localhostProfile")?.as_str()?)),
        _ => None,
    }
}

fn is_of_windows(spec: &Value) -> bool {
    spec.pointer("/os/name").is_some_and(|name| name == "windows")
}

/// All containers, in the order in which Kubernetes goes through them.
pub(super) fn containers<'a>(spec: &Spot<'a>) -> Vec<Spot<'a>> {
    LISTS.iter().flat_map(|list| spec.field(list).items().collect::<Vec<_>>()).collect()
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;
