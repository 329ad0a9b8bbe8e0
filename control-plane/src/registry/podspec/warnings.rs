//! What is let into a pod and does nothing, or other than its author may think: told, in the sentences of
//! `k8s.io/kubernetes/pkg/api/pod`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::profile::{self, containers};
use crate::meta::field_error::FieldPath;
use crate::meta::findings::Spot;
use crate::meta::quantity::Quantity;
use crate::registry::node_label;

/// Annotations that nobody reads any more.
const OLD_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        r#"non-functional in v1.16+; use the "priorityClassName" field instead"#,
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        r#"non-functional in v1.11+; use the "sysctls" field instead"#,
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        r#"non-functional in v1.11+; use the "sysctls" field instead"#,
    ),
];
/// Volumes that nothing mounts any more: the field, as the sentence has it, and since when.
pub(in crate::registry) const OLD_VOLUMES: [(&str, &str, &str); 9] = [
    (
        "photonPersistentDisk",
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    ("gitRepo", "gitRepo", "deprecated in v1.11"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];
const NO_POD: &str = "a null labelSelector results in matching no pod";

/// What there is to tell of a pod, or of the template of pods that stands here. What annotations of a pod say of `AppArmor` is looked at
/// apart ([`apparmor_warnings`](super::apparmor_warnings)).
pub fn warnings(pod: &Spot<'_>) -> Vec<String> {
    let mut told = Told::default();
    let (spec, annotations) = (pod.field("spec"), pod.field("metadata").field("annotations"));
    of_node_selection(&spec, &mut told);
    for (key, why) in OLD_ANNOTATIONS {
        if let Some(found) = entry(&annotations, key) {
            told.tell(&found, why);
        }
    }
    of_volumes(&spec.field("volumes"), &mut told);
    of_lists(&spec, &mut told);
    for resource in ["memory", "ephemeral-storage"] {
        told.fraction(&spec.field("overhead"), resource);
    }
    of_profiles(&spec, &annotations, pod.path != FieldPath::default(), &mut told);
    for container in containers(&spec) {
        of_container(&container, &mut told);
    }
    of_ports(&spec, &mut told);
    let grace = spec.field("terminationGracePeriodSeconds");
    if grace.integer().is_some_and(|seconds| seconds < 0) {
        told.tell(&grace, "must be >= 0; negative values are invalid and will be treated as 1");
    }
    of_pod_affinity(&spec.field("affinity"), &mut told);
    told.0
}

#[derive(Default)]
struct Told(Vec<String>);

impl Told {
    fn tell(&mut self, spot: &Spot<'_>, what: impl std::fmt::Display) {
        self.0.push(format!("{}: {what}", spot.path));
    }

    /// There are no parts of bytes.
    fn fraction(&mut self, list: &Spot<'_>, resource: &str) {
        self.0.extend(fraction(list, resource));
    }
}

/// What there is to tell of an amount of bytes that is not a whole one.
pub fn fraction(list: &Spot<'_>, resource: &str) -> Option<String> {
    let amount = entry(list, resource)?;
    let quantity = Quantity::from_json(amount.value).ok()?;
    (quantity.milli_value() % 1000 != 0).then(|| {
        let told = quantity.to_string();
        format!("{}: fractional byte value {told:?} is invalid, must be an integer", amount.path)
    })
}

/// What there is to tell of the spec of a claim.
pub fn claim_warnings(spec: &Spot<'_>) -> Vec<String> {
    let resources = spec.field("resources");
    let lists = ["requests", "limits"].map(|field| resources.field(field));
    lists.iter().filter_map(|list| fraction(list, "storage")).collect()
}

/// An entry of a map, at `path[key]`.
fn entry<'a>(map: &Spot<'a>, key: &str) -> Option<Spot<'a>> {
    let value = map.value.get(key).filter(|value| !value.is_null())?;
    Some(Spot::at(value, map.path.key(key)))
}

