//! What an operator and a load balancer see of the proxy: metrics, health, configuration, and the health-check node ports.
//!
//! [`Ops`] is told what happens and tells it on. It decides nothing about rules; where its servers fail, rules go on.
//!
//! | file | what |
//! | --- | --- |
//! | `health` | whether the rules keep up: pure, told the time |
//! | `metrics`, `exposition` | numbers under kube-proxy's names; their text |
//! | `process`, `packets` | numbers that are read when they are asked for |
//! | `observe` | what the sync loop tells becomes numbers and health |
//! | `no_local` | services that the policy Local leaves without endpoints here |
//! | `routes` | what 10249 and 10256 answer |
//! | `checks` | the health-check node ports |
//! | `listen`, `serving` | sockets, and the servers at them |

mod checks;
mod clock;
pub(crate) mod exposition;
mod health;
mod listen;
mod metrics;
mod no_local;
mod observe;
mod packets;
mod process;
mod routes;
mod serving;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use netns_tools::iptables::Family;
use serde_json::Value;
use tokio::sync::watch;

use checks::Wanted;
pub use clock::{Clock, Moment, SystemClock};
pub use health::{Body, Health, Report};
pub use listen::{Server, listen};
use metrics::Metrics;
use no_local::NoLocalEndpoints;
pub use serving::{ListenError, Listeners, Serving, SettingNames};

use super::model::ServiceName;
use super::options::NodePortAddresses;

/// What writes the rules, as `/proxyMode` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `iptables`
    Iptables,
    /// `nftables`
    Nftables,
}

impl Mode {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
        }
    }
}

/// A family's name in labels and documents, as Kubernetes writes it.
pub(crate) fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// What does not change while the proxy runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What writes the rules.
    pub mode: Mode,
    /// How long a change may wait before the proxy counts as unhealthy; kube-proxy takes twice its sync period.
    pub health_timeout: Duration,
    /// The effective `KubeProxyConfiguration`.
    pub configuration: Value,
}

/// Is told what the proxy does ([`super::run::Observer`]), and answers those who ask. Cheap to copy; all copies are one.
#[derive(Clone)]
pub struct Ops(Arc<Inner>);

struct Inner {
    settings: Settings,
    clock: Box<dyn Clock>,
    metrics: Metrics,
    health: Mutex<Health>,
    no_local: Mutex<BTreeMap<Family, NoLocalEndpoints>>,
    pending: Mutex<BTreeMap<Family, (usize, usize)>>,
    checks: watch::Sender<Wanted>,
    problems: Mutex<BTreeMap<&'static str, Vec<String>>>,
}

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ops").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ops {
    /// By this machine's clocks.
    pub fn new(settings: Settings) -> Self {
        Self::with_clock(settings, Box::new(SystemClock::default()))
    }

    /// By a clock of the caller's.
    pub fn with_clock(settings: Settings, clock: Box<dyn Clock>) -> Self {
        let inner = Inner {
            metrics: Metrics::new(settings.mode),
            health: Mutex::new(Health::new(settings.health_timeout)),
            no_local: Mutex::default(),
            pending: Mutex::default(),
            checks: watch::channel(Wanted::default()).0,
            problems: Mutex::default(),
            settings,
            clock,
        };
        Self(Arc::new(inner))
    }

    /// What writes the rules.
    pub fn mode(&self) -> Mode {
        self.0.settings.mode
    }

    /// The effective `KubeProxyConfiguration`.
    pub fn configuration(&self) -> &Value {
        &self.0.settings.configuration
    }

    /// Whether the rules keep up.
    pub fn health(&self) -> Report {
        lock(&self.0.health).report(self.0.clock.now())
    }

    /// All numbers, in Prometheus' text format.
    pub fn metrics_text(&self) -> String {
        self.0.metrics.text()
    }

    /// What is wrong with the servers now, in words.
    pub fn problems(&self) -> Vec<String> {
        lock(&self.0.problems).values().flatten().cloned().collect()
    }

    /// What a part of the servers finds wrong; it is logged when it is new.
    fn note(&self, part: &'static str, problems: Vec<String>) {
        let mut all = lock(&self.0.problems);
        let known = all.insert(part, problems.clone()).unwrap_or_default();
        for problem in problems.iter().filter(|problem| !known.contains(problem)) {
            tracing::warn!("{problem}");
        }
    }

    fn count_answer(&self, live: bool, status: StatusCode) {
        self.0.metrics.answered(live, status.as_u16());
    }

    /// How many endpoints of a service are here, as its health check is to tell.
    fn local_endpoints(&self, service: &ServiceName) -> usize {
        self.0.checks.borrow().checks.get(service).map_or(0, |check| check.local_endpoints)
    }

    fn checks(&self) -> watch::Receiver<Wanted> {
        self.0.checks.subscribe()
    }

    /// Where health checks are answered: where node ports are, of both families.
    pub fn set_node_ports(&self, at: &NodePortAddresses) {
        self.0.checks.send_if_modified(|wanted| {
            let differs = wanted.at != *at;
            wanted.at.clone_from(at);
            differs
        });
    }
}

#[cfg(test)]
mod tests;
