//! Servers that tell who they are and who speaks to them, and clients that listen.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use heddle_agent::proxy::model::{FAMILIES, Protocol};
use netns_tools::netns::NetNs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::sctp;
use crate::world::{Place, target};

/// When a datagram counts as lost.
const AGAIN: Duration = Duration::from_millis(300);

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// An endpoint answered: it says who it is, and whom it sees.
    Answered { endpoint: SocketAddr, seen: IpAddr },
    /// Refused at once.
    Refused,
    /// Nothing came back.
    Silent,
}

/// Echo servers of several endpoints, both families, TCP and UDP. They end with this.
pub struct Servers {
    runtime: Option<Runtime>,
}

impl Servers {
    pub fn start(endpoints: &[(Place, &NetNs)]) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let guard = runtime.enter();
        for (place, ns) in endpoints {
            for family in FAMILIES {
                let at = target(*place, family);
                let sockets = || (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap());
                let (tcp, udp) = ns.run(sockets).unwrap();
                runtime.spawn(serve_tcp(tcp));
                runtime.spawn(serve_udp(udp));
            }
        }
        drop(guard);
        Self { runtime: Some(runtime) }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn line(local: SocketAddr, peer: SocketAddr) -> String {
    format!("{local} {}", peer.ip())
}

async fn serve_tcp(listener: TcpListener) {
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let Ok((mut stream, peer)) = listener.accept().await else { continue };
        let told = line(stream.local_addr().unwrap(), peer);
        tokio::spawn(async move {
            // a client that is gone needs no answer
            let _ = stream.write_all(told.as_bytes()).await;
        });
    }
}

async fn serve_udp(socket: UdpSocket) {
    socket.set_nonblocking(true).unwrap();
    let socket = tokio::net::UdpSocket::from_std(socket).unwrap();
    let local = socket.local_addr().unwrap();
    let mut buffer = [0; 64];
    loop {
        if let Ok((_, peer)) = socket.recv_from(&mut buffer).await {
            // as above
            let _ = socket.send_to(line(local, peer).as_bytes(), peer).await;
        }
    }
}

/// What a client tries.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// `None`: what the kernel chooses.
    pub source: Option<IpAddr>,
    /// 0: any.
    pub source_port: u16,
    pub to: SocketAddr,
    pub protocol: Protocol,
    /// How long to wait for anything.
    pub patience: Duration,
}

impl Attempt {
    /// Makes one connection from the calling thread's namespace. Within a runtime of this thread alone.
    pub async fn make(self) -> Outcome {
        if self.protocol == Protocol::Sctp {
            return sctp::make(&self);
        }
        let made = async {
            if self.protocol == Protocol::Tcp { self.tcp().await } else { self.udp().await }
        };
        match timeout(self.patience, made).await {
            Ok(Ok(text)) => answered(&text),
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Outcome::Refused,
            Ok(Err(error)) => panic!("{self:?}: {error}"),
            Err(_) => Outcome::Silent,
        }
    }

    fn from(self) -> SocketAddr {
        let any: IpAddr = if self.to.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
        SocketAddr::new(self.source.unwrap_or(any), self.source_port)
    }

    async fn tcp(self) -> std::io::Result<String> {
        let socket = if self.to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(self.from())?;
        let mut stream = socket.connect(self.to).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    /// Asks again and again: datagrams get lost, and so do refusals, of which a kernel sends only so many in a second.
    async fn udp(self) -> std::io::Result<String> {
        let socket = tokio::net::UdpSocket::bind(self.from()).await?;
        socket.connect(self.to).await?;
        loop {
            match socket.send(b"who").await {
                // its own rules kept it here; if they refuse instead of drop, that comes as an answer
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
                sent => drop(sent?),
            }
            let mut buffer = [0; 128];
            if let Ok(received) = timeout(AGAIN, socket.recv(&mut buffer)).await {
                return Ok(String::from_utf8_lossy(&buffer[..received?]).into_owned());
            }
        }
    }
}

/// What an endpoint told.
pub fn answered(text: &str) -> Outcome {
    let (endpoint, seen) = text.split_once(' ').unwrap_or_else(|| panic!("answer {text:?}"));
    Outcome::Answered { endpoint: endpoint.parse().unwrap(), seen: seen.parse().unwrap() }
}

/// Runs a future in a namespace, with a runtime of its own.
pub fn block_in<T: Send>(ns: &NetNs, work: impl AsyncFnOnce() -> T + Send) -> T {
    let run = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap().block_on(work())
    };
    ns.run(run).unwrap()
}
