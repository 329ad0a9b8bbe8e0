//! The network of a pod: its namespace and its CNI chain. Blocking, so never called on an async worker thread.

mod cni_network;
pub mod fake;

use std::net::IpAddr;
use std::path::PathBuf;

pub use cni_network::CniNetwork;

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

/// A network that could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// There is no network list yet.
    #[error("no CNI network: {0}")]
    NotConfigured(String),
    /// The pod's namespace.
    #[error("{0}")]
    Namespace(String),
    /// A plugin failed.
    #[error("{0}")]
    Plugin(String),
}

impl NetworkError {
    /// The kubelet's word for it.
    pub fn reason(&self) -> String {
        match self {
            Self::NotConfigured(_) => "NetworkNotReady",
            Self::Namespace(_) | Self::Plugin(_) => "FailedCreatePodSandBox",
        }
        .to_owned()
    }
}

/// What connects pods. Blocking.
pub trait Network: Send + Sync + 'static {
    /// Makes a fresh network for a pod; what an earlier one left is removed first. Leaves nothing if it fails.
    fn set_up(&self, pod: &PodRef) -> Result<Attached, NetworkError>;
    /// The network that a pod has, if all of it is there.
    fn current(&self, pod: &PodRef) -> Option<Attached>;
    /// Removes a pod's network. Idempotent; works when the namespace is gone.
    fn tear_down(&self, pod: &PodRef) -> Result<(), NetworkError>;
    /// Removes what is left of the networks of pods that are not among these and have no namespace any more.
    fn collect(&self, pods: &[PodRef]) -> Result<(), NetworkError>;
}
