//! What is run or asked to look after a container: probes and hooks.

use serde_json::Value;

use crate::meta::findings::{Findings, Spot};
use crate::meta::name;

/// Which probe of a container.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ProbeKind {
    Liveness,
    Readiness,
    Startup,
}

impl ProbeKind {
    pub(super) const ALL: [Self; 3] = [Self::Liveness, Self::Readiness, Self::Startup];

    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Liveness => "livenessProbe",
            Self::Readiness => "readinessProbe",
            Self::Startup => "startupProbe",
        }
    }
}

pub(super) fn check_probe(kind: ProbeKind, probe: &Spot<'_>, findings: &mut Findings) {
    if probe.is_absent() {
        return;
    }
    check_one(probe, &["exec", "httpGet", "tcpSocket", "grpc"], findings);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        findings.not_negative(&probe.field(field));
    }
    let grace = probe.field("terminationGracePeriodSeconds");
    if grace.integer().is_some_and(|seconds| seconds <= 0) {
        findings.invalid(&grace, "must be greater than 0");
    }
    if kind == ProbeKind::Readiness && grace.is_there() {
        findings.invalid(&grace, "must not be set for readinessProbes");
    }
    let successes = probe.field("successThreshold");
    if kind != ProbeKind::Readiness && successes.integer().is_some_and(|count| count != 1) {
        findings.invalid(&successes, "must be 1");
    }
}

/// `grace` is how many seconds the pod has to end.
pub(super) fn check_lifecycle(lifecycle: &Spot<'_>, grace: i64, findings: &mut Findings) {
    for hook in ["postStart", "preStop"] {
        let hook = lifecycle.field(hook);
        if hook.is_there() {
            check_one(&hook, &["exec", "httpGet", "tcpSocket", "sleep"], findings);
            let seconds = hook.field("sleep").field("seconds");
            if seconds.integer().is_some_and(|seconds| seconds <= 0 || seconds > grace) {
                let why = format!(
                    "must be greater than 0 and less than terminationGracePeriodSeconds ({grace}). Enable AllowPodLifecycleSleepActionZeroValue feature gate for zero sleep."
                );
                findings.invalid(&Spot::at(seconds.value, hook.path.field("sleep")), why);
            }
        }
    }
}

/// Exactly one of the ways to act, and that one in order.
fn check_one(handler: &Spot<'_>, kinds: &[&str], findings: &mut Findings) {
    let mut set =
        kinds.iter().map(|kind| (*kind, handler.field(kind))).filter(|(_, spot)| spot.is_there());
    match set.next() {
        None => findings.required(handler, "must specify a handler type"),
        Some((kind, action)) => check_action(kind, &action, findings),
    }
    for (_, more) in set {
        findings.forbidden(&more, "may not specify more than 1 handler type");
    }
}

fn check_action(kind: &str, action: &Spot<'_>, findings: &mut Findings) {
    match kind {
        "exec" if action.field("command").is_empty() => {
            findings.required(&action.field("command"), "");
        }
        "httpGet" => check_request(action, findings),
        "tcpSocket" => check_port(&action.field("port"), findings),
        "grpc" => check_port_number(&action.field("port"), findings),
        _ => {}
    }
}

fn check_request(request: &Spot<'_>, findings: &mut Findings) {
    if request.field("path").is_empty() {
        findings.required(&request.field("path"), "");
    }
    check_port(&request.field("port"), findings);
    findings.one_of(&request.field("scheme"), &["HTTP", "HTTPS"]);
    let headers = request.field("httpHeaders");
    for header in headers.items() {
        // Kubernetes tells of the list
        let header = Spot::at(header.field("name").value, headers.path.clone());
        if !is_header(header.text()) {
            findings.invalid(
                &header,
                "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
            );
        }
    }
}

fn is_header(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// A number, or the name of one of the container's ports.
pub(super) fn check_port(port: &Spot<'_>, findings: &mut Findings) {
    match port.value {
        Value::String(text) => findings.sentences(port, name::port(text)),
        _ => check_port_number(port, findings),
    }
}

pub(super) fn check_port_number(port: &Spot<'_>, findings: &mut Findings) {
    if !port.integer().is_some_and(|number| (1..=65535).contains(&number)) {
        findings.invalid(port, "must be between 1 and 65535, inclusive");
    }
}
