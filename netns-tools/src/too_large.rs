//! What routers say of packets that this host sent and that were too large for them: ICMP "fragmentation needed" (RFC 1191) and ICMP for IPv6
//! "packet too big" (RFC 4443, section 3.2).
//!
//! The kernel takes it in (`ip route get` shows the MTU then) and tells nobody: there is no notification of what it learns. A raw
//! socket has a copy of each such message.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::sock_filter;

use crate::probe_socket::set;

/// `SOL_RAW` and `ICMP_FILTER` (`linux/icmp.h`).
const SOL_RAW: libc::c_int = 255;
const ICMP_FILTER: libc::c_int = 1;
/// `ICMPV6_FILTER` (`linux/icmpv6.h`; RFC 3542, section 3.2).
const ICMPV6_FILTER: libc::c_int = 1;
/// `SO_ATTACH_FILTER` (`asm-generic/socket.h`).
const SO_ATTACH_FILTER: libc::c_int = 26;

/// Types and codes.
const UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
const PACKET_TOO_BIG: u8 = 2;
/// Of what is received so much is looked at: the largest IPv4 header, ICMP's, and an IPv6 header.
const LOOKED_AT: usize = 60 + 8 + 40;

/// A packet that did not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TooLarge {
    /// Who sent it: an address of this host, if it is true.
    pub from: IpAddr,
    /// Where it was to go.
    pub to: IpAddr,
    /// What would fit, in bytes, with the IP header.
    pub mtu: u32,
}

/// Hears it. It does not block, as event loops want it, and belongs to the namespace that it was opened in. Whoever can send packets to
/// this host can say such things: a hint, and no more.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    is_ipv4: bool,
}

impl Listener {
    /// Listens in the calling thread's namespace, for one family. Needs `CAP_NET_RAW`.
    pub fn open(is_ipv4: bool) -> io::Result<Self> {
        let (family, protocol) = if is_ipv4 {
            (libc::AF_INET, libc::IPPROTO_ICMP)
        } else {
            (libc::AF_INET6, libc::IPPROTO_ICMPV6)
        };
        let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::socket(family, flags, protocol) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        if is_ipv4 {
            set(&socket, SOL_RAW, ICMP_FILTER, &!(1_u32 << UNREACHABLE))?;
            only_fragmentation_needed(&socket)?;
        } else {
            let mut blocked = [u32::MAX; 8];
            blocked[0] = !(1 << PACKET_TOO_BIG);
            set(&socket, libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &blocked)?;
        }
        Ok(Self { socket, is_ipv4 })
    }

    /// The next one that makes sense; `None`: there is none now.
    pub fn next(&self) -> io::Result<Option<TooLarge>> {
        loop {
            let mut bytes = [0; LOOKED_AT];
            // SAFETY: the kernel writes at most the length given, into `bytes`.
            let received = unsafe {
                libc::recv(self.socket.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), 0)
            };
            let Ok(length) = usize::try_from(received) else {
                let error = io::Error::last_os_error();
                match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(None),
                    io::ErrorKind::Interrupted => continue,
                    _ => return Err(error),
                }
            };
            let bytes = bytes.get(..length).unwrap_or_default();
            let read = if self.is_ipv4 { read_v4(bytes) } else { read_v6(bytes) };
            if read.is_some() {
                return Ok(read);
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// The filter by type lets every "unreachable" pass, of which there may be many.
fn only_fragmentation_needed(socket: &OwnedFd) -> io::Result<()> {
    let step = |code, jf, k| sock_filter { code, jt: 0, jf, k };
    let program = [
        // the length of the IP header, the code behind it
        step(0xb1, 0, 0),
        step(0x50, 0, 1),
        step(0x15, 1, FRAGMENTATION_NEEDED.into()),
        step(0x06, 0, u32::MAX),
        step(0x06, 0, 0),
    ];
    let length = program.len().try_into().map_err(io::Error::other)?;
    // `program` outlives the call, which only reads it
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    set(socket, libc::SOL_SOCKET, SO_ATTACH_FILTER, &program)
}

/// With the IP header that it came in.
fn read_v4(bytes: &[u8]) -> Option<TooLarge> {
    let icmp = bytes.get(usize::from(bytes.first()? & 0xf) * 4..)?;
    let mtu = u32::from(u16::from_be_bytes([*icmp.get(6)?, *icmp.get(7)?]));
    let sent = icmp.get(8..28)?;
    let address = |at: usize| {
        let octets: [u8; 4] = sent.get(at..at + 4)?.try_into().ok()?;
        Some(IpAddr::V4(Ipv4Addr::from(octets)))
    };
    let is_meant = icmp[0] == UNREACHABLE && icmp[1] == FRAGMENTATION_NEEDED && sent[0] >> 4 == 4;
    let length = u32::from(u16::from_be_bytes([sent[2], sent[3]]));
    // older routers than RFC 1191 say 0
    let makes_sense = is_meant && mtu > 0 && mtu < length;
    makes_sense.then_some(TooLarge { from: address(12)?, to: address(16)?, mtu })
}

/// Without the IP header that it came in.
fn read_v6(icmp: &[u8]) -> Option<TooLarge> {
    let (header, sent) = (icmp.get(..8)?, icmp.get(8..48)?);
    let mtu = u32::from_be_bytes(header[4..8].try_into().ok()?);
    let address = |at: usize| {
        let octets: [u8; 16] = sent.get(at..at + 16)?.try_into().ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(octets)))
    };
    let length = 40 + u32::from(u16::from_be_bytes([sent[4], sent[5]]));
    let makes_sense = header[0] == PACKET_TOO_BIG && sent[0] >> 4 == 6 && mtu > 0 && mtu < length;
    makes_sense.then_some(TooLarge { from: address(8)?, to: address(24)?, mtu })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::probe_socket;
    use crate::testing::{End, TestNetns, veth_pair};

