//! UDP sockets whose datagrams are never cut into fragments by this host, to find out which sizes arrive (`IP_MTU_DISCOVER` in ip(7),
//! `IPV6_MTU_DISCOVER` in ipv6(7), `IPV6_DONTFRAG` in RFC 3542).

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::netns::NetNs;

/// `linux/in6.h`
const IPV6_DONTFRAG: libc::c_int = 62;

/// Opens a UDP socket bound to `address` in the calling thread's namespace; port 0 lets the kernel choose.
///
/// Its datagrams carry "don't fragment" in IPv4; what was learned about the path's MTU is ignored, so that each size is really tried;
/// what is larger than the MTU of the link that it leaves by is refused at once, see [`is_too_large`]. It does not block, as event loops
/// want it; it is not inherited by programs that are started. An IPv6 socket takes IPv6 only.
pub fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let flags = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::socket(family, flags, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let options: &[_] = if address.is_ipv4() {
        &[(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)]
    } else {
        &[
            (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1),
            (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
            (libc::IPPROTO_IPV6, IPV6_DONTFRAG, 1),
        ]
    };
    for (level, name, value) in options {
        set(&socket, *level, *name, value)?;
    }
    bind(&socket, address)?;
    Ok(socket.into())
}

/// Opens it in `ns`. The calling thread does not leave its own namespace.
pub fn open_in(ns: &NetNs, address: SocketAddr) -> io::Result<UdpSocket> {
    ns.visit(|| open(address)).map_err(io::Error::other)?
}

/// Whether sending failed because the datagram does not fit the MTU of the link, or of the route, that it would leave by (`EMSGSIZE`).
pub fn is_too_large(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}

/// How many bytes a datagram's payload has whose packet is `packet` bytes long, IP and UDP headers included; `None`: no packet is so
/// short.
pub fn payload(packet: u32, to: IpAddr) -> Option<usize> {
    let headers = if to.is_ipv4() { 20 + 8 } else { 40 + 8 };
    packet.checked_sub(headers).and_then(|length| usize::try_from(length).ok())
}

/// Sets an option of a socket to plain data of the form that the kernel expects.
pub(crate) fn set<T>(
    socket: &OwnedFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let length = socket_length(size_of_val(value));
    // SAFETY: the descriptor is open, and the kernel reads `length` bytes of `value`, which outlives the call.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length)
    };
    check(done)
}

fn bind(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    let fd = socket.as_raw_fd();
    // SAFETY: in both cases all zero bytes are a valid address, and the kernel reads one of the length given, which outlives the call.
    let done = unsafe {
        match address {
            SocketAddr::V4(address) => {
                let mut raw: libc::sockaddr_in = std::mem::zeroed();
                raw.sin_family = libc::sa_family_t::try_from(libc::AF_INET).unwrap_or_default();
                raw.sin_port = address.port().to_be();
                raw.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
                libc::bind(fd, (&raw const raw).cast(), socket_length(size_of_val(&raw)))
            }
            SocketAddr::V6(address) => {
                let mut raw: libc::sockaddr_in6 = std::mem::zeroed();
                raw.sin6_family = libc::sa_family_t::try_from(libc::AF_INET6).unwrap_or_default();
                raw.sin6_port = address.port().to_be();
                raw.sin6_addr.s6_addr = address.ip().octets();
                raw.sin6_scope_id = address.scope_id();
                libc::bind(fd, (&raw const raw).cast(), socket_length(size_of_val(&raw)))
            }
        }
    };
    check(done)
}

