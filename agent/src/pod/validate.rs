//! What this form of the agent can run. Everything else is refused by name: a field that is silently without effect is worse
//! than none.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use conf::dns;
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, Pod, PodSpec, ResourceRequirements, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::Value;

use super::quantity::milli;
use crate::proxy::model::Protocol;

/// The fields that have an effect, or whose only accepted values ask for nothing.
const POD_FIELDS: [&str; 9] = [
    "containers",
    "restartPolicy",
    "terminationGracePeriodSeconds",
    "hostname",
    "securityContext",
    "nodeName",
    "enableServiceLinks",
    "automountServiceAccountToken",
    "dnsPolicy",
];
const CONTAINER_FIELDS: [&str; 10] = [
    "name",
    "image",
    "command",
    "args",
    "env",
    "workingDir",
    "ports",
    "resources",
    "securityContext",
    "imagePullPolicy",
];
const POD_SECURITY: [&str; 3] = ["runAsUser", "runAsGroup", "supplementalGroups"];
const CONTAINER_SECURITY: [&str; 3] = ["runAsUser", "runAsGroup", "privileged"];
const RESOURCE_FIELDS: [&str; 2] = ["limits", "requests"];
const PORT_FIELDS: [&str; 5] = ["name", "containerPort", "protocol", "hostPort", "hostIP"];
const ENV_FIELDS: [&str; 2] = ["name", "value"];

/// The longest name of a file.
const NAME_MAX: usize = 255;
/// What a pod's folder of logs has besides namespace and name: two underscores and a uid.
const LOG_FOLDER_REST: usize = 2 + 36;
/// The largest user or group id that Kubernetes takes.
const MAX_ID: i64 = i32::MAX as i64;

/// Every mistake of a pod, each with its field. `raw` is the object as written: a field that has no effect here is found
/// there whatever its type.
pub fn pod(pod: &Pod, raw: &Value) -> Result<(), Vec<String>> {
    let mut errors = unsupported(raw);
    names(pod, &mut errors);
    match &pod.spec {
        None => errors.push("spec: is needed".to_owned()),
        Some(spec) => spec_errors(spec, &mut errors),
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn names(pod: &Pod, errors: &mut Vec<String>) {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if name.is_empty() {
        errors.push("metadata.name: is needed".to_owned());
    } else if !dns::is_subdomain(name) {
        errors.push(format!(
            "metadata.name: {name:?} is not a DNS name: lower-case letters, digits, '-' and '.', at most 253"
        ));
    } else if namespace.len() + name.len() + LOG_FOLDER_REST > NAME_MAX {
        let most = NAME_MAX.saturating_sub(LOG_FOLDER_REST + namespace.len());
        errors.push(format!(
            "metadata.name: is too long for a folder of logs; use at most {most} characters"
        ));
    }
    if !dns::is_label(namespace) {
        errors.push(format!(
            "metadata.namespace: {namespace:?} is not a DNS label: lower-case letters, digits and '-', at most 63"
        ));
    }
}

fn spec_errors(spec: &PodSpec, errors: &mut Vec<String>) {
    if spec.containers.is_empty() {
        errors.push("spec.containers: at least one is needed".to_owned());
    }
    one_of(
        "spec.restartPolicy",
        spec.restart_policy.as_deref(),
        &["Always", "OnFailure", "Never"],
        errors,
    );
    // there is no cluster DNS to come first, so both of these mean the node's
    one_of("spec.dnsPolicy", spec.dns_policy.as_deref(), &["ClusterFirst", "Default"], errors);
    if spec.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0) {
        errors.push("spec.terminationGracePeriodSeconds: must not be negative".to_owned());
    }
    if spec.hostname.as_deref().is_some_and(|name| !dns::is_label(name)) {
        errors.push("spec.hostname: must be a DNS label of at most 63 characters".to_owned());
    }
    if let Some(context) = &spec.security_context {
        let at = "spec.securityContext";
        id(&format!("{at}.runAsUser"), context.run_as_user, errors);
        id(&format!("{at}.runAsGroup"), context.run_as_group, errors);
        for (index, group) in context.supplemental_groups.iter().flatten().enumerate() {
            id(&format!("{at}.supplementalGroups[{index}]"), Some(*group), errors);
        }
    }
    let mut used = Used::default();
    for (index, container) in spec.containers.iter().enumerate() {
        container_errors(container, &format!("spec.containers[{index}]"), &mut used, errors);
    }
}

/// Names that may be used once in a pod.
#[derive(Default)]
struct Used<'a> {
    containers: BTreeSet<&'a str>,
    ports: BTreeSet<&'a str>,
    host_ports: BTreeSet<(i32, &'a str, &'a str)>,
}

