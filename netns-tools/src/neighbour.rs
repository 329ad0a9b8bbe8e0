//! Neighbours: which Ethernet address an IP address of a link has (ARP, RFC 826; neighbour discovery, RFC 4861).
//!
//! Source: rtnetlink(7) and the kernel's `Documentation/netlink/specs/rt-neigh.yaml`.

use std::fmt;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE, parse_ip, parse_u16, parse_u32};

use crate::mac::MacAddr;
use crate::netlink::raw::{RawMessage, append, append_ip, family};
use crate::netlink::reply::{Malformed, attributes};
use crate::netlink::{Netlink, Result, body};

/// `sizeof(struct ndmsg)`.
const HEADER_LEN: usize = 12;
/// `linux/neighbour.h`
pub(crate) const NDA_DST: u16 = 1;
pub(crate) const NDA_LLADDR: u16 = 2;
const NDA_IFINDEX: u16 = 8;
pub(crate) const NUD_PERMANENT: u16 = 0x80;

/// What a link knows of an IP address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// Its Ethernet address; `None`: being looked for, or not found.
    pub mac: Option<MacAddr>,
    /// Somebody set it; it never grows old.
    pub permanent: bool,
}

/// A neighbour that is set rather than looked for: it never grows old, and does not count towards the limits of
/// `net.ipv4.neigh.default.gc_thresh*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PermanentNeighbour {
    /// The link, by index.
    pub link: u32,
    /// The IP address.
    pub address: IpAddr,
    /// Its Ethernet address. Does not matter when it is deleted.
    pub mac: MacAddr,
}

impl fmt::Display for PermanentNeighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} of link {}", self.address, self.mac, self.link)
    }
}

impl PermanentNeighbour {
    /// Appends `struct ndmsg` and the attributes of one to be made.
    pub(crate) fn write_new(&self, to: &mut Vec<u8>) {
        to.extend(header(family(self.address.is_ipv4()), self.link, NUD_PERMANENT, 0));
        append_ip(to, NDA_DST, self.address);
        append(to, NDA_LLADDR, &self.mac.0);
    }

    /// The same, of one to be deleted.
    pub(crate) fn write_delete(&self, to: &mut Vec<u8>) {
        write_question(self.link, self.address, to);
    }
}

/// `struct ndmsg`.
pub(crate) fn header(family: u8, link: u32, state: u16, flags: u8) -> [u8; HEADER_LEN] {
    let (l, s) = (link.to_ne_bytes(), state.to_ne_bytes());
    [family, 0, 0, 0, l[0], l[1], l[2], l[3], s[0], s[1], flags, 0]
}

fn write_question(link: u32, address: IpAddr, to: &mut Vec<u8>) {
    to.extend(header(family(address.is_ipv4()), link, 0, 0));
    append_ip(to, NDA_DST, address);
}

/// Reads what follows the netlink header: which link knows what of which address.
pub(crate) fn read(
    bytes: &[u8],
) -> std::result::Result<(u32, Option<IpAddr>, Neighbour), Malformed> {
    let list = body(bytes, HEADER_LEN)?;
    let link = parse_u32(&bytes[4..8]).unwrap_or_default();
    let state = parse_u16(&bytes[8..10]).unwrap_or_default();
    let mut neighbour = Neighbour { mac: None, permanent: state == NUD_PERMANENT };
    let mut address = None;
    for (kind, value) in attributes(list) {
        match kind {
            NDA_DST => address = parse_ip(value).ok(),
            NDA_LLADDR => neighbour.mac = <[u8; 6]>::try_from(value).ok().map(MacAddr),
            _ => {}
        }
    }
    Ok((link, address, neighbour))
}

impl Netlink {
    /// What the link with this index knows of `address`; `None`: nothing. Kernels before 5.0 refuse the question.
    pub fn neighbour(&mut self, index: u32, address: IpAddr) -> Result<Option<Neighbour>> {
        let question =
            RawMessage::written(libc::RTM_GETNEIGH, |to| write_question(index, address, to));
        self.one("look up neighbour", object(index, address), question, |bytes| Ok(read(bytes)?.2))
    }

    /// What the link with this index knows of both families' addresses. What the kernel knows without asking, such as multicast
    /// groups, is not among them.
    pub fn neighbours(&mut self, index: u32) -> Result<Vec<(IpAddr, Neighbour)>> {
        /// `NUD_NOARP`.
        const NO_ARP: u16 = 0x40;
        // Kernels from 4.4 on then tell those of this link only.
        let mut question = RawMessage::new(libc::RTM_GETNEIGH, header(0, 0, 0, 0));
        question.push_number(NDA_IFINDEX, Some(index));
        self.list("list neighbours", question, |bytes| {
            let (link, address, neighbour) = read(bytes)?;
            let state = parse_u16(&bytes[8..10]).unwrap_or_default();
            let is_ip = bytes[0] == family(true) || bytes[0] == family(false);
            let wanted = link == index && is_ip && state & NO_ARP == 0;
            Ok(address.filter(|_| wanted).map(|address| (address, neighbour)))
        })
    }

