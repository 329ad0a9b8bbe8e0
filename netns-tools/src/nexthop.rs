//! Nexthop objects: where to and by which link, kept apart from the routes that go there (rtnetlink; `net/ipv4/nexthop.c`, kernels
//! from 5.3 on; `Documentation/netlink/specs/rt-route.yaml` for the routes' side).

use std::fmt;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, parse_ip, parse_u32};

use crate::netlink::raw::{RawMessage, append, append_ip, append_number, family};
use crate::netlink::reply::{Malformed, attributes};
use crate::netlink::{Netlink, Result, body};

/// `linux/rtnetlink.h`
pub(crate) const RTM_NEWNEXTHOP: u16 = 104;
pub(crate) const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;
/// `sizeof(struct nhmsg)` (`linux/nexthop.h`): family, scope, protocol, reserved, four bytes of flags.
const HEADER_LEN: usize = 8;
/// `NHA_ID`, `NHA_GROUP`, `NHA_OIF`, `NHA_GATEWAY` (`linux/nexthop.h`).
const NHA_ID: u16 = 1;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
/// `RTNH_F_ONLINK` (`linux/rtnetlink.h`).
const RTNH_F_ONLINK: u32 = 4;

/// A nexthop object. Routes name it by its number ([`crate::Route::nexthop`]) and go when it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nexthop {
    /// Its number, unique in its namespace, not 0.
    pub id: u32,
    /// The gateway. `None` in a list: it is on the link itself, or a group of others, or drops.
    pub gateway: Option<IpAddr>,
    /// The link to leave by, by index. The object goes when the link goes down.
    pub oif: Option<u32>,
    /// The gateway is on the link, whatever the addresses say.
    pub onlink: bool,
    /// Who made it (`RTPROT_*`).
    pub protocol: u8,
}

impl fmt::Display for Nexthop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        self.oif.map_or(Ok(()), |oif| write!(f, " on link {oif}"))
    }
}

impl Nexthop {
    /// Appends `struct nhmsg` and the attributes of an object to be made.
    pub(crate) fn write_new(&self, to: &mut Vec<u8>) {
        let family = family(self.gateway.is_none_or(|gateway| gateway.is_ipv4()));
        to.extend([family, 0, self.protocol, 0]);
        to.extend((if self.onlink { RTNH_F_ONLINK } else { 0 }).to_ne_bytes());
        append(to, NHA_ID, &self.id.to_ne_bytes());
        append_number(to, NHA_OIF, self.oif);
        if let Some(gateway) = self.gateway {
            append_ip(to, NHA_GATEWAY, gateway);
        }
    }

    fn read(bytes: &[u8]) -> std::result::Result<Self, Malformed> {
        let list = body(bytes, HEADER_LEN)?;
        let flags = parse_u32(&bytes[4..HEADER_LEN]).unwrap_or_default();
        let mut nexthop = Self {
            id: 0,
            gateway: None,
            oif: None,
            onlink: flags & RTNH_F_ONLINK != 0,
            protocol: bytes[2],
        };
        for (kind, value) in attributes(list) {
            match kind {
                NHA_ID => nexthop.id = parse_u32(value).unwrap_or_default(),
                NHA_OIF => nexthop.oif = parse_u32(value).ok(),
                NHA_GATEWAY => nexthop.gateway = parse_ip(value).ok(),
                _ => {}
            }
        }
        Ok(nexthop)
    }
}

/// Appends what a request about the object with this number consists of.
pub(crate) fn write_id(id: u32, to: &mut Vec<u8>) {
    to.extend([0; HEADER_LEN]);
    append(to, NHA_ID, &id.to_ne_bytes());
}

impl Netlink {
    /// The nexthop objects of both families that leave by the link with this index, or with `None` all of them. Empty also on
    /// kernels without such objects.
    pub fn nexthops(&mut self, oif: Option<u32>) -> Result<Vec<Nexthop>> {
        let mut message = RawMessage::new(RTM_GETNEXTHOP, [0; HEADER_LEN]);
        message.push_number(NHA_OIF, oif);
        let listed = self.list("list nexthops", message, |bytes| {
            let nexthop = Nexthop::read(bytes)?;
            Ok(Some(nexthop).filter(|nexthop| oif.is_none() || nexthop.oif == oif))
        });
        match listed {
            Err(error) if error.errno() == Some(libc::EOPNOTSUPP) => Ok(Vec::new()),
            listed => listed,
        }
    }

    /// The nexthop object with this number; `None`: there is none.
    pub fn nexthop(&mut self, id: u32) -> Result<Option<Nexthop>> {
        let message = RawMessage::written(RTM_GETNEXTHOP, |to| write_id(id, to));
        self.one("look up nexthop", id, message, Nexthop::read)
    }

