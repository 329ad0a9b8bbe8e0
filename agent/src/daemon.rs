//! The agent as a process: its lock, its signals, its parts.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use conf::{AgentConfig, ProxyMode};
use ipnetwork::IpNetwork;
use netns_tools::iptables::Family;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::api::{self, Boards};
use crate::network::CniNetwork;
use crate::node::{
    ErrorBoard, Follow, Node, Prepare, ServiceBoard, Services, Signals, manifest_memory,
};
use crate::pod::context::Context;
use crate::pod::record::boot_id;
use crate::pod::status::StatusBoard;
use crate::proxy::allocate::{AllocateError, ServiceAllocator};
use crate::proxy::backend::BackendError;
use crate::proxy::host::{self, ConntrackConfig, HostConfig};
use crate::proxy::model::{FAMILIES, Node as ProxyNode};
use crate::proxy::ops::Mode;
use crate::proxy::options::{LocalTraffic, Pace, RuleOptions};
use crate::proxy::run::{self, Alarm, FamilyParts, Lock, LockError, Parts, Runner};
use crate::runtime::containerd::ContainerdOptions;
use crate::runtime::{Containerd, RuntimeError};
use crate::source::{self, Directory};

/// How often the rules are compared with the kernel without being told: somebody may have changed one of them.
const RESYNC: Duration = Duration::from_mins(1);
/// How long another agent on the same state folder is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Everything that it does needs root.
    #[error("must run as root: it makes network namespaces and writes rules")]
    NotRoot,
    /// Another agent has the state folder.
    #[error("another agent (pid {pid}) uses {}; stop it, or set paths.state", state.display())]
    Locked {
        /// The folder.
        state: PathBuf,
        /// The other's process id.
        pid: String,
    },
    /// A system call failed.
    #[error("cannot {operation}")]
    Io {
        /// What was tried.
        operation: String,
        /// Why.
        source: io::Error,
    },
    /// The allocations cannot be used.
    #[error(transparent)]
    Allocate(#[from] AllocateError),
    /// The runtime's address cannot be used.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// Rules for services cannot be written here.
    #[error(
        "cannot write rules for services; set proxy.mode to the other mode, or proxy.enabled to false"
    )]
    Rules(#[source] BackendError),
    /// Rules for services cannot be removed.
    #[error("cannot remove the rules of services")]
    Cleanup(#[source] BackendError),
    /// Another proxy writes rules here.
    #[error(transparent)]
    OtherProxy(#[from] LockError),
    /// Manifests are not right.
    #[error("{0}")]
    Manifests(String),
}

fn io_error(operation: impl Into<String>) -> impl FnOnce(io::Error) -> DaemonError {
    |source| DaemonError::Io { operation: operation.into(), source }
}

/// Runs the agent until it is told to stop.
pub fn run(config: AgentConfig) -> Result<(), DaemonError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(DaemonError::NotRoot);
    }
    start_log(&config);
    let _lock = lock(&config.paths.state)?;
    // two threads serve a node's worth of pods; plugins and rules run on blocking threads, which come and go
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(io_error("start the asynchronous runtime"))?;
    let outcome = runtime.block_on(serve(config));
    // a plugin call that is under way is left to its own end: the next agent finds what it did
    runtime.shutdown_background();
    outcome
}