fn socket_length(length: usize) -> libc::socklen_t {
    length.try_into().unwrap_or(libc::socklen_t::MAX)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::testing::{End, TestNetns, veth_pair};

    /// The length of the next datagram; `None`: none comes in time.
    fn receive(socket: &UdpSocket, patience: Duration) -> Option<usize> {
        let deadline = Instant::now() + patience;
        let mut buffer = vec![0; 65_536];
        loop {
            match socket.recv(&mut buffer) {
                Ok(length) => return Some(length),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
            if Instant::now() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Three namespaces in a row, the last wire smaller than the first; the router tells nobody why it drops.
    fn row() -> [TestNetns; 3] {
        let all = [(); 3].map(|()| TestNetns::new("probe"));
        let [left, router, right] = &all;
        veth_pair(
            End(left, "a", &["10.1.0.1/24", "fd00:1::1/64"]),
            End(router, "b", &["10.1.0.2/24", "fd00:1::2/64"]),
        );
        veth_pair(
            End(router, "c", &["10.2.0.2/24", "fd00:2::2/64"]),
            End(right, "d", &["10.2.0.1/24", "fd00:2::1/64"]),
        );
        for path in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            router.run(|| std::fs::write(format!("/proc/sys/net/{path}"), "1")).unwrap();
        }
        for (ns, via) in [(left, ["10.1.0.2", "fd00:1::2"]), (right, ["10.2.0.2", "fd00:2::2"])] {
            for via in via {
                ns.cmd(&["ip", "route", "add", "default", "via", via]);
            }
        }
        let (c, d) = (router.link("c").index, right.link("d").index);
        router.netlink().set_mtu(c, 1400).unwrap();
        right.netlink().set_mtu(d, 1400).unwrap();
        all
    }

    #[test]
    fn what_fits_the_wire_arrives_what_does_not_is_not_cut() {
        for (from, to) in [("10.1.0.1:0", "10.2.0.1:0"), ("[fd00:1::1]:0", "[fd00:2::1]:0")] {
            let [left, _router, right] = row();
            let sender = open_in(left.ns(), from.parse().unwrap()).unwrap();
            let receiver = open_in(right.ns(), to.parse().unwrap()).unwrap();
            let to = receiver.local_addr().unwrap();
            let size = |packet| payload(packet, to.ip()).unwrap();
            let bytes = vec![0; 2000];
            for packet in [100, 1400] {
                sender.send_to(&bytes[..size(packet)], to).unwrap();
                assert_eq!(receive(&receiver, Duration::from_secs(10)), Some(size(packet)));
            }
            // Twice: that the router has told the path's MTU changes nothing.
            for _ in 0..2 {
                sender.send_to(&bytes[..size(1401)], to).unwrap();
                sender.send_to(&bytes[..size(1500)], to).unwrap();
                // Order is kept, so that what comes next shows that these did not.
                sender.send_to(&bytes[..1], to).unwrap();
                assert_eq!(receive(&receiver, Duration::from_secs(10)), Some(1), "{to}");
            }
            let error = sender.send_to(&bytes[..size(1501)], to).unwrap_err();
            assert!(is_too_large(&error), "{error}");
            assert!(!is_too_large(&io::Error::from_raw_os_error(libc::EPERM)));
        }
    }

    #[test]
    fn an_address_that_is_not_here() {
        let ns = TestNetns::new("probe");
        ns.configure("lo", &[]);
        let error = open_in(ns.ns(), "10.1.0.1:8473".parse().unwrap()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL));
        ns.configure("lo", &["10.1.0.1/32"]);
        let first = open_in(ns.ns(), "10.1.0.1:8473".parse().unwrap()).unwrap();
        let again = open_in(ns.ns(), "10.1.0.1:8473".parse().unwrap()).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(first.local_addr().unwrap(), "10.1.0.1:8473".parse().unwrap());
    }

    #[test]
    fn a_packet_is_its_headers_and_its_payload() {
        for (packet, to, want) in [
            (1450, "10.0.0.1", Some(1422)),
            (28, "10.0.0.1", Some(0)),
            (27, "10.0.0.1", None),
            (1450, "fd00::1", Some(1402)),
        ] {
            assert_eq!(payload(packet, to.parse().unwrap()), want);
        }
    }
}
