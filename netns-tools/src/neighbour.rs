//! Neighbours: which Ethernet address an IP address of a link has (ARP, RFC 826; neighbour discovery, RFC 4861).
//!
//! Source: rtnetlink(7) and the kernel's `Documentation/netlink/specs/rt-neigh.yaml`.

use std::net::IpAddr;

use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourHeader, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::mac::MacAddr;
use crate::netlink::reply::attributes;
use crate::netlink::{Netlink, Result, body};

/// `sizeof(struct ndmsg)`.
const HEADER_LEN: usize = 12;
/// `NDA_LLADDR` (`linux/neighbour.h`).
const NDA_LLADDR: u16 = 2;

/// What a link knows of an IP address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// Its Ethernet address; `None`: being looked for, or not found.
    pub mac: Option<MacAddr>,
    /// Somebody set it; it never grows old.
    pub permanent: bool,
}

impl Netlink {
    /// What the link with this index knows of `address`; `None`: nothing. Kernels before 5.0 refuse the question.
    pub fn neighbour(&mut self, index: u32, address: IpAddr) -> Result<Option<Neighbour>> {
        let question = RouteNetlinkMessage::GetNeighbour(message(index, address));
        self.one("look up neighbour", object(index, address), question, |bytes| {
            let header = NeighbourHeader::parse(bytes)
                .map_err(|e| crate::netlink::reply::Malformed(e.to_string()))?;
            let mac = attributes(body(bytes, HEADER_LEN)?).find(|(kind, _)| *kind == NDA_LLADDR);
            let mac = mac.and_then(|(_, value)| <[u8; 6]>::try_from(value).ok()).map(MacAddr);
            Ok(Neighbour { mac, permanent: header.state == NeighbourState::Permanent })
        })
    }

    /// Makes a link forget `address`, one that somebody set included.
    pub fn delete_neighbour(&mut self, index: u32, address: IpAddr) -> Result<()> {
        let request = RouteNetlinkMessage::DelNeighbour(message(index, address));
        self.change("delete neighbour", object(index, address), request, 0)
    }
}

fn message(index: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family =
        if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.ifindex = index;
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    message
}

fn object(index: u32, address: IpAddr) -> String {
    format!("{address} of link {index}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{End, TestNetns, veth_pair};

    #[test]
    fn found_and_forgotten() {
        let (one, other) = (TestNetns::new("neigh"), TestNetns::new("neigh"));
        veth_pair(End(&one, "v", &["10.9.0.1/24"]), End(&other, "w", &["10.9.0.2/24"]));
        let (index, mut net) = (one.link("v").index, one.netlink());
        for (address, kind) in
            [("10.9.0.7", "stale"), ("fd00::7", "reachable"), ("10.9.0.8", "permanent")]
        {
            let ip: IpAddr = address.parse().unwrap();
            assert_eq!(net.neighbour(index, ip).unwrap(), None);
            assert!(net.delete_neighbour(index, ip).unwrap_err().is_not_found());
            one.cmd(&[
                "ip",
                "neigh",
                "add",
                address,
                "lladdr",
                "02:00:00:00:00:07",
                "dev",
                "v",
                "nud",
                kind,
            ]);
            let expected = Neighbour {
                mac: Some(MacAddr([2, 0, 0, 0, 0, 7])),
                permanent: kind == "permanent",
            };
            assert_eq!(net.neighbour(index, ip).unwrap(), Some(expected), "{address}");
            net.delete_neighbour(index, ip).unwrap();
            assert!(!one.cmd(&["ip", "neigh"]).contains("02:00:00:00:00:07"));
        }
    }

    #[test]
    fn a_link_that_is_not_there() {
        let mut net = TestNetns::new("neigh").netlink();
        let error = net.delete_neighbour(4711, "10.9.0.2".parse().unwrap()).unwrap_err();
        assert!(error.is_not_found(), "{error}");
        assert!(error.to_string().starts_with("cannot delete neighbour 10.9.0.2 of link 4711: "));
    }
}