    /// Makes a nexthop object. `EEXIST` when its number is taken.
    pub fn add_nexthop(&mut self, nexthop: &Nexthop) -> Result<()> {
        self.new_nexthop("add nexthop", nexthop, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Makes a nexthop object, or gives the one with its number another gateway or link: all its routes then go there, at once.
    pub fn replace_nexthop(&mut self, nexthop: &Nexthop) -> Result<()> {
        self.new_nexthop("replace nexthop", nexthop, NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Deletes a nexthop object **and every route that goes there**.
    pub fn delete_nexthop(&mut self, id: u32) -> Result<()> {
        let message = RawMessage::written(RTM_DELNEXTHOP, |to| write_id(id, to));
        self.change("delete nexthop", id, message, 0)
    }

    fn new_nexthop(&mut self, operation: &str, nexthop: &Nexthop, flags: u16) -> Result<()> {
        let message = RawMessage::written(RTM_NEWNEXTHOP, |to| nexthop.write_new(to));
        self.change(operation, nexthop, message, flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::reply::tests::attribute;
    use crate::testing::TestNetns;
    use crate::{Route, Veth};

    fn nexthop(id: u32, gateway: &str, oif: u32) -> Nexthop {
        let gateway = Some(gateway.parse().unwrap());
        Nexthop { id, gateway, oif: Some(oif), onlink: true, protocol: 104 }
    }

    #[test]
    fn messages() {
        let table =
            [("10.1.2.3", 2, &[10, 1, 2, 3][..]), ("::1", 10, &[[0; 15], [1; 15]].concat()[..16])];
        for (gateway, family, address) in table {
            let mut bytes = Vec::new();
            nexthop(9, gateway, 7).write_new(&mut bytes);
            let want = [
                vec![family, 0, 104, 0],
                4_u32.to_ne_bytes().to_vec(),
                attribute(1, &9_u32.to_ne_bytes()),
                attribute(5, &7_u32.to_ne_bytes()),
                attribute(6, address),
            ];
            assert_eq!(bytes, want.concat(), "{gateway}");
            assert_eq!(Nexthop::read(&bytes).unwrap(), nexthop(9, gateway, 7));
        }
        assert!(Nexthop::read(&[0; 7]).is_err());
        let mut bytes = Vec::new();
        write_id(9, &mut bytes);
        assert_eq!(bytes, [vec![0; 8], attribute(1, &9_u32.to_ne_bytes())].concat());
    }

    #[test]
    fn made_used_replaced_and_deleted_with_its_routes() {
        let ns = TestNetns::new("nexthop");
        let mut net = ns.netlink();
        net.add_veth(&Veth::new("a", "b")).unwrap();
        // Without any local address, such as that of `lo`, IPv4 takes no address for a gateway.
        for name in ["lo", "a", "b"] {
            ns.configure(name, &[]);
        }
        let (a, b) = (ns.link("a").index, ns.link("b").index);
        let made =
            [nexthop(1, "10.9.1.0", a), nexthop(2, "fd00:1::", a), nexthop(3, "10.9.3.0", b)];
        made.iter().try_for_each(|nexthop| net.add_nexthop(nexthop)).unwrap();
        assert_eq!(net.nexthops(None).unwrap(), made);
        assert_eq!(net.nexthops(Some(b)).unwrap(), made[2..]);
        assert_eq!(net.nexthop(2).unwrap(), Some(made[1]));
        assert_eq!(net.nexthop(4).unwrap(), None);
        let taken = net.add_nexthop(&made[0]).unwrap_err();
        assert!(taken.is_exists(), "{taken}");
        assert!(
            taken.to_string().ends_with("the number is taken in that network namespace"),
            "{taken}"
        );

        for (dst, id) in [("10.9.1.0/24", 1), ("fd00:1::/64", 2)] {
            let route = Route {
                dst: dst.parse().unwrap(),
                nexthop: Some(id),
                mtu: Some(1234),
                protocol: Some(104),
                ..Route::default()
            };
            net.add_route(&route).unwrap();
            let listed = net.routes().unwrap();
            let listed =
                listed.iter().find(|listed| listed.dst == route.dst && listed.nexthop.is_some());
            let listed = listed.unwrap();
            assert_eq!(
                (listed.nexthop, listed.mtu, listed.protocol),
                (Some(id), Some(1234), Some(104))
            );
        }
        let moved = nexthop(1, "10.9.7.0", b);
        net.replace_nexthop(&moved).unwrap();
        let taken = net.route_to("10.9.1.5".parse().unwrap()).unwrap().unwrap();
        assert_eq!((taken.gateway, taken.oif), (moved.gateway, Some(b)));
        net.delete_nexthop(1).unwrap();
        assert!(!ns.cmd(&["ip", "route"]).contains("10.9.1.0/24"));
        let gone = net.delete_nexthop(1).unwrap_err();
        assert!(gone.is_not_found(), "{gone}");
    }
}
