//! Containers: those that run, those that run before, those that are added to look inside.

use std::collections::BTreeSet;

use super::environment::{check_variable_lists, check_variables};
use super::handler::{ProbeKind, check_lifecycle, check_port_number, check_probe};
use super::mount::check_mounts;
use super::resources::{check_claims, check_resources};
use super::security::check_container_security;
use super::spec::Whose;
use super::volume::Volumes;
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
    volumes: &'a Volumes<'a>,
    whose: Whose,
}

/// Looks at all containers of a pod. `volumes` are the names that mounts may use.
pub(super) fn check_containers(
    spec: &Spot<'_>,
    volumes: &Volumes<'_>,
    whose: Whose,
    findings: &mut Findings,
) {
    let around = Surroundings { spec, volumes, whose };
    let containers = spec.field("containers");
    if containers.items().next().is_none() {
        findings.required(&containers, "");
    }
    let mut names = BTreeSet::new();
    for container in containers.items() {
        check_container(Role::Regular, &container, &around, findings);
        check_unique(&container, &mut names, findings);
    }
    check_host_ports(containers.items(), findings);
    for container in spec.field("initContainers").items() {
        // those run one after the other
        check_host_ports(std::iter::once(container.clone()), findings);
        let role = if container.field("restartPolicy").text() == "Always" {
            Role::Sidecar
        } else {
            Role::Init
        };
        check_container(role, &container, &around, findings);
        check_unique(&container, &mut names, findings);
    }
    let others = names.clone();
    for container in spec.field("ephemeralContainers").items() {
        check_container(Role::Ephemeral, &container, &around, findings);
        check_unique(&container, &mut names, findings);
        let target = container.field("targetContainerName");
        if !target.is_empty() && !others.contains(target.text()) {
            findings.not_found(&target);
        }
        for mount in container.field("volumeMounts").items() {
            for field in ["subPath", "subPathExpr"] {
                if !mount.field(field).is_empty() {
                    let why = "cannot be set for an Ephemeral Container";
                    findings.forbidden(&mount.field(field), why);
                }
            }
        }
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
    } else if image.text().trim() != image.text()
        && (around.whose == Whose::Pod || role == Role::Ephemeral)
    {
        findings.invalid(&image, "must not have leading or trailing whitespace");
    }
    findings
        .required_one_of(&container.field("imagePullPolicy"), &["Always", "IfNotPresent", "Never"]);
    findings.required_one_of(
        &container.field("terminationMessagePolicy"),
        &["File", "FallbackToLogsOnError"],
    );
    check_ports(&container.field("ports"), around.spec.field("hostNetwork").is_true(), findings);
    check_variables(&container.field("env"), findings);
    check_variable_lists(&container.field("envFrom"), findings);
    check_mounts(container, around.volumes, findings);
    check_resources(&container.field("resources"), findings);
    check_claims(&container.field("resources").field("claims"), around.spec, findings);
    check_container_security(container, around.spec, findings);
    check_running(role, container, around.spec, findings);
}

/// What only those have that run on: probes, hooks, a policy of their own.
fn check_running(role: Role, container: &Spot<'_>, spec: &Spot<'_>, findings: &mut Findings) {
    let grace = spec.field("terminationGracePeriodSeconds").integer().unwrap_or_default();
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
            check_lifecycle(&container.field("lifecycle"), grace, findings);
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
    }
}

/// Two containers of one pod cannot have the same port of the host.
fn check_host_ports<'a>(containers: impl Iterator<Item = Spot<'a>>, findings: &mut Findings) {
    let mut taken = BTreeSet::new();
    for port in containers.flat_map(|container| container.field("ports").items()) {
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
