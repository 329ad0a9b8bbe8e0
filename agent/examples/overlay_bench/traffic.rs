//! Traffic between two pods: one TCP stream, requests on an open connection, a connection for each request, datagrams.
//!
//! Sender and receiver each keep to a processor of their own: where the scheduler happens to put them makes more of a difference than
//! what is measured. What flows is counted in short slices, of which the upper quartile is told: others take processors away for some
//! of them.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netns_tools::testing::TestNetns;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::{Outcome, median};

/// Both servers' port.
const PORT: u16 = 5201;
/// What a connection begins with: what is to become of what follows.
const SINK: u8 = b's';
const ECHO: u8 = b'e';
/// Read and written at once in a stream, in bytes.
const CHUNK: usize = 128 * 1024;
/// What a datagram carries, in bytes: small, so that the path is measured and not the copying.
const DATAGRAM: usize = 64;
/// A stream's window is open by then.
const WARM_UP: Duration = Duration::from_millis(60);
/// Whoever does not answer by then never will.
const PATIENCE: Duration = Duration::from_secs(5);

/// Of what flows, one count.
const SLICE: Duration = Duration::from_millis(20);

/// How much of each is done for one sample.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// How long a stream is, and how long datagrams are sent.
    pub time: Duration,
    /// Requests on one connection.
    pub requests: usize,
    /// Connections with one request each.
    pub connections: usize,
}

/// One sample, or the medians of many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// One TCP stream, in Gbit/s.
    pub stream: f64,
    /// The median of a request and its answer on an open connection, in µs.
    pub request: f64,
    /// The median of a connection, a request, its answer and the end, in µs.
    pub connection: f64,
    /// Datagrams that arrived, in thousands a second.
    pub datagrams: f64,
    /// Bytes in a packet of the stream as the receiver's link counted them: many times the MTU where segments travel together
    /// (GSO, GRO), the MTU at most where not.
    pub packet: f64,
}

/// Takes connections and datagrams in a pod, until dropped.
pub struct Server {
    address: SocketAddr,
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<Outcome>>,
}

#[derive(Default)]
struct Counts {
    stop: AtomicBool,
    /// Bytes of streams.
    bytes: AtomicU64,
    datagrams: AtomicU64,
}

impl Counts {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Server {
    /// Starts in a namespace, at one of its addresses.
    pub fn start(pod: &TestNetns, address: IpAddr) -> Outcome<Self> {
        let address = SocketAddr::new(address, PORT);
        let (listener, socket) = pod.run(|| {
            std::io::Result::Ok((TcpListener::bind(address)?, UdpSocket::bind(address)?))
        })?;
        // so that the threads see that they are to end
        listener.set_nonblocking(true)?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let counts = Arc::new(Counts::default());
        let (streams, datagrams) = (Arc::clone(&counts), Arc::clone(&counts));
        let threads = vec![
            std::thread::spawn(move || pin(Side::Server).map(|()| accept(&listener, &streams))),
            std::thread::spawn(move || pin(Side::Server).map(|()| count(&socket, &datagrams))),
        ];
        Ok(Self { address, counts, threads })
    }

    /// One sample from a client's pod; `receiver` is the pod where this server is.
    pub fn sample(
        &self,
        client: &TestNetns,
        receiver: &TestNetns,
        effort: Effort,
    ) -> Outcome<Figures> {
        let before = received(receiver)?;
        let stream = client.run(|| pin(Side::Client).and_then(|()| self.stream(effort.time)))?;
        let after = received(receiver)?;
        let [request, connection] = client.run(|| {
            pin(Side::Client)?;
            Outcome::Ok([
                requests(self.address, effort.requests)?,
                connections(self.address, effort.connections)?,
            ])
        })?;
        let datagrams =
            client.run(|| pin(Side::Client).and_then(|()| self.datagrams(effort.time)))?;
        let packet = float(after.0 - before.0) / float((after.1 - before.1).max(1));
        Ok(Figures { stream, request, connection, datagrams, packet })
    }

    /// In Gbit/s.
    fn stream(&self, time: Duration) -> Outcome<f64> {
        let mut stream = connect(self.address, SINK)?;
        let chunk = vec![0x5a; CHUNK];
        let start = Instant::now();
        while start.elapsed() < WARM_UP {
            stream.write_all(&chunk)?;
        }
        let bytes = rate(&self.counts.bytes, time, || Ok(stream.write_all(&chunk)?))?;
        Ok(bytes * 8.0 / 1e9)
    }

