//! The controller with all that it needs, for `heddle-agent overlay` and for the agent.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::routing::get;
use conf::{AgentConfig, NodeSource, OverlayBackend};
use ipnetwork::IpNetwork;
use netns_tools::cause::one_line;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::{Alarm, KernelHost, Options, Parts, Runner, Worker, probing};
use crate::kube::{ApiAccess, ConnectError, Connection, Failure, Retry, connect, connect_again};
use crate::lock::{Lock, LockError, Role};
use crate::overlay::annotation;
use crate::overlay::kernel::SyncError;
use crate::overlay::metrics::Metrics;
use crate::overlay::node::{Announcement, Backend};
use crate::overlay::plan::Settings;
use crate::overlay::rules::{RuleError, Rules};
use crate::overlay::source::{self, Duty, Event, Keeper};
use crate::overlay::state::Store;
use crate::overlay::status::{Board, Origin};
use crate::proxy::host::{AddressError, watch_addresses};
use crate::proxy::ops::{Server, exposition, listen};

/// How long another controller is waited for, which may just have been killed.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// Events that may wait for the loop. What is beyond waits in the server's connection.
const WAITING: usize = 4096;
/// How long after credentials that cannot be used they are read again.
const CONNECT_RETRY: Duration = Duration::from_secs(5);
/// How long after a port that is taken it is tried again.
const PORT_RETRY: Duration = Duration::from_secs(5);

