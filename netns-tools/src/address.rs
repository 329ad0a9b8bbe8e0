//! IP addresses of links (rtnetlink(7), `Documentation/netlink/specs/rt-addr.yaml`).

mod monitor;

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, parse_ip, parse_u32};
use netlink_packet_route::address::{
    AddressAttribute, AddressHeader, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

pub use self::monitor::AddressMonitor;
use crate::netlink::reply::{Malformed, attributes};
use crate::netlink::{Netlink, Result, body};

/// `sizeof(struct ifaddrmsg)`.
const HEADER_LEN: usize = 8;

/// An address of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The link's index.
    pub index: u32,
    /// The address with the prefix length of its network; host bits are kept.
    pub net: IpNetwork,
    /// The other end's address, where the link is point-to-point and the two differ.
    pub peer: Option<IpAddr>,
    /// `RT_SCOPE_*`: 0 global, 253 link, 254 host.
    pub scope: u8,
    /// `IFA_F_*` (`linux/if_addr.h`).
    pub flags: u32,
}

impl Address {
    /// IPv6: duplicate address detection is still under way; the address cannot be used yet.
    pub fn is_tentative(&self) -> bool {
        self.flags & libc::IFA_F_TENTATIVE != 0
    }

    /// IPv6: another host has this address.
    pub fn is_duplicate(&self) -> bool {
        self.flags & libc::IFA_F_DADFAILED != 0
    }

    /// Whether it has no lifetime, as opposed to one from a router or from DHCP.
    pub fn is_permanent(&self) -> bool {
        self.flags & libc::IFA_F_PERMANENT != 0
    }

    fn read(bytes: &[u8]) -> std::result::Result<Self, Malformed> {
        let header = AddressHeader::parse(bytes).map_err(|e| Malformed(e.to_string()))?;
        let (mut local, mut address, mut flags) = (None, None, u32::from(header.flags.bits()));
        for (kind, value) in attributes(body(bytes, HEADER_LEN)?) {
            match kind {
                libc::IFA_LOCAL => local = parse_ip(value).ok(),
                libc::IFA_ADDRESS => address = parse_ip(value).ok(),
                // The header has room for the first eight flags only.
                libc::IFA_FLAGS => flags = parse_u32(value).unwrap_or(flags),
                _ => {}
            }
        }
        // IFA_ADDRESS is the other end's on point-to-point links; IPv6 mostly sends nothing else.
        let ip = local.or(address).ok_or_else(|| Malformed("address without an address".into()))?;
        let net = IpNetwork::new(ip, header.prefix_len).map_err(|e| Malformed(e.to_string()))?;
        let peer = address.filter(|address| *address != ip);
        Ok(Self { index: header.index, net, peer, scope: header.scope.into(), flags })
    }
}

impl Netlink {
    /// The addresses of the link with this index, or of every link; both families.
    pub fn addresses(&mut self, index: Option<u32>) -> Result<Vec<Address>> {
        let mut message = AddressMessage::default();
        message.header.index = index.unwrap_or(0);
        let message = RouteNetlinkMessage::GetAddress(message);
        self.list("list addresses", message, |bytes| {
            // Filtered here as well, because kernels before 4.20 send every link's.
            let address = Address::read(bytes)?;
            Ok(Some(address).filter(|address| index.is_none_or(|index| index == address.index)))
        })
    }

    /// Gives a link an address. IPv4 addresses get the broadcast address of their network; IPv6 addresses undergo
    /// duplicate address detection, if the link's `accept_dad` says so.
    pub fn add_address(&mut self, index: u32, net: IpNetwork) -> Result<()> {
        self.add(index, net, AddressHeaderFlags::empty())
    }

    /// As [`Self::add_address`], but an IPv6 address can be used at once: no duplicate address detection.
    pub fn add_address_without_dad(&mut self, index: u32, net: IpNetwork) -> Result<()> {
        self.add(index, net, AddressHeaderFlags::Nodad)
    }

    /// Takes an address off a link. The prefix length must be that of the address.
    pub fn delete_address(&mut self, index: u32, net: IpNetwork) -> Result<()> {
        self.change(
            "delete address",
            format_args!("{net} of link {index}"),
            RouteNetlinkMessage::DelAddress(message(index, net)),
            0,
        )
    }

    fn add(&mut self, index: u32, net: IpNetwork, flags: AddressHeaderFlags) -> Result<()> {
        let mut message = message(index, net);
        message.header.flags = flags;
        message.attributes.extend(broadcast(net).map(AddressAttribute::Broadcast));
        self.change(
            "add address",
            format_args!("{net} to link {index}"),
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }
}

fn message(index: u32, net: IpNetwork) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header = AddressHeader {
        family: if net.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 },
        prefix_len: net.prefix(),
        flags: AddressHeaderFlags::empty(),
        // As `ip address add` does.
        scope: if net.ip().is_loopback() { AddressScope::Host } else { AddressScope::Universe },
        index,
    };
    message.attributes =
        vec![AddressAttribute::Local(net.ip()), AddressAttribute::Address(net.ip())];
    message
}

/// The broadcast address, where the network is large enough to have one (RFC 3021).
fn broadcast(net: IpNetwork) -> Option<Ipv4Addr> {
    match net {
        IpNetwork::V4(net) if net.prefix() < 31 && !net.ip().is_loopback() => Some(net.broadcast()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcast_addresses() {
        let of = |net: &str| broadcast(net.parse().unwrap()).map(|ip| ip.to_string());
        assert_eq!(of("10.1.2.3/24").as_deref(), Some("10.1.2.255"));
        assert_eq!(of("10.1.2.3/30").as_deref(), Some("10.1.2.3"));
        assert_eq!(of("10.1.2.3/31"), None);
        assert_eq!(of("10.1.2.3/32"), None);
        assert_eq!(of("127.0.0.1/8"), None);
        assert_eq!(of("fd00::1/64"), None);
    }

    #[test]
    fn refuses_half_an_address() {
        for bytes in [&[][..], &[2, 24, 0, 0, 1, 0, 0], &[2, 24, 0, 0, 1, 0, 0, 0]] {
            assert!(Address::read(bytes).is_err(), "{bytes:?}");
        }
        // A prefix longer than the address.
        let wrong = [2, 33, 0, 0, 1, 0, 0, 0, 8, 0, 2, 0, 10, 0, 0, 1];
        assert!(Address::read(&wrong).is_err());
    }
}
