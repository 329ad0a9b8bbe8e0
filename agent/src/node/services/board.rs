//! What readers see of services: told by the follower and by the proxy's loop.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use netns_tools::iptables::Family;
use serde::{Deserialize, Serialize};

use crate::proxy::model::{FAMILIES, Model, PortId, Protocol, ServiceName};
use crate::proxy::run::{Failure, Observer, Synced};
use crate::source::SourceError;

/// A service as `heddle-agent status` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `ClusterIP`, `NodePort`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Its first address; `None` if headless.
    pub cluster_ip: String,
    /// All its addresses, if there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_ips: Vec<String>,
    /// Its ports.
    pub ports: Vec<PortStatus>,
}

/// One port of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    /// Name; may be empty.
    pub name: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Number at the cluster address.
    pub port: i32,
    /// Number at the node's addresses.
    pub node_port: Option<i32>,
    /// Where traffic goes.
    pub endpoints: Vec<String>,
}

/// The proxy as `heddle-agent status` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyStatus {
    /// `iptables` or `nftables`.
    pub mode: String,
    /// When rules were last found or made to be as they should be, by RFC 3339; of the family for which that is longest ago.
    pub last_sync: Option<String>,
}

/// What readers see of services.
#[derive(Clone, Debug, Default)]
pub struct ServiceBoard {
    state: Arc<RwLock<BoardState>>,
}

#[derive(Clone, Debug, Default)]
struct BoardState {
    services: Vec<ServiceStatus>,
    /// What is to be told once so many events are in force.
    coming: Vec<(u64, Vec<ServiceStatus>)>,
    errors: Vec<SourceError>,
    /// By family; one of a follower that ended has none.
    failures: BTreeMap<Option<Family>, String>,
    synced: BTreeMap<Family, SystemTime>,
    problems: Vec<String>,
}

impl ServiceBoard {
    fn read<T>(&self, look: impl FnOnce(&BoardState) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, change: impl FnOnce(&mut BoardState)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// All services.
    pub fn services(&self) -> Vec<ServiceStatus> {
        self.read(|state| state.services.clone())
    }

    /// Services that could not have what they ask for.
    pub fn errors(&self) -> Vec<SourceError> {
        self.read(|state| state.errors.clone())
    }

    /// Why the rules are not up to date.
    pub fn failure(&self) -> Option<String> {
        self.read(|state| {
            let mut reasons: Vec<_> = state.failures.values().cloned().collect();
            reasons.dedup();
            (!reasons.is_empty()).then(|| reasons.join("; "))
        })
    }

    /// What is wrong with the node itself.
    pub fn problems(&self) -> Vec<String> {
        self.read(|state| state.problems.clone())
    }

    /// When the rules were last as they should be.
    pub fn last_sync(&self) -> Option<String> {
        let oldest = self.read(|state| state.synced.values().min().copied())?;
        Timestamp::try_from(oldest).ok().map(|time| format!("{time:.0}"))
    }

    pub(super) fn set_errors(&self, errors: Vec<SourceError>) {
        self.write(|state| state.errors = errors);
    }

    /// What is wrong with the node, of which the log is told what is new.
    pub(super) fn set_problems(&self, problems: Vec<String>) {
        self.write(|state| {
            for problem in problems.iter().filter(|problem| !state.problems.contains(problem)) {
                tracing::warn!(problem, "the node is not as services need it");
            }
            state.problems = problems;
        });
    }

    pub(super) fn ended(&self, reason: String) {
        self.write(|state| drop(state.failures.insert(None, reason)));
    }

    /// Shows services once the first so many events are in force: whoever reads of an endpoint may use it.
    pub(super) fn expect(&self, events: u64, services: Vec<ServiceStatus>) {
        self.write(|state| state.coming.push((events, services)));
    }
}

impl Observer for ServiceBoard {
    fn synced(&self, family: Family, synced: &Synced<'_>) {
        self.write(|state| {
            state.failures.remove(&Some(family));
            state.synced.insert(family, synced.at);
        });
    }

    fn failed(&self, family: Family, failure: &Failure) {
        self.write(|state| drop(state.failures.insert(Some(family), failure.reason.clone())));
    }

    fn settled(&self, events: u64) {
        self.write(|state| {
            while state.coming.first().is_some_and(|(count, _)| *count <= events) {
                state.services = state.coming.remove(0).1;
            }
        });
    }
}

/// Services as they are shown, in order of name; `model` knows their endpoints.
pub(super) fn describe(services: &[Service], model: &Model) -> Vec<ServiceStatus> {
    let mut described: Vec<_> = services.iter().map(|service| status(service, model)).collect();
    described.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    described
}

fn status(service: &Service, model: &Model) -> ServiceStatus {
    let spec = service.spec.clone().unwrap_or_default();
    let namespace = service.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let name = service.metadata.name.clone().unwrap_or_default();
    let id = ServiceName::new(&namespace, &name);
    let cluster_ips = spec.cluster_ips.filter(|ips| ips.len() > 1).unwrap_or_default();
    ServiceStatus {
        kind: spec.type_.unwrap_or_else(|| "ClusterIP".to_owned()),
        cluster_ip: spec.cluster_ip.unwrap_or_default(),
        cluster_ips,
        ports: spec.ports.iter().flatten().map(|port| port_status(&id, port, model)).collect(),
        namespace,
        name,
    }
}

fn port_status(service: &ServiceName, port: &ServicePort, model: &Model) -> PortStatus {
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    let name = port.name.clone().unwrap_or_default();
    let id = PortId {
        service: service.clone(),
        port: name.as_str().into(),
        protocol: Protocol::parse(&protocol).unwrap_or(Protocol::Tcp),
    };
    let served = FAMILIES.into_iter().filter_map(|family| model.ports(family).get(&id));
    let endpoints = served.flat_map(|port| port.reachable());
    PortStatus {
        name,
        port: port.port,
        node_port: port.node_port,
        endpoints: endpoints.map(|endpoint| endpoint.address.to_string()).collect(),
        protocol,
    }
}