    /// Tells a link for good where an address is, whatever it knew of it before.
    pub fn set_neighbour(&mut self, neighbour: &PermanentNeighbour) -> Result<()> {
        let message = RawMessage::written(libc::RTM_NEWNEIGH, |to| neighbour.write_new(to));
        self.change("set neighbour", neighbour, message, NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Makes a link forget `address`, one that somebody set included.
    pub fn delete_neighbour(&mut self, index: u32, address: IpAddr) -> Result<()> {
        let request =
            RawMessage::written(libc::RTM_DELNEIGH, |to| write_question(index, address, to));
        self.change("delete neighbour", object(index, address), request, 0)
    }
}

fn object(index: u32, address: IpAddr) -> String {
    format!("{address} of link {index}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::reply::tests::attribute;
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
    fn messages() {
        let mac = MacAddr([2, 0, 0, 0, 0, 7]);
        for (text, family, octets) in
            [("10.9.0.7", 2, &[10, 9, 0, 7][..]), ("fd00::", 10, &[&[0xfd], &[0; 15][..]].concat())]
        {
            let address = text.parse().unwrap();
            let (mut new, mut delete) = (Vec::new(), Vec::new());
            let neighbour = PermanentNeighbour { link: 5, address, mac };
            neighbour.write_new(&mut new);
            neighbour.write_delete(&mut delete);
            let start = [family, 0, 0, 0, 5, 0, 0, 0];
            let (dst, at) = (attribute(1, octets), attribute(2, &mac.0));
            assert_eq!(new, [&start[..], &[0x80, 0, 0, 0], &dst, &at].concat(), "{text}");
            assert_eq!(delete, [&start[..], &[0; 4], &dst].concat(), "{text}");
            let known = Neighbour { mac: Some(mac), permanent: true };
            assert_eq!(read(&new).unwrap(), (5, Some(address), known));
        }
        assert!(read(&[0; 11]).is_err());
    }

    #[test]
    fn set_for_good_and_listed_by_link() {
        let (one, other) = (TestNetns::new("neigh"), TestNetns::new("neigh"));
        veth_pair(End(&one, "v", &["10.9.0.1/24"]), End(&other, "w", &["10.9.0.2/24"]));
        veth_pair(End(&one, "x", &["10.8.0.1/24"]), End(&other, "y", &["10.8.0.2/24"]));
        let mut net = one.netlink();
        let (v, x) = (one.link("v").index, one.link("x").index);
        let neighbour = |link, address: &str, last| PermanentNeighbour {
            link,
            address: address.parse().unwrap(),
            mac: MacAddr([2, 0, 0, 0, 0, last]),
        };
        net.set_neighbour(&neighbour(v, "10.9.0.7", 1)).unwrap();
        net.set_neighbour(&neighbour(v, "fd00::7", 2)).unwrap();
        net.set_neighbour(&neighbour(x, "10.8.0.7", 3)).unwrap();
        // Another place is no error.
        net.set_neighbour(&neighbour(v, "10.9.0.7", 4)).unwrap();
        let mut listed = net.neighbours(v).unwrap();
        listed.retain(|(_, neighbour)| neighbour.permanent);
        listed.sort_by_key(|(address, _)| *address);
        let known = |address: &str, last| {
            let mac = Some(MacAddr([2, 0, 0, 0, 0, last]));
            (address.parse().unwrap(), Neighbour { mac, permanent: true })
        };
        assert_eq!(listed, [known("10.9.0.7", 4), known("fd00::7", 2)]);
        assert!(one.cmd(&["ip", "neigh", "show", "10.9.0.7"]).contains("PERMANENT"));
        let nowhere = net.set_neighbour(&neighbour(4711, "10.9.0.7", 1)).unwrap_err();
        assert!(nowhere.is_not_found(), "{nowhere}");
    }

    #[test]
    fn a_link_that_is_not_there() {
        let mut net = TestNetns::new("neigh").netlink();
        let error = net.delete_neighbour(4711, "10.9.0.2".parse().unwrap()).unwrap_err();
        assert!(error.is_not_found(), "{error}");
        assert!(error.to_string().starts_with("cannot delete neighbour 10.9.0.2 of link 4711: "));
    }
}
