//! A pod's spec as a whole.

use std::net::IpAddr;

use serde_json::Value;

use super::container::check_containers;
use super::resources::check_overhead;
use super::scheduling::check_scheduling;
use super::security::{check_pod_security, check_subdomain};
use super::system::check_system;
use super::volume::check_volumes;
use super::{profile, windows};
use crate::meta::field_error::FieldError;
use crate::meta::findings::{Findings, Spot};
use crate::meta::go_value;
use crate::meta::{label, name};

/// Whose spec it is: the fields that may be set differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// A pod's own.
    Pod,
    /// The template of a workload that keeps pods running: they are always restarted. The word is its kind.
    Keeper(&'static str),
    /// A template that may be either; a Job says itself that its pods end.
    Template,
}

/// What is wrong with a workload's template (at a JSON pointer of names): its labels, annotations and spec.
pub fn template_mistakes(object: &Value, pointer: &str, whose: Whose) -> Vec<FieldError> {
    let mut findings = Findings::default();
    let template =
        pointer.split('/').skip(1).fold(Spot::root(object), |spot, name| spot.field(name));
    let metadata = template.field("metadata");
    let (labels, annotations) = (metadata.field("labels"), metadata.field("annotations"));
    // Kubernetes tells of both as if they were the template's
    findings.extend(label::labels(labels.value, &template.path.field("labels")));
    let place = template.path.field("annotations");
    findings.extend(label::annotations(annotations.value, &place));
    check_annotations(&Spot::at(annotations.value, place), &template.field("spec"), &mut findings);
    validate(&template.field("spec"), None, whose, &mut findings);
    findings.into_vec()
}

/// What is wrong with a pod that is made, and would not be later.
pub fn creation_mistakes(pod: &Value) -> Vec<FieldError> {
    let mut findings = Findings::default();
    let added = Spot::root(pod).field("spec").field("ephemeralContainers");
    if !added.is_empty() {
        findings.forbidden(&added, "cannot be set on create");
    }
    let spec = Spot::root(pod).field("spec");
    let node = spec.field("nodeName");
    if !node.is_empty() && !spec.field("schedulingGates").is_empty() {
        findings.forbidden(&node, "cannot be set until all schedulingGates have been cleared");
    }
    profile::check_agreement(&Spot::root(pod), &mut findings);
    findings.into_vec()
}

/// What is wrong with a pod, whose defaults are set.
pub fn mistakes(pod: &Value, whose: Whose) -> Vec<FieldError> {
    let mut findings = Findings::default();
    let root = Spot::root(pod);
    let (metadata, spec) = (root.field("metadata"), root.field("spec"));
    check_annotations(&metadata.field("annotations"), &spec, &mut findings);
    validate(&spec, Some(metadata.field("name").text()), whose, &mut findings);
    findings.into_vec()
}

/// What annotations say to those who run pods, or delete them.
fn check_annotations(annotations: &Spot<'_>, spec: &Spot<'_>, findings: &mut Findings) {
    const MIRROR: &str = "kubernetes.io/config.mirror";
    const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
    let at = |key: &str| Spot { path: annotations.path.key(key), ..annotations.field(key) };
    if at(MIRROR).is_there() && spec.field("nodeName").is_empty() {
        findings.invalid(&at(MIRROR), "must set spec.nodeName if mirror pod annotation is set");
    }
    let cost = at(COST);
    // no sign and no zero before the number
    let plain = |text: &str| text.parse::<i32>().is_ok_and(|number| number.to_string() == text);
    if cost.is_there() && !plain(cost.text()) {
        findings.invalid(&cost, "must be a 32bit integer");
    }
    profile::check_annotations(annotations, spec, findings);
}

/// `pod` is the name of the pod, if it is one's own spec.
fn validate(spec: &Spot<'_>, pod: Option<&str>, whose: Whose, findings: &mut Findings) {
    if spec.is_absent() {
        findings.required(spec, "");
        return;
    }
    let volumes = check_volumes(&spec.field("volumes"), pod, findings);
    check_containers(spec, &volumes, whose, findings);
    check_restart(spec, whose, findings);
    check_times(spec, whose, findings);
    check_names(spec, findings);
    check_dns(spec, findings);
    check_pod_security(spec, findings);
    check_scheduling(spec, findings);
    windows::check_host_process(spec, findings);
    check_overhead(&spec.field("overhead"), findings);
    if spec.field("os").is_there() {
        check_system(spec, findings);
    }
    if whose == Whose::Pod && spec.field("serviceAccountName").is_empty() {
        check_tokens(spec, findings);
    }
    let added = spec.field("ephemeralContainers");
    if !added.is_empty() && whose != Whose::Pod {
        findings.forbidden(&added, "ephemeral containers not allowed in pod template");
    }
}

