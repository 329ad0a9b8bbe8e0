//! From a Pod object to what is to be run. What Heddle cannot do yet is refused by name: a field that is silently without
//! effect is worse than none.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::proxy::model::{NamedPort, Protocol};
use crate::runtime::{PodRef, Resources, UserSpec};

/// Kubernetes' default for `terminationGracePeriodSeconds`.
const DEFAULT_GRACE: u64 = 30;

/// When a container that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[expect(missing_docs, reason = "Kubernetes' own words")]
pub enum RestartPolicy {
    #[default]
    Always,
    OnFailure,
    Never,
}

/// A pod, ready to run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodPlan {
    /// Which pod.
    pub pod: PodRef,
    /// Labels, which services select by.
    pub labels: BTreeMap<String, String>,
    /// The host name inside.
    pub hostname: String,
    /// Restart policy.
    pub restart: RestartPolicy,
    /// Seconds between SIGTERM and SIGKILL.
    pub grace_seconds: u64,
    /// Containers, in order.
    pub containers: Vec<ContainerPlan>,
}

/// A container, ready to run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerPlan {
    /// Its name in the pod.
    pub name: String,
    /// Image reference as written.
    pub image: String,
    /// Replaces the image's entrypoint.
    pub command: Vec<String>,
    /// Replaces the image's command.
    pub args: Vec<String>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub working_dir: Option<String>,
    /// User and groups.
    pub user: UserSpec,
    /// Limits.
    pub resources: Resources,
    /// All capabilities.
    pub privileged: bool,
    /// Ports that it names.
    pub ports: Vec<NamedPort>,
}

/// The fields that have an effect, or may be there without one because their default says nothing else.
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
const PORT_FIELDS: [&str; 3] = ["name", "containerPort", "protocol"];
const ENV_FIELDS: [&str; 2] = ["name", "value"];

