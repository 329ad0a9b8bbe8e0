//! The validated configuration of the agent.

mod overlay;

pub use overlay::{ChecksumOffload, NodeSource, OverlayBackend, OverlayConfig};

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::dns;
use crate::error::{ConfigError, Mistake};
use crate::key::KEYS;
use crate::layer::{Layer, Written};

/// The agent's configuration. Every value is usable as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// Name of this node.
    pub node_name: String,
    /// Folders and files.
    pub paths: PathConfig,
    /// CNI.
    pub cni: CniConfig,
    /// containerd.
    pub containerd: ContainerdConfig,
    /// Ranges.
    pub network: NetworkConfig,
    /// Pods.
    pub pods: PodsConfig,
    /// The service proxy.
    pub proxy: ProxyConfig,
    /// Pods of different nodes.
    pub overlay: OverlayConfig,
    /// Where `/healthz` answers.
    pub health_address: Option<SocketAddr>,
    /// How much to log.
    pub log_level: LogLevel,
}

/// Folders and files of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathConfig {
    /// Manifests.
    pub manifests: PathBuf,
    /// State that survives a restart.
    pub state: PathBuf,
    /// Logs of containers.
    pub logs: PathBuf,
    /// The status socket.
    pub socket: PathBuf,
}

/// How to call CNI plugins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniConfig {
    /// Folder of network lists.
    pub conf_dir: PathBuf,
    /// Folders of plugins, in order.
    pub bin_dirs: Vec<PathBuf>,
    /// Folder of cached results.
    pub cache_dir: PathBuf,
    /// Limit on one plugin call.
    pub timeout: Duration,
}

/// How to reach containerd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerdConfig {
    /// Its socket.
    pub socket: PathBuf,
    /// Our namespace in it.
    pub namespace: String,
    /// The snapshotter.
    pub snapshotter: String,
}

/// Ranges of addresses and ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// All pods: one range, or one of each family.
    pub pod_cidrs: Vec<IpNetwork>,
    /// Services: one range, or one of each family, the default family first. They do not overlap the pods'.
    pub service_cidrs: Vec<IpNetwork>,
    /// Node ports.
    pub node_ports: RangeInclusive<u16>,
}

/// What holds for all pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodsConfig {
    /// Time between SIGTERM and SIGKILL for pods that do not say.
    pub termination_grace: Duration,
}

/// The service proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyConfig {
    /// Whether to write rules for services.
    pub enabled: bool,
    /// What they are written with.
    pub mode: ProxyMode,
    /// Where `/metrics`, `/proxyMode` and `/configz` answer.
    pub metrics_address: Option<SocketAddr>,
    /// Where `/healthz` and `/livez` answer. An address that is unspecified is every one of both families.
    pub healthz_address: Option<SocketAddr>,
    /// Whether a port of these that is taken is fatal.
    pub bind_address_hard_fail: bool,
}

/// What rules for services are written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyMode {
    /// `iptables-restore`.
    Iptables,
    /// Netlink messages to nf_tables.
    Nftables,
}

impl ProxyMode {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
        }
    }
}

impl FromStr for ProxyMode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Iptables, Self::Nftables].into_iter().find(|mode| mode.as_str() == text).ok_or(())
    }
}

/// How much to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the levels need no explanation")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl FromStr for LogLevel {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace]
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or(())
    }
}

/// The layers put together, and the mistakes found so far.
struct Reader {
    merged: Layer,
}

impl Reader {
    /// Reads one value; a mistake is noted and the key's own default stands in, so that the others are looked at as well.
    fn get<T>(&mut self, name: &'static str, parse: impl Fn(&[String]) -> Option<T>) -> Option<T> {
        let key = KEYS.iter().find(|key| key.name == name)?;
        let written = self.merged.values.get(name)?.clone();
        let parsed = parse(&written.items);
        if parsed.is_none() {
            let found = written.items.join(", ");
            self.note(&written, format!("{name}: {found:?} is not {}", key.kind.expects()));
        }
        parsed
    }

    fn note(&mut self, written: &Written, reason: String) {
        self.merged.mistakes.push(Mistake { place: written.place.clone(), reason });
    }

    fn path(&mut self, name: &'static str) -> Option<PathBuf> {
        self.get(name, |items| absolute(items.first()?))
    }

