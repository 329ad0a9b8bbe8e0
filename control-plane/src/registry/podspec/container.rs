//! Containers: those that run, those that run before, those that are added to look inside.

use std::collections::BTreeSet;

use super::environment::{check_variable_lists, check_variables};
use super::handler::{ProbeKind, check_lifecycle, check_port_number, check_probe};
use super::resources::check_resources;
use super::security::check_container_security;
use crate::meta::field_error::{FieldError, Mistake};
use crate::meta::findings::{Findings, Spot};
use crate::meta::name;

/// Which list of a pod's containers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Runs as long as the pod.
    Regular,
    /// Runs before, to its end.
    Init,
    /// Starts before, and goes on (`restartPolicy: Always` among the init containers).
    Sidecar,
    /// Added to a running pod.
    Ephemeral,
}

/// What a container's mistakes depend on beside itself.
struct Surroundings<'a> {
    spec: &'a Spot<'a>,
    volumes: &'a BTreeSet<&'a str>,
}

/// Looks at all containers of a pod. `volumes` are the names that mounts may use.
pub(super) fn check_containers(spec: &Spot<'_>, volumes: &BTreeSet<&str>, findings: &mut Findings) {
    let around = Surroundings { spec, volumes };
    let containers = spec.field("containers");
    if containers.items().next().is_none() {
        findings.required(&containers, "");
    }
    let mut names = BTreeSet::new();
    for container in containers.items() {
        check_container(Role::Regular, &container, &around, findings);
        check_unique(&container, &mut names, findings);
    }
    check_host_ports(&containers, findings);
    for container in spec.field("initContainers").items() {
        let role = if container.field("restartPolicy").text() == "Always" {
            Role::Sidecar
        } else {
            Role::Init
        };
        check_container(role, &container, &around, findings);
        check_unique(&container, &mut names, findings);
    }
    for container in spec.field("ephemeralContainers").items() {
        check_container(Role::Ephemeral, &container, &around, findings);
        check_unique(&container, &mut names, findings);
    }
}

fn check_unique<'a>(container: &Spot<'a>, names: &mut BTreeSet<&'a str>, findings: &mut Findings) {
    let container_name = container.field("name");
    if !container_name.is_empty() && !names.insert(container_name.text()) {
        findings.duplicate(&container_name);
    }
}

fn check_container(
    role: Role,
    container: &Spot<'_>,
    around: &Surroundings<'_>,
    findings: &mut Findings,
) {
    let container_name = container.field("name");
    match container_name.text() {
        "" => findings.required(&container_name, ""),
        text => findings.sentences(&container_name, name::dns_label(text)),
    }
    let image = container.field("image");
    if image.is_empty() {
        findings.required(&image, "");
    } else if image.text().trim() != image.text() {
        findings.invalid(&image, "must not have leading or trailing whitespace");
    }
    findings
        .required_one_of(&container.field("imagePullPolicy"), &["Always", "IfNotPresent", "Never"]);
    findings.required_one_of(
        &container.field("terminationMessagePolicy"),
        &["FallbackToLogsOnError", "File"],
    );
    check_ports(&container.field("ports"), around.spec.field("hostNetwork").is_true(), findings);
    check_variables(&container.field("env"), findings);
    check_variable_lists(&container.field("envFrom"), findings);
    check_mounts(container, around.volumes, findings);
    check_devices(container, around.volumes, findings);
    check_resources(&container.field("resources"), findings);
    check_container_security(container, around.spec, findings);
    check_running(role, container, findings);
}

/// What only those have that run on: probes, hooks, a policy of their own.
fn check_running(role: Role, container: &Spot<'_>, findings: &mut Findings) {
    let policy = container.field("restartPolicy");
    match role {
        Role::Regular if policy.is_there() => {
            findings.forbidden(&policy, "may not be set for non-init containers");
        }
        Role::Init => findings.one_of(&policy, &["Always"]),
        _ => {}
    }
    let refused = match role {
        Role::Regular | Role::Sidecar => {
            check_lifecycle(&container.field("lifecycle"), findings);
            for kind in ProbeKind::ALL {
                check_probe(kind, &container.field(kind.field()), findings);
            }
            return;
        }
        Role::Init => "may not be set for init containers without restartPolicy=Always",
        Role::Ephemeral => "cannot be set for an Ephemeral Container",
    };
    let mut fields = vec!["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"];
    if role == Role::Ephemeral {
        fields.extend(["ports", "resources"]);
    }
    for field in fields {
        if !container.field(field).is_empty() {
            findings.forbidden(&container.field(field), refused);
        }
    }
}

