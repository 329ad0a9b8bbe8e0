//! The part of the configuration that is about pods of different nodes.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use ipnetwork::IpNetwork;

use super::{NetworkConfig, Reader, absolute, addresses};

/// The least MTU of IPv4 that is worth anything (RFC 791 asks every host to take 576 bytes), and of IPv6 (RFC 8200, section 5).
const LEAST_MTU: u32 = 576;
const LEAST_MTU_V6: u32 = 1280;
/// The length of a link's name in the kernel (`IFNAMSIZ`), without its end.
const LINK_NAME: usize = 15;

/// Pods of different nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayConfig {
    /// Whether `run` has this part.
    pub enabled: bool,
    /// How packets travel.
    pub backend: OverlayBackend,
    /// Where Nodes come from.
    pub nodes: NodeSource,
    /// The link to other nodes: a name, or an address of it; `None`: found.
    pub interface: Option<String>,
    /// The VXLAN network identifier.
    pub vni: u32,
    /// The UDP port of VXLAN.
    pub port: u16,
    /// The MTU of pods in bytes; `None`: what the underlay allows.
    pub mtu: Option<u32>,
    /// Whether pods speak to the world by the node's address.
    pub masquerade: bool,
    /// To these they do not.
    pub no_masquerade: Vec<IpNetwork>,
    /// Whether flannel's annotations are read and written. Then the backend is VXLAN or plain routes, and Nodes come from an API.
    pub flannel: bool,
    /// The file for the CNI plugin.
    pub lease: PathBuf,
    /// Where nodes probe each other; `None`: nowhere. Not the port of VXLAN.
    pub probe_port: Option<u16>,
    /// Whether the VXLAN device leaves checksums to the hardware.
    pub checksum_offload: ChecksumOffload,
    /// The status socket of the overlay alone.
    pub socket: PathBuf,
    /// Where `/metrics` and `/healthz` answer.
    pub metrics_address: Option<SocketAddr>,
}

/// How packets travel to other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverlayBackend {
    /// Plain routes on one link, VXLAN elsewhere.
    Auto,
    /// VXLAN.
    Vxlan,
    /// Plain routes.
    HostGw,
    /// Not at all: somebody else routes them.
    None,
}

impl OverlayBackend {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Vxlan => "vxlan",
            Self::HostGw => "host-gw",
            Self::None => "none",
        }
    }

    /// Whether there may be a VXLAN device.
    pub const fn tunnels(self) -> bool {
        matches!(self, Self::Auto | Self::Vxlan)
    }
}

impl FromStr for OverlayBackend {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let all = [Self::Auto, Self::Vxlan, Self::HostGw, Self::None];
        all.into_iter().find(|backend| backend.as_str() == text).ok_or(())
    }
}

/// Whether checksums are left to the hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumOffload {
    /// Unless it is found to be broken.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

impl ChecksumOffload {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

impl FromStr for ChecksumOffload {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Auto, Self::On, Self::Off]
            .into_iter()
            .find(|switch| switch.as_str() == text)
            .ok_or(())
    }
}

/// Where Node objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeSource {
    /// Manifests in the agent's folder.
    Manifests,
    /// The API server of the cluster that this pod is in, with the pod's service account.
    InCluster,
    /// The API server that a kubeconfig names.
    Kubeconfig(PathBuf),
}

impl NodeSource {
    fn of(text: &str) -> Option<Self> {
        match text {
            "" => Some(Self::Manifests),
            "in-cluster" => Some(Self::InCluster),
            path => absolute(path).map(Self::Kubeconfig),
        }
    }
}

