use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};

use super::*;
use crate::testing::{End, TestNetns, veth_pair};

/// Generous for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn pair() -> (TestNetns, TestNetns) {
    let (a, b) = (TestNetns::new("packet"), TestNetns::new("packet"));
    veth_pair(End(&a, "left", &["10.9.0.1/24"]), End(&b, "right", &["10.9.0.2/24"]));
    (a, b)
}

fn next(socket: &PacketSocket) -> Datagram {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, 100_u16).unwrap();
        if let Some(datagram) = socket.receive().unwrap() {
            return datagram;
        }
    }
    panic!("nothing came");
}

fn speak(ns: &TestNetns, port: u16, text: &'static str) {
    ns.run(move || {
        let socket = UdpSocket::bind("10.9.0.1:0").unwrap();
        socket.send_to(text.as_bytes(), ("10.9.0.2", port)).unwrap();
    });
}

#[test]
fn only_the_port_asked_for_comes_in() {
    let (a, b) = pair();
    let socket = PacketSocket::open_in(b.ns(), b.link("right").index, 68).unwrap();
    assert_eq!(socket.receive().unwrap(), None);
    speak(&a, 67, "not this");
    // The same port, but not UDP.
    a.run(|| TcpStream::connect("10.9.0.2:68").unwrap_err());
    speak(&a, 68, "hello");
    let datagram = next(&socket);
    assert!(datagram.payload.ends_with(b"hello"), "{datagram:?}");
    assert_eq!(datagram.payload[0], 0x45, "it begins with the IP header");
    assert_eq!(Some(datagram.from), a.link("left").mac);
    assert!(!datagram.checksum_is_complete, "a veth pair leaves the checksum out");
    assert_eq!(socket.receive().unwrap(), None);
}

#[test]
fn what_is_sent_arrives_complete() {
    let (a, b) = pair();
    let here = PacketSocket::open_in(a.ns(), a.link("left").index, 68).unwrap();
    let there = PacketSocket::open_in(b.ns(), b.link("right").index, 68).unwrap();
    // 20 bytes of IP header for UDP, 8 of UDP header for port 68, and a byte.
    let mut payload =
        vec![0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255];
    payload.extend([0, 67, 0, 68, 0, 9, 0, 0, b'x']);
    here.send(BROADCAST, &payload).unwrap();
    let datagram = next(&there);
    assert_eq!(datagram.payload, payload);
    assert!(datagram.checksum_is_complete);
}

#[test]
fn a_missing_link_is_told() {
    let ns = TestNetns::new("packet");
    let error = PacketSocket::open_in(ns.ns(), 4711, 68).unwrap_err();
    assert_eq!(
        crate::cause::one_line(&error),
        "cannot bind a packet socket on link 4711: No such device (os error 19)"
    );
}