fn start_log(config: &AgentConfig) {
    let filter = format!(
        "{level},hyper=warn,h2=warn,tonic=warn,tower=warn",
        level = config.log_level.as_str()
    );
    let colour =
        std::env::var_os("NO_COLOR").is_none() && io::IsTerminal::is_terminal(&io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(io::stderr)
        .with_ansi(colour)
        .with_target(false)
        .init();
}

/// Holds the state folder: two agents on one folder would each undo what the other does.
fn lock(state: &Path) -> Result<File, DaemonError> {
    std::fs::create_dir_all(state).map_err(io_error(format!("create {}", state.display())))?;
    let path = state.join("agent.pid");
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = opened.map_err(io_error(format!("open {}", path.display())))?;
    // one that was just killed may not be gone yet
    let start = Instant::now();
    let mut locked = file.try_lock();
    while locked.is_err() && start.elapsed() < LOCK_PATIENCE {
        std::thread::sleep(Duration::from_millis(50));
        locked = file.try_lock();
    }
    if locked.is_err() {
        let mut pid = String::new();
        file.read_to_string(&mut pid).ok();
        return Err(DaemonError::Locked { state: state.to_owned(), pid: pid.trim().to_owned() });
    }
    let write = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    write.map_err(io_error(format!("write {}", path.display())))?;
    Ok(file)
}

async fn serve(config: AgentConfig) -> Result<(), DaemonError> {
    let log_binary = std::env::current_exe().map_err(io_error("find this program's own file"))?;
    let options =
        ContainerdOptions { log_binary, snapshotter: config.containerd.snapshotter.clone() };
    let runtime =
        Containerd::connect(&config.containerd.socket, &config.containerd.namespace, options)?;
    let (state, network) = (&config.paths.state, Arc::new(CniNetwork::new(&config.cni)));
    let boot_id = boot_id().map_err(io_error("read the boot id"))?;
    let mut context =
        Context::new(runtime.clone(), network, state, config.paths.logs.clone(), boot_id);
    context.default_grace = config.pods.termination_grace.as_secs();
    let pods = context.board.clone();
    let (service_board, errors) = (ServiceBoard::default(), ErrorBoard::default());
    let services = Services::default();
    let writer = Writer::of(&config)?;
    let allocations = state.join("services.json");
    let allocator = ServiceAllocator::open(
        &allocations,
        config.network.service_cidrs.clone(),
        config.network.node_ports.clone(),
    )?;
    let boards = Boards {
        node_name: config.node_name.clone(),
        started: Instant::now(),
        pods: pods.clone(),
        services: service_board.clone(),
        errors: errors.clone(),
        problems: Arc::new(writer.problems.clone()),
        proxy_mode: config.proxy.enabled.then_some(config.proxy.mode.as_str()),
        runtime,
    };
    let socket = &config.paths.socket;
    api::serve_socket(socket, boards.clone())
        .map_err(io_error(format!("listen on {}", socket.display())))?;
    if let Some(address) = config.health_address {
        let operation = format!("listen on {address} for health checks; set health.address");
        api::serve_health(address, boards).await.map_err(io_error(operation))?;
    }
    let _lock = writer.start(&config, services.clone(), pods, service_board, allocator);
    let manifests = &config.paths.manifests;
    let directory =
        Directory::new(manifests, &config.node_name).remembering(manifest_memory(state));
    let node = Node::new(context, directory, services, errors);
    let signals = listen(source::watch(manifests.clone()))?;
    tracing::info!(
        node = config.node_name,
        version = env!("CARGO_PKG_VERSION"),
        "agent is running"
    );
    let status = format!("pods from {}", manifests.display());
    sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&status)]).ok();
    feed_watchdog();
    node.run(signals).await;
    sd_notify::notify(&[NotifyState::Stopping]).ok();
    std::fs::remove_file(socket).ok();
    tracing::info!("agent stops; pods and rules stay");
    Ok(())
}

/// What writes rules for services; of nothing, if nothing is to.
struct Writer {
    families: Vec<FamilyParts>,
    problems: Vec<String>,
    lock: Option<Lock>,
}

