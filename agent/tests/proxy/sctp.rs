//! SCTP without a kernel that speaks it: the first two packets of an association (RFC 9260), by raw sockets. That is all that a
//! translation of addresses has to do with; connection tracking judges these packets as any others.
//!
//! An endpoint answers INIT with INIT ACK, and tells in the state cookie, which is its own to fill, who it is and whom it sees.

use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use heddle_agent::proxy::model::FAMILIES;
use netns_tools::netns::NetNs;
use nix::libc;
use nix::sys::socket::{SockaddrStorage, bind};

use crate::echo::{Attempt, Outcome, answered};
use crate::world::{Place, TARGET_PORT};

/// When a packet counts as lost, and how often a server looks whether it should end.
const AGAIN: Duration = Duration::from_millis(300);
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
/// The parameter "State Cookie".
const COOKIE: u16 = 7;
/// The common header, the head of a chunk, and the fixed part of INIT and INIT ACK.
const FIXED: usize = 12 + 4 + 16;

/// What the two packets say.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Packet {
    source: u16,
    destination: u16,
    /// The tag that the receiver asked for; 0 in INIT.
    tag: u32,
    chunk: u8,
    /// The tag that the sender asks for.
    initiate: u32,
    cookie: Vec<u8>,
}

impl Packet {
    fn encode(&self) -> Vec<u8> {
        let parameter = if self.cookie.is_empty() { 0 } else { 4 + self.cookie.len() };
        let length = |length: usize| u16::try_from(length).unwrap().to_be_bytes();
        let mut bytes = [self.source.to_be_bytes(), self.destination.to_be_bytes()].concat();
        bytes.extend(self.tag.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend([self.chunk, 0]);
        bytes.extend(length(FIXED - 12 + parameter));
        bytes.extend(self.initiate.to_be_bytes());
        // the window, streams out and in, the first number of data
        bytes.extend([0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
        if parameter > 0 {
            bytes.extend(COOKIE.to_be_bytes());
            bytes.extend(length(parameter));
            bytes.extend(&self.cookie);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let sum = crc32c(&bytes);
        bytes[8..12].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// `None`: it is none of the two, or its sum is wrong.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut unsummed = bytes.to_vec();
        unsummed.get_mut(8..12)?.fill(0);
        let sum = u32::from_le_bytes(bytes[8..12].try_into().ok()?);
        let short = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let long = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let chunk = *bytes.get(12)?;
        let cookie = match bytes.get(FIXED..)? {
            [] => Vec::new(),
            _ => bytes.get(FIXED + 4..FIXED + usize::from(short(FIXED + 2)?))?.to_vec(),
        };
        let packet = Self {
            source: short(0)?,
            destination: short(2)?,
            tag: long(4)?,
            chunk,
            initiate: long(16)?,
            cookie,
        };
        ([INIT, INIT_ACK].contains(&chunk) && crc32c(&unsummed) == sum).then_some(packet)
    }
}

/// CRC-32C (RFC 9260, appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 * (crc & 1)))
    };
    !bytes.iter().fold(u32::MAX, step)
}

/// A raw socket of SCTP in the calling thread's namespace. The methods of a socket of datagrams do for it, but that IPv4 is received
/// with its header.
fn raw_socket(is_v4: bool) -> Result<UdpSocket> {
    let family = if is_v4 { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: makes a descriptor, and touches no memory of ours.
    let fd =
        unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_SCTP) };
    if fd < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: the descriptor was made just now and is nobody else's.
    let socket = UdpSocket::from(unsafe { OwnedFd::from_raw_fd(fd) });
    socket.set_read_timeout(Some(AGAIN))?;
    Ok(socket)
}

/// The next packet, with who sent it. `None`: nothing came in time, or nothing of ours.
fn receive(socket: &UdpSocket) -> Result<Option<(Packet, IpAddr)>> {
    let mut buffer = [0; 512];
    match socket.recv_from(&mut buffer) {
        Ok((length, peer)) => {
            let header = if peer.is_ipv4() { usize::from(buffer[0] & 15) * 4 } else { 0 };
            Ok(buffer[..length].get(header..).and_then(Packet::decode).map(|it| (it, peer.ip())))
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Endpoints of both families, which end with this.
pub struct Servers {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Servers {
    pub fn start(endpoints: &[(Place, &NetNs)]) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for (place, ns) in endpoints {
            for family in FAMILIES {
                let at = place.ip(family);
                let listen = || {
                    let socket = raw_socket(at.is_ipv4())?;
                    bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(at, 0)))?;
                    Ok::<_, Error>(socket)
                };
                let socket = ns.run(listen).unwrap().unwrap();
                let over = over.clone();
                threads.push(std::thread::spawn(move || serve(&socket, at, &over)));
            }
        }
        Self { over, threads }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok() || std::thread::panicking(), "an endpoint broke");
        }
    }
}

