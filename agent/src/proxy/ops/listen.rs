//! Sockets that listen, and what answers at them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// How many connections one socket serves at a time; the next wait in the kernel's queue. These sockets face outside: whoever opens
/// connections for nothing must not take the descriptors that the proxy itself needs.
const CONNECTIONS: usize = 256;
/// How many wait there.
const BACKLOG: u32 = 128;
/// How long a client may take for the head of a request, or keep a connection open without one.
const IDLE: Duration = Duration::from_secs(15);
/// After an `accept` that failed for want of descriptors, which come back when a connection ends.
const PAUSE: Duration = Duration::from_millis(500);

/// Listens, with `SO_REUSEADDR`. An address that is "all of them" is all of both families, as Go's `net.Listen` has it; of IPv4
/// where the kernel has no IPv6. Needs a tokio runtime; the socket is in the calling thread's network namespace.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_unspecified() {
        return bind(address);
    }
    match bind((Ipv6Addr::UNSPECIFIED, address.port()).into()) {
        Err(error) if has_no_family(&error) => bind((Ipv4Addr::UNSPECIFIED, address.port()).into()),
        bound => bound,
    }
}

fn has_no_family(error: &io::Error) -> bool {
    use nix::libc::{EADDRNOTAVAIL, EAFNOSUPPORT};
    matches!(error.raw_os_error(), Some(EAFNOSUPPORT | EADDRNOTAVAIL))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        // net.ipv6.bindv6only would decide otherwise
        setsockopt(&socket, sockopt::Ipv6V6Only, &!address.ip().is_unspecified())?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A socket with what answers at it. Dropping it closes the socket and its connections.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Starts to answer.
    pub fn start(listener: TcpListener, router: Router) -> io::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(serve(listener, router)) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the socket and its connections, and returns when they are closed: the port is free then.
    pub async fn close(mut self) {
        self.task.abort();
        // an error says that it was aborted
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, router.clone()));
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(stream: TcpStream, router: Router) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE);
    let service = TowerToHyperService::new(router);
    // what a client does wrong is its own affair
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}
