//! Services: addresses for them, and rules that follow their endpoints.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use netns_tools::cause::one_line;

use crate::pod::plan::PodPlan;
use crate::pod::status::{PodStatus, StatusBoard};
use crate::proxy::allocate::ServiceAllocator;
use crate::proxy::pods::{PodEndpoint, service_ports};
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
    problems: Vec<String>,
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

    /// What is wrong with the node itself.
    pub fn problems(&self) -> Vec<String> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).problems.clone()
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

    /// Follows services and pods for ever. Nothing is written before services were wanted once: rules of an earlier agent
    /// are better than none. Without a backend addresses are allocated all the same.
    pub async fn follow(
        self,
        pods: StatusBoard,
        board: ServiceBoard,
        allocator: ServiceAllocator,
        backend: Option<Backend>,
    ) {
        let wanted = self.wanted.clone();
        let mut follower = Follower { wanted, pods, board, allocator, backend };
        // the first sync looks at node and kernel anyway
        let (mut resync, mut pause, mut due) = (Instant::now(), FIRST_RETRY, None);
        loop {
            tokio::select! {
                () = self.changed.notified() => {}
                () = follower.pods.changed() => {}
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
            tokio::time::sleep(GATHER).await;
            let thorough = Instant::now() >= resync;
            match follower.turn(thorough).await {
                Turn::NothingWanted => {}
                Turn::Ended => return,
                Turn::Done => {
                    if thorough {
                        resync = Instant::now() + RESYNC;
                    }
                    (due, pause) = (Some(resync), FIRST_RETRY);
                }
                Turn::Failed => {
                    due = Some(Instant::now() + pause);
                    pause = (pause * 2).min(LAST_RETRY);
                }
            }
        }
    }
}

/// What writes rules.
pub struct Backend {
    /// The proxy.
    pub proxy: Proxy,
    /// Makes the node what the rules need it to be, and says in words what is not. Blocking; called now and then, as others
    /// may change it.
    pub prepare: fn() -> Vec<String>,
}

struct Follower {
    wanted: Arc<Mutex<Option<Vec<Sourced<Service>>>>>,
    pods: StatusBoard,
    board: ServiceBoard,
    allocator: ServiceAllocator,
    backend: Option<Backend>,
}

enum Turn {
    NothingWanted,
    Done,
    Failed,
    Ended,
}

impl Follower {
    /// Makes the rules what they should be. `thorough`: compared with the kernel rather than with what was written last.
    async fn turn(&mut self, thorough: bool) -> Turn {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(wanted) = wanted else { return Turn::NothingWanted };
        let services = allocate(&mut self.allocator, wanted, &self.board);
        let desired = Desired { services, pods: endpoints(&self.pods) };
        let described = describe(&desired);
        let Some(mut backend) = self.backend.take() else {
            self.board.write(|state| state.services = described);
            return Turn::Done;
        };
        let synced = spawn_blocking(move || {
            let problems = thorough.then(backend.prepare);
            if thorough {
                backend.proxy.distrust();
            }
            (backend.proxy.sync(&desired), problems, backend)
        });
        let (outcome, problems, backend) = match synced.await {
            Ok(synced) => synced,
            Err(error) => {
                tracing::error!(%error, "the proxy ended");
                self.board.write(|state| state.failure = Some(format!("the proxy ended: {error}")));
                return Turn::Ended;
            }
        };
        self.backend = Some(backend);
        if let Some(problems) = problems {
            self.note(problems);
        }
        match &outcome {
            Ok(report) if report.written + report.deleted > 0 => {
                let (written, deleted) = (report.written, report.deleted);
                tracing::info!(written, deleted, "service rules written");
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(error = one_line(error), "service rules are not up to date");
            }
        }
        let turn = if outcome.is_ok() { Turn::Done } else { Turn::Failed };
        self.board.write(|state| {
            // told only once the rules are in force: whoever reads of an endpoint may use it
            if outcome.is_ok() {
                state.services = described;
            }
            state.failure = outcome.err().map(|error| one_line(&error));
        });
        turn
    }

    fn note(&self, problems: Vec<String>) {
        self.board.write(|state| {
            for problem in problems.iter().filter(|problem| !state.problems.contains(problem)) {
                tracing::warn!(problem, "the node is not as services need it");
            }
            state.problems = problems;
        });
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
    if let Err(error) = allocator.retain(&all) {
        let (object, reason) = ("services".to_owned(), error.to_string());
        errors.push(SourceError { object, reason, ..SourceError::default() });
    }
    let mut services = Vec::new();
    // what people chose comes before what is allocated, or an allocation could take it
    let (chosen, free): (Vec<_>, Vec<_>) =
        wanted.into_iter().partition(|service| has_choice(&service.object));
    for Sourced { path, line, mut object } in chosen.into_iter().chain(free) {
        match allocator.assign(&mut object) {
            Ok(()) => services.push(object),
            Err(error) => {
                let meta = &object.metadata;
                let name = format!(
                    "Service {}/{}",
                    meta.namespace.as_deref().unwrap_or("default"),
                    meta.name.as_deref().unwrap_or_default()
                );
                let (line, reason) = (Some(line), error.to_string());
                errors.push(SourceError { path, line, object: name, reason });
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
    let endpoint = |(plan, status): (PodPlan, PodStatus)| {
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
