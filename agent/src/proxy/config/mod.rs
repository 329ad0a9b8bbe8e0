//! The configuration of the proxy: kube-proxy's flags and its file, `KubeProxyConfiguration` of
//! `kubeproxy.config.k8s.io/v1alpha1`.
//!
//! One table of fields ([`FIELDS`]) drives the file, the flags, the help and `/configz`. A flag that is given wins over the file,
//! always: kube-proxy ignores most flags beside `--config`, which helps nobody who gives one. What comes in is checked whole, every
//! mistake is reported at once with its place, and [`ProxyConfig`] cannot hold a wrong value.
//!
//! What differs from kube-proxy: `minSyncPeriod` is 0 if it is not set (a change is followed at once, as it costs little), the
//! periods and the masquerade settings of the flags hold in both modes, and modes `ipvs` and `kernelspace` are refused.

mod check;
mod duration;
mod field;
mod layer;
mod options;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnetwork::IpNetwork;

pub use conf::{ConfigError, Mistake};
pub use field::{FIELDS, Field, Kind, Use};
pub use layer::{API_VERSION, KIND};

pub use crate::kube::ApiAccess;

use super::host::ConntrackConfig;
pub use super::ops::Mode;
use super::options::Pace;

/// How traffic of this node's pods is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DetectLocal {
    /// By the cluster's ranges of pods. Empty: not at all.
    ClusterCidr(Vec<IpNetwork>),
    /// By this node's ranges of pods, as its Node object tells.
    NodeCidr,
    /// By the bridge that it comes in from.
    Bridge(String),
    /// By what the name of the interface that it comes in from begins with.
    InterfacePrefix(String),
}

/// Where node ports answer: the union of what is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePortSelection {
    /// At every address of this node.
    pub all: bool,
    /// At its primary address of each family.
    pub primary: bool,
    /// At its addresses in these ranges. A family of which no range is given counts as all of it, as in kube-proxy.
    pub ranges: Vec<IpNetwork>,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// kube-proxy's `-v`: from 4 on debug, from 8 on trace.
    pub verbosity: u32,
    /// One JSON object per line.
    pub json: bool,
}

/// All that the proxy is told, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyConfig {
    /// What writes the rules.
    pub mode: Mode,
    /// The name of this Node.
    pub node_name: String,
    /// How to reach the API server.
    pub api: ApiAccess,
    /// This node's primary address, if it is not that of the Node object.
    pub bind_address: Option<IpAddr>,
    /// Where `/healthz` and `/livez` are served.
    pub healthz: Option<SocketAddr>,
    /// Where `/metrics`, `/proxyMode` and `/configz` are served.
    pub metrics: Option<SocketAddr>,
    /// Whether a taken port of these is fatal.
    pub bind_hard_fail: bool,
    /// The bit of the packet mark that asks for masquerading, 0 to 31.
    pub masquerade_bit: u8,
    /// Masquerade whatever goes to a cluster address.
    pub masquerade_all: bool,
    /// Whether node ports answer at 127.0.0.1 (iptables mode, IPv4).
    pub localhost_node_ports: bool,
    /// How traffic of this node's pods is recognised.
    pub detect_local: DetectLocal,
    /// Where node ports answer.
    pub node_ports: NodePortSelection,
    /// How often rules are written.
    pub pace: Pace,
    /// What connection tracking is told.
    pub conntrack: ConntrackConfig,
    /// How early the kernel ends this process when memory runs out, -1000 to 1000.
    pub oom_score_adj: i32,
    /// What is logged.
    pub log: LogSettings,
}

/// A configuration and what there is to say of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: ProxyConfig,
    /// What was asked for and is not done, in words.
    pub warnings: Vec<String>,
    /// What holds, as a `KubeProxyConfiguration` with every field.
    pub document: serde_json::Value,
}

/// What a configuration is made from.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// Flags with their texts, without the dashes.
    pub flags: Vec<(String, Vec<String>)>,
    /// The API server's URL (`--master`).
    pub master: Option<String>,
    /// The name of this host.
    pub host_name: String,
}

/// Reads the file, lays the flags over it and checks all of it.
pub fn load(given: &Given) -> Result<Loaded, ConfigError> {
    let file = given.file.as_deref().map(layer::Layer::file).transpose()?;
    let layers = [file.unwrap_or_default(), layer::Layer::flags(&given.flags)];
    check::check(layers, given.master.as_deref(), &given.host_name).map_err(ConfigError::Mistakes)
}

#[cfg(test)]
mod tests;