fn container_errors<'a>(
    container: &'a Container,
    at: &str,
    used: &mut Used<'a>,
    errors: &mut Vec<String>,
) {
    let name = container.name.as_str();
    if !dns::is_label(name) {
        errors.push(format!("{at}.name: {name:?} is not a DNS label of at most 63 characters"));
    } else if !used.containers.insert(name) {
        errors.push(format!("{at}.name: {name} is used twice"));
    }
    if container.image.as_deref().is_none_or(|image| image.trim().is_empty()) {
        errors.push(format!("{at}.image: is needed"));
    }
    let policy = container.image_pull_policy.as_deref();
    one_of(&format!("{at}.imagePullPolicy"), policy, &["Always", "IfNotPresent", "Never"], errors);
    port_errors(container, at, used, errors);
    for (index, variable) in container.env.iter().flatten().enumerate() {
        let place = format!("{at}.env[{index}]");
        if variable.name.is_empty() || variable.name.contains(['=', '\0']) {
            errors.push(format!("{place}.name: {:?} is not a variable's name", variable.name));
        }
        without_nul(&format!("{place}.value"), variable.value.as_deref(), errors);
    }
    for (list, words) in [("command", &container.command), ("args", &container.args)] {
        for (index, word) in words.iter().flatten().enumerate() {
            without_nul(&format!("{at}.{list}[{index}]"), Some(word), errors);
        }
    }
    if container
        .working_dir
        .as_deref()
        .is_some_and(|path| !path.is_empty() && !path.starts_with('/'))
    {
        errors.push(format!("{at}.workingDir: must be an absolute path"));
    }
    if let Some(SecurityContext { run_as_user, run_as_group, .. }) = &container.security_context {
        id(&format!("{at}.securityContext.runAsUser"), *run_as_user, errors);
        id(&format!("{at}.securityContext.runAsGroup"), *run_as_group, errors);
    }
    if let Some(resources) = &container.resources {
        resource_errors(resources, &format!("{at}.resources"), errors);
    }
}

fn port_errors<'a>(
    container: &'a Container,
    at: &str,
    used: &mut Used<'a>,
    errors: &mut Vec<String>,
) {
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let place = format!("{at}.ports[{index}]");
        if !(1..=65535).contains(&port.container_port) {
            errors.push(format!(
                "{place}.containerPort: {} is not between 1 and 65535",
                port.container_port
            ));
        }
        if port.protocol.as_deref().is_some_and(|word| Protocol::parse(word).is_none()) {
            errors.push(format!("{place}.protocol: must be TCP, UDP or SCTP"));
        }
        host_port_errors(port, &place, used, errors);
        match port.name.as_deref() {
            None | Some("") => {}
            Some(name) if !is_port_name(name) => errors.push(format!(
                "{place}.name: {name:?} is not a port's name: at most 15 lower-case letters, digits and '-', a letter among them"
            )),
            Some(name) if !used.ports.insert(name) => {
                errors.push(format!("{place}.name: {name} is used twice in the pod"));
            }
            Some(_) => {}
        }
    }
}

fn host_port_errors<'a>(
    port: &'a ContainerPort,
    place: &str,
    used: &mut Used<'a>,
    errors: &mut Vec<String>,
) {
    let address = port.host_ip.as_deref().unwrap_or_default();
    if !address.is_empty() && address.parse::<IpAddr>().is_err() {
        errors.push(format!("{place}.hostIP: {address:?} is not an IP address"));
    }
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    match port.host_port.unwrap_or(0) {
        0 => {}
        number if !(1..=65535).contains(&number) => {
            errors.push(format!("{place}.hostPort: {number} is not between 1 and 65535"));
        }
        number if !used.host_ports.insert((number, protocol, address)) => {
            errors.push(format!("{place}.hostPort: {number} is used twice in the pod"));
        }
        _ => {}
    }
}

