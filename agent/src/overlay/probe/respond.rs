//! The end that answers: a UDP echo on this node's addresses, for the other nodes and for nobody else.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use netns_tools::{complete_checksum, probe_socket};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::bucket::Bucket;
use super::datagram::{Datagram, LONGEST, NotAProbe};

/// Answers per second, to everybody together; more at once when ten thousand nodes learn of this one's new address.
const ALL: u32 = 1000;
const ALL_AT_ONCE: u32 = 2000;
/// Answers per second to one node: a search asks some ten times in a second.
const ONE: u32 = 50;
const ONE_AT_ONCE: u32 = 100;
/// An address that is not this host's yet is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Where and whom to answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answering {
    /// This node's addresses: of its VXLAN devices, and on the underlay.
    pub addresses: BTreeSet<IpAddr>,
    /// The UDP port; 0: nobody is answered.
    pub port: u16,
    /// The other nodes' addresses, on the underlay and of their VXLAN devices.
    pub nodes: BTreeSet<IpAddr>,
}

/// Why a datagram is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    Stranger,
    NoQuestion,
    NotAProbe(NotAProbe),
    TooMany,
}

/// Who is answered, and how often.
struct Gate {
    nodes: BTreeSet<IpAddr>,
    all: Bucket,
    each: HashMap<IpAddr, Bucket>,
}

impl Gate {
    fn new(now: Instant) -> Self {
        let all = Bucket::new(ALL, ALL_AT_ONCE, now);
        Self { nodes: BTreeSet::new(), all, each: HashMap::new() }
    }

    fn admit(&mut self, nodes: &BTreeSet<IpAddr>) {
        self.nodes.clone_from(nodes);
        self.each.retain(|ip, _| nodes.contains(ip));
    }

    /// The answer, if there is one.
    fn answer(&mut self, from: IpAddr, bytes: &[u8], now: Instant) -> Result<Vec<u8>, Silence> {
        if !self.nodes.contains(&from) {
            return Err(Silence::Stranger);
        }
        let question = Datagram::read(bytes).map_err(Silence::NotAProbe)?;
        if question.is_answer {
            return Err(Silence::NoQuestion);
        }
        let own = self.each.entry(from).or_insert_with(|| Bucket::new(ONE, ONE_AT_ONCE, now));
        own.take(now).and_then(|()| self.all.take(now)).map_err(|_| Silence::TooMany)?;
        Ok(question.answer().write())
    }
}

/// Answers probes in the network namespace of the calling task's thread until `wanted` has no sender any more.
pub async fn respond(mut wanted: watch::Receiver<Arc<Answering>>) {
    let gate = Arc::new(Mutex::new(Gate::new(Instant::now())));
    let mut tasks = JoinSet::new();
    let mut open: HashMap<SocketAddr, AbortHandle> = HashMap::new();
    loop {
        let now = Arc::clone(&wanted.borrow_and_update());
        lock(&gate).admit(&now.nodes);
        let used = if now.port == 0 { BTreeSet::new() } else { now.addresses.clone() };
        let places: BTreeSet<_> =
            used.into_iter().map(|ip| SocketAddr::new(ip, now.port)).collect();
        open.retain(|place, task| {
            let stays = places.contains(place);
            if !stays {
                task.abort();
            }
            stays
        });
        for place in places {
            open.entry(place).or_insert_with(|| tasks.spawn(answer_at(place, Arc::clone(&gate))));
        }
        if wanted.changed().await.is_err() {
            return;
        }
        while tasks.try_join_next().is_some() {}
    }
}