/// Why there is no controller.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another one runs here.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// There is no way to the API server.
    #[error("overlay.kubeconfig cannot be used")]
    Connect(#[from] ConnectError),
    /// The kernel's network cannot be had.
    #[error(transparent)]
    Kernel(#[from] SyncError),
    /// Nor its packet filters.
    #[error(transparent)]
    Rules(#[from] RuleError),
    /// Nor its addresses.
    #[error(transparent)]
    Addresses(#[from] AddressError),
}

/// A controller that is about to run.
pub struct Controller {
    /// What is told.
    pub board: Board,
    /// Whether this node was connected once.
    pub connected: watch::Receiver<bool>,
    /// Has everything read and compared.
    pub reload: Reload,
    runner: Runner,
    tasks: JoinSet<()>,
    _lock: Lock,
}

/// Has everything read and compared.
#[derive(Clone, Debug)]
pub struct Reload {
    runner: mpsc::Sender<()>,
    source: mpsc::Sender<()>,
}

impl Reload {
    /// Now. It does not block.
    pub fn now(&self) {
        self.source.try_send(()).ok();
        self.runner.try_send(()).ok();
    }
}

impl Options {
    /// Of the agent's configuration.
    pub fn of(config: &AgentConfig) -> Self {
        let overlay = &config.overlay;
        let settings = Settings {
            backend: backend(overlay.backend),
            vni: overlay.vni,
            port: overlay.port,
            mtu: overlay.mtu.unwrap_or_default(),
            flannel: overlay.flannel,
            probe_port: overlay.probe_port,
        };
        Self {
            name: config.node_name.clone(),
            settings,
            interface: overlay.interface.clone().unwrap_or_default(),
            pods: config.network.pod_cidrs.clone(),
            masquerade: overlay.masquerade,
            no_masquerade: overlay.no_masquerade.clone(),
            lease: overlay.lease.clone(),
            written_down: overlay.nodes == NodeSource::Manifests,
        }
    }
}

fn backend(configured: OverlayBackend) -> Backend {
    match configured {
        OverlayBackend::Auto => Backend::Auto,
        OverlayBackend::Vxlan => Backend::Vxlan,
        OverlayBackend::HostGw => Backend::HostGw,
        OverlayBackend::None => Backend::None,
    }
}

/// How the API server is reached; `None`: there is none.
pub fn access(nodes: &NodeSource) -> Option<ApiAccess> {
    match nodes {
        NodeSource::Manifests => None,
        NodeSource::InCluster => Some(ApiAccess::default()),
        NodeSource::Kubeconfig(path) => {
            Some(ApiAccess { kubeconfig: Some(path.clone()), master: None })
        }
    }
}

impl Controller {
    /// Gets everything ready: the lock, the source of nodes, the kernel's notifications, the metrics' server. Nothing is written before
    /// [`Controller::run`]. All of it is in the network namespace of the process.
    pub async fn open(config: &AgentConfig) -> Result<Self, StartError> {
        let lock = Lock::take_patiently(Role::Overlay, LOCK_PATIENCE)?;
        let options = Options::of(config);
        let board = Board::new(config.overlay.backend.as_str());
        let host = KernelHost::open()?;
        let alarm = match Alarm::open(host.own()) {
            Ok(alarm) => Some(alarm),
            Err(error) => {
                tracing::warn!(%error, "changes that others make to links and routes are noticed late");
                None
            }
        };
        let rules = Box::new(Rules::open()?);
        let store = Store::new(&config.paths.state, &config.node_name);
        let worker = Worker::new(Box::new(host), rules, store, options, board.clone());
        let mut tasks = JoinSet::new();
        let (announcement, announced) = watch::channel(None);
        let ((connected, is_connected), (reload, asked)) =
            (watch::channel(false), mpsc::channel(1));
        let known = Known { announced, connected: is_connected.clone() };
        let (events, reload_source) = follow_nodes(config, known, &board, &mut tasks).await?;
        let metrics = Metrics::new(board.clone());
        if let Some(address) = config.overlay.metrics_address {
            tasks.spawn(serve_metrics(address, metrics.clone(), board.clone()));
        }
        let probing = probing::start(config, &board, &mut tasks);
        let runner = Runner::new(Parts {
            worker,
            events,
            probing,
            reload: asked,
            relist: reload_source.clone(),
            alarm,
            announcement,
            connected,
            board: board.clone(),
            observer: Box::new(metrics),
        });
        let reload = Reload { runner: reload, source: reload_source };
        Ok(Self { board, connected: is_connected, reload, runner, tasks, _lock: lock })
    }

    /// Runs until `stop` ends. Everything stays in the kernel.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { mut runner, mut tasks, _lock, .. } = self;
        let mut stop = std::pin::pin!(stop);
        let goes_on = tokio::select! {
            () = runner.first_nodes() => true,
            () = &mut stop => false,
        };
        if goes_on {
            runner.run(stop).await;
        }
        tasks.shutdown().await;
    }
}

/// What is known of this node.
struct Known {
    /// What it is to announce.
    announced: watch::Receiver<Option<Announcement>>,
    /// Whether it was connected once.
    connected: watch::Receiver<bool>,
}

/// Begins to follow the nodes, and to keep what is this overlay's of this node's object where there is one.
async fn follow_nodes(
    config: &AgentConfig,
    known: Known,
    board: &Board,
    tasks: &mut JoinSet<()>,
) -> Result<(mpsc::Receiver<Event>, mpsc::Sender<()>), StartError> {
    let (sender, events) = mpsc::channel(WAITING);
    let (reload, asked) = mpsc::channel(1);
    let (name, flannel) = (&config.node_name, config.overlay.flannel);
    match access(&config.overlay.nodes) {
        None => {
            let folder = config.paths.manifests.clone();
            tracing::info!(node = name, folder = %folder.display(), "nodes come from manifests");
            tasks.spawn(source::follow_manifests(folder, sender, asked));
        }
        Some(access) => {
            // what is wrong with the files is told now, and not for ever after
            let connection = connect(&access).await?;
            tracing::info!(node = name, "nodes come from the API server");
            let wanted = watch::channel(None);
            let (announced, cleared) = (watch::channel(None), watch::channel(None));
            let session = Session {
                access,
                name: name.clone(),
                flannel,
                events: sender,
                wanted: wanted.1,
                announced: announced.0,
                connected: known.connected,
                cleared: cleared.0,
                asked,
                addresses: watch_addresses()?,
                pods: config.network.pod_cidrs.clone(),
            };
            tasks.spawn(session.run(connection));
            tasks.spawn(write_announcement(known.announced, wanted.0, flannel));
            tasks.spawn(pass_on(announced.1, board.clone(), Origin::Announcement));
            tasks.spawn(pass_on(cleared.1, board.clone(), Origin::Network));
        }
    }
    Ok((events, reload))
}

/// What is followed and written by one connection. It is made anew when somebody asks, and when an address of this host is gone: a
/// connection from an address that is gone hears nothing any more, and is found dead minutes later.
struct Session {
    access: ApiAccess,
    name: String,
    flannel: bool,
    events: mpsc::Sender<Event>,
    /// What the annotations should be, and what is wrong with them.
    wanted: watch::Receiver<Option<source::Wanted>>,
    announced: watch::Sender<source::Told>,
    /// Whether this node was connected once, and what is wrong with the condition that says otherwise.
    connected: watch::Receiver<bool>,
    cleared: watch::Sender<source::Told>,
    /// Somebody asks for all nodes again.
    asked: mpsc::Receiver<()>,
    addresses: watch::Receiver<Vec<IpAddr>>,
    /// All pods.
    pods: Vec<IpNetwork>,
}

impl Session {
    async fn run(mut self, first: Connection) {
        let outages = Arc::clone(&first.outages);
        let mut connection = Some(first);
        let mut known = Vec::new();
        loop {
            if let Some(connection) = connection.take() {
                let (mut tasks, own) =
                    source::follow(&connection, &self.name, self.flannel, &self.events);
                let (wanted, told) = (self.wanted.clone(), self.announced.clone());
                let announcer =
                    self.keeper::<source::Announcement>(&connection, wanted, own.annotations, told);
                tasks.spawn(announcer.run());
                let (connected, told) = (self.connected.clone(), self.cleared.clone());
                let clearer =
                    self.keeper::<source::Network>(&connection, connected, own.network, told);
                tasks.spawn(clearer.run());
                let Some(why) = self.ended(&mut known).await else {
                    // what is connected stays so
                    while tasks.join_next().await.is_some() {}
                    return;
                };
                tracing::info!("{why}; connecting to the API server anew");
            }
            match connect_again(&self.access, Arc::clone(&outages)).await {
                Ok(again) => connection = Some(again),
                Err(error) => {
                    let reason = one_line(&error);
                    outages.failed(failure(&reason), Instant::now());
                    self.events.send(Event::Away(Some(reason))).await.ok();
                    tokio::time::sleep(CONNECT_RETRY).await;
                }
            }
        }
    }

    fn keeper<D: Duty>(
        &self,
        connection: &Connection,
        wanted: watch::Receiver<D::Wanted>,
        own: watch::Receiver<Option<D::Seen>>,
        told: watch::Sender<source::Told>,
    ) -> Keeper<D> {
        let (connection, name) = (connection.clone(), self.name.clone());
        Keeper { connection, name, wanted, own, told, retry: Retry::default() }
    }

    /// Waits until another connection is needed, and says why. `None`: nobody says any more.
    async fn ended(&mut self, known: &mut Vec<IpAddr>) -> Option<&'static str> {
        tokio::select! {
            lost = moved(&mut self.addresses, &self.pods, known) => lost.then_some("an address of this host is gone"),
            Some(()) = self.asked.recv() => Some("all nodes are to be listed again"),
        }
    }
}

/// Waits until an address that this host had is gone. False: nobody tells of them any more.
async fn moved(
    addresses: &mut watch::Receiver<Vec<IpAddr>>,
    pods: &[IpNetwork],
    known: &mut Vec<IpAddr>,
) -> bool {
    loop {
        let now = addresses.borrow_and_update().clone();
        let lost = has_lost(known, &now, pods);
        *known = now;
        if lost {
            return true;
        }
        if addresses.changed().await.is_err() {
            return false;
        }
    }
}

/// Credentials cannot be used, so nodes are not told of.
fn failure(reason: &str) -> Failure<'_> {
    Failure { who: source::NODES, stays: source::STAYS, reason, refused: false }
}