fn resource_errors(resources: &ResourceRequirements, at: &str, errors: &mut Vec<String>) {
    let mut list = |list: &str, quantities: Option<&BTreeMap<String, Quantity>>| {
        for (name, quantity) in quantities.into_iter().flatten() {
            let known = matches!(name.as_str(), "cpu" | "memory");
            let good = milli(quantity).is_some_and(|value| value >= 0);
            if !known {
                errors
                    .push(format!("{at}.{list}.{name}: is not supported yet; cpu and memory are"));
            } else if !good {
                errors.push(format!(
                    "{at}.{list}.{name}: {:?} is not a quantity such as 100m or 64Mi",
                    quantity.0
                ));
            }
        }
    };
    list("limits", resources.limits.as_ref());
    list("requests", resources.requests.as_ref());
    for (name, request) in resources.requests.iter().flatten() {
        let limit = resources.limits.as_ref().and_then(|limits| limits.get(name));
        if let (Some(request_value), Some(limit_value)) = (milli(request), limit.and_then(milli))
            && request_value > limit_value
        {
            errors.push(format!("{at}.requests.{name}: {} is more than the limit", request.0));
        }
    }
}

fn one_of(at: &str, word: Option<&str>, known: &[&str], errors: &mut Vec<String>) {
    if let Some(word) = word.filter(|word| !known.contains(word)) {
        errors.push(format!("{at}: {word:?} is not one of {}", known.join(", ")));
    }
}

fn id(at: &str, id: Option<i64>, errors: &mut Vec<String>) {
    if let Some(id) = id.filter(|id| !(0..=MAX_ID).contains(id)) {
        errors.push(format!("{at}: {id} is not between 0 and {MAX_ID}"));
    }
}

/// The kernel's strings end at a NUL.
fn without_nul(at: &str, text: Option<&str>, errors: &mut Vec<String>) {
    if text.is_some_and(|text| text.contains('\0')) {
        errors.push(format!("{at}: must not contain a NUL"));
    }
}

/// Fields that Kubernetes has and Heddle has not yet.
fn unsupported(raw: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    let mut only = |value: Option<&Value>, at: &str, known: &[&str]| {
        for (field, value) in value.and_then(Value::as_object).into_iter().flatten() {
            // null, an empty list and `false` ask for nothing
            let asks_nothing = value.is_null()
                || value.as_array().is_some_and(Vec::is_empty)
                || value == &Value::Bool(false);
            if !asks_nothing && !known.contains(&field.as_str()) {
                errors.push(format!("{at}.{field}: is not supported yet; remove it"));
            }
        }
    };
    let spec = raw.get("spec");
    only(spec, "spec", &POD_FIELDS);
    only(raw.pointer("/spec/securityContext"), "spec.securityContext", &POD_SECURITY);
    let containers = spec.and_then(|spec| spec.get("containers")).and_then(Value::as_array);
    for (index, container) in containers.into_iter().flatten().enumerate() {
        let at = format!("spec.containers[{index}]");
        only(Some(container), &at, &CONTAINER_FIELDS);
        only(
            container.get("securityContext"),
            &format!("{at}.securityContext"),
            &CONTAINER_SECURITY,
        );
        only(container.get("resources"), &format!("{at}.resources"), &RESOURCE_FIELDS);
        for (list, known) in [("ports", PORT_FIELDS.as_slice()), ("env", ENV_FIELDS.as_slice())] {
            let items = container.get(list).and_then(Value::as_array);
            for (number, item) in items.into_iter().flatten().enumerate() {
                only(Some(item), &format!("{at}.{list}[{number}]"), known);
            }
        }
    }
    errors
}

/// RFC 6335, section 5.1.
fn is_port_name(text: &str) -> bool {
    dns::is_label(text)
        && text.len() <= 15
        && text.chars().any(|c| c.is_ascii_lowercase())
        && !text.contains("--")
}

#[cfg(test)]
#[path = "validate/tests.rs"]
mod tests;
