//! What the agent tells: its state on a socket, its health on a port.

mod client;
mod table;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UnixListener};

pub use client::{ClientError, fetch_status};
pub use table::render;

use crate::node::{ErrorBoard, ProxyStatus, ServiceBoard, ServiceStatus};
use crate::overlay;
use crate::overlay::status::{Board, OverlayStatus};
use crate::pod::status::{PodStatus, StatusBoard};
use crate::proxy::ops::Ops;
use crate::runtime::Runtime;
use crate::source::SourceError;

/// How long the runtime may take to show that it lives.
const HEALTH_LIMIT: Duration = Duration::from_secs(3);

/// The agent itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node's name.
    pub name: String,
    /// The agent's process id.
    pub pid: u32,
    /// The agent's version.
    pub version: String,
    /// How long the agent has been running.
    pub uptime_seconds: u64,
    /// What is wrong with the node itself.
    pub problems: Vec<String>,
}

impl NodeStatus {
    /// Of this process.
    fn of_this(name: &str, started: Instant, problems: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: started.elapsed().as_secs(),
            problems,
        }
    }
}

/// Everything: the document of `GET /v1/status` and of `heddle-agent status -o json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusDocument {
    /// The agent.
    pub node: NodeStatus,
    /// The proxy; `None`: services have no rules here.
    #[serde(default)]
    pub proxy: Option<ProxyStatus>,
    /// The overlay; `None`: this agent does not connect pods of different nodes.
    #[serde(default)]
    pub overlay: Option<OverlayStatus>,
    /// Only the overlay is here (`heddle-agent overlay`), and neither pods nor services.
    #[serde(default)]
    pub overlay_alone: bool,
    /// Pods.
    pub pods: Vec<PodStatus>,
    /// Services.
    pub services: Vec<ServiceStatus>,
    /// Manifests that are not right, by path.
    pub errors: Vec<SourceError>,
}

/// Where the answers come from.
#[derive(Clone)]
pub struct Boards<R> {
    /// Name of the node.
    pub node_name: String,
    /// When the agent started.
    pub started: Instant,
    /// Pods.
    pub pods: StatusBoard,
    /// What writes rules for services; `None`: nothing does.
    pub proxy_mode: Option<&'static str>,
    /// Services.
    pub services: ServiceBoard,
    /// Mistakes in manifests.
    pub errors: ErrorBoard,
    /// The proxy's servers, which may not have their ports; `None`: there are none.
    pub ops: Option<Ops>,
    /// The overlay; `None`: there is none.
    pub overlay: Option<Board>,
    /// The runtime, asked for health.
    pub runtime: R,
}

impl<R: Runtime + Clone> Boards<R> {
    /// A snapshot of everything.
    pub fn document(&self) -> StatusDocument {
        let mut errors = self.errors.read().unwrap_or_else(PoisonError::into_inner).clone();
        errors.extend(self.services.errors());
        let mut problems = self.services.problems();
        problems.extend(self.ops.iter().flat_map(Ops::problems));
        problems.extend(self.services.failure());
        let mut pods: Vec<_> = self.pods.all().into_iter().map(|(_, status)| status).collect();
        pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        StatusDocument {
            node: NodeStatus::of_this(&self.node_name, self.started, problems),
            proxy: self.proxy_mode.map(|mode| ProxyStatus {
                mode: mode.to_owned(),
                last_sync: self.services.last_sync(),
            }),
            overlay: self.overlay.as_ref().map(Board::status),
            overlay_alone: false,
            pods,
            services: self.services.services(),
            errors,
        }
    }

    async fn health(&self) -> (StatusCode, String) {
        let mut reasons: Vec<String> = self.services.failure().into_iter().collect();
        reasons.extend(self.overlay.as_ref().and_then(Board::failure));
        match tokio::time::timeout(HEALTH_LIMIT, self.runtime.version()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => reasons.push(error.to_string()),
            Err(_) => reasons.push(format!("containerd did not answer within {HEALTH_LIMIT:?}")),
        }
        if reasons.is_empty() {
            return (StatusCode::OK, "ok\n".to_owned());
        }
        (StatusCode::INTERNAL_SERVER_ERROR, reasons.join("\n") + "\n")
    }
}

fn health_routes<R: Runtime + Clone>() -> Router<Boards<R>> {
    Router::new().route(
        "/healthz",
        get(|State(boards): State<Boards<R>>| async move { boards.health().await }),
    )
}

/// Serves the status socket. A socket that a killed agent left is replaced: the lock on the state folder says that no other
/// agent lives.
pub fn serve_socket<R: Runtime + Clone>(path: &Path, boards: Boards<R>) -> io::Result<()> {
    let status = get(|State(boards): State<Boards<R>>| async move { Json(boards.document()) });
    serve_at(path, health_routes().route("/v1/status", status).with_state(boards))
}

/// Serves the status socket of an overlay alone. That no other one lives is what its lock says.
pub fn serve_overlay(path: &Path, node_name: &str, board: Board) -> io::Result<()> {
    let (node_name, started, healthy) = (node_name.to_owned(), Instant::now(), board.clone());
    let status = get(move || async move {
        Json(StatusDocument {
            node: NodeStatus::of_this(&node_name, started, Vec::new()),
            overlay: Some(board.status()),
            overlay_alone: true,
            ..StatusDocument::default()
        })
    });
    let health = get(move || async move { overlay::run::health(&healthy) });
    serve_at(path, Router::new().route("/v1/status", status).route("/healthz", health))
}

fn serve_at(path: &Path, router: Router) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(())
}

/// Serves health on a port.
pub async fn serve_health<R: Runtime + Clone>(
    address: SocketAddr,
    boards: Boards<R>,
) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let router = health_routes().with_state(boards);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(())
}

#[cfg(test)]
mod tests;
