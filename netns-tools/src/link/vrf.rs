//! VRF devices: routing tables of their own for the links that are their ports (`Documentation/networking/vrf.rst`).

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, parse_u32};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVrf, LinkAttribute, LinkInfo, LinkMessage,
};

use super::check_name;
use super::veth::end;
use crate::netlink::reply::attributes;
use crate::netlink::{Netlink, Result};

/// `IFLA_INFO_KIND` of a VRF.
pub const KIND: &str = "vrf";
/// `IFLA_VRF_TABLE` (`linux/if_link.h`).
const TABLE: u16 = 1;

/// A VRF to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vrf<'a> {
    /// Its name.
    pub name: &'a str,
    /// The routing table of its ports.
    pub table: u32,
}

impl Vrf<'_> {
    fn message(&self) -> LinkMessage {
        let mut message = end(self.name, None, None);
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vrf),
            LinkInfo::Data(InfoData::Vrf(vec![InfoVrf::TableId(self.table)])),
        ]));
        message
    }
}

/// The table in a VRF's `IFLA_INFO_DATA`.
pub(super) fn read_table(data: &[u8]) -> Option<u32> {
    attributes(data).find(|(kind, _)| *kind == TABLE).and_then(|(_, value)| parse_u32(value).ok())
}

impl Netlink {
    /// Makes a VRF; it is down.
    pub fn add_vrf(&mut self, vrf: &Vrf<'_>) -> Result<()> {
        check_name(vrf.name)?;
        self.change(
            "create VRF",
            format_args!("{} for table {}", vrf.name, vrf.table),
            RouteNetlinkMessage::NewLink(vrf.message()),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;

    use super::*;
    use crate::link::Link;
    use crate::netlink::reply::tests::attribute;
    use crate::testing::TestNetns;

    fn bytes(message: &LinkMessage) -> Vec<u8> {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    /// `IFLA_LINKINFO` (18) { `IFLA_INFO_KIND` (1) "vrf", `IFLA_INFO_DATA` (2) { `IFLA_VRF_TABLE` (1) u32 } }, as
    /// `Documentation/netlink/specs/rt-link.yaml` says.
    #[test]
    fn the_message() {
        let data = attribute(2, &attribute(1, &1001_u32.to_ne_bytes()));
        let info = attribute(18, &[attribute(1, b"vrf\0"), data].concat());
        let wanted = [vec![0; 16], attribute(libc::IFLA_IFNAME, b"blue\0"), info].concat();
        assert_eq!(bytes(&Vrf { name: "blue", table: 1001 }.message()), wanted);
    }

    #[test]
    fn the_table_is_read() {
        let data = attribute(2, &attribute(1, &7_u32.to_ne_bytes()));
        let info = attribute(18, &[attribute(1, b"vrf\0"), data].concat());
        let link = [vec![0; 16], attribute(libc::IFLA_IFNAME, b"blue\0"), info].concat();
        let link = Link::read(&link).unwrap();
        assert_eq!((link.kind.as_deref(), link.vrf_table), (Some("vrf"), Some(7)));
        // The same attribute of another kind of link is something else.
        let data = attribute(2, &attribute(1, &7_u32.to_ne_bytes()));
        let info = attribute(18, &[attribute(1, b"vlan\0"), data].concat());
        let link = [vec![0; 16], attribute(libc::IFLA_IFNAME, b"blue\0"), info].concat();
        assert_eq!(Link::read(&link).unwrap().vrf_table, None);
    }

    #[test]
    fn a_vrf_in_the_kernel() {
        let ns = TestNetns::new("vrf");
        let mut netlink = ns.netlink();
        let made = netlink.add_vrf(&Vrf { name: "blue", table: 1001 });
        assert_eq!(netlink.has_link_kind(KIND).unwrap(), made.is_ok());
        match made {
            Ok(()) => assert_eq!(ns.link("blue").vrf_table, Some(1001)),
            Err(error) => {
                assert_eq!(error.errno(), Some(libc::EOPNOTSUPP), "{error}");
                println!("not proven on this kernel: a VRF device is made and read back ({error})");
            }
        }
        let left = ns.netlink().links().unwrap();
        assert!(!left.iter().any(|link| link.name.starts_with("probe")), "{left:?}");
    }
}