fn of_node_selection(spec: &Spot<'_>, told: &mut Told) {
    for (label, spot) in spec.field("nodeSelector").entries() {
        if let Some(what) = node_label::deprecation(label) {
            told.tell(&spot, what);
        }
    }
    let affinity = spec.field("affinity").field("nodeAffinity");
    let required = affinity.field("requiredDuringSchedulingIgnoredDuringExecution");
    for term in required.field("nodeSelectorTerms").items() {
        told.0.extend(node_label::term_warnings(&term));
    }
    for preferred in affinity.field("preferredDuringSchedulingIgnoredDuringExecution").items() {
        told.0.extend(node_label::term_warnings(&preferred.field("preference")));
    }
    for constraint in spec.field("topologySpreadConstraints").items() {
        told.0.extend(node_label::warning(&constraint.field("topologyKey")));
        let pods = constraint.field("labelSelector");
        if pods.is_absent() {
            told.tell(&pods, NO_POD);
        }
    }
}

fn of_pod_affinity(affinity: &Spot<'_>, told: &mut Told) {
    for pods in [affinity.field("podAffinity"), affinity.field("podAntiAffinity")] {
        let required = pods.field("requiredDuringSchedulingIgnoredDuringExecution");
        let preferred = pods.field("preferredDuringSchedulingIgnoredDuringExecution");
        let terms =
            required.items().chain(preferred.items().map(|one| one.field("podAffinityTerm")));
        for selector in terms.map(|term| term.field("labelSelector")) {
            if selector.is_absent() {
                told.tell(&selector, NO_POD);
            }
        }
    }
}

fn of_volumes(volumes: &Spot<'_>, told: &mut Told) {
    for volume in volumes.items() {
        for (field, shown, why) in OLD_VOLUMES {
            if volume.field(field).is_there() {
                told.0.push(format!("{}: {why}", volume.path.field(shown)));
            }
        }
        let claim = volume.field("ephemeral").field("volumeClaimTemplate").field("spec");
        told.0.extend(claim_warnings(&claim));
    }
    let tokens: BTreeSet<&str> = sources(volumes)
        .map(|(_, source)| source.field("serviceAccountToken").field("path"))
        .filter(|path| !path.is_empty())
        .map(|path| path.text())
        .collect();
    for (projected, source) in sources(volumes) {
        of_token_paths(&projected, &source, &tokens, told);
    }
}

/// All sources of projected volumes, each after its volume.
fn sources<'a>(volumes: &Spot<'a>) -> impl Iterator<Item = (Spot<'a>, Spot<'a>)> + use<'a> {
    volumes.items().map(|volume| volume.field("projected")).flat_map(|projected| {
        let all: Vec<_> = projected.field("sources").items().collect();
        all.into_iter().map(move |source| (projected.clone(), source))
    })
}

/// Files that would stand where a token does.
fn of_token_paths(
    projected: &Spot<'_>,
    source: &Spot<'_>,
    tokens: &BTreeSet<&str>,
    told: &mut Told,
) {
    let place = projected.path.field("sources");
    let duplicate = |path: &str| format!("has duplicated path with ServiceAccountToken {path:?}");
    for (field, shown) in
        [("configMap", "configMap"), ("secret", "secrets"), ("downwardAPI", "downwardAPI")]
    {
        for (index, item) in source.field(field).field("items").items().enumerate() {
            let path = item.field("path").text();
            if tokens.contains(path) {
                let at = place.field(shown).index(index);
                told.0.push(format!("{at}: {}", duplicate(path)));
            }
        }
    }
    let path = source.field("clusterTrustBundle").field("path").text();
    if tokens.contains(path) {
        told.0.push(format!("{}: {}", place.field("ClusterTrustBundle"), duplicate(path)));
    }
}

