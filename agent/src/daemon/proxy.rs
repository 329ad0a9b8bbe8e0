//! The agent's own service proxy: what writes the rules, what feeds it, and the servers that tell of it.
//!
//! What the agent is told of the proxy becomes a `KubeProxyConfiguration`, the same that `heddle-agent proxy` takes: so both run by the
//! same rules and sysctls, and `/configz` tells what holds in words that tools know.

use std::net::SocketAddr;
use std::sync::Arc;

use conf::{AgentConfig, ConfigError};
use ipnetwork::IpNetwork;
use netns_tools::iptables::Family;
use tokio::sync::{mpsc, watch};

use super::{DaemonError, LOCK_PATIENCE};
use crate::lock::{Lock, Role};
use crate::node::{Follow, Prepare, ServiceBoard, Services};
use crate::pod::status::StatusBoard;
use crate::proxy::allocate::ServiceAllocator;
use crate::proxy::config::{Given, Loaded, load};
use crate::proxy::host::{self, HostConfig};
use crate::proxy::model::{FAMILIES, Node};
use crate::proxy::ops::{Listeners, Ops, Serving, SettingNames, Settings};
use crate::proxy::run::{self, Alarm, FamilyParts, Observer, Observers, Parts, Runner};

/// How often the rules are compared with the kernel without being told: somebody may have changed one of them.
const RESYNC: &str = "1m";
/// How the agent's configuration calls what the servers are set by.
const NAMES: SettingNames = SettingNames {
    metrics: "proxy.metrics_bind_address",
    health: "proxy.healthz_bind_address",
    hard_fail: "proxy.bind_address_hard_fail",
};

/// What writes rules for services; of no family, if nothing is to.
pub(super) struct Writer {
    loaded: Loaded,
    families: Vec<FamilyParts>,
    /// Who tells of the rules, and what keeps other proxies from writing; `None`: nothing writes any.
    held: Option<(Ops, Lock)>,
}

/// What must be kept for as long as rules are written.
pub(super) struct Writing {
    _lock: Lock,
    _serving: Serving,
}

impl Writer {
    pub(super) fn of(config: &AgentConfig) -> Result<Self, DaemonError> {
        let loaded = settings(config).map_err(DaemonError::ProxyConfig)?;
        if !config.proxy.enabled {
            return Ok(Self { loaded, families: Vec::new(), held: None });
        }
        let lock = Lock::take_patiently(Role::ServiceProxy, LOCK_PATIENCE)?;
        let wanted = |family: &Family| {
            let is_ours = |cidr: &IpNetwork| cidr.is_ipv4() == (*family == Family::V4);
            config.network.service_cidrs.iter().any(is_ours)
        };
        let required: Vec<_> = FAMILIES.into_iter().filter(wanted).collect();
        let (families, problems) = run::backends::open(loaded.config.mode, &required, false)
            .map_err(DaemonError::Rules)?;
        // a family that no service has an address of needs no rules
        for problem in &problems {
            tracing::info!("{problem}");
        }
        let ops = Ops::new(Settings {
            mode: loaded.config.mode,
            // as kube-proxy
            health_timeout: loaded.config.pace.resync * 2,
            configuration: loaded.document.clone(),
        });
        Ok(Self { loaded, families, held: Some((ops, lock)) })
    }

    /// Who tells of the rules.
    pub(super) fn ops(&self) -> Option<&Ops> {
        self.held.as_ref().map(|(ops, _)| ops)
    }

    /// Starts the servers, the proxy's loop and what feeds it. Where nothing writes rules, services still get their addresses.
    pub(super) fn start(
        self,
        config: &AgentConfig,
        services: Services,
        pods: StatusBoard,
        board: ServiceBoard,
        allocator: ServiceAllocator,
    ) -> Result<Option<Writing>, DaemonError> {
        let Self { loaded, families, held } = self;
        let mut observers: Vec<Arc<dyn Observer>> = vec![Arc::new(board.clone())];
        let serve = |(ops, lock): (Ops, Lock)| {
            let serving = ops.serve(listeners(&loaded))?;
            observers.push(Arc::new(ops));
            Ok::<_, DaemonError>(Writing { _lock: lock, _serving: serving })
        };
        let writing = held.map(serve).transpose()?;
        let node = Node::named(&config.node_name);
        let (events, received) = mpsc::channel(64);
        let (options, current) = watch::channel(loaded.config.rule_options(&node, &[]));
        let prepare = (!families.is_empty()).then(|| prepare(&loaded, &families));
        let parts = Parts {
            events: received,
            options: current,
            node: Some(node),
            alarm: if families.is_empty() { None } else { open_alarm() },
            families,
            pace: loaded.config.pace,
            observer: Arc::new(Observers(observers)),
        };
        tokio::spawn(Runner::new(parts).run());
        let node = config.node_name.clone();
        let follow = Follow { node, pods, board, allocator, events, options, prepare };
        tokio::spawn(services.follow(follow));
        Ok(writing)
    }
}