    fn text(&mut self, name: &'static str) -> Option<String> {
        self.get(name, |items| items.first().filter(|text| !text.is_empty()).cloned())
    }

    fn proxy(&mut self) -> Option<ProxyConfig> {
        let enabled = self.get("proxy.enabled", |items| items.first()?.parse().ok());
        let mode = self.get("proxy.mode", |items| items.first()?.parse().ok());
        let metrics = self.get("proxy.metrics_bind_address", addresses);
        let healthz = self.get("proxy.healthz_bind_address", addresses);
        let hard_fail =
            self.get("proxy.bind_address_hard_fail", |items| items.first()?.parse().ok());
        Some(ProxyConfig {
            enabled: enabled?,
            mode: mode?,
            metrics_address: metrics?.first().copied(),
            healthz_address: healthz?.first().copied(),
            bind_address_hard_fail: hard_fail?,
        })
    }

    /// Pods and services in one range would make an address mean two things.
    fn ranges(&mut self) -> Option<NetworkConfig> {
        let pod_cidrs = self.get("network.pod_cidr", cidrs);
        let service_cidrs = self.get("network.service_cidr", cidrs);
        let node_ports = self.get("network.node_ports", |items| ports(items.first()?));
        let network = NetworkConfig {
            pod_cidrs: pod_cidrs?,
            service_cidrs: service_cidrs?,
            node_ports: node_ports?,
        };
        for services in &network.service_cidrs {
            let shared = |pods: &&IpNetwork| {
                pods.contains(services.network()) || services.contains(pods.network())
            };
            if let Some(pods) = network.pod_cidrs.iter().find(shared) {
                let written = self.merged.values.get("network.service_cidr")?.clone();
                self.note(&written, format!("network.service_cidr {services} overlaps network.pod_cidr {pods}; choose separate ranges"));
            }
        }
        Some(network)
    }
}

fn absolute(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    path.is_absolute().then(|| path.to_owned())
}

/// One range, or two of different families, with a comma between or as two items.
fn cidrs(items: &[String]) -> Option<Vec<IpNetwork>> {
    let texts = items.iter().flat_map(|item| item.split(','));
    let parse =
        |text: &str| text.trim().parse::<IpNetwork>().ok().filter(|net| net.ip() == net.network());
    let parsed: Vec<_> = texts.map(parse).collect::<Option<_>>()?;
    match parsed[..] {
        [_] => Some(parsed),
        [first, second] if first.is_ipv4() != second.is_ipv4() => Some(parsed),
        _ => None,
    }
}

fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?);
    (first > 0 && first <= last).then_some(first..=last)
}

/// Labels with dots between them.
fn dns_name(text: &str) -> Option<String> {
    (dns::is_subdomain(text) && text.split('.').all(dns::is_label)).then(|| text.to_owned())
}

/// containerd's `identifiers` package: letters and digits with single `.`, `_` or `-` between them.
fn identifier(text: &str) -> Option<String> {
    let part = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric());
    (text.len() <= 76 && text.split(['.', '_', '-']).all(part)).then(|| text.to_owned())
}

fn seconds(text: &str) -> Option<Duration> {
    text.parse().ok().filter(|seconds| *seconds >= 1).map(Duration::from_secs)
}

/// No address at all is an empty list. Port 0 would be one that nobody is told of.
fn addresses(items: &[String]) -> Option<Vec<SocketAddr>> {
    let text = items.first()?;
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.parse().ok().filter(|address: &SocketAddr| address.port() > 0).map(|address| vec![address])
}

impl AgentConfig {
    /// Puts layers together, the last one winning, and validates the outcome. Every mistake is reported.
    pub fn from_layers(layers: impl IntoIterator<Item = Layer>) -> Result<Self, ConfigError> {
        let mut merged = Layer::default();
        for layer in layers {
            merged.values.extend(layer.values);
            merged.mistakes.extend(layer.mistakes);
        }
        let mut reader = Reader { merged };
        let config = Self::read(&mut reader);
        match config {
            Some(config) if reader.merged.mistakes.is_empty() => Ok(config),
            _ => Err(ConfigError::Mistakes(reader.merged.mistakes)),
        }
    }