/// Whether an address is gone that a connection may have been made from. The links of pods have addresses too, which go with each pod.
fn has_lost(before: &[IpAddr], now: &[IpAddr], pods: &[IpNetwork]) -> bool {
    let is_local = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
    };
    let is_of_pods = |address: &IpAddr| pods.iter().any(|range| range.contains(*address));
    let mut gone = before.iter().filter(|address| !now.contains(address));
    gone.any(|address| !is_local(address) && !is_of_pods(address))
}

async fn write_announcement(
    mut announced: watch::Receiver<Option<Announcement>>,
    wanted: watch::Sender<Option<source::Wanted>>,
    flannel: bool,
) {
    while announced.changed().await.is_ok() {
        let now = announced.borrow_and_update().clone();
        wanted.send_replace(now.map(|now| annotation::write(&now, flannel)));
    }
}

async fn pass_on(mut told: watch::Receiver<source::Told>, board: Board, origin: Origin) {
    while told.changed().await.is_ok() {
        let problem = told.borrow_and_update().clone();
        board.complain(origin, problem.into_iter().collect());
    }
}

/// `/metrics` and `/healthz`, as soon as the port is free.
async fn serve_metrics(address: SocketAddr, metrics: Metrics, board: Board) {
    let health = |State((_, board)): State<(Metrics, Board)>| async move { health(&board) };
    let numbers = |State((metrics, _)): State<(Metrics, Board)>| async move {
        ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], metrics.text())
    };
    let router = Router::new()
        .route("/metrics", get(numbers))
        .route("/healthz", get(health))
        .with_state((metrics, board.clone()));
    loop {
        match listen(address).and_then(|listener| Server::start(listener, router.clone())) {
            Ok(_server) => {
                board.complain(Origin::Server, Vec::new());
                return std::future::pending().await;
            }
            Err(error) => board.complain(
                Origin::Server,
                vec![format!(
                    "metrics of the overlay cannot be served at {address}: {}; free the port (`ss -ltnp sport = :{}`), or set \
                     overlay.metrics_bind_address; it is tried again every {} s",
                    one_line(&error),
                    address.port(),
                    PORT_RETRY.as_secs()
                )],
            ),
        }
        tokio::time::sleep(PORT_RETRY).await;
    }
}

