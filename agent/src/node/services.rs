//! Services: addresses for them, and rules that follow their endpoints.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::pod::status::StatusBoard;
use crate::proxy::allocate::ServiceAllocator;
use crate::proxy::model::{PodEndpoint, service_ports};
use crate::proxy::{Desired, Proxy};
use crate::source::{SourceError, Sourced};

/// How long changes are gathered before the rules are written: pods start and end in groups.
const GATHER: Duration = Duration::from_millis(50);
/// How often the rules are compared with the kernel without being told: somebody may have flushed them.
const RESYNC: Duration = Duration::from_mins(1);
/// How long to wait after a sync that failed, at first and at most.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

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
    /// Its address; `None` if headless.
    pub cluster_ip: String,
    /// Its ports.
    pub ports: Vec<PortStatus>,
}

/// One port of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    /// Name; may be empty.
    pub name: String,
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// Number at the cluster address.
    pub port: i32,
    /// Number at the node's addresses.
    pub node_port: Option<i32>,
    /// Where traffic goes.
    pub endpoints: Vec<String>,
}

/// What readers see of services.
#[derive(Clone, Debug, Default)]
pub struct ServiceBoard {
    state: Arc<RwLock<BoardState>>,
}

#[derive(Clone, Debug, Default)]
struct BoardState {
    services: Vec<ServiceStatus>,
    errors: Vec<SourceError>,
    failure: Option<String>,
}

