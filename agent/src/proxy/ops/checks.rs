//! The node ports at which load balancers ask whether this node has endpoints of a service (`healthCheckNodePort`).
//!
//! Desired sockets are a set; the difference to the open ones is closed and opened. What cannot be opened is told and tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Ops;
use super::listen::{Server, listen};
use crate::proxy::model::{HealthCheck, ServiceName};
use crate::proxy::options::NodePortAddresses;

/// How many endpoints there are, for load balancers that weigh nodes by them.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// The checks to answer, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) checks: BTreeMap<ServiceName, HealthCheck>,
    pub(super) at: NodePortAddresses,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { checks: BTreeMap::new(), at: NodePortAddresses::Any }
    }
}

impl Wanted {
    /// A socket per service and address. A link's own IPv6 addresses are left out: without the link they cannot be bound.
    fn sockets(&self) -> BTreeSet<(ServiceName, SocketAddr)> {
        let addresses: Vec<IpAddr> = match &self.at {
            NodePortAddresses::Any => vec![Ipv6Addr::UNSPECIFIED.into()],
            NodePortAddresses::Listed(all) => all.iter().copied().filter(is_bindable).collect(),
        };
        let of = |(name, check): (&ServiceName, &HealthCheck)| {
            let (name, port) = (name.clone(), check.port);
            addresses.iter().map(move |ip| (name.clone(), SocketAddr::new(*ip, port))).collect()
        };
        self.checks.iter().flat_map::<Vec<_>, _>(of).collect()
    }
}

fn is_bindable(ip: &IpAddr) -> bool {
    !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// The open sockets.
#[derive(Debug, Default)]
pub(super) struct Servers {
    open: BTreeMap<(ServiceName, SocketAddr), Server>,
}

impl Servers {
    /// Closes and opens what differs from `wanted`. Returns what could not be opened, in words.
    pub(super) async fn follow(&mut self, ops: &Ops, wanted: &Wanted) -> Vec<String> {
        let sockets = wanted.sockets();
        let closed = self.open.extract_if(.., |socket, _| !sockets.contains(socket));
        // all are closed before one is opened: a port may have gone from one service to another
        for (_, server) in closed.collect::<Vec<_>>() {
            server.close().await;
        }
        let mut problems = Vec::new();
        for socket in sockets {
            if self.open.contains_key(&socket) {
                continue;
            }
            let (name, address) = &socket;
            let opened = listen(*address).and_then(|it| Server::start(it, router(ops, name)));
            match opened {
                Ok(server) => {
                    self.open.insert(socket, server);
                }
                Err(error) => problems.push(format!(
                    "the health check of service {name} cannot be answered at {address}: {error}; see who has the port with \
                     `ss -ltnp sport = :{}`",
                    address.port()
                )),
            }
        }
        problems
    }
}

/// Whatever is asked for is answered, as by kube-proxy: what a load balancer asks for is its own choice.
pub(super) fn router(ops: &Ops, name: &ServiceName) -> Router {
    Router::new().fallback(ask).with_state((ops.clone(), name.clone()))
}

async fn ask(State((ops, name)): State<(Ops, ServiceName)>) -> Response {
    answer(&name, ops.local_endpoints(&name), ops.health().is_healthy())
}

fn answer(name: &ServiceName, endpoints: usize, healthy: bool) -> Response {
    let good = endpoints > 0 && healthy;
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let (namespace, name) = name.parts();
    let body = json!({
        "service": { "namespace": namespace, "name": name },
        "localEndpoints": endpoints,
        "serviceProxyHealthy": healthy,
    });
    let headers = [
        (WEIGHT, endpoints.to_string()),
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    (status, headers, body.to_string()).into_response()
}
