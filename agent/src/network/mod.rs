//! The network of a pod: its namespace and its CNI chain. Blocking, so never called on an async worker thread.

mod cni_network;
pub mod fake;

use std::net::IpAddr;
use std::path::PathBuf;

pub use cni_network::CniNetwork;

use serde::Serialize;

use crate::proxy::model::Protocol;
use crate::runtime::PodRef;

/// A pod's network, once it is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// Path of the namespace.
    pub netns: PathBuf,
    /// Addresses, in the order of the plugins' result.
    pub ips: Vec<IpAddr>,
    /// What `/etc/resolv.conf` says inside.
    pub resolv_conf: String,
}

/// A port of the node that leads to one of a pod, in the form of CNI's `portMappings` capability (CONVENTIONS.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// The node's port.
    pub host_port: u16,
    /// The pod's port.
    pub container_port: u16,
    /// The protocol.
    #[serde(serialize_with = "lower_case")]
    pub protocol: Protocol,
    /// On which of the node's addresses. `None`: on all.
    #[serde(rename = "hostIP", skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
fn lower_case<S: serde::Serializer>(protocol: &Protocol, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(protocol.as_str())
}

/// A network that could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// There is no network list yet.
    #[error("no CNI network: {0}")]
    NotConfigured(String),
    /// The pod's namespace.
    #[error("{0}")]
    Namespace(String),
    /// Ports of the node are asked for, and no plugin of the network maps any.
    #[error(
        "the pod asks for host ports, but no plugin of network list {} has the capability portMappings: add portmap to it", .0.display()
    )]
    NoPortMappings(PathBuf),
    /// A plugin failed.
    #[error("{0}")]
    Plugin(String),
}

impl NetworkError {
    /// The kubelet's word for it.
    pub fn reason(&self) -> String {
        match self {
            Self::NotConfigured(_) => "NetworkNotReady",
            Self::Namespace(_) | Self::NoPortMappings(_) | Self::Plugin(_) => {
                "FailedCreatePodSandBox"
            }
        }
        .to_owned()
    }
}

/// What connects pods. Blocking.
pub trait Network: Send + Sync + 'static {
    /// Makes a fresh network for a pod; what an earlier one left is removed first. Leaves nothing if it fails.
    fn set_up(&self, pod: &PodRef, ports: &[PortMapping]) -> Result<Attached, NetworkError>;
    /// The network that a pod has, if all of it is there.
    fn current(&self, pod: &PodRef) -> Option<Attached>;
    /// Removes a pod's network. Idempotent; works when the namespace is gone.
    fn tear_down(&self, pod: &PodRef) -> Result<(), NetworkError>;
    /// Removes what is left of the networks of pods that are not among these and have no namespace any more.
    fn collect(&self, pods: &[PodRef]) -> Result<(), NetworkError>;
}
