//! A DHCP server for tests, which does as it is told and tells what it heard. It shares nothing with the client under test.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Lan, eventually};

pub const DISCOVER: u8 = 1;
pub const REQUEST: u8 = 3;
pub const RELEASE: u8 = 7;
const OFFER: u8 = 2;
const ACK: u8 = 5;
const NAK: u8 = 6;

/// What it does.
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a misbehaviour of its own")]
pub struct Orders {
    /// The address that it gives.
    pub address: Ipv4Addr,
    /// Lease time, T1 and T2 in seconds.
    pub times: [u32; 3],
    /// Does not answer messages to it alone.
    pub deaf_to_unicast: bool,
    /// Does not answer messages to all.
    pub deaf_to_broadcast: bool,
    /// Refuses every request but those for its own new offer.
    pub refuse: bool,
    /// Says the mask of the network.
    pub mask: bool,
}

impl Default for Orders {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::new(10, 77, 0, 50),
            times: [600, 300, 500],
            deaf_to_unicast: false,
            deaf_to_broadcast: false,
            refuse: false,
            mask: true,
        }
    }
}

/// What it heard.
#[derive(Clone, Debug)]
pub struct Heard {
    pub kind: u8,
    pub broadcast: bool,
    pub from: SocketAddr,
    pub ciaddr: Ipv4Addr,
    /// Options 50 and 54.
    pub requested: Option<Ipv4Addr>,
    pub server: Option<Ipv4Addr>,
    pub client_id: Vec<u8>,
    pub broadcast_flag: bool,
}

pub struct Server {
    orders: Arc<Mutex<Orders>>,
    heard: Arc<Mutex<Vec<Heard>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    pub fn start(lan: &Lan, orders: Orders) -> Self {
        let orders = Arc::new(Mutex::new(orders));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        // A socket of a broadcast address hears broadcasts only.
        let sockets = ["10.77.0.1:67", "255.255.255.255:67"]
            .map(|address| lan.node.ns.run(|| UdpSocket::bind(address).unwrap()));
        let threads = sockets.into_iter().enumerate().map(|(n, socket)| {
            socket.set_broadcast(true).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            // A socket of the broadcast address cannot send.
            let answers = lan.node.ns.run(|| UdpSocket::bind("10.77.0.1:0").unwrap());
            answers.set_broadcast(true).unwrap();
            let (orders, heard, stop) =
                (Arc::clone(&orders), Arc::clone(&heard), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut bytes = [0; 1500];
                while !stop.load(Ordering::SeqCst) {
                    let Ok((length, from)) = socket.recv_from(&mut bytes) else { continue };
                    let question = &bytes[..length];
                    let message = read(question, n == 1, from);
                    let answer = answer(&orders.lock().unwrap(), question, &message);
                    heard.lock().unwrap().push(message);
                    if let Some(answer) = answer {
                        answers.send_to(&answer, "10.77.0.255:68").unwrap();
                    }
                }
            })
        });
        let threads = threads.collect();
        Self { orders, heard, stop, threads }
    }

    pub fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.orders.lock().unwrap());
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    pub fn forget(&self) {
        self.heard.lock().unwrap().clear();
    }

    /// Waits for the first message that is like this.
    pub fn hear(&self, what: &str, like: impl Fn(&Heard) -> bool) -> Heard {
        eventually(what, || self.heard().iter().any(&like));
        self.heard().into_iter().find(|message| like(message)).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        if std::thread::panicking() {
            eprintln!("the server heard {:#?}", self.heard());
        }
    }
}

fn option(question: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = &question[240..];
    while let [code, length, tail @ ..] = rest {
        let length = usize::from(*length);
        match *code {
            255 => return None,
            code if code == wanted => return Some(&tail[..length]),
            _ => rest = &tail[length..],
        }
    }
    None
}

fn address(bytes: &[u8]) -> Ipv4Addr {
    Ipv4Addr::from(<[u8; 4]>::try_from(bytes).unwrap())
}

fn read(question: &[u8], broadcast: bool, from: SocketAddr) -> Heard {
    assert!(question.len() >= 300 && question[236..240] == [99, 130, 83, 99], "{question:?}");
    Heard {
        kind: option(question, 53).unwrap()[0],
        broadcast,
        from,
        ciaddr: address(&question[12..16]),
        requested: option(question, 50).map(address),
        server: option(question, 54).map(address),
        client_id: option(question, 61).unwrap().to_vec(),
        broadcast_flag: question[10] & 0x80 != 0,
    }
}

fn answer(orders: &Orders, question: &[u8], message: &Heard) -> Option<Vec<u8>> {
    let deaf = if message.broadcast { orders.deaf_to_broadcast } else { orders.deaf_to_unicast };
    if deaf {
        return None;
    }
    let kind = match message.kind {
        DISCOVER => OFFER,
        REQUEST if orders.refuse && message.server.is_none() => NAK,
        REQUEST => ACK,
        _ => return None,
    };
    let mut bytes = question[..240].to_vec();
    bytes[0] = 2;
    if kind != NAK {
        bytes[16..20].copy_from_slice(&orders.address.octets());
    }
    bytes.extend([53, 1, kind, 54, 4, 10, 77, 0, 1]);
    if kind != NAK {
        for (code, seconds) in [51, 58, 59].into_iter().zip(orders.times) {
            bytes.extend([code, 4]);
            bytes.extend(seconds.to_be_bytes());
        }
        if orders.mask {
            bytes.extend([1, 4, 255, 255, 255, 0]);
        }
    }
    bytes.push(255);
    Some(bytes)
}
