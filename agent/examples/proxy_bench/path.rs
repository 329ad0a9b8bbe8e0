//! What a connection costs.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netns_tools::testing::TestNetns;

use crate::world::{self, PORT, SERVER, Size, TARGET};
use crate::{Outcome, median};

/// Connections of each kind.
const CONNECTIONS: usize = 3_000;

/// Accepts connections and closes them, until dropped.
pub struct Server<'a> {
    pods: &'a TestNetns,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<'a> Server<'a> {
    /// Listens in a namespace.
    pub fn start(pods: &'a TestNetns) -> Outcome<Self> {
        let listener = pods.run(|| TcpListener::bind((SERVER, TARGET)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = move || {
            while let Ok((stream, _)) = listener.accept() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                drop(stream);
            }
        };
        Ok(Self { pods, stop, thread: Some(std::thread::spawn(work)) })
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // one more connection, so that the thread sees it
        let woken = self.pods.run(|| TcpStream::connect((SERVER, TARGET)).is_ok());
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
    }
}

/// Medians in microseconds: to the last service, and to its endpoint. They take turns.
pub fn connect(size: Size) -> Outcome<[f64; 2]> {
    let service = SocketAddr::new(IpAddr::V4(world::cluster_ip(size.last())), PORT);
    let direct = SocketAddr::new(IpAddr::V4(SERVER), TARGET);
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..CONNECTIONS {
        for (to, times) in [service, direct].iter().zip(&mut times) {
            times.push(once(to)?);
        }
    }
    Ok(times.map(median))
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
