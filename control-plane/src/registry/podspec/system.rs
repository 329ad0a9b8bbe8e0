//! What a pod may not ask for on the operating system that it names.

use crate::meta::findings::{Findings, Spot};

const OF_POD: [&str; 4] = ["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"];
const OF_POD_SECURITY: [&str; 9] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
];
const OF_CONTAINER: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

/// Looks at a spec that names its system.
pub(super) fn check_system(spec: &Spot<'_>, findings: &mut Findings) {
    let system = spec.field("os");
    let name = system.field("name");
    match name.text() {
        "" => findings.required(&name, "cannot be empty"),
        "linux" => forbid(
            &["windowsOptions"],
            &[],
            &["windowsOptions"],
            "windows options cannot be set for a linux pod",
            spec,
            findings,
        ),
        "windows" => forbid(
            &OF_POD_SECURITY,
            &OF_POD,
            &OF_CONTAINER,
            "cannot be set for a windows pod",
            spec,
            findings,
        ),
        _ => findings.one_of(&Spot::at(name.value, system.path), &["linux", "windows"]),
    }
}

/// None of these is set: in the security context of the pod, in the pod, in those of the containers.
fn forbid(
    of_security: &[&str],
    of_pod: &[&str],
    of_containers: &[&str],
    why: &str,
    spec: &Spot<'_>,
    findings: &mut Findings,
) {
    let mut places = vec![(spec.clone(), of_pod), (spec.field("securityContext"), of_security)];
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        let contexts = spec.field(list).items().map(|one| one.field("securityContext"));
        places.extend(contexts.map(|context| (context, of_containers)));
    }
    for (place, fields) in places {
        for spot in fields.iter().map(|field| place.field(field)) {
            // a host's namespace that is not asked for is as good as unsaid
            if spot.is_there() && *spot.value != serde_json::json!(false) || is_flag(&spot) {
                findings.forbidden(&spot, why);
            }
        }
    }
}

/// `false` is something to say in these.
fn is_flag(spot: &Spot<'_>) -> bool {
    spot.value.is_boolean()
        && !["hostPID", "hostIPC"].iter().any(|field| spot.path.to_string().ends_with(field))
}