impl Reader {
    /// `network` is known unless it has mistakes of its own.
    pub(super) fn overlay(&mut self, network: Option<&NetworkConfig>) -> Option<OverlayConfig> {
        let flag = |items: &[String]| items.first()?.parse::<bool>().ok();
        let enabled = self.get("overlay.enabled", flag);
        let backend = self.get("overlay.backend", |items| items.first()?.parse().ok());
        let nodes = self.get("overlay.kubeconfig", |items| NodeSource::of(items.first()?));
        let interface = self.get("overlay.interface", |items| interface(items.first()?));
        let vni = self.get("overlay.vni", |items| number(items, 1, (1 << 24) - 1));
        let port = self.get("overlay.port", |items| port_from(items, 1));
        let mtu = self.get("overlay.mtu", |items| {
            number(items, 0, 0).or_else(|| number(items, LEAST_MTU, 65_535))
        });
        let masquerade = self.get("overlay.masquerade", flag);
        let no_masquerade = self.get("overlay.no_masquerade", ranges);
        let flannel = self.get("overlay.flannel", flag);
        let lease = self.path("overlay.lease");
        let probe_port = self.get("overlay.probe_port", |items| port_from(items, 0));
        let checksum_offload =
            self.get("overlay.checksum_offload", |items| items.first()?.parse().ok());
        let socket = self.path("overlay.socket");
        let metrics = self.get("overlay.metrics_bind_address", addresses);
        let config = OverlayConfig {
            enabled: enabled?,
            backend: backend?,
            nodes: nodes?,
            interface: Some(interface?).filter(|text| !text.is_empty()),
            vni: vni?,
            port: port?,
            mtu: mtu.map(|mtu| Some(mtu).filter(|mtu| *mtu > 0))?,
            masquerade: masquerade?,
            no_masquerade: no_masquerade?,
            flannel: flannel?,
            lease: lease?,
            probe_port: probe_port.map(|port| Some(port).filter(|port| *port > 0))?,
            checksum_offload: checksum_offload?,
            socket: socket?,
            metrics_address: metrics?.first().copied(),
        };
        for (key, reason) in contradictions(&config, network) {
            let written = self.merged.values.get(key)?.clone();
            self.note(&written, format!("{key}: {reason}"));
        }
        Some(config)
    }
}

/// What is right by itself and wrong together: the key to blame, and why.
fn contradictions(
    config: &OverlayConfig,
    network: Option<&NetworkConfig>,
) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    if config.flannel {
        let backend = config.backend.as_str();
        if matches!(config.backend, OverlayBackend::Auto | OverlayBackend::None) {
            found.push((
                "overlay.flannel",
                format!(
                    "nodes that run flannel have one backend for all: set overlay.backend to \"vxlan\" or \"host-gw\", as net-conf.json of \
                     flannel says; it is {backend:?}"
                ),
            ));
        }
        if config.nodes == NodeSource::Manifests {
            found.push((
                "overlay.flannel",
                "flannel tells its nodes by annotations in the API: set overlay.kubeconfig"
                    .to_owned(),
            ));
        }
    }
    if config.backend.tunnels() && config.probe_port == Some(config.port) {
        let port = config.port;
        found.push((
            "overlay.probe_port",
            format!("{port} is overlay.port, which the kernel holds for VXLAN; set another, or 0"),
        ));
    }
    let has_v6 = network.is_some_and(|network| network.pod_cidrs.iter().any(IpNetwork::is_ipv6));
    if let Some(mtu) = config.mtu.filter(|mtu| has_v6 && *mtu < LEAST_MTU_V6) {
        found.push((
            "overlay.mtu",
            format!("IPv6, which network.pod_cidr asks for, needs at least {LEAST_MTU_V6} bytes (RFC 8200); it is {mtu}"),
        ));
    }
    found
}

fn number(items: &[String], least: u32, most: u32) -> Option<u32> {
    items.first()?.parse().ok().filter(|number| (least..=most).contains(number))
}

fn port_from(items: &[String], least: u16) -> Option<u16> {
    items.first()?.parse().ok().filter(|port| *port >= least)
}

/// A name, an address, or nothing.
fn interface(text: &str) -> Option<String> {
    // what `dev_valid_name` takes
    let usable = |c: char| !c.is_whitespace() && c != '/' && c != ':';
    let is_name =
        text.len() <= LINK_NAME && text.chars().all(usable) && !matches!(text, "." | "..");
    (is_name || text.parse::<IpAddr>().is_ok()).then(|| text.to_owned())
}

