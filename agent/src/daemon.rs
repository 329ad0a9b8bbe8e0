//! The agent as a process: its lock, its signals, its parts.

mod proxy;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use conf::{AgentConfig, ConfigError};
use proxy::Writer;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::api::{self, Boards};
use crate::lock::LockError;
use crate::network::CniNetwork;
use crate::node::{ErrorBoard, Node, ServiceBoard, Services, Signals, manifest_memory};
use crate::overlay;
use crate::pod::context::Context;
use crate::pod::record::boot_id;
use crate::proxy::allocate::{AllocateError, ServiceAllocator};
use crate::proxy::backend::BackendError;
use crate::proxy::ops::ListenError;
use crate::proxy::run;
use crate::runtime::containerd::ContainerdOptions;
use crate::runtime::{Containerd, RuntimeError};
use crate::source::{self, Directory};

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
    /// Another proxy or overlay is at work here.
    #[error(transparent)]
    Other(#[from] LockError),
    /// A port of the proxy is taken, and that is to be fatal.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// What the agent is told cannot be told its proxy.
    #[error("the proxy cannot be set up as the configuration says")]
    ProxyConfig(#[source] ConfigError),
    /// Pods of different nodes cannot be connected.
    #[error("the overlay cannot be set up; correct what is wrong, or set overlay.enabled to false")]
    Overlay(#[from] overlay::run::StartError),
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

pub(crate) fn start_log(config: &AgentConfig) {
    let level = config.log_level.as_str();
    let filter = format!(
        "{level},hyper=warn,hyper_util=warn,h2=warn,tonic=warn,tower=warn,rustls=warn,{}",
        crate::kube::log_filter(level)
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
    let controller = if config.overlay.enabled {
        Some(overlay::run::Controller::open(&config).await?)
    } else {
        None
    };
    let boards = Boards {
        node_name: config.node_name.clone(),
        started: Instant::now(),
        pods: pods.clone(),
        services: service_board.clone(),
        errors: errors.clone(),
        ops: writer.ops().cloned(),
        proxy_mode: config.proxy.enabled.then_some(config.proxy.mode.as_str()),
        overlay: controller.as_ref().map(|controller| controller.board.clone()),
        runtime,
    };
    let socket = &config.paths.socket;
    api::serve_socket(socket, boards.clone())
        .map_err(io_error(format!("listen on {}", socket.display())))?;
    if let Some(address) = config.health_address {
        let operation = format!("listen on {address} for health checks; set health.address");
        api::serve_health(address, boards).await.map_err(io_error(operation))?;
    }
    let _writing = writer.start(&config, services.clone(), pods, service_board, allocator)?;
    let manifests = &config.paths.manifests;
    let directory =
        Directory::new(manifests, &config.node_name).remembering(manifest_memory(state));
    let node = Node::new(context, directory, services, errors);
    let reload = controller.as_ref().map(|controller| controller.reload.clone());
    let signals = listen(source::watch(manifests.clone()), reload)?;
    let (stop_overlay, overlay) = run_overlay(controller);
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
    drop(stop_overlay);
    overlay.await.ok();
    std::fs::remove_file(socket).ok();
    tracing::info!("agent stops; pods and rules stay");
    Ok(())
}

/// Runs the overlay until the sender is dropped, and to its end.
fn run_overlay(
    controller: Option<overlay::run::Controller>,
) -> (oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let (stop, stopped) = oneshot::channel();
    let running = tokio::spawn(async move {
        let stopped = async { drop(stopped.await) };
        match controller {
            Some(controller) => controller.run(stopped).await,
            None => stopped.await,
        }
    });
    (stop, running)
}

/// Under systemd with `WatchdogSec`: an agent whose threads are all stuck is started again.
pub(crate) fn feed_watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(limit / 2);
        loop {
            tick.tick().await;
            sd_notify::notify(&[NotifyState::Watchdog]).ok();
        }
    });
}

/// SIGTERM and SIGINT end the agent, SIGHUP has it read the manifests, and the overlay compare everything.
fn listen(
    manifests: mpsc::Receiver<()>,
    overlay: Option<overlay::run::Reload>,
) -> Result<Signals, DaemonError> {
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
            if let Some(overlay) = &overlay {
                overlay.now();
            }
        }
    });
    Ok(Signals { manifests, reload, stop })
}

/// Removes the service rules of both modes and families from this host.
pub fn cleanup() -> Result<(), DaemonError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(DaemonError::NotRoot);
    }
    run::backends::cleanup(false).map_err(DaemonError::Cleanup)
}