impl ServiceBoard {
    /// All services.
    pub fn services(&self) -> Vec<ServiceStatus> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).services.clone()
    }

    /// Services that could not have what they ask for.
    pub fn errors(&self) -> Vec<SourceError> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).errors.clone()
    }

    /// Why the rules are not up to date.
    pub fn failure(&self) -> Option<String> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).failure.clone()
    }

    fn write(&self, change: impl FnOnce(&mut BoardState)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The way to tell the proxy's task what is wanted.
#[derive(Clone, Debug, Default)]
pub struct Services {
    wanted: Arc<Mutex<Option<Vec<Sourced<Service>>>>>,
    changed: Arc<Notify>,
}

impl Services {
    /// Sets the services that should be there.
    pub fn want(&self, services: Vec<Sourced<Service>>) {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(services);
        self.changed.notify_one();
    }

    /// Follows services and pods for ever. Nothing is written before the manifests have been read once: rules of an
    /// earlier agent are better than none. Without a proxy addresses are allocated all the same.
    pub async fn follow(
        self,
        pods: StatusBoard,
        board: ServiceBoard,
        mut allocator: ServiceAllocator,
        proxy: Option<Proxy>,
    ) {
        let mut proxy = proxy;
        let mut pause = FIRST_RETRY;
        let mut wait = RESYNC;
        loop {
            let timed_out = tokio::select! {
                () = self.changed.notified() => false,
                () = pods.changed() => false,
                () = tokio::time::sleep(wait) => true,
            };
            tokio::time::sleep(GATHER).await;
            let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let Some(wanted) = wanted else { continue };
            let services = allocate(&mut allocator, wanted, &board);
            let desired = Desired { services, pods: endpoints(&pods) };
            let described = describe(&desired);
            let failure = match proxy.take() {
                None => None,
                Some(mut known) => {
                    if timed_out {
                        known.distrust();
                    }
                    let (failure, known) = sync(known, desired).await;
                    if known.is_none() {
                        board.write(|state| state.failure = failure);
                        return;
                    }
                    proxy = known;
                    failure
                }
            };
            // told only once the rules are in force: whoever reads of an endpoint may use it
            if failure.is_none() {
                board.write(|state| state.services = described);
            }
            (wait, pause) = if failure.is_none() {
                (RESYNC, FIRST_RETRY)
            } else {
                (pause, (pause * 2).min(LAST_RETRY))
            };
            board.write(|state| state.failure = failure);
        }
    }
}

/// Writes the rules on a blocking thread. Why that failed, and the proxy, unless it was lost to a panic.
async fn sync(mut proxy: Proxy, desired: Desired) -> (Option<String>, Option<Proxy>) {
    match tokio::task::spawn_blocking(move || (proxy.sync(&desired), proxy)).await {
        Ok((Ok(report), proxy)) => {
            if report.written + report.deleted > 0 {
                tracing::info!(
                    written = report.written,
                    deleted = report.deleted,
                    "service rules written"
                );
            }
            (None, Some(proxy))
        }
        Ok((Err(error), proxy)) => {
            let reason = netns_tools::cause::one_line(&error);
            tracing::warn!(reason, "service rules are not up to date");
            (Some(reason), Some(proxy))
        }
        Err(error) => {
            tracing::error!(%error, "the proxy ended");
            (Some(format!("the proxy ended: {error}")), None)
        }
    }
}

/// Addresses for all; a service that cannot have what it asks for is reported and left out.
fn allocate(
    allocator: &mut ServiceAllocator,
    wanted: Vec<Sourced<Service>>,
    board: &ServiceBoard,
) -> Vec<Service> {
    let mut errors = Vec::new();
    let all: Vec<_> = wanted.iter().map(|service| service.object.clone()).collect();
    let mut note = |path: &std::path::Path, object: String, reason: String| {
        errors.push(SourceError { path: path.to_owned(), object, reason });
    };
    if let Err(error) = allocator.retain(&all) {
        note(std::path::Path::new(""), "services".to_owned(), error.to_string());
    }
    let mut services = Vec::new();
    // what people chose comes before what is allocated, or an allocation could take it
    let (chosen, free): (Vec<_>, Vec<_>) =
        wanted.into_iter().partition(|service| has_choice(&service.object));
    for Sourced { path, mut object } in chosen.into_iter().chain(free) {
        match allocator.assign(&mut object) {
            Ok(()) => services.push(object),
            Err(error) => {
                let meta = &object.metadata;
                let name = format!(
                    "Service {}/{}",
                    meta.namespace.as_deref().unwrap_or("default"),
                    meta.name.as_deref().unwrap_or_default()
                );
                note(&path, name, error.to_string());
            }
        }
    }
    board.write(|state| state.errors = errors);
    services
}

fn has_choice(service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    let address = spec.cluster_ip.as_deref().is_some_and(|ip| !ip.is_empty());
    address || spec.ports.iter().flatten().any(|port| port.node_port.is_some())
}

fn endpoints(pods: &StatusBoard) -> Vec<PodEndpoint> {
    let endpoint = |(plan, status): (crate::pod::plan::PodPlan, crate::pod::status::PodStatus)| {
        let ip = status.ips.iter().copied().find(IpAddr::is_ipv4)?;
        Some(PodEndpoint {
            namespace: plan.pod.namespace.clone(),
            name: plan.pod.name.clone(),
            ports: plan.containers.iter().flat_map(|container| container.ports.clone()).collect(),
            ready: status.is_ready(),
            labels: plan.labels,
            ip,
        })
    };
    pods.all().into_iter().filter_map(endpoint).collect()
}

fn describe(desired: &Desired) -> Vec<ServiceStatus> {
    let status = |service: &Service| {
        let spec = service.spec.clone().unwrap_or_default();
        let served = service_ports(std::slice::from_ref(service), &desired.pods);
        let ports = spec.ports.iter().flatten().map(|port| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            let same = served.iter().find(|served| {
                i32::from(served.port) == port.port
                    && served.protocol.as_str().eq_ignore_ascii_case(&protocol)
            });
            PortStatus {
                name: port.name.clone().unwrap_or_default(),
                port: port.port,
                node_port: port.node_port,
                endpoints: same
                    .map(|same| same.endpoints.iter().map(ToString::to_string).collect())
                    .unwrap_or_default(),
                protocol,
            }
        });
        ServiceStatus {
            namespace: service.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()),
            name: service.metadata.name.clone().unwrap_or_default(),
            kind: spec.type_.clone().unwrap_or_else(|| "ClusterIP".to_owned()),
            cluster_ip: spec.cluster_ip.clone().unwrap_or_default(),
            ports: ports.collect(),
        }
    };
    let mut services: Vec<_> = desired.services.iter().map(status).collect();
    services.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    services
}