    /// In thousands a second.
    fn datagrams(&self, time: Duration) -> Outcome<f64> {
        let any = if self.address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect(self.address)?;
        let datagrams = rate(&self.counts.datagrams, time, || {
            for _ in 0..32 {
                socket.send(&[0x5a; DATAGRAM])?;
            }
            Ok(())
        })?;
        Ok(datagrams / 1e3)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.counts.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Waits until a server answers: routes and neighbours are there then.
pub fn wait_for(client: &TestNetns, address: IpAddr) -> Outcome {
    let (to, end) = (SocketAddr::new(address, PORT), Instant::now() + PATIENCE);
    client.run(|| {
        loop {
            match connections(to, 1) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > end => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    })
}

/// A processor for each.
#[derive(Clone, Copy)]
enum Side {
    Client,
    Server,
}

/// Keeps this thread to the first processor, or to the last.
fn pin(side: Side) -> Outcome {
    let mut processors = CpuSet::new();
    processors.set(match side {
        Side::Client => 0,
        Side::Server => std::thread::available_parallelism()?.get() - 1,
    })?;
    Ok(sched_setaffinity(Pid::from_raw(0), &processors)?)
}

/// Does something again and again; how much of it was counted in a second.
fn rate(count: &AtomicU64, time: Duration, mut send: impl FnMut() -> Outcome) -> Outcome<f64> {
    let mut rates = Vec::new();
    let start = Instant::now();
    while start.elapsed() < time {
        let (slice, before) = (Instant::now(), count.load(Ordering::Relaxed));
        while slice.elapsed() < SLICE {
            send()?;
        }
        let arrived = count.load(Ordering::Relaxed) - before;
        rates.push(float(arrived) / slice.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    Ok(rates.get(rates.len() * 3 / 4).copied().unwrap_or(f64::NAN))
}

fn accept(listener: &TcpListener, counts: &Arc<Counts>) {
    while !counts.stopped() {
        match listener.accept() {
            Ok((stream, _)) => serve(stream, counts),
            // a connection for each request is measured: this must not sleep long
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait_readable(listener),
            Err(_) => return,
        }
    }
}

/// Connections come one after the other: they are served here, without a thread for each.
fn serve(mut stream: TcpStream, counts: &Counts) {
    let mut kind = [0];
    let ready = stream.set_nonblocking(false).and_then(|()| stream.set_nodelay(true));
    let ready = ready.and_then(|()| stream.set_read_timeout(Some(PATIENCE)));
    if ready.is_err() || stream.read_exact(&mut kind).is_err() {
        return;
    }
    let mut buffer = vec![0; if kind == [SINK] { CHUNK } else { 1 }];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if kind == [SINK] {
            counts.bytes.fetch_add(length as u64, Ordering::Relaxed);
        } else if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

fn wait_readable(listener: &TcpListener) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let mut waited = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    // an error shows in the accept that follows
    let _ = poll(&mut waited, PollTimeout::from(50_u8));
}

fn count(socket: &UdpSocket, counts: &Counts) {
    let mut buffer = [0; DATAGRAM];
    while !counts.stopped() {
        // nothing comes most of the time
        if socket.recv(&mut buffer).is_ok() {
            counts.datagrams.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn connect(to: SocketAddr, kind: u8) -> Outcome<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE);
    let mut stream = stream.map_err(|error| format!("cannot connect to {to}: {error}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&[kind])?;
    Ok(stream)
}

fn ask(stream: &mut TcpStream) -> Outcome {
    stream.write_all(b"?")?;
    stream.read_exact(&mut [0])?;
    Ok(())
}

/// The median in µs.
fn requests(to: SocketAddr, number: usize) -> Outcome<f64> {
    let mut stream = connect(to, ECHO)?;
    let times = (0..number).map(|_| timed(|| ask(&mut stream))).collect::<Outcome<_>>()?;
    Ok(median(times))
}

/// The median in µs.
fn connections(to: SocketAddr, number: usize) -> Outcome<f64> {
    let once = || -> Outcome {
        let mut stream = connect(to, ECHO)?;
        ask(&mut stream)
    };
    let times = (0..number).map(|_| timed(once)).collect::<Outcome<_>>()?;
    Ok(median(times))
}

fn timed(work: impl FnOnce() -> Outcome) -> Outcome<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64() * 1e6)
}

/// Bytes and packets that a pod's link received.
fn received(pod: &TestNetns) -> Outcome<(u64, u64)> {
    let shown = pod.json(&["ip", "-j", "-s", "link", "show", "eth0"]);
    let number = |key: &str| shown[0]["stats64"]["rx"][key].as_u64();
    number("bytes").zip(number("packets")).ok_or_else(|| format!("no counters: {shown}").into())
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn float(number: u64) -> f64 {
    number as f64
}
