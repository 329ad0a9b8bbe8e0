//! The servers as a whole: the two of the proxy, and those of the health checks.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use tokio::task::JoinSet;

use super::checks::Servers;
use super::listen::{Server, listen};
use super::{Ops, routes};

/// How long after a socket that cannot be opened it is tried again; kube-proxy's time.
const RETRY: Duration = Duration::from_secs(5);

/// Where the servers listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// Metrics; `None`: nowhere (`metricsBindAddress: ""`).
    pub metrics: Option<SocketAddr>,
    /// Health; `None`: nowhere.
    pub health: Option<SocketAddr>,
    /// Whether a port that is taken is an error (`bindAddressHardFail`), and not a warning.
    pub hard_fail: bool,
    /// How these are called where the operator set them.
    pub names: SettingNames,
}

/// The names of settings, for messages that say what to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingNames {
    /// Where metrics are.
    pub metrics: &'static str,
    /// Where health is.
    pub health: &'static str,
    /// Whether a port that is taken is an error.
    pub hard_fail: &'static str,
}

impl SettingNames {
    /// Those of a `KubeProxyConfiguration`.
    pub const KUBE_PROXY: Self = Self {
        metrics: "metricsBindAddress",
        health: "healthzBindAddress",
        hard_fail: "bindAddressHardFail",
    };
}

/// A server whose port is taken, where that is an error.
#[derive(Debug, thiserror::Error)]
#[error(
    "the {name} server cannot listen at {address}; free the port (`ss -ltnp sport = :{}`; kube-proxy has the same one), set {field}, or \
     set {hard_fail} to false",
    address.port()
)]
pub struct ListenError {
    name: &'static str,
    address: SocketAddr,
    field: &'static str,
    hard_fail: &'static str,
    source: io::Error,
}

/// The servers. Dropping it closes all of them.
#[derive(Debug)]
pub struct Serving {
    tasks: JoinSet<()>,
}

impl Serving {
    /// Waits for ever: servers do not end by themselves.
    pub async fn forever(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// One of the two servers.
struct Endpoint {
    name: &'static str,
    field: &'static str,
    address: SocketAddr,
    router: Router,
}

impl Ops {
    /// Starts the servers. Needs a tokio runtime. Sockets are in the network namespace of the thread that runs them: of the process,
    /// but for a runtime that was made on a thread that is elsewhere.
    pub fn serve(&self, listeners: Listeners) -> Result<Serving, ListenError> {
        let mut tasks = JoinSet::new();
        for endpoint in self.endpoints(listeners) {
            let opened = match listen(endpoint.address) {
                Ok(listener) => Some(listener),
                Err(error) => {
                    let Endpoint { name, field, address, .. } = endpoint;
                    if listeners.hard_fail {
                        let hard_fail = listeners.names.hard_fail;
                        return Err(ListenError { name, address, field, hard_fail, source: error });
                    }
                    self.note(name, vec![endpoint.problem(&error)]);
                    None
                }
            };
            tasks.spawn(self.clone().keep_open(endpoint, opened));
        }
        tasks.spawn(self.clone().answer_checks());
        Ok(Serving { tasks })
    }

    fn endpoints(&self, listeners: Listeners) -> Vec<Endpoint> {
        let Listeners { metrics, health, names, .. } = listeners;
        let all = [
            ("metrics", names.metrics, metrics, routes::metrics(self.clone())),
            ("health", names.health, health, routes::health(self.clone())),
        ];
        let endpoint = |(name, field, address, router): (_, _, Option<SocketAddr>, _)| {
            Some(Endpoint { name, field, address: address?, router })
        };
        all.into_iter().filter_map(endpoint).collect()
    }

    async fn keep_open(self, endpoint: Endpoint, mut opened: Option<tokio::net::TcpListener>) {
        loop {
            let listener = opened.take().map_or_else(|| listen(endpoint.address), Ok);
            let started = listener.and_then(|it| Server::start(it, endpoint.router.clone()));
            match started {
                Ok(server) => {
                    let address = server.address();
                    tracing::info!(%address, "the {} server listens", endpoint.name);
                    self.note(endpoint.name, Vec::new());
                    std::future::pending::<()>().await;
                }
                Err(error) => self.note(endpoint.name, vec![endpoint.problem(&error)]),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Keeps the sockets of the health checks as they should be.
    async fn answer_checks(self) {
        let mut wanted = self.checks();
        let mut servers = Servers::default();
        loop {
            let now = wanted.borrow_and_update().clone();
            let problems = servers.follow(&self, &now).await;
            let incomplete = !problems.is_empty();
            self.note("health checks", problems);
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(RETRY), if incomplete => {}
            }
        }
    }
}

impl Endpoint {
    fn problem(&self, error: &io::Error) -> String {
        let Self { name, field, address, .. } = self;
        let port = address.port();
        format!(
            "the {name} server cannot listen at {address}: {error}; see who has the port with `ss -ltnp sport = :{port}` \
             (kube-proxy has the same one), or set {field}; it is tried again every {} s",
            RETRY.as_secs()
        )
    }
}