/// A token is a service account's.
fn check_tokens(spec: &Spot<'_>, findings: &mut Findings) {
    for volume in spec.field("volumes").items() {
        for source in volume.field("projected").field("sources").items() {
            let token = source.field("serviceAccountToken");
            if token.is_there() {
                let why = "must not be specified when serviceAccountName is not set";
                findings.forbidden(&token, why);
            }
        }
    }
}

fn check_restart(spec: &Spot<'_>, whose: Whose, findings: &mut Findings) {
    let policy = spec.field("restartPolicy");
    match whose {
        Whose::Keeper(_) => findings.one_of(&policy, &["Always"]),
        _ => findings.required_one_of(&policy, &["Always", "OnFailure", "Never"]),
    }
}

fn check_times(spec: &Spot<'_>, whose: Whose, findings: &mut Findings) {
    let deadline = spec.field("activeDeadlineSeconds");
    match (deadline.integer(), whose) {
        (Some(_), Whose::Keeper(kind)) => {
            findings
                .forbidden(&deadline, format!("activeDeadlineSeconds in {kind} is not Supported"));
        }
        (Some(seconds), _) if !(1..=i64::from(i32::MAX)).contains(&seconds) => {
            findings.invalid(&deadline, "must be between 1 and 2147483647, inclusive");
        }
        _ => {}
    }
}

fn check_names(spec: &Spot<'_>, findings: &mut Findings) {
    for field in ["serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"] {
        check_subdomain(&spec.field(field), findings);
    }
    for field in ["hostname", "subdomain"] {
        let spot = spec.field(field);
        if !spot.is_empty() {
            findings.sentences(&spot, name::dns_label(spot.text()));
        }
    }
    for gate in spec.field("readinessGates").items() {
        let kind = gate.field("conditionType");
        findings.sentences(&kind, name::qualified(kind.text()));
    }
    for alias in spec.field("hostAliases").items() {
        check_address(&alias.field("ip"), findings);
        for host in alias.field("hostnames").items() {
            findings.sentences(&host, name::dns_subdomain(host.text()));
        }
    }
    findings.one_of(&spec.field("preemptionPolicy"), &["PreemptLowerPriority", "Never"]);
}

fn check_address(address: &Spot<'_>, findings: &mut Findings) {
    if address.text().parse::<IpAddr>().is_err() {
        findings.invalid(address, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)");
    }
}

/// What a resolver takes (`MAXNS`, and the limits of glibc 2.26 and later).
const SERVERS: usize = 3;
const SEARCHES: usize = 32;
const SEARCH_LENGTH: usize = 2048;

fn check_dns(spec: &Spot<'_>, findings: &mut Findings) {
    let policy = spec.field("dnsPolicy");
    findings
        .required_one_of(&policy, &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]);
    let config = spec.field("dnsConfig");
    let servers = config.field("nameservers").of(&go_value::TEXTS);
    if policy.text() == "None" && config.is_absent() {
        findings.required(&config, "must provide `dnsConfig` when `dnsPolicy` is None");
    } else if policy.text() == "None" && servers.is_empty() {
        findings.required(
            &servers,
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        );
    }
    if servers.len() > SERVERS {
        findings.invalid(&servers, format!("must not have more than {SERVERS} nameservers"));
    }
    for server in servers.items() {
        check_address(&server, findings);
    }
    let searches = config.field("searches").of(&go_value::TEXTS);
    if searches.len() > SEARCHES {
        findings.invalid(&searches, format!("must not have more than {SEARCHES} search paths"));
    }
    let length: usize = searches.items().map(|search| search.text().len() + 1).sum();
    if length.saturating_sub(1) > SEARCH_LENGTH {
        findings.invalid(&searches, format!("must not have more than {SEARCH_LENGTH} characters (including spaces) in the search list"));
    }
    for search in searches.items() {
        let text = search.text();
        findings.sentences(&search, name::dns_subdomain(text.strip_suffix('.').unwrap_or(text)));
    }
    for option in config.field("options").items() {
        if option.field("name").is_empty() {
            findings.required(&option, "must not be empty");
        }
    }
}

#[cfg(test)]
#[path = "spec_tests.rs"]
pub(super) mod tests;
#[cfg(test)]
#[path = "volume_tests.rs"]
mod volume_tests;
