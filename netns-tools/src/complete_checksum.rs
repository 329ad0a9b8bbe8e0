//! UDP datagrams whose checksum the kernel computes itself, whatever the devices that they leave by offer to compute
//! (`Documentation/networking/checksum-offloads.rst`). Beside others they show which device computes wrongly.

use std::io;
use std::mem::size_of_val;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

/// Sends a datagram whose checksum the kernel computes itself, and does not leave to the device.
///
/// It leaves the checksum to a device only if the whole datagram is there at once (`__ip_append_data` in `net/ipv4/ip_output.c`), so
/// this gives it two pieces (`MSG_MORE`). Nobody else may send by this socket meanwhile.
pub fn send(socket: &impl AsFd, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
    let (first, rest) = datagram.split_at(datagram.len() / 2);
    send_piece(socket, first, to, libc::MSG_MORE)?;
    // A failure makes the kernel forget the first piece.
    send_piece(socket, rest, to, 0)
}

fn send_piece(
    socket: &impl AsFd,
    piece: &[u8],
    to: SocketAddr,
    flags: libc::c_int,
) -> io::Result<()> {
    // SAFETY: all zero bytes are valid for both kinds of addresses.
    let (mut v4, mut v6): (libc::sockaddr_in, libc::sockaddr_in6) = unsafe { std::mem::zeroed() };
    let (address, length): (*const libc::sockaddr, usize) = match to {
        SocketAddr::V4(to) => {
            v4.sin_family = family(libc::AF_INET);
            v4.sin_port = to.port().to_be();
            v4.sin_addr.s_addr = u32::from_ne_bytes(to.ip().octets());
            ((&raw const v4).cast(), size_of_val(&v4))
        }
        SocketAddr::V6(to) => {
            v6.sin6_family = family(libc::AF_INET6);
            v6.sin6_port = to.port().to_be();
            v6.sin6_addr.s6_addr = to.ip().octets();
            v6.sin6_scope_id = to.scope_id();
            ((&raw const v6).cast(), size_of_val(&v6))
        }
    };
    let length = length.try_into().map_err(io::Error::other)?;
    // SAFETY: the descriptor is open, and the kernel reads the piece and the address, both of the lengths given.
    let sent = unsafe {
        libc::sendto(
            socket.as_fd().as_raw_fd(),
            piece.as_ptr().cast(),
            piece.len(),
            flags | libc::MSG_NOSIGNAL,
            address,
            length,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn family(number: libc::c_int) -> libc::sa_family_t {
    number.unsigned_abs().try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;
    use crate::packet::PacketSocket;
    use crate::probe_socket::open;
    use crate::testing::{End, TestNetns, veth_pair};

    fn pair(label: &str) -> (TestNetns, TestNetns) {
        let (one, other) = (TestNetns::new(label), TestNetns::new(label));
        veth_pair(
            End(&one, "eth0", &["192.0.2.1/24", "2001:db8::1/64"]),
            End(&other, "eth0", &["192.0.2.2/24", "2001:db8::2/64"]),
        );
        (one, other)
    }

    #[test]
    fn a_checksum_is_left_to_the_device_or_not() {
        let (one, other) = pair("sum");
        let local = "192.0.2.1:0".parse().unwrap();
        let sender = one.run(|| open(local)).unwrap();
        let seen = PacketSocket::open_in(other.ns(), other.link("eth0").index, 9999).unwrap();
        let next = || {
            for _ in 0..1000 {
                if let Some(datagram) = seen.receive().unwrap() {
                    return (datagram.checksum_is_complete, datagram.payload[28..].to_vec());
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            panic!("nothing came");
        };
        let to = "192.0.2.2:9999".parse().unwrap();
        sender.send_to(b"as usual", to).unwrap();
        assert_eq!(next(), (false, b"as usual".to_vec()));
        send(&sender, b"complete", to).unwrap();
        assert_eq!(next(), (true, b"complete".to_vec()));
    }

    #[test]
    fn a_complete_datagram_arrives_in_one_piece() {
        let (one, other) = pair("sum");
        for (from, to) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
            let sender = one.run(|| open(SocketAddr::new(from.parse().unwrap(), 0))).unwrap();
            let receiver = other.run(|| UdpSocket::bind((to, 0))).unwrap();
            receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let to = receiver.local_addr().unwrap();
            // a failed one leaves nothing behind that the next would be put after
            let unreachable = SocketAddr::new(to.ip(), 0);
            assert!(send(&sender, b"lost", unreachable).is_err());
            send(&sender, b"complete", to).unwrap();
            let mut buffer = [0; 100];
            let length = receiver.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"complete");
        }
    }
}
