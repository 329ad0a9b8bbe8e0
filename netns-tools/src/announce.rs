//! Telling a link's neighbours that an address is here now: an ARP announcement (RFC 5227, 2.3) or an unsolicited neighbour
//! advertisement (RFC 4861, 7.2.6).
//!
//! Whoever knew the address at another Ethernet address takes the new one at once, instead of trying the old one until it is
//! declared unreachable. Whoever did not know it learns nothing.

use std::io;
use std::mem::{size_of_val, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::mac::MacAddr;
use crate::netns::NetNs;
use crate::packet::{BROADCAST, PacketError};

/// `ETH_P_ARP` and `ETH_P_IPV6` (`linux/if_ether.h`).
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;
const ETH_P_IP: u16 = 0x0800;
/// All nodes of a link: its IPv6 address, and the Ethernet address that it maps to (RFC 2464, 7).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
/// `IPPROTO_ICMPV6`.
const ICMPV6: u8 = 58;
/// Neighbour advertisement, with the flag that says: it replaces what was known (RFC 4861, 4.4).
const ADVERTISEMENT: u8 = 136;
const OVERRIDE: u8 = 0x20;
/// The option that holds the Ethernet address, eight bytes long.
const TARGET_LINK_ADDRESS: [u8; 2] = [2, 1];

/// Announces that `addresses` are at the link `index` of `ns`, which has the Ethernet address `mac` and is up.
pub fn announce(
    ns: &NetNs,
    index: u32,
    mac: MacAddr,
    addresses: &[IpAddr],
) -> Result<(), PacketError> {
    let fd = ns.visit(|| open(index))??;
    for address in addresses {
        match address {
            IpAddr::V4(ip) => send(&fd, index, ETH_P_ARP, BROADCAST, &arp(mac, *ip))?,
            IpAddr::V6(ip) => {
                send(&fd, index, ETH_P_IPV6, ALL_NODES_MAC, &advertisement(mac, *ip))?;
            }
        }
    }
    Ok(())
}

/// A socket of the namespace that the thread is in, for sending only.
fn open(index: u32) -> Result<OwnedFd, PacketError> {
    let flags = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, flags, 0) };
    if fd < 0 {
        return Err(failed("open", index));
    }
    // SAFETY: the descriptor is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn send(
    fd: &OwnedFd,
    index: u32,
    protocol: u16,
    to: MacAddr,
    payload: &[u8],
) -> Result<(), PacketError> {
    // SAFETY: all zero bytes are a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET.unsigned_abs().try_into().unwrap_or_default();
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = index.cast_signed();
    address.sll_halen = 6;
    address.sll_addr[..6].copy_from_slice(&to.0);
    let length = size_of_val(&address).try_into().unwrap_or(libc::socklen_t::MAX);
    // SAFETY: the kernel reads the payload and the address, both of the lengths given.
    let sent = unsafe {
        let (bytes, address) = (payload.as_ptr().cast(), (&raw const address).cast());
        libc::sendto(fd.as_raw_fd(), bytes, payload.len(), 0, address, length)
    };
    if sent < 0 { Err(failed("send by", index)) } else { Ok(()) }
}

fn failed(operation: &'static str, index: u32) -> PacketError {
    PacketError::System { operation, index, source: io::Error::last_os_error() }
}

/// A request for one's own address (RFC 826, RFC 5227): whoever has an entry for it updates it.
fn arp(mac: MacAddr, ip: Ipv4Addr) -> Vec<u8> {
    const ETHERNET: u16 = 1;
    const REQUEST: u16 = 1;
    let mut packet = Vec::with_capacity(28);
    packet.extend(ETHERNET.to_be_bytes());
    packet.extend(ETH_P_IP.to_be_bytes());
    packet.extend([6, 4]);
    packet.extend(REQUEST.to_be_bytes());
    packet.extend(mac.0);
    packet.extend(ip.octets());
    packet.extend([0; 6]);
    packet.extend(ip.octets());
    packet
}

/// An IPv6 packet (RFC 8200) with the advertisement in it.
fn advertisement(mac: MacAddr, ip: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    message.extend(ip.octets());
    message.extend(TARGET_LINK_ADDRESS);
    message.extend(mac.0);
    let length = u16::try_from(message.len()).unwrap_or_default();
    let sum = checksum(ip, ALL_NODES, &message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    // A receiver trusts only what no router can have passed on.
    packet.extend([ICMPV6, 255]);
    packet.extend(ip.octets());
    packet.extend(ALL_NODES.octets());
    packet.extend(message);
    packet
}

/// Over the pseudo-header and the message (RFC 8200, 8.1; RFC 1071), whose own field is zero.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let mut bytes = Vec::new();
    bytes.extend(from.octets());
    bytes.extend(to.octets());
    bytes.extend(u32::try_from(message.len()).unwrap_or_default().to_be_bytes());
    bytes.extend([0, 0, 0, ICMPV6]);
    bytes.extend(message);
    let words = bytes.chunks(2).map(|pair| {
        u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or_default()]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::Netlink;
    use crate::testing::{End, TestNetns, veth_pair};

    fn known(net: &mut Netlink, index: u32, address: IpAddr) -> Option<MacAddr> {
        net.neighbour(index, address).unwrap().and_then(|neighbour| neighbour.mac)
    }

    /// A neighbour that knew the address at another Ethernet address knows the new one, without having asked.
    #[test]
    fn neighbours_learn() {
        let (one, other) = (TestNetns::new("ann"), TestNetns::new("ann"));
        veth_pair(
            End(&one, "eth0", &["10.9.0.1/24", "fd00:9::1/64"]),
            End(&other, "eth0", &["10.9.0.2/24", "fd00:9::2/64"]),
        );
        let (here, there) = (one.link("eth0").index, other.link("eth0"));
        let addresses = ["10.9.0.2", "fd00:9::2"].map(|text| text.parse::<IpAddr>().unwrap());
        let mut net = one.netlink();
        for address in addresses {
            let listener = other.run(|| TcpListener::bind((address, 0)).unwrap());
            let port = listener.local_addr().unwrap().port();
            one.run(|| TcpStream::connect((address, port)).unwrap());
            assert_eq!(known(&mut net, here, address), there.mac);
        }
        let new = MacAddr([2, 0, 0, 0, 0, 7]);
        announce(other.ns(), there.index, new, &addresses).unwrap();
        let start = Instant::now();
        while addresses.iter().any(|address| known(&mut net, here, *address) != Some(new)) {
            assert!(start.elapsed() < Duration::from_secs(10), "{}", one.cmd(&["ip", "neigh"]));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_link_that_is_gone() {
        let ns = TestNetns::new("ann");
        let error = announce(ns.ns(), 4711, BROADCAST, &[Ipv4Addr::LOCALHOST.into()]).unwrap_err();
        assert_eq!(error.to_string(), "cannot send by a packet socket on link 4711");
    }
}
