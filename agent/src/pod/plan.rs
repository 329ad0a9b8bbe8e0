//! From a valid Pod object ([`super::validate`]) to what is to be run.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use sha2::{Digest, Sha256};

use super::quantity::milli;
use crate::network::PortMapping;
use crate::proxy::model::Protocol;
use crate::proxy::pods::NamedPort;
use crate::runtime::{PodRef, Resources, UserSpec};

/// When a container that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[expect(missing_docs, reason = "Kubernetes' own words")]
pub enum RestartPolicy {
    #[default]
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    /// Whether a container that ended with this code is started again.
    pub fn applies(self, code: u32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }
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
    /// Ports of the node that lead to the pod.
    pub host_ports: Vec<PortMapping>,
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

/// A uid for a pod from a manifest: a digest of the node and the object, so that a changed manifest is another pod, and two
/// nodes of one host have no name in common. A uid in the manifest does not count, as two files may have the same.
pub fn digest(node: &str, pod: &Pod) -> String {
    let mut pod = pod.clone();
    pod.metadata.uid = None;
    let mut digest = Sha256::new();
    digest.update(node);
    digest.update([0]);
    digest.update(serde_json::to_vec(&pod).unwrap_or_default());
    let hex = data_encoding::HEXLOWER.encode(&digest.finalize());
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32])
}

/// What a valid pod asks for. Without a uid it has an empty one; `default_grace` (seconds) is for pods that name none.
pub fn plan(pod: &Pod, default_grace: u64) -> PodPlan {
    let spec = pod.spec.clone().unwrap_or_default();
    let name = pod.metadata.name.clone().unwrap_or_default();
    let label: String = name.chars().take(63).collect();
    PodPlan {
        pod: PodRef {
            namespace: pod.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
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
            .and_then(|seconds| u64::try_from(seconds).ok())
            .unwrap_or(default_grace),
        containers: spec
            .containers
            .iter()
            .map(|container| container_plan(container, &spec))
            .collect(),
        host_ports: spec.containers.iter().flat_map(host_ports).collect(),
    }
}

fn host_ports(container: &Container) -> impl Iterator<Item = PortMapping> {
    container.ports.iter().flatten().filter_map(|port| {
        Some(PortMapping {
            host_port: u16::try_from(port.host_port?).ok().filter(|port| *port != 0)?,
            container_port: u16::try_from(port.container_port).ok()?,
            protocol: Protocol::parse(port.protocol.as_deref().unwrap_or("TCP"))?,
            host_ip: port.host_ip.as_deref().and_then(|text| text.parse().ok()),
        })
    })
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

/// As the kubelet converts them: shares from the request (else the limit), quota from the limit in periods of 100 ms. A limit
/// of zero is none.
fn resources(container: &Container) -> Resources {
    let list = container.resources.clone().unwrap_or_default();
    let limit = |name: &str| list.limits.as_ref().and_then(|limits| milli(limits.get(name)?));
    let request =
        |name: &str| list.requests.as_ref().and_then(|requests| milli(requests.get(name)?));
    let shares = request("cpu")
        .or(limit("cpu"))
        .and_then(|cpu| u64::try_from(cpu.saturating_mul(1024) / 1000).ok());
    let cpu = limit("cpu").filter(|cpu| *cpu > 0);
    Resources {
        cpu_shares: shares.map(|shares| shares.clamp(2, 262_144)),
        cpu_quota: cpu.map(|cpu| cpu.saturating_mul(100).max(1000)),
        cpu_period: cpu.map(|_| 100_000),
        memory_limit: limit("memory").filter(|memory| *memory > 0).map(|memory| memory / 1000),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn web(spec: &Value) -> PodPlan {
        let metadata = json!({"name": "web", "namespace": "default", "uid": "u"});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
        plan(&serde_json::from_value(pod).unwrap(), 30)
    }

    #[test]
    fn a_pod_becomes_a_plan() {
        let plan = web(&json!({
            "restartPolicy": "OnFailure", "terminationGracePeriodSeconds": 5, "securityContext": {"runAsUser": 7},
            "containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": "1"}],
                "ports": [{"name": "http", "containerPort": 8080}], "securityContext": {"runAsUser": 8},
                "resources": {"limits": {"cpu": "250m", "memory": "64Mi"}}}]}));
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
    fn without_limits_there_are_none() {
        let containers = json!([{"name": "c", "image": "i", "resources": {"limits": {"cpu": "0", "memory": "0"}}}]);
        let plan = web(&json!({ "containers": containers }));
        let expected = Resources { cpu_shares: Some(2), ..Resources::default() };
        assert_eq!(plan.containers[0].resources, expected, "zero is no limit, as in Kubernetes");
        let plan = web(&json!({"containers": [{"name": "c", "image": "i"}]}));
        assert_eq!(plan.containers[0].resources, Resources::default());
    }
}