fn ranges(items: &[String]) -> Option<Vec<IpNetwork>> {
    let text = items.join(",");
    if text.is_empty() {
        return Some(Vec::new());
    }
    let parse =
        |text: &str| text.trim().parse::<IpNetwork>().ok().filter(|net| net.ip() == net.network());
    text.split(',').map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AgentConfig, Layer};

    fn load(text: &str) -> Result<OverlayConfig, String> {
        let text = format!("[overlay]\n{text}");
        let layers = [Layer::defaults("node"), Layer::text(&text, "f")];
        AgentConfig::from_layers(layers)
            .map(|config| config.overlay)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_off_and_as_flannel_has_them() {
        let config = load("").unwrap();
        assert!(!config.enabled && config.masquerade && !config.flannel);
        assert_eq!((config.vni, config.port, config.mtu), (1, 8472, None));
        assert_eq!((config.backend, &config.nodes), (OverlayBackend::Auto, &NodeSource::Manifests));
        assert_eq!((config.interface, config.probe_port), (None, Some(8473)));
    }

    #[test]
    fn values_are_taken() {
        let text = "enabled = true\nbackend = \"host-gw\"\nkubeconfig = \"in-cluster\"\ninterface = \"192.0.2.1\"\nvni = 16777215\n\
                    port = 4789\nmtu = 1400\nmasquerade = false\nno_masquerade = \"10.0.0.0/8, fd00::/8\"\nflannel = true\nprobe_port = 0\n\
                    checksum_offload = \"off\"\nmetrics_bind_address = \"\"";
        let config = load(text).unwrap();
        assert!(config.enabled && !config.masquerade && config.flannel);
        assert_eq!((config.vni, config.port, config.mtu), (16_777_215, 4789, Some(1400)));
        assert_eq!(
            (config.backend, &config.nodes),
            (OverlayBackend::HostGw, &NodeSource::InCluster)
        );
        assert_eq!(config.interface.as_deref(), Some("192.0.2.1"));
        assert_eq!((config.probe_port, config.metrics_address), (None, None));
        assert_eq!(config.no_masquerade.len(), 2);
        assert_eq!(config.checksum_offload, ChecksumOffload::Off);
        let path = load("kubeconfig = \"/k\"").unwrap().nodes;
        assert_eq!(path, NodeSource::Kubeconfig("/k".into()));
    }

    #[test]
    fn wrong_values_are_refused_all_at_once_with_their_lines() {
        let text = "backend = \"ipip\"\nkubeconfig = \"k\"\ninterface = \"a b\"\nvni = 0\nport = 70000\nmtu = 100\nmasquerade = \"yes\"\n\
                    no_masquerade = \"10.0.0.1/8\"\nprobe_port = -1\nchecksum_offload = \"maybe\"\nlease = \"subnet.env\"";
        let error = load(text).unwrap_err();
        let table = [
            (2, "overlay.backend: \"ipip\" is not \"auto\", \"vxlan\", \"host-gw\" or \"none\""),
            (3, "overlay.kubeconfig: \"k\" is not an absolute path, \"in-cluster\""),
            (4, "overlay.interface: \"a b\" is not the name of a link"),
            (5, "overlay.vni: \"0\" is not a whole number from 1 to 16777215"),
            (6, "overlay.port: \"70000\" is not a port"),
            (7, "overlay.mtu: \"100\" is not a whole number of bytes"),
            (8, "overlay.masquerade: expected true or false"),
            (9, "overlay.no_masquerade: \"10.0.0.1/8\" is not networks"),
            (10, "overlay.probe_port: \"-1\" is not a port"),
            (11, "overlay.checksum_offload: \"maybe\" is not \"auto\", \"on\" or \"off\""),
            (12, "overlay.lease: \"subnet.env\" is not an absolute path"),
        ];
        for (line, words) in table {
            assert!(error.contains(&format!("f:{line}: {words}")), "{words}\n---\n{error}");
        }
        assert_eq!(error.lines().count(), table.len(), "{error}");
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let table = [
            ("flannel = true\nkubeconfig = \"/k\"", "f:2: overlay.flannel: nodes that run flannel"),
            (
                "flannel = true\nbackend = \"vxlan\"",
                "f:2: overlay.flannel: flannel tells its nodes by annotations in the API: set overlay.kubeconfig",
            ),
            ("port = 9\nprobe_port = 9", "f:3: overlay.probe_port: 9 is overlay.port"),
            (
                "mtu = 1200\n[network]\npod_cidr = \"10.244.0.0/16,fd00:244::/56\"",
                "f:2: overlay.mtu: IPv6, which network.pod_cidr asks for, needs at least 1280 bytes",
            ),
        ];
        for (text, words) in table {
            let error = load(text).unwrap_err();
            assert!(error.contains(words), "{words}\n---\n{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        assert!(load("port = 9\nprobe_port = 9\nbackend = \"host-gw\"").is_ok());
        assert!(load("mtu = 1200").is_ok());
    }
}