/// The agent's settings as kube-proxy's flags. What no flag says is as kube-proxy has it.
fn settings(config: &AgentConfig) -> Result<Loaded, ConfigError> {
    let proxy = &config.proxy;
    let address =
        |address: Option<SocketAddr>| address.map_or_else(String::new, |it| it.to_string());
    let pods: Vec<_> = config.network.pod_cidrs.iter().map(ToString::to_string).collect();
    let flags = [
        ("proxy-mode", proxy.mode.as_str().to_owned()),
        ("hostname-override", config.node_name.clone()),
        ("cluster-cidr", pods.join(",")),
        ("iptables-sync-period", RESYNC.to_owned()),
        // an agent's node ports are those of the whole node in either mode
        ("nodeport-addresses", "all".to_owned()),
        ("metrics-bind-address", address(proxy.metrics_address)),
        ("healthz-bind-address", address(proxy.healthz_address)),
        ("bind-address-hard-fail", proxy.bind_address_hard_fail.to_string()),
    ];
    let flags = flags.map(|(flag, text)| (flag.to_owned(), vec![text]));
    load(&Given { flags: flags.into(), ..Given::default() })
}

fn listeners(loaded: &Loaded) -> Listeners {
    Listeners {
        metrics: loaded.config.metrics,
        health: loaded.config.healthz,
        hard_fail: loaded.config.bind_hard_fail,
        names: NAMES,
    }
}

fn prepare(loaded: &Loaded, families: &[FamilyParts]) -> Prepare {
    let host = HostConfig {
        families: families.iter().map(|parts| parts.backend.family()).collect(),
        localhost_node_ports: loaded.config.serves_localhost(),
        // the node's bridges are those of its pods
        sets_bridges: true,
        conntrack: loaded.config.conntrack.clone(),
    };
    Arc::new(move || host::prepare(&host))
}

fn open_alarm() -> Option<Alarm> {
    match Alarm::open() {
        Ok(alarm) => Some(alarm),
        Err(error) => {
            tracing::info!(%error, "the kernel does not tell who changes rules; they are looked at instead");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use conf::Layer;

    use super::*;
    use crate::proxy::config::Mode;
    use crate::proxy::host::ConntrackConfig;
    use crate::proxy::options::{LocalTraffic, Pace, RuleOptions};

    fn of(text: &str) -> Loaded {
        let layers = [Layer::defaults("node-1.example"), Layer::text(text, "agent.toml")];
        settings(&AgentConfig::from_layers(layers).unwrap()).unwrap()
    }

    #[test]
    fn the_agents_settings_are_kube_proxys() {
        let both = "[network]\npod_cidr = \"10.244.0.0/16,fd00:244::/56\"\n";
        for mode in [Mode::Iptables, Mode::Nftables] {
            let loaded = of(&format!("{both}[proxy]\nmode = \"{}\"", mode.name()));
            assert_eq!(loaded.warnings, [""; 0]);
            let config = &loaded.config;
            assert_eq!((config.mode, config.node_name.as_str()), (mode, "node-1.example"));
            let minute = Duration::from_mins(1);
            assert_eq!(config.pace, Pace { least: Duration::ZERO, resync: minute });
            assert_eq!(config.conntrack, ConntrackConfig::default());
            let ranges = ["10.244.0.0/16", "fd00:244::/56"].map(|range| range.parse().unwrap());
            let want = RuleOptions {
                local: LocalTraffic::Cidrs(ranges.into()),
                localhost_node_ports: mode == Mode::Iptables,
                ..RuleOptions::default()
            };
            assert_eq!(config.rule_options(&Node::named("node-1.example"), &[]), want);
            assert_eq!(loaded.document["mode"], mode.name());
        }
    }

    #[test]
    fn the_servers_listen_where_they_are_told_to() {
        let parsed = |text: &str| Some(text.parse().unwrap());
        let (metrics, health) = (parsed("127.0.0.1:10249"), parsed("0.0.0.0:10256"));
        let usual = Listeners { metrics, health, hard_fail: false, names: NAMES };
        assert_eq!(listeners(&of("")), usual);
        let text = "[proxy]\nmetrics_bind_address = \"\"\nhealthz_bind_address = \"[::1]:9\"\nbind_address_hard_fail = true";
        let want =
            Listeners { metrics: None, health: parsed("[::1]:9"), hard_fail: true, names: NAMES };
        assert_eq!(listeners(&of(text)), want);
    }
}