fn check_ports(ports: &Spot<'_>, on_host: bool, findings: &mut Findings) {
    let mut names = BTreeSet::new();
    for port in ports.items() {
        let port_name = port.field("name");
        if !port_name.is_empty() {
            findings.sentences(&port_name, name::port(port_name.text()));
            if !names.insert(port_name.text()) {
                findings.duplicate(&port_name);
            }
        }
        let (inside, outside) = (port.field("containerPort"), port.field("hostPort"));
        match inside.integer() {
            None | Some(0) => findings.required(&inside, ""),
            Some(_) => check_port_number(&inside, findings),
        }
        if outside.integer().is_some_and(|number| number != 0) {
            check_port_number(&outside, findings);
            if on_host && outside.integer() != inside.integer() {
                findings.invalid(&outside, "must match `containerPort` when `hostNetwork` is true");
            }
        }
        findings.required_one_of(&port.field("protocol"), &["SCTP", "TCP", "UDP"]);
        let address = port.field("hostIP");
        if !address.is_empty() && address.text().parse::<std::net::IpAddr>().is_err() {
            findings.invalid(&address, "must be a valid IP address");
        }
    }
}

/// Two containers of one pod cannot have the same port of the host.
fn check_host_ports(containers: &Spot<'_>, findings: &mut Findings) {
    let mut taken = BTreeSet::new();
    for port in containers.items().flat_map(|container| container.field("ports").items()) {
        let number = port.field("hostPort");
        let Some(host_port) = number.integer().filter(|number| *number != 0) else { continue };
        let key = format!(
            "{}/{}/{host_port}",
            port.field("protocol").text(),
            port.field("hostIP").text()
        );
        if !taken.insert(key.clone()) {
            findings.add(FieldError::new(number.path.clone(), Mistake::Duplicate(key.into()), ""));
        }
    }
}

fn check_mounts(container: &Spot<'_>, volumes: &BTreeSet<&str>, findings: &mut Findings) {
    let devices: BTreeSet<&str> = container
        .field("volumeDevices")
        .items()
        .map(|device| device.field("devicePath").text())
        .collect();
    let mut places = BTreeSet::new();
    for mount in container.field("volumeMounts").items() {
        check_volume_name(&mount.field("name"), volumes, findings);
        let place = mount.field("mountPath");
        if place.is_empty() {
            findings.required(&place, "");
        } else if !places.insert(place.text()) {
            findings.invalid(&place, "must be unique");
        } else if devices.contains(place.text()) {
            findings.invalid(&place, "must not already exist as a path in volumeDevices");
        }
        check_sub_paths(&mount, findings);
        check_propagation(&mount, container, findings);
    }
}

fn check_volume_name(volume: &Spot<'_>, volumes: &BTreeSet<&str>, findings: &mut Findings) {
    if volume.is_empty() {
        findings.required(volume, "");
    } else if !volumes.contains(volume.text()) {
        findings.not_found(volume);
    }
}

fn check_sub_paths(mount: &Spot<'_>, findings: &mut Findings) {
    let (path, expression) = (mount.field("subPath"), mount.field("subPathExpr"));
    for sub in [&path, &expression] {
        super::volume::check_descending(sub, findings);
    }
    if !path.is_empty() && !expression.is_empty() {
        findings.invalid(&expression, "subPathExpr and subPath are mutually exclusive");
    }
}

fn check_propagation(mount: &Spot<'_>, container: &Spot<'_>, findings: &mut Findings) {
    let propagation = mount.field("mountPropagation");
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
    if matches!(recursive.text(), "Enabled" | "IfPossible") && !mount.field("readOnly").is_true() {
        findings.forbidden(&recursive, "may only be specified when readOnly is true");
    }
}

fn check_devices(container: &Spot<'_>, volumes: &BTreeSet<&str>, findings: &mut Findings) {
    let mut places = BTreeSet::new();
    for device in container.field("volumeDevices").items() {
        check_volume_name(&device.field("name"), volumes, findings);
        let place = device.field("devicePath");
        if place.is_empty() {
            findings.required(&place, "");
        } else if !places.insert(place.text()) {
            findings.invalid(&place, "must be unique");
        }
    }
}