/// What is there twice, or called nothing.
fn of_lists(spec: &Spot<'_>, told: &mut Told) {
    for (list, field) in [("hostAliases", "ip"), ("imagePullSecrets", "name")] {
        let mut seen = BTreeSet::new();
        for spot in spec.field(list).items().map(|item| item.field(field)) {
            if !seen.insert(spot.text()) {
                told.tell(&spot, format!("duplicate {field} {:?}", spot.text()));
            }
        }
    }
    for name in spec.field("imagePullSecrets").items().map(|secret| secret.field("name")) {
        if name.is_empty() {
            told.tell(&name, r#"invalid empty name """#);
        }
    }
}

/// Profiles that only an annotation names.
fn of_profiles(spec: &Spot<'_>, annotations: &Spot<'_>, in_template: bool, told: &mut Told) {
    const SECCOMP: &str = r#"non-functional in v1.27+; use the "seccompProfile" field instead"#;
    let says = |of: &Spot<'_>, field: &str| of.field("securityContext").field(field).is_there();
    if !says(spec, "seccompProfile")
        && let Some(found) = entry(annotations, "seccomp.security.alpha.kubernetes.io/pod")
    {
        told.tell(&found, SECCOMP);
    }
    for container in containers(spec) {
        let of = |prefix: &str| {
            entry(annotations, &format!("{prefix}/{}", container.field("name").text()))
        };
        if !says(&container, "seccompProfile")
            && let Some(found) = of("container.seccomp.security.alpha.kubernetes.io")
        {
            told.tell(&found, SECCOMP);
        }
        if in_template
            && !says(spec, "appArmorProfile")
            && !says(&container, "appArmorProfile")
            && let Some(found) = of("container.apparmor.security.beta.kubernetes.io")
        {
            told.tell(&found, profile::DEPRECATED);
        }
    }
}

fn of_container(container: &Spot<'_>, told: &mut Told) {
    let resources = container.field("resources");
    for resource in ["memory", "ephemeral-storage"] {
        for list in ["limits", "requests"] {
            told.fraction(&resources.field(list), resource);
        }
    }
    let mut seen = BTreeSet::new();
    for variable in container.field("env").items() {
        let name = variable.field("name").text();
        if !seen.insert(name) && hides(&variable, name) {
            let why = "which may be dropped when using apply";
            told.tell(&variable, format!("hides previous definition of {name:?}, {why}"));
        }
    }
}

/// A later definition of a variable that does not go on from the earlier one.
fn hides(variable: &Spot<'_>, name: &str) -> bool {
    let (value, reference) = (variable.field("value").text(), format!("$({name})"));
    variable.field("valueFrom").is_there() || value == reference || !value.contains(&reference)
}

fn of_ports(spec: &Spot<'_>, told: &mut Told) {
    let mut before: BTreeMap<(i64, &str), Vec<Spot<'_>>> = BTreeMap::new();
    for container in containers(spec) {
        for port in container.field("ports").items() {
            let outside = number(&port, "hostPort");
            if !port.field("hostIP").is_empty() && outside == 0 {
                told.tell(&port, format!("hostIP set without hostPort: {}", shown(&port)));
            }
            let key = (number(&port, "containerPort"), port.field("protocol").text());
            let others = before.entry(key).or_default();
            for other in others.iter() {
                if let Some(how) = overlap(&port, other) {
                    told.tell(&port, format!("{how} port definition with {}", other.path));
                }
            }
            others.push(port);
        }
    }
}

fn number(port: &Spot<'_>, field: &str) -> i64 {
    port.field(field).integer().unwrap_or_default()
}

/// A port as Kubernetes shows one in this sentence: the fields of its type in Go.
fn shown(port: &Spot<'_>) -> String {
    format!(
        "{{Name:{} HostPort:{} ContainerPort:{} Protocol:{} HostIP:{}}}",
        port.field("name").text(),
        number(port, "hostPort"),
        number(port, "containerPort"),
        port.field("protocol").text(),
        port.field("hostIP").text(),
    )
}

/// How two definitions of the same port of the pod are in each other's way.
fn overlap(one: &Spot<'_>, other: &Spot<'_>) -> Option<&'static str> {
    let ports = [one, other].map(|port| number(port, "hostPort"));
    let addresses = [one, other].map(|port| port.field("hostIP").text());
    if ports[0] == ports[1] && addresses[0] == addresses[1] {
        Some("duplicate")
    } else if ports.contains(&0) {
        Some("overlapping")
    } else if ports[0] == ports[1] && addresses.contains(&"") {
        Some("dangerously ambiguous")
    } else {
        None
    }
}

/// What there is to tell of the template at a JSON pointer of names, when it is new.
pub fn template_warnings(object: &Value, pointer: &str) -> Vec<String> {
    warnings(&Spot::root(object).pointer(pointer))
}

#[cfg(test)]
#[path = "warnings_tests.rs"]
mod tests;