/// Every mistake of a pod, each with its field. `raw` is the object as written: a field that has no effect here is found
/// there whatever its type.
pub fn validate(pod: &Pod, raw: &Value) -> Result<(), Vec<String>> {
    let mut errors = unsupported(raw);
    for (field, name) in [("name", &pod.metadata.name), ("namespace", &pod.metadata.namespace)] {
        if !name.as_deref().is_some_and(|name| is_dns_label(name, 253, true)) {
            errors.push(format!("metadata.{field}: {name:?} is not a DNS name: lower-case letters, digits, '-' and '.'"));
        }
    }
    let Some(spec) = &pod.spec else {
        errors.push("spec: is needed".to_owned());
        return Err(errors);
    };
    if spec.containers.is_empty() {
        errors.push("spec.containers: at least one is needed".to_owned());
    }
    if let Some(policy) = &spec.restart_policy
        && !["Always", "OnFailure", "Never"].contains(&policy.as_str())
    {
        errors.push(format!("spec.restartPolicy: {policy:?} is not Always, OnFailure or Never"));
    }
    if spec.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0) {
        errors.push("spec.terminationGracePeriodSeconds: must not be negative".to_owned());
    }
    if spec.hostname.as_deref().is_some_and(|name| !is_dns_label(name, 63, false)) {
        errors.push("spec.hostname: must be a DNS label of at most 63 characters".to_owned());
    }
    for (index, container) in spec.containers.iter().enumerate() {
        let earlier = &spec.containers[..index];
        container_errors(container, earlier, &format!("spec.containers[{index}]"), &mut errors);
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn container_errors(
    container: &Container,
    earlier: &[Container],
    at: &str,
    errors: &mut Vec<String>,
) {
    if !is_dns_label(&container.name, 63, false) {
        errors.push(format!(
            "{at}.name: {:?} is not a DNS label of at most 63 characters",
            container.name
        ));
    }
    if earlier.iter().any(|other| other.name == container.name) {
        errors.push(format!("{at}.name: {} is used twice", container.name));
    }
    if container.image.as_deref().is_none_or(str::is_empty) {
        errors.push(format!("{at}.image: is needed"));
    }
    for (index, port) in container.ports.iter().flatten().enumerate() {
        if !(1..=65535).contains(&port.container_port) {
            errors.push(format!(
                "{at}.ports[{index}].containerPort: {} is not between 1 and 65535",
                port.container_port
            ));
        }
        if port.protocol.as_deref().is_some_and(|word| Protocol::parse(word).is_none()) {
            errors.push(format!("{at}.ports[{index}].protocol: must be TCP or UDP"));
        }
    }
    for (index, variable) in container.env.iter().flatten().enumerate() {
        if variable.name.is_empty() || variable.name.contains(['=', '\0']) {
            errors.push(format!(
                "{at}.env[{index}].name: {:?} is not a variable's name",
                variable.name
            ));
        }
    }
    if container
        .working_dir
        .as_deref()
        .is_some_and(|path| !path.is_empty() && !path.starts_with('/'))
    {
        errors.push(format!("{at}.workingDir: must be an absolute path"));
    }
    let resources = container.resources.as_ref();
    for (list, quantities) in [
        ("limits", resources.and_then(|r| r.limits.as_ref())),
        ("requests", resources.and_then(|r| r.requests.as_ref())),
    ] {
        for (name, quantity) in quantities.into_iter().flatten() {
            let good = match name.as_str() {
                "cpu" | "memory" => milli(quantity).is_some_and(|value| value > 0),
                _ => false,
            };
            if !good {
                errors.push(format!(
                    "{at}.resources.{list}.{name}: {:?} is not a positive quantity of cpu or memory, such as 100m or 64Mi",
                    quantity.0
                ));
            }
        }
    }
}

/// Fields that Kubernetes has and Heddle has not yet.
fn unsupported(raw: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    let mut only = |value: Option<&Value>, at: &str, known: &[&str]| {
        for (field, value) in value.and_then(Value::as_object).into_iter().flatten() {
            // null and an empty list ask for nothing
            let empty = value.is_null()
                || value.as_array().is_some_and(Vec::is_empty)
                || value == &Value::Bool(false);
            if !empty && !known.contains(&field.as_str()) {
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

/// RFC 1123: letters, digits and dashes, not at the ends; with dots between labels if `dots`.
fn is_dns_label(text: &str, most: usize, dots: bool) -> bool {
    let label = |label: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !label.is_empty()
            && label.chars().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= most && if dots { text.split('.').all(label) } else { label(text) }
}

/// A quantity in thousandths of its unit (`100m` is 100, `2` is 2000, `1Ki` is 1024000).
fn milli(quantity: &Quantity) -> Option<i64> {
    let text = quantity.0.as_str();
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-' || c == '+'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: i128 = match unit {
        "m" => 1,
        "" => 1000,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        "G" => 1_000_000_000_000,
        "T" => 1_000_000_000_000_000,
        "Ki" => 1000 << 10,
        "Mi" => 1000 << 20,
        "Gi" => 1000 << 30,
        "Ti" => 1000 << 40,
        _ => return None,
    };
    // decimals are kept to nine places, more than any quantity means
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.len() > 9 || fraction.contains(['-', '+']) {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    i64::try_from(digits.checked_mul(factor)? / 10_i128.pow(u32::try_from(fraction.len()).ok()?))
        .ok()
}

/// The uid of a pod that nobody gave one: a digest of the object, so that a changed manifest is another pod.
pub fn uid(pod: &Pod) -> String {
    if let Some(uid) = pod.metadata.uid.as_deref().filter(|uid| cni::args::is_identifier(uid)) {
        return uid.to_owned();
    }
    let text = serde_json::to_vec(pod).unwrap_or_default();
    let hex = data_encoding::HEXLOWER.encode(&Sha256::digest(text));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32])
}

/// What a valid pod asks for.
pub fn plan(pod: &Pod) -> PodPlan {
    let spec = pod.spec.clone().unwrap_or_default();
    let name = pod.metadata.name.clone().unwrap_or_default();
    let label: String = name.chars().take(63).collect();
    PodPlan {
        pod: PodRef {
            namespace: pod.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()),
            uid: uid(pod),
            name,
        },
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        hostname: spec
            .hostname
            .clone()
            .unwrap_or_else(|| label.trim_end_matches(['-', '.']).to_owned()),
        restart: match spec.restart_policy.as_deref() {
            Some("Never") => RestartPolicy::Never,
            Some("OnFailure") => RestartPolicy::OnFailure,
            _ => RestartPolicy::Always,
        },
        grace_seconds: spec
            .termination_grace_period_seconds
            .and_then(|s| u64::try_from(s).ok())
            .unwrap_or(DEFAULT_GRACE),
        containers: spec
            .containers
            .iter()
            .map(|container| container_plan(container, &spec))
            .collect(),
    }
}

fn container_plan(container: &Container, spec: &PodSpec) -> ContainerPlan {
    let (own, pods) = (container.security_context.as_ref(), spec.security_context.as_ref());
    let id =
        |own: Option<i64>, pods: Option<i64>| own.or(pods).and_then(|id| u32::try_from(id).ok());
    let groups = pods.and_then(|context| context.supplemental_groups.clone()).unwrap_or_default();
    let env = container.env.iter().flatten();
    let ports = container.ports.iter().flatten().filter_map(|port| {
        Some(NamedPort {
            name: port.name.clone(),
            port: u16::try_from(port.container_port).ok()?,
            protocol: Protocol::parse(port.protocol.as_deref().unwrap_or("TCP"))?,
        })
    });
    ContainerPlan {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        command: container.command.clone().unwrap_or_default(),
        args: container.args.clone().unwrap_or_default(),
        env: env
            .map(|variable| (variable.name.clone(), variable.value.clone().unwrap_or_default()))
            .collect(),
        working_dir: container.working_dir.clone().filter(|path| !path.is_empty()),
        user: UserSpec {
            uid: id(own.and_then(|c| c.run_as_user), pods.and_then(|c| c.run_as_user)),
            gid: id(own.and_then(|c| c.run_as_group), pods.and_then(|c| c.run_as_group)),
            groups: groups.into_iter().filter_map(|group| u32::try_from(group).ok()).collect(),
        },
        resources: resources(container),
        privileged: own.and_then(|context| context.privileged).unwrap_or(false),
        ports: ports.collect(),
    }
}

/// As the kubelet converts them: shares from the request (else the limit), quota from the limit in periods of 100 ms.
fn resources(container: &Container) -> Resources {
    let list = container.resources.clone().unwrap_or_default();
    let limit = |name: &str| list.limits.as_ref().and_then(|limits| milli(limits.get(name)?));
    let request =
        |name: &str| list.requests.as_ref().and_then(|requests| milli(requests.get(name)?));
    let shares =
        request("cpu").or(limit("cpu")).and_then(|cpu| u64::try_from(cpu * 1024 / 1000).ok());
    Resources {
        cpu_shares: shares.map(|shares| shares.clamp(2, 262_144)),
        cpu_quota: limit("cpu").map(|cpu| (cpu * 100).max(1000)),
        cpu_period: limit("cpu").map(|_| 100_000),
        memory_limit: limit("memory").map(|memory| memory / 1000),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(value: &Value) -> Result<PodPlan, Vec<String>> {
        let pod: Pod = serde_json::from_value(value.clone()).unwrap();
        validate(&pod, value).map(|()| plan(&pod))
    }

    fn pod(spec: &Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default"}, "spec": spec})
    }

    #[test]
    fn a_pod_becomes_a_plan() {
        let plan = check(&pod(&json!({
            "restartPolicy": "OnFailure", "terminationGracePeriodSeconds": 5, "securityContext": {"runAsUser": 7},
            "containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": "1"}],
                "ports": [{"name": "http", "containerPort": 8080}], "securityContext": {"runAsUser": 8},
                "resources": {"limits": {"cpu": "250m", "memory": "64Mi"}}}]})))
        .unwrap();
        let container = &plan.containers[0];
        assert_eq!(
            (plan.restart, plan.grace_seconds, plan.hostname.as_str()),
            (RestartPolicy::OnFailure, 5, "web")
        );
        assert_eq!(container.user.uid, Some(8));
        let expected = Resources {
            cpu_shares: Some(256),
            cpu_quota: Some(25_000),
            cpu_period: Some(100_000),
            memory_limit: Some(64 << 20),
        };
        assert_eq!(container.resources, expected);
        assert_eq!(container.ports[0].port, 8080);
    }

    #[test]
    fn every_mistake_is_named_with_its_field() {
        let errors = check(&pod(&json!({
            "volumes": [{"name": "v"}], "hostNetwork": true, "restartPolicy": "Sometimes",
            "containers": [
                {"name": "C", "image": "i", "livenessProbe": {}, "ports": [{"containerPort": 70000, "hostPort": 80}]},
                {"name": "d", "resources": {"limits": {"memory": "lots", "nvidia.com/gpu": "1"}}, "workingDir": "x"},
                {"name": "d", "image": "i", "env": [{"name": "A=B"}, {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]}]})))
        .unwrap_err()
        .join("\n");
        for expected in [
            "spec.volumes: is not supported yet",
            "spec.hostNetwork: is not supported yet",
            "spec.restartPolicy: \"Sometimes\"",
            "spec.containers[0].name: \"C\"",
            "spec.containers[0].livenessProbe: is not supported yet",
            "spec.containers[0].ports[0].containerPort: 70000",
            "spec.containers[0].ports[0].hostPort: is not supported yet",
            "spec.containers[1].image: is needed",
            "spec.containers[1].resources.limits.memory: \"lots\"",
            "spec.containers[1].resources.limits.nvidia.com/gpu",
            "spec.containers[1].workingDir",
            "spec.containers[2].name: d is used twice",
            "spec.containers[2].env[0].name",
            "spec.containers[2].env[1].valueFrom: is not supported yet",
        ] {
            assert!(errors.contains(expected), "{expected}\n---\n{errors}");
        }
    }

    #[test]
    fn quantities() {
        let cases = [
            ("100m", Some(100)),
            ("2", Some(2000)),
            ("1.5", Some(1500)),
            ("64Mi", Some(64 * 1024 * 1024 * 1000)),
            ("0.1Gi", Some(107_374_182_400)),
            ("1e3", None),
            ("", None),
            ("Mi", None),
            ("1.-5", None),
        ];
        for (text, expected) in cases {
            assert_eq!(milli(&Quantity(text.to_owned())), expected, "{text}");
        }
    }

    #[test]
    fn a_changed_object_is_another_pod() {
        let one: Pod =
            serde_json::from_value(pod(&json!({"containers": [{"name": "c", "image": "a"}]})))
                .unwrap();
        let two: Pod =
            serde_json::from_value(pod(&json!({"containers": [{"name": "c", "image": "b"}]})))
                .unwrap();
        assert_eq!(uid(&one), uid(&one.clone()));
        assert_ne!(uid(&one), uid(&two));
        assert_eq!(uid(&one).len(), 36);
    }
}
