//! As whom, and with which rights, a pod's processes run.

use super::{profile, windows};
use crate::meta::findings::{Findings, Spot};
use crate::meta::name;

pub(super) fn check_pod_security(spec: &Spot<'_>, findings: &mut Findings) {
    if spec.field("shareProcessNamespace").is_true() && spec.field("hostPID").is_true() {
        // Kubernetes tells of it as if it were the security context's
        let place = spec.field("securityContext").path.field("shareProcessNamespace");
        let shared = spec.field("shareProcessNamespace");
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        findings.invalid(&Spot::at(shared.value, place), why);
    }
    let security = spec.field("securityContext");
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        check_id(&security.field(field), findings);
    }
    for group in security.field("supplementalGroups").items() {
        check_id(&group, findings);
    }
    findings.one_of(&security.field("fsGroupChangePolicy"), &["Always", "OnRootMismatch"]);
    findings.one_of(&security.field("supplementalGroupsPolicy"), &["Merge", "Strict"]);
    profile::check_seccomp(&security.field("seccompProfile"), findings);
    windows::check_options(&security.field("windowsOptions"), findings);
    profile::check_apparmor(&security.field("appArmorProfile"), findings);
    check_host_users(spec, findings);
    check_sysctls(&security.field("sysctls"), spec, findings);
}

/// A pod with users of its own has nothing else of the host.
fn check_host_users(spec: &Spot<'_>, findings: &mut Findings) {
    if spec.field("hostUsers").value.as_bool() != Some(false) {
        return;
    }
    for (field, shown) in
        [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")]
    {
        if spec.field(field).is_true() {
            let told = Spot::at(spec.field(field).value, spec.path.field(shown));
            findings.forbidden(&told, "when `pod.Spec.HostUsers` is false");
        }
    }
}

fn check_id(id: &Spot<'_>, findings: &mut Findings) {
    if id.integer().is_some_and(|id| i32::try_from(id).is_ok_and(|id| id >= 0)) || id.is_absent() {
        return;
    }
    findings.invalid(id, "must be between 0 and 2147483647, inclusive");
}

fn check_sysctls(list: &Spot<'_>, spec: &Spot<'_>, findings: &mut Findings) {
    let mut seen = Vec::new();
    for sysctl in list.items() {
        let key = sysctl.field("name");
        let text = key.text().replace('/', ".");
        if text.is_empty() {
            findings.required(&key, "");
        } else if text.len() > 253 || !is_sysctl(key.text()) {
            findings.invalid(
                &key,
                "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
            );
        } else if seen.contains(&text) {
            findings.duplicate(&key);
        }
        let of_host = (text.starts_with("net.") && spec.field("hostNetwork").is_true())
            .then_some("hostNetwork");
        let of_host = of_host
            .or((text.starts_with("kernel.shm") && spec.field("hostIPC").is_true())
                .then_some("hostIPC"));
        if let Some(field) = of_host {
            findings.invalid(&key, format!("may not be specified when '{field}' is true"));
        }
        seen.push(text);
    }
}

fn is_sysctl(key: &str) -> bool {
    let good = |part: &str| {
        let edge = |byte: Option<u8>| {
            byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        edge(part.bytes().next())
            && edge(part.bytes().next_back())
            && part.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
            })
    };
    key.split(['.', '/']).all(good)
}

pub(super) fn check_container_security(
    container: &Spot<'_>,
    spec: &Spot<'_>,
    findings: &mut Findings,
) {
    let security = container.field("securityContext");
    if security.is_absent() {
        return;
    }
    for field in ["runAsUser", "runAsGroup"] {
        check_id(&security.field(field), findings);
    }
    profile::check_seccomp(&security.field("seccompProfile"), findings);
    let mount = security.field("procMount");
    findings.one_of(&mount, &["Default", "Unmasked"]);
    if mount.text() == "Unmasked" && spec.field("hostUsers").value.as_bool() != Some(false) {
        findings.invalid(&mount, "`hostUsers` must be false to use `Unmasked`");
    }
    check_escalation(&security, findings);
    windows::check_options(&security.field("windowsOptions"), findings);
    profile::check_apparmor(&security.field("appArmorProfile"), findings);
}

fn check_escalation(security: &Spot<'_>, findings: &mut Findings) {
    if security.field("allowPrivilegeEscalation").value.as_bool() != Some(false) {
        return;
    }
    if security.field("privileged").is_true() {
        findings.invalid(
            security,
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        );
    }
    if security
        .field("capabilities")
        .field("add")
        .items()
        .any(|capability| capability.text() == "CAP_SYS_ADMIN")
    {
        findings.invalid(
            security,
            "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
        );
    }
}

/// A name that is a DNS subdomain, if it is there.
pub(super) fn check_subdomain(spot: &Spot<'_>, findings: &mut Findings) {
    if !spot.is_empty() {
        findings.sentences(spot, name::dns_subdomain(spot.text()));
    }
}