fn lock(gate: &Mutex<Gate>) -> std::sync::MutexGuard<'_, Gate> {
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers at one address, for ever. The address may come later, go, and come back.
async fn answer_at(place: SocketAddr, gate: Arc<Mutex<Gate>>) {
    let mut told: Option<io::ErrorKind> = None;
    loop {
        let error = match open(place) {
            Ok(socket) => {
                tracing::debug!(%place, "probes of other nodes are answered");
                told = None;
                serve(&socket, &gate).await
            }
            Err(error) => error,
        };
        if told != Some(error.kind()) {
            tracing::warn!(%place, %error, "probes of other nodes are not answered; trying again");
            told = Some(error.kind());
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn open(place: SocketAddr) -> io::Result<UdpSocket> {
    UdpSocket::from_std(probe_socket::open(place)?)
}

/// Answers until the socket fails.
async fn serve(socket: &UdpSocket, gate: &Mutex<Gate>) -> io::Error {
    let mut buffer = vec![0; LONGEST];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => return error,
        };
        let answer = lock(gate).answer(from.ip(), &buffer[..length], Instant::now());
        match answer {
            // The checksum is complete: what the asker's device does to checksums is to be found out, not what ours does.
            Ok(answer) => {
                if let Err(error) = complete_checksum::send(socket, &answer, from) {
                    tracing::debug!(%from, %error, "a probe could not be answered");
                }
            }
            Err(silence) => tracing::trace!(%from, ?silence, "a datagram is not answered"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket as Plain;

    use netns_tools::testing::{End, TestNetns, veth_pair};

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn gate(now: Instant) -> Gate {
        let mut gate = Gate::new(now);
        gate.admit(&BTreeSet::from([ip("192.0.2.1"), ip("192.0.2.2")]));
        gate
    }

    #[test]
    fn nodes_are_answered_and_nobody_else() {
        let now = Instant::now();
        let mut gate = gate(now);
        let question = Datagram::question(7, 1400);
        let bytes = question.write();
        let answer = gate.answer(ip("192.0.2.1"), &bytes, now).unwrap();
        assert_eq!(Datagram::read(&answer), Ok(question.answer()));
        assert_eq!(gate.answer(ip("192.0.2.9"), &bytes, now), Err(Silence::Stranger));
        // two that answered each other would never end
        assert_eq!(gate.answer(ip("192.0.2.1"), &answer, now), Err(Silence::NoQuestion));
        let short = Err(Silence::NotAProbe(NotAProbe::Short));
        assert_eq!(gate.answer(ip("192.0.2.1"), &bytes[..10], now), short);
        // a node that left is a stranger
        gate.admit(&BTreeSet::new());
        assert_eq!(gate.answer(ip("192.0.2.1"), &bytes, now), Err(Silence::Stranger));
        assert!(gate.each.is_empty());
    }

    #[test]
    fn one_that_asks_too_much_does_not_silence_the_others() {
        let now = Instant::now();
        let mut gate = gate(now);
        let bytes = Datagram::question(7, 64).write();
        let mut asked = |from: &str, now| {
            (0..5000).filter(|_| gate.answer(ip(from), &bytes, now).is_ok()).count()
        };
        assert_eq!(asked("192.0.2.1", now), 100);
        assert_eq!(asked("192.0.2.2", now), 100);
        assert_eq!(asked("192.0.2.1", now + Duration::from_secs(1)), 50);
    }

    fn ask(from: &Plain, to: &str, bytes: &[u8]) -> Option<Vec<u8>> {
        from.send_to(bytes, to).unwrap();
        let mut buffer = [0; 2000];
        from.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())
    }

    fn plain(ns: &TestNetns, address: &str) -> Plain {
        let socket = ns.run(|| Plain::bind((address, 0))).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        socket
    }

    fn until_answered(from: &Plain, to: &str) -> Vec<u8> {
        let question = Datagram::question(3, 500).write();
        let found = (0..50).find_map(|_| ask(from, to, &question));
        found.unwrap_or_else(|| panic!("{to} does not answer"))
    }

    #[test]
    fn over_a_real_wire_an_address_comes_goes_and_comes_back() {
        let (node, peer) = (TestNetns::new("respond"), TestNetns::new("respond"));
        veth_pair(
            End(&node, "eth0", &["2001:db8::1/64"]),
            End(&peer, "eth0", &["192.0.2.2/24", "192.0.2.9/24", "2001:db8::2/64"]),
        );
        let answering = Answering {
            addresses: ["192.0.2.1", "2001:db8::1"].map(ip).into(),
            port: 8473,
            nodes: ["192.0.2.2", "2001:db8::2"].map(ip).into(),
        };
        let (wanted, receiver) = watch::channel(Arc::new(answering.clone()));
        std::thread::scope(|scope| {
            let ns = node.ns();
            scope.spawn(|| ns.run(|| super::super::tests::block_on(respond(receiver))).unwrap());
            let six = plain(&peer, "2001:db8::2");
            let expected = Datagram::question(3, 500).answer().write();
            assert_eq!(until_answered(&six, "[2001:db8::1]:8473"), expected);
            // the address comes later than the wish to answer there
            node.configure("eth0", &["192.0.2.1/24"]);
            let four = plain(&peer, "192.0.2.2");
            assert_eq!(until_answered(&four, "192.0.2.1:8473"), expected);
            // hostile ones: a stranger, garbage, a forged length, an answer, nothing at all
            let stranger = plain(&peer, "192.0.2.9");
            let question = Datagram::question(3, 500).write();
            assert_eq!(ask(&stranger, "192.0.2.1:8473", &question), None);
            for bytes in [&b"hello"[..], &question[..499], &expected, &[], &[0xff; 1400]] {
                assert_eq!(ask(&four, "192.0.2.1:8473", bytes), None, "{bytes:?}");
            }
            // it still answers afterwards
            assert_eq!(until_answered(&four, "192.0.2.1:8473"), expected);
            let fewer = Answering { addresses: [ip("2001:db8::1")].into(), ..answering };
            wanted.send(Arc::new(fewer)).unwrap();
            let end = Instant::now() + Duration::from_secs(10);
            while ask(&four, "192.0.2.1:8473", &question).is_some() {
                assert!(Instant::now() < end, "the address that is not wanted still answers");
                // slower than what would be refused as too much
                std::thread::sleep(Duration::from_millis(100));
            }
            assert_eq!(until_answered(&six, "[2001:db8::1]:8473"), expected);
            drop(wanted);
        });
    }
}
