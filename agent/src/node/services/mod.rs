//! Services: addresses for them, and the events that tell the proxy's loop of them and of their endpoints.

mod board;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

pub use board::{PortStatus, ProxyStatus, ServiceBoard, ServiceStatus};

use crate::pod::plan::PodPlan;
use crate::pod::status::{PodStatus, StatusBoard};
use crate::proxy::allocate::ServiceAllocator;
use crate::proxy::host::Prepared;
use crate::proxy::model::{self, Event, Model, Slice};
use crate::proxy::options::RuleOptions;
use crate::proxy::pods::{self, PodEndpoint};
use crate::source::{SourceError, Sourced};

/// How long changes are gathered before they are told: pods start and end in groups.
const GATHER: Duration = Duration::from_millis(50);
/// How often the node's parameters are set: others may change them.
const PREPARE: Duration = Duration::from_mins(1);

/// What manifests say of services.
#[derive(Clone, Debug, Default)]
struct Wanted {
    services: Vec<Sourced<Service>>,
    slices: Vec<Sourced<EndpointSlice>>,
}

/// The way to tell the follower what is wanted.
#[derive(Clone, Debug, Default)]
pub struct Services {
    wanted: Arc<Mutex<Option<Wanted>>>,
    changed: Arc<Notify>,
}

/// What makes the node what the rules need it to be, and says what it is like. Blocking.
pub type Prepare = Arc<dyn Fn() -> Prepared + Send + Sync>;

/// What services are followed with.
pub struct Follow {
    /// This node's name.
    pub node: String,
    /// The pods that they may select.
    pub pods: StatusBoard,
    /// What is told of them.
    pub board: ServiceBoard,
    /// Their addresses.
    pub allocator: ServiceAllocator,
    /// The proxy's loop.
    pub events: mpsc::Sender<Event>,
    /// What its rules depend on besides.
    pub options: watch::Sender<RuleOptions>,
    /// Called now and then; `None`: nobody writes rules.
    pub prepare: Option<Prepare>,
}

impl Services {
    /// Sets what should be there: services, and the endpoints of those without a selector.
    pub fn want(&self, services: Vec<Sourced<Service>>, slices: Vec<Sourced<EndpointSlice>>) {
        let wanted = Wanted { services, slices };
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(wanted);
        self.changed.notify_one();
    }

    /// Follows services and pods for ever. Nothing is told before services were wanted once: rules of an earlier agent
    /// are better than none.
    pub async fn follow(self, follow: Follow) {
        let board = follow.board.clone();
        let model = Model::new(model::Node::named(&follow.node));
        let mut follower = Follower { wanted: self.wanted.clone(), follow, model, sent: 0 };
        let mut prepared_at = None;
        loop {
            let again = prepared_at.map_or_else(Instant::now, |at: Instant| at + PREPARE);
            tokio::select! {
                () = self.changed.notified() => {}
                () = follower.follow.pods.changed() => {}
                () = tokio::time::sleep_until(again), if follower.follow.prepare.is_some() => {
                    prepared_at = Some(Instant::now());
                    follower.prepare().await;
                    continue;
                }
            }
            tokio::time::sleep(GATHER).await;
            if follower.turn().await.is_err() {
                board.ended("the proxy ended; service rules are not up to date".to_owned());
                return;
            }
        }
    }
}

struct Follower {
    wanted: Arc<Mutex<Option<Wanted>>>,
    follow: Follow,
    /// What the proxy's loop will know, for those who ask.
    model: Model,
    sent: u64,
}

/// Nobody follows events any more.
struct Ended;

impl Follower {
    /// Tells all that there is: what has not changed costs nothing.
    async fn turn(&mut self) -> Result<(), Ended> {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(Wanted { services, slices }) = wanted else { return Ok(()) };
        let (services, mut errors) = allocate(&mut self.follow.allocator, services);
        let mut told = Vec::new();
        for service in &services {
            match model::Service::of(service) {
                Ok(service) => told.extend(service),
                Err(refused) => errors.push(SourceError {
                    object: format!("Service {}", refused.name),
                    reason: refused.reason,
                    ..SourceError::default()
                }),
            }
        }
        self.follow.board.set_errors(errors);
        let slices = self.slices(&services, &slices);
        let events = [Event::AllServices(told), Event::AllSlices(slices)];
        for event in &events {
            self.model.apply(event.clone());
        }
        self.sent += u64::try_from(events.len()).unwrap_or_default();
        self.follow.board.expect(self.sent, board::describe(&services, &self.model));
        for event in events {
            self.follow.events.send(event).await.map_err(|_| Ended)?;
        }
        Ok(())
    }

    /// Those of manifests, and those that pods make.
    fn slices(&self, services: &[Service], written: &[Sourced<EndpointSlice>]) -> Vec<Slice> {
        let written = written.iter().filter_map(|slice| Slice::of(&slice.object));
        let made = pods::slices(services, &endpoints(&self.follow.pods), &self.follow.node);
        let now = SystemTime::now();
        written.chain(made).map(|slice| Slice { triggered: Some(now), ..slice }).collect()
    }

    async fn prepare(&self) {
        let Some(prepare) = self.follow.prepare.clone() else { return };
        let prepared = match spawn_blocking(move || prepare()).await {
            Ok(prepared) => prepared,
            Err(error) => {
                tracing::error!(%error, "the node's parameters cannot be set");
                return;
            }
        };
        self.follow.board.set_problems(prepared.problems);
        let drop_invalid = !prepared.tcp_is_liberal;
        self.follow.options.send_if_modified(|options| {
            std::mem::replace(&mut options.drop_invalid, drop_invalid) != drop_invalid
        });
    }
}

/// Addresses for all, and what is wrong with those that cannot have what they ask for, which are left out.
fn allocate(
    allocator: &mut ServiceAllocator,
    wanted: Vec<Sourced<Service>>,
) -> (Vec<Service>, Vec<SourceError>) {
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
    (services, errors)
}

fn has_choice(service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    let mut addresses = spec.cluster_ip.iter().chain(spec.cluster_ips.iter().flatten());
    addresses.any(|ip| !ip.is_empty())
        || spec.health_check_node_port.is_some()
        || spec.ports.iter().flatten().any(|port| port.node_port.is_some())
}

/// Pods that have an address and may still serve.
fn endpoints(pods: &StatusBoard) -> Vec<PodEndpoint> {
    let endpoint = |(plan, status): (PodPlan, PodStatus)| PodEndpoint {
        namespace: plan.pod.namespace.clone(),
        ports: plan.containers.iter().flat_map(|container| container.ports.clone()).collect(),
        ready: status.is_ready(),
        serving: status.is_serving(),
        terminating: status.is_terminating(),
        labels: plan.labels,
        ips: status.ips,
    };
    let all = pods.all().into_iter().filter(|(_, status)| !status.has_ended());
    all.map(endpoint).filter(|pod| !pod.ips.is_empty()).collect()
}
