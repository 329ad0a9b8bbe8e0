//! Streams, datagrams, and who is seen as their source. Everything has a bound and says why it failed.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use netns_tools::testing::TestNetns;
use nix::libc;

/// How long one attempt may take; who wants more patience tries again.
const ATTEMPT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);

/// Tries until it works; the time that it took.
///
/// # Panics
/// With the last reason, when it has not worked after `bound`.
#[track_caller]
pub fn eventually<T>(
    bound: Duration,
    what: &str,
    mut attempt: impl FnMut() -> Result<T, String>,
) -> (T, Duration) {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return (value, start.elapsed()),
            Err(why) => assert!(start.elapsed() < bound, "{what}, after {bound:?}: {why}"),
        }
        std::thread::sleep(PAUSE);
    }
}

/// Sends `size` bytes over a new connection and has their sum confirmed, within a bound: a real transfer. What it took.
pub fn stream(
    from: &TestNetns,
    to: (&TestNetns, IpAddr),
    size: usize,
    bound: Duration,
) -> Result<Duration, String> {
    let listener =
        to.0.run(|| TcpListener::bind((to.1, 0))).map_err(|e| format!("{}: {e}", to.1))?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let start = Instant::now();
    std::thread::scope(|scope| {
        let server = scope.spawn(move || sum_one(&listener, bound));
        let sent = from.run(|| send(address, size, bound));
        if sent.is_err() {
            // so that accept() ends
            let _ = to.0.run(|| TcpStream::connect_timeout(&address, ATTEMPT));
        }
        let seen = server.join().map_err(|_| "the server panicked".to_owned())?;
        sent.map_err(|why| format!("{size} bytes to {address} from {}: {why}", from.name()))?;
        seen
    })?;
    let took = start.elapsed();
    if took > bound {
        return Err(format!("{size} bytes to {address} took {took:?}, and {bound:?} is the bound"));
    }
    Ok(took)
}

fn send(to: SocketAddr, size: usize, bound: Duration) -> Result<(), String> {
    let mut stream =
        TcpStream::connect_timeout(&to, ATTEMPT).map_err(|e| format!("cannot connect: {e}"))?;
    let end = Instant::now() + bound;
    let (mut left, mut sum) = (size, 0_u64);
    let chunk: Vec<u8> = (0..64 * 1024_u32).map(|number| number.to_le_bytes()[0]).collect();
    while left > 0 {
        patience(&stream, end)?;
        let wanted = &chunk[..left.min(chunk.len())];
        let wrote = stream.write(wanted).map_err(|e| format!("stuck with {left} to go: {e}"))?;
        sum += wanted[..wrote].iter().map(|byte| u64::from(*byte)).sum::<u64>();
        left -= wrote;
    }
    stream.shutdown(std::net::Shutdown::Write).map_err(|e| e.to_string())?;
    patience(&stream, end)?;
    let mut told = [0; 8];
    stream
        .read_exact(&mut told)
        .map_err(|e| format!("all is sent, and nothing comes back: {e}"))?;
    let seen = u64::from_be_bytes(told);
    if seen == sum { Ok(()) } else { Err(format!("the sum is {seen}, and not {sum}")) }
}

/// What is left of the time, for the next read and write.
fn patience(stream: &TcpStream, end: Instant) -> Result<(), String> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err("stuck until the time was over".into());
    }
    let set =
        stream.set_write_timeout(Some(left)).and_then(|()| stream.set_read_timeout(Some(left)));
    set.map_err(|e| e.to_string())
}

fn sum_one(listener: &TcpListener, bound: Duration) -> Result<(), String> {
    let (mut stream, _) = listener.accept().map_err(|e| e.to_string())?;
    stream.set_read_timeout(Some(bound)).map_err(|e| e.to_string())?;
    let (mut buffer, mut sum) = (vec![0; 64 * 1024], 0_u64);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => sum += buffer[..read].iter().map(|byte| u64::from(*byte)).sum::<u64>(),
            Err(why) => return Err(format!("the stream broke: {why}")),
        }
    }
    stream.write_all(&sum.to_be_bytes()).map_err(|e| e.to_string())
}

/// Sends one datagram that makes a packet of `size` bytes with its IP header, and waits for the (short) answer: as whom the receiver saw
/// the sender. The packet is never fragmented on the way, and what was learned of the path's MTU before is of no meaning.
pub fn datagram(from: &TestNetns, to: (&TestNetns, IpAddr), size: usize) -> Result<IpAddr, String> {
    let server = to.0.run(|| UdpSocket::bind((to.1, 0))).map_err(|e| format!("{}: {e}", to.1))?;
    let address = server.local_addr().map_err(|e| e.to_string())?;
    server.set_read_timeout(Some(ATTEMPT)).map_err(|e| e.to_string())?;
    let payload = size - if address.is_ipv4() { 20 + 8 } else { 40 + 8 };
    std::thread::scope(|scope| {
        let echo = scope.spawn(move || {
            let mut buffer = vec![0; payload + 1];
            let (length, peer) = server.recv_from(&mut buffer)?;
            server.send_to(&buffer[..length.min(8)], peer)?;
            std::io::Result::Ok((peer.ip(), length))
        });
        let answered = from.run(|| exchange(address, payload));
        let seen = echo.join().map_err(|_| "the server panicked".to_owned())?;
        match (seen, answered) {
            (Ok((source, length)), Ok(())) if length == payload => Ok(source),
            (Ok((source, length)), answered) => Err(format!(
                "{address} saw {length} bytes of {payload} from {source}, and the answer: {answered:?}"
            )),
            (Err(why), answered) => Err(format!(
                "{size} bytes from {} did not arrive at {address}: {why} (the sender: {answered:?})",
                from.name()
            )),
        }
    })
}

fn exchange(to: SocketAddr, payload: usize) -> std::io::Result<()> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(ATTEMPT))?;
    never_fragment(&socket, to.is_ipv4())?;
    socket.connect(to)?;
    let sent: Vec<u8> = (0..payload).map(|number| number.to_le_bytes()[0]).collect();
    socket.send(&sent)?;
    let mut buffer = [0; 16];
    let length = socket.recv(&mut buffer)?;
    let same = buffer[..length] == sent[..payload.min(8)];
    if same { Ok(()) } else { Err(std::io::Error::other("another answer")) }
}

/// Has the socket set the flag "don't fragment" whatever the path's MTU seems to be: `IP_PMTUDISC_PROBE` (ip(7), ipv6(7)).
fn never_fragment(socket: &UdpSocket, is_ipv4: bool) -> std::io::Result<()> {
    let (level, name, value) = if is_ipv4 {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)
    };
    let length = size_of_val(&value).try_into().map_err(std::io::Error::other)?;
    // SAFETY: the descriptor is open, and the kernel reads `length` bytes of `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Makes a connection: as whom the server saw the client.
pub fn source_of_connection(from: &TestNetns, to: (&TestNetns, IpAddr)) -> Result<IpAddr, String> {
    let listener =
        to.0.run(|| TcpListener::bind((to.1, 0))).map_err(|e| format!("{}: {e}", to.1))?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let connected = from.run(|| TcpStream::connect_timeout(&address, ATTEMPT));
    connected.map_err(|e| format!("no connection from {} to {address}: {e}", from.name()))?;
    let (_, peer) = listener.accept().map_err(|e| e.to_string())?;
    Ok(peer.ip())
}