fn serve(socket: &UdpSocket, at: IpAddr, over: &AtomicBool) {
    while !over.load(Ordering::SeqCst) {
        let Some((asked, peer)) = receive(socket).unwrap() else { continue };
        if (asked.chunk, asked.destination, asked.tag) != (INIT, TARGET_PORT, 0) {
            continue;
        }
        let told = format!("{} {peer}", SocketAddr::new(at, TARGET_PORT));
        let answer = Packet {
            source: asked.destination,
            destination: asked.source,
            tag: asked.initiate,
            chunk: INIT_ACK,
            initiate: 7,
            cookie: told.into_bytes(),
        };
        // a client that is gone needs no answer
        let _ = socket.send_to(&answer.encode(), SocketAddr::new(peer, 0));
    }
}

/// Asks again and again, from one port, until there is an answer or the patience is over. Not beside others of this namespace to the
/// same address: what is refused, is told to all of them.
pub fn make(attempt: &Attempt) -> Outcome {
    static PORT: AtomicU16 = AtomicU16::new(20_000);
    let source = PORT.fetch_add(1, Ordering::SeqCst);
    match ask(attempt, source) {
        Ok(Some(text)) => answered(&text),
        Ok(None) => Outcome::Silent,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Outcome::Refused,
        Err(error) => panic!("{attempt:?}: {error}"),
    }
}

fn ask(attempt: &Attempt, source: u16) -> Result<Option<String>> {
    let socket = raw_socket(attempt.to.is_ipv4())?;
    if let Some(from) = attempt.source {
        bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0)))?;
    }
    socket.connect(SocketAddr::new(attempt.to.ip(), 0))?;
    let initiate = 0x1000_0000 + u32::from(source);
    let (destination, cookie) = (attempt.to.port(), Vec::new());
    let init = Packet { source, destination, tag: 0, chunk: INIT, initiate, cookie }.encode();
    let end = Instant::now() + attempt.patience;
    while Instant::now() < end {
        match socket.send(&init) {
            // its own rules kept it here; if they refuse instead of drop, that comes as an answer
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            sent => drop(sent?),
        }
        let again = (Instant::now() + AGAIN).min(end);
        while Instant::now() < again {
            let Some((answer, _)) = receive(&socket)? else { continue };
            let is_mine = (answer.chunk, answer.source, answer.destination, answer.tag)
                == (INIT_ACK, destination, source, initiate);
            if is_mine {
                return Ok(Some(String::from_utf8_lossy(&answer.cookie).into_owned()));
            }
        }
    }
    Ok(None)
}

#[test]
fn packets_are_written_as_they_are_read() {
    assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    let packet = Packet {
        source: 5,
        destination: 8080,
        tag: 9,
        chunk: INIT_ACK,
        initiate: 11,
        cookie: b"hello".to_vec(),
    };
    let bytes = packet.encode();
    assert_eq!(bytes.len(), FIXED + 12);
    assert_eq!(Packet::decode(&bytes), Some(packet.clone()));
    let init = Packet { chunk: INIT, cookie: Vec::new(), ..packet };
    assert_eq!(Packet::decode(&init.encode()), Some(init));
    for broken in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[broken] ^= 1;
        assert_eq!(Packet::decode(&bytes), None, "byte {broken}");
        assert_eq!(Packet::decode(&bytes[..broken]), None, "{broken} bytes");
    }
}