    fn read(reader: &mut Reader) -> Option<Self> {
        let node_name = reader.get("node_name", |items| dns_name(items.first()?));
        let (manifests, state) = (reader.path("paths.manifests"), reader.path("paths.state"));
        let (logs, socket) = (reader.path("paths.logs"), reader.path("paths.socket"));
        let (conf_dir, cache_dir) = (reader.path("cni.conf_dir"), reader.path("cni.cache_dir"));
        let bin_dirs = reader.get("cni.bin_dirs", |items| {
            let paths: Option<Vec<_>> = items.iter().map(|item| absolute(item)).collect();
            paths.filter(|paths| !paths.is_empty())
        });
        let timeout = reader.get("cni.timeout_seconds", |items| seconds(items.first()?));
        let containerd_socket = reader.path("containerd.socket");
        let namespace = reader.get("containerd.namespace", |items| identifier(items.first()?));
        let snapshotter = reader.text("containerd.snapshotter");
        let network = reader.ranges();
        let termination_grace =
            reader.get("pods.termination_grace_seconds", |items| seconds(items.first()?));
        let proxy = reader.proxy();
        let overlay = reader.overlay(network.as_ref());
        let health_address = reader.get("health.address", addresses);
        let log_level = reader.get("log.level", |items| items.first()?.parse().ok());
        Some(Self {
            node_name: node_name?,
            paths: PathConfig {
                manifests: manifests?,
                state: state?,
                logs: logs?,
                socket: socket?,
            },
            cni: CniConfig {
                conf_dir: conf_dir?,
                bin_dirs: bin_dirs?,
                cache_dir: cache_dir?,
                timeout: timeout?,
            },
            containerd: ContainerdConfig {
                socket: containerd_socket?,
                namespace: namespace?,
                snapshotter: snapshotter?,
            },
            network: network?,
            pods: PodsConfig { termination_grace: termination_grace? },
            proxy: proxy?,
            overlay: overlay?,
            health_address: health_address?.first().copied(),
            log_level: log_level?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<AgentConfig, String> {
        let layers = [Layer::defaults("node"), Layer::text(text, "agent.toml")];
        AgentConfig::from_layers(layers).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_valid() {
        let config = load("").unwrap();
        assert_eq!(config.node_name, "node");
        assert_eq!(config.network.node_ports, 30000..=32767);
        assert_eq!(config.cni.timeout, Duration::from_mins(1));
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let file = Layer::text("node_name = \"file\"\n[log]\nlevel = \"debug\"", "f");
        let given = [("node_name", vec!["flag".to_owned()])];
        let flags = Layer::flags(crate::Reader::Run, given);
        let config = AgentConfig::from_layers([Layer::defaults("d"), file, flags]).unwrap();
        assert_eq!((config.node_name.as_str(), config.log_level), ("flag", LogLevel::Debug));
    }

    #[test]
    fn a_flag_that_its_program_does_not_read_is_a_mistake_and_one_in_the_file_is_not() {
        let all = KEYS.iter().map(|key| (key.name, vec!["x".to_owned()]));
        let refused = |reader| -> Vec<_> {
            let layer = Layer::flags(reader, all.clone());
            layer.mistakes.into_iter().map(|mistake| mistake.to_string()).collect()
        };
        assert_eq!(
            refused(crate::Reader::Run),
            ["--overlay-socket: heddle-agent run has no use for overlay.socket; leave it out"]
        );
        let overlay = refused(crate::Reader::Overlay);
        for name in
            ["--overlay-enabled", "--cni-bin-dirs", "--network-service-cidr", "--paths-logs"]
        {
            assert!(overlay.iter().any(|text| text.starts_with(&format!("{name}: "))), "{name}");
        }
        for key in KEYS.iter().filter(|key| key.is_read_by(crate::Reader::Overlay)) {
            let flag = format!("--{}: ", key.flag());
            assert!(!overlay.iter().any(|text| text.starts_with(&flag)), "{flag}");
        }
        assert!(load("[overlay]\nsocket = \"/x\"\nenabled = true").is_ok());
    }

    #[test]
    fn every_mistake_is_reported_with_its_line() {
        let text = "[paths]\nmanifest = \"/x\"\nstate = \"relative\"\n\n[network]\npod_cidr = \"10.96.0.0/16\"\nnode_ports = \"9-1\"\n\
                    \n[cni]\ntimeout_seconds = \"5\"\n";
        let error = load(text).unwrap_err();
        for expected in [
            "agent.toml:2: unknown key paths.manifest; did you mean paths.manifests?",
            "agent.toml:3: paths.state: \"relative\" is not an absolute path",
            "agent.toml:7: network.node_ports: \"9-1\" is not a range of ports",
            "agent.toml:10: cni.timeout_seconds: expected a whole number of seconds",
        ] {
            assert!(error.contains(expected), "{expected}\n---\n{error}");
        }
        assert_eq!(error.lines().count(), 4, "{error}");
    }

    #[test]
    fn names_are_checked() {
        let error = load("node_name = \"My_Host\"\n[containerd]\nnamespace = \"a b\"").unwrap_err();
        assert!(error.contains("agent.toml:1: node_name: \"My_Host\" is not a name"), "{error}");
        assert!(error.contains("agent.toml:3: containerd.namespace: \"a b\" is not"), "{error}");
        assert!(
            load("node_name = \"node-1.example\"\n[containerd]\nnamespace = \"k8s.io\"").is_ok()
        );
        let error = load("[proxy]\nmode = \"magic\"").unwrap_err();
        assert!(
            error.contains("proxy.mode: \"magic\" is not \"iptables\" or \"nftables\""),
            "{error}"
        );
        assert_eq!(load("[proxy]\nmode = \"nftables\"").unwrap().proxy.mode, ProxyMode::Nftables);
    }

    #[test]
    fn there_may_be_a_range_of_each_family() {
        let text = |cidr: &str| format!("[network]\nservice_cidr = \"{cidr}\"");
        let config = load(&text("fd00:96::/108, 10.96.0.0/16")).unwrap();
        assert_eq!(
            config.network.service_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["fd00:96::/108", "10.96.0.0/16"]
        );
        for wrong in
            ["10.96.0.0/16,10.97.0.0/16", "", "10.96.0.0/16,", "10.0.0.0/8,fd00::/64,fd01::/64"]
        {
            let error = load(&text(wrong)).unwrap_err();
            assert!(error.contains("network.service_cidr"), "{error}");
        }
        let both = "[network]\npod_cidr = \"10.244.0.0/16,fd00::/64\"\nservice_cidr = \"10.96.0.0/12,fd00::/108\"";
        assert!(load(both).unwrap_err().contains("fd00::/108 overlaps network.pod_cidr fd00::/64"));
    }

    #[test]
    fn ranges_must_not_overlap() {
        let error = load("[network]\npod_cidr = \"10.96.4.0/24\"").unwrap_err();
        assert!(error.contains("overlaps network.pod_cidr 10.96.4.0/24"), "{error}");
        assert!(load("[network]\npod_cidr = \"10.244.0.5/16\"").unwrap_err().contains("pod_cidr"));
    }

    #[test]
    fn text_that_is_no_toml_says_where() {
        assert!(load("a = 1\nb = = 2").unwrap_err().starts_with("agent.toml:2: "));
        let both = load("a = = 1\n\n[log\n").unwrap_err();
        assert!(both.contains("agent.toml:1: ") && both.contains("agent.toml:3: "), "{both}");
        assert_eq!(
            load("proxy = 5").unwrap_err(),
            "agent.toml:1: proxy: is a table; write [proxy]"
        );
    }

    #[test]
    fn an_empty_address_is_none() {
        assert_eq!(load("[health]\naddress = \"\"").unwrap().health_address, None);
        let proxy = load("[proxy]\nmetrics_bind_address = \"\"").unwrap().proxy;
        assert_eq!(proxy.metrics_address, None);
        assert_eq!(proxy.healthz_address, Some("0.0.0.0:10256".parse().unwrap()));
        let text = "[proxy]\nhealthz_bind_address = \"[::1]:9\"\nbind_address_hard_fail = true";
        let proxy = load(text).unwrap().proxy;
        assert_eq!(proxy.metrics_address, Some("127.0.0.1:10249".parse().unwrap()));
        assert_eq!(proxy.healthz_address, Some("[::1]:9".parse().unwrap()));
        assert!(proxy.bind_address_hard_fail);
        for wrong in ["10249", "127.0.0.1", "localhost:10249", "127.0.0.1:0"] {
            let error = load(&format!("[proxy]\nmetrics_bind_address = \"{wrong}\"")).unwrap_err();
            let want = format!(
                "agent.toml:2: proxy.metrics_bind_address: \"{wrong}\" is not an address and a port"
            );
            assert!(error.starts_with(&want), "{error}");
        }
    }
}