impl Writer {
    fn of(config: &AgentConfig) -> Result<Self, DaemonError> {
        if !config.proxy.enabled {
            return Ok(Self { families: Vec::new(), problems: Vec::new(), lock: None });
        }
        let lock = take_proxy_lock()?;
        let wanted = |family: &Family| {
            let is_ours = |cidr: &IpNetwork| cidr.is_ipv4() == (*family == Family::V4);
            config.network.service_cidrs.iter().any(is_ours)
        };
        let required: Vec<_> = FAMILIES.into_iter().filter(wanted).collect();
        let (families, problems) =
            run::backends::open(mode(config), &required, false).map_err(DaemonError::Rules)?;
        for problem in &problems {
            tracing::info!("{problem}");
        }
        // a family that no service has an address of needs no rules
        Ok(Self { families, problems: Vec::new(), lock: Some(lock) })
    }

    /// Starts the proxy's loop and what feeds it. The lock is to be held as long as they run.
    fn start(
        self,
        config: &AgentConfig,
        services: Services,
        pods: StatusBoard,
        board: ServiceBoard,
        allocator: ServiceAllocator,
    ) -> Option<Lock> {
        let (events, received) = mpsc::channel(64);
        let (options, current) = watch::channel(rule_options(config));
        let (families, node) = (self.families, config.node_name.clone());
        let prepare = (!families.is_empty()).then(|| prepare(config, &families));
        let parts = Parts {
            events: received,
            options: current,
            node: Some(ProxyNode::named(&node)),
            alarm: if families.is_empty() { None } else { open_alarm() },
            families,
            pace: Pace { least: Duration::ZERO, resync: RESYNC },
            observer: Arc::new(board.clone()),
        };
        tokio::spawn(Runner::new(parts).run());
        let follow = Follow { node, pods, board, allocator, events, options, prepare };
        tokio::spawn(services.follow(follow));
        self.lock
    }
}

/// One that was just killed may not be gone yet.
fn take_proxy_lock() -> Result<Lock, LockError> {
    let start = Instant::now();
    loop {
        match Lock::take() {
            Err(LockError::Held { .. }) if start.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(Duration::from_millis(50));
            }
            taken => return taken,
        }
    }
}

fn mode(config: &AgentConfig) -> Mode {
    match config.proxy.mode {
        ProxyMode::Iptables => Mode::Iptables,
        ProxyMode::Nftables => Mode::Nftables,
    }
}

fn rule_options(config: &AgentConfig) -> RuleOptions {
    RuleOptions {
        local: LocalTraffic::Cidrs(config.network.pod_cidrs.clone()),
        localhost_node_ports: mode(config) == Mode::Iptables,
        ..RuleOptions::default()
    }
}

fn prepare(config: &AgentConfig, families: &[FamilyParts]) -> Prepare {
    let host = HostConfig {
        families: families.iter().map(|parts| parts.backend.family()).collect(),
        localhost_node_ports: mode(config) == Mode::Iptables,
        conntrack: ConntrackConfig::default(),
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

/// Under systemd with `WatchdogSec`: an agent whose threads are all stuck is started again.
fn feed_watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(limit / 2);
        loop {
            tick.tick().await;
            sd_notify::notify(&[NotifyState::Watchdog]).ok();
        }
    });
}

/// SIGTERM and SIGINT end the agent, SIGHUP has it read the manifests.
fn listen(manifests: mpsc::Receiver<()>) -> Result<Signals, DaemonError> {
    let on = |kind: SignalKind| signal(kind).map_err(io_error("listen for signals"));
    let (mut terminate, mut interrupt, mut hang_up) =
        (on(SignalKind::terminate())?, on(SignalKind::interrupt())?, on(SignalKind::hangup())?);
    let (stop_sender, stop) = oneshot::channel();
    let (reload_sender, reload) = mpsc::channel(1);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop_sender.send(()).ok();
    });
    tokio::spawn(async move {
        while hang_up.recv().await.is_some() {
            reload_sender.try_send(()).ok();
        }
    });
    Ok(Signals { manifests, reload, stop })
}

/// Removes the service rules of both modes and families from this host.
pub fn cleanup() -> Result<(), DaemonError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(DaemonError::NotRoot);
    }
    run::backends::cleanup().map_err(DaemonError::Cleanup)
}
