//! What a connection costs.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netns_tools::testing::TestNetns;

use crate::topology::Pair;
use crate::world::{self, PORT, SERVER, Size, TARGET};
use crate::{Outcome, median};

/// Connections of each kind.
const CONNECTIONS: usize = 3_000;

/// Accepts connections, tells each the last part of its address, and closes them, until dropped.
pub struct Server<'a> {
    pods: &'a TestNetns,
    address: Ipv4Addr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<'a> Server<'a> {
    /// Listens in a namespace.
    pub fn start(pods: &'a TestNetns, address: Ipv4Addr) -> Outcome<Self> {
        let listener = pods.run(|| TcpListener::bind((address, TARGET)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = move || {
            while let Ok((mut stream, _)) = listener.accept() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                // the client may be gone already
                let _ = stream.write_all(&address.octets()[3..]);
            }
        };
        Ok(Self { pods, address, stop, thread: Some(std::thread::spawn(work)) })
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // one more connection, so that the thread sees it
        let to = (self.address, TARGET);
        let woken = self.pods.run(|| TcpStream::connect(to).is_ok());
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
    }
}

/// To a service, and to the endpoint of the last one. They take turns.
pub fn connect(service: &SocketAddr) -> Outcome<Pair> {
    let direct = SocketAddr::from((SERVER, TARGET));
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..CONNECTIONS {
        for (to, times) in [*service, direct].iter().zip(&mut times) {
            times.push(once(to)?);
        }
    }
    let [service, direct] = times.map(median);
    Ok(Pair { service, direct })
}

/// Makes connections to the last service until one reaches this server.
pub fn wait_for(size: Size, server: Ipv4Addr) -> Outcome {
    let service = SocketAddr::from((world::cluster_ip(size.last()), PORT));
    let patience = Instant::now() + Duration::from_secs(10);
    while Instant::now() < patience {
        if asked(&service) == Some(server.octets()[3]) {
            return Ok(());
        }
    }
    Err(format!("{service} does not lead to {server}").into())
}

/// Which server answers there: the last part of its address. `None`: nobody.
pub fn asked(service: &SocketAddr) -> Option<u8> {
    let mut told = [0];
    let mut stream = TcpStream::connect_timeout(service, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    stream.read_exact(&mut told).ok()?;
    Some(told[0])
}

fn once(to: &SocketAddr) -> Outcome<f64> {
    let start = Instant::now();
    match TcpStream::connect_timeout(to, Duration::from_secs(5)) {
        Ok(stream) => {
            let took = start.elapsed();
            drop(stream);
            Ok(took.as_secs_f64() * 1e6)
        }
        Err(error) if error.kind() == ErrorKind::TimedOut => {
            Err(format!("{to} does not answer").into())
        }
        Err(error) => Err(format!("{to}: {error}").into()),
    }
}