    /// A host, and a router whose other link is narrower.
    fn host_and_router() -> [TestNetns; 2] {
        let [host, router] = [(); 2].map(|()| TestNetns::new("big"));
        veth_pair(
            End(&host, "a", &["10.1.0.1/24", "fd00:1::1/64"]),
            End(&router, "b", &["10.1.0.2/24", "fd00:1::2/64"]),
        );
        router.configure("lo", &[]);
        router
            .cmd(&["ip", "link", "add", "c", "mtu", "1400", "type", "veth", "peer", "name", "far"]);
        router.configure("c", &["10.2.0.2/24", "fd00:2::2/64"]);
        router.cmd(&["ip", "link", "set", "dev", "far", "up"]);
        for path in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            router.run(|| std::fs::write(format!("/proc/sys/net/{path}"), "1")).unwrap();
        }
        for via in ["10.1.0.2", "fd00:1::2"] {
            host.cmd(&["ip", "route", "add", "default", "via", via]);
        }
        for to in ["10.2.0.1", "fd00:2::1"] {
            let mac = "02:00:00:00:00:09";
            router.cmd(&["ip", "neigh", "add", to, "lladdr", mac, "dev", "c"]);
        }
        [host, router]
    }

    #[test]
    fn what_a_router_says_is_heard() {
        let [host, _router] = host_and_router();
        for (from, to) in [("10.1.0.1", "10.2.0.1"), ("fd00:1::1", "fd00:2::1")] {
            let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let listener = host.run(|| Listener::open(from.is_ipv4())).unwrap();
            assert_eq!(listener.next().unwrap(), None);
            let socket = host.run(|| probe_socket::open(SocketAddr::new(from, 0))).unwrap();
            let send = |to: IpAddr, packet: u32| {
                let bytes = vec![0; probe_socket::payload(packet, to).unwrap()];
                // what an earlier one is told of this one is not meant
                let _ = socket.send_to(&bytes, SocketAddr::new(to, 9));
            };
            // another "unreachable", that is not of interest
            send(if from.is_ipv4() { "10.1.0.2" } else { "fd00:1::2" }.parse().unwrap(), 100);
            let start = Instant::now();
            let heard = loop {
                send(to, 1450);
                if let Some(heard) = listener.next().unwrap() {
                    break heard;
                }
                assert!(start.elapsed() < Duration::from_secs(20), "nothing is heard of {to}");
                std::thread::sleep(Duration::from_millis(20));
            };
            assert_eq!(heard, TooLarge { from, to, mtu: 1400 });
        }
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let mut good = vec![0x45; 20];
        good.extend([3, 4, 0, 0, 0, 0, 5, 120]);
        good.extend([0x45, 0, 5, 220, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 1, 10, 2, 0, 1]);
        let found = read_v4(&good).unwrap();
        assert_eq!((found.mtu, found.to), (1400, "10.2.0.1".parse().unwrap()));
        let mut good6 = vec![2, 0, 0, 0, 0, 0, 5, 120, 0x60, 0, 0, 0, 5, 180, 17, 64];
        good6.extend([0xfd; 32]);
        assert_eq!(read_v6(&good6).unwrap().mtu, 1400);
        for (read, good, first) in
            [(read_v4 as fn(&[u8]) -> Option<TooLarge>, &good, 20), (read_v6, &good6, 0)]
        {
            // cut off anywhere
            assert!((0..good.len()).all(|length| read(&good[..length]).is_none()));
            // of another type, no MTU, more than was sent, of another family
            for (at, bytes) in [(0, &[9][..]), (4, &[0; 4]), (6, &[255, 255]), (8, &[0x10])] {
                let mut wrong = good.clone();
                wrong[first + at..][..bytes.len()].copy_from_slice(bytes);
                assert_eq!(read(&wrong), None, "{at}");
            }
        }
        assert_eq!(read_v4(&[0x4f; 30]), None);
    }
}