/// The answer of `/healthz`.
pub fn health(board: &Board) -> (StatusCode, String) {
    match board.failure() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(reason) => (StatusCode::INTERNAL_SERVER_ERROR, reason + "\n"),
    }
}

#[cfg(test)]
mod tests {
    use test_api_server::Server;
    use tokio::time::timeout;

    use super::*;
    use crate::overlay::cluster;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn all_nodes_are_listed_again_when_somebody_asks() {
        let server = Server::start(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        server.put(serde_json::json!({"kind": "Node", "metadata": {"name": "a"}}));
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, server.kubeconfig()).unwrap();
        let access = ApiAccess { kubeconfig: Some(kubeconfig), master: None };
        let connection = connect(&access).await.unwrap();
        let ((events, mut told), (ask, asked)) = (mpsc::channel(8), mpsc::channel(1));
        let (_wanted, wanted) = watch::channel(None);
        let (_connected, connected) = watch::channel(false);
        let (_addresses, addresses) = watch::channel(Vec::new());
        let session = Session {
            access,
            name: "a".to_owned(),
            flannel: false,
            events,
            wanted,
            announced: watch::channel(None).0,
            connected,
            cleared: watch::channel(None).0,
            asked,
            addresses,
            pods: Vec::new(),
        };
        let session = tokio::spawn(session.run(connection));
        for _ in 0..3 {
            loop {
                let event = timeout(PATIENCE, told.recv()).await.expect("a list in time").unwrap();
                if matches!(&event, Event::Nodes(cluster::Event::All(all)) if all.len() == 1) {
                    break;
                }
            }
            ask.send(()).await.unwrap();
        }
        // whoever cannot ask any more stays connected
        drop(ask);
        assert!(timeout(Duration::from_millis(100), session).await.is_err());
    }

    #[test]
    fn only_an_address_that_leads_to_others_is_missed() {
        let all = |text: &str| -> Vec<IpAddr> {
            text.split_whitespace().map(|address| address.parse().unwrap()).collect()
        };
        let pods = ["10.244.0.0/16".parse().unwrap(), "fd00:10:244::/48".parse().unwrap()];
        let before =
            all("127.0.0.1 192.0.2.1 2001:db8::1 10.244.1.1 fd00:10:244:1::1 fe80::1 169.254.1.1");
        let lost = |now: &str| has_lost(&before, &all(now), &pods);
        assert!(!lost("192.0.2.1 2001:db8::1"));
        assert!(!lost("192.0.2.1 2001:db8::1 192.0.2.2"), "one more");
        assert!(lost("2001:db8::1") && lost("192.0.2.1") && lost(""));
    }
}
