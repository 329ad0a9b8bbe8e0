//! The VLANs of a bridge's port (`bridge vlan` of bridge(8); `IFLA_AF_SPEC` of family `AF_BRIDGE`, `linux/if_bridge.h`).
//!
//! They count only on a bridge that filters VLANs ([`crate::Bridge::vlan_filtering`]).

use std::fmt;

use netlink_packet_core::parse_u16;
use netlink_packet_route::link::{
    AfSpecBridge, BridgeFlag, BridgeVlanInfo, BridgeVlanInfoFlags, LinkAttribute, LinkExtentMask,
    LinkHeader, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{HEADER_LEN, about};
use crate::Bridge;
use crate::netlink::reply::{Malformed, attributes};
use crate::netlink::{Netlink, Result, body};
use crate::netns::NetNs;

/// `IFLA_BRIDGE_VLAN_INFO` (`linux/if_bridge.h`).
const VLAN_INFO: u16 = 2;

/// VLANs of a port that are treated alike: the ids from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortVlan {
    /// The first id, 1 to 4094.
    pub first: u16,
    /// The last id.
    pub last: u16,
    /// Frames that come in without a tag belong to it; one id only.
    pub pvid: bool,
    /// Frames leave without a tag.
    pub untagged: bool,
}

impl PortVlan {
    /// What an end device is on: frames have no tags.
    pub fn access(id: u16) -> Self {
        Self { first: id, last: id, pvid: true, untagged: true }
    }

    /// What carries several VLANs: frames have tags.
    pub fn tagged(first: u16, last: u16) -> Self {
        Self { first, last, pvid: false, untagged: false }
    }

    fn info(self) -> Vec<AfSpecBridge> {
        let mut flags = BridgeVlanInfoFlags::empty();
        flags.set(BridgeVlanInfoFlags::Pvid, self.pvid);
        flags.set(BridgeVlanInfoFlags::Untagged, self.untagged);
        let info = |flags, vid| AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid });
        if self.first == self.last {
            return vec![info(flags, self.first)];
        }
        vec![
            info(flags | BridgeVlanInfoFlags::RangeBegin, self.first),
            info(flags | BridgeVlanInfoFlags::RangeEnd, self.last),
        ]
    }

    fn message(self, port: u32) -> LinkMessage {
        let mut message = about(port);
        message.header.interface_family = AddressFamily::Bridge;
        // To the bridge above the port, not to a switch in the port's hardware.
        let mut words = vec![AfSpecBridge::Flags(BridgeFlag::Controller)];
        words.extend(self.info());
        message.attributes.push(LinkAttribute::AfSpecBridge(words));
        message
    }
}

impl fmt::Display for PortVlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.first != self.last {
            write!(f, "-{}", self.last)?;
        }
        f.write_str(if self.pvid { " PVID" } else { "" })?;
        f.write_str(if self.untagged { " untagged" } else { "" })
    }
}

impl Netlink {
    /// Puts a port into VLANs.
    pub fn add_port_vlan(&mut self, port: u32, vlan: PortVlan) -> Result<()> {
        let message = RouteNetlinkMessage::SetLink(vlan.message(port));
        self.alter(port, &format!("add VLAN {vlan} to"), message)
    }

    /// Takes a port out of VLANs.
    pub fn delete_port_vlan(&mut self, port: u32, vlan: PortVlan) -> Result<()> {
        let message = RouteNetlinkMessage::DelLink(vlan.message(port));
        self.alter(port, &format!("remove VLAN {vlan} from"), message)
    }

    /// The VLANs of a port, one entry each.
    pub fn port_vlans(&mut self, port: u32) -> Result<Vec<PortVlan>> {
        let mut message = LinkMessage::default();
        message.header.interface_family = AddressFamily::Bridge;
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::Brvlan]));
        let list = self.list("list VLANs", RouteNetlinkMessage::GetLink(message), |bytes| {
            let (index, vlans) = read(bytes)?;
            Ok((index == port).then_some(vlans))
        })?;
        Ok(list.into_iter().flatten().collect())
    }
}

/// What follows the netlink header of an `RTM_NEWLINK` of family `AF_BRIDGE`: the port, and its VLANs.
fn read(bytes: &[u8]) -> std::result::Result<(u32, Vec<PortVlan>), Malformed> {
    let header = LinkHeader::parse(bytes).map_err(|e| Malformed(e.to_string()))?;
    let specs =
        attributes(body(bytes, HEADER_LEN)?).filter(|(kind, _)| *kind == libc::IFLA_AF_SPEC);
    let infos =
        specs.flat_map(|(_, value)| attributes(value)).filter(|(kind, _)| *kind == VLAN_INFO);
    let vlans = infos.filter_map(|(_, value)| {
        // struct bridge_vlan_info: flags and id, 16 bits each.
        let flags = BridgeVlanInfoFlags::from_bits_retain(parse_u16(value.get(..2)?).ok()?);
        let id = parse_u16(value.get(2..4)?).ok()?;
        let has = |flag| flags.contains(flag);
        let (pvid, untagged) = (has(BridgeVlanInfoFlags::Pvid), has(BridgeVlanInfoFlags::Untagged));
        Some(PortVlan { first: id, last: id, pvid, untagged })
    });
    Ok((header.index, vlans.collect()))
}

/// Whether this kernel's bridges can filter VLANs (`CONFIG_BRIDGE_VLAN_FILTERING`), found out in a namespace that nobody sees
/// and that ends with the question.
pub fn is_supported() -> Result<bool> {
    NetNs::scratch(|| {
        let bridge = Bridge { name: "probe", vlan_filtering: true, ..Bridge::default() };
        match Netlink::open()?.add_bridge(&bridge) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(libc::EOPNOTSUPP) => Ok(false),
            Err(error) => Err(error),
        }
    })?
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;

    use super::*;
    use crate::Veth;
    use crate::netlink::reply::tests::attribute;
    use crate::testing::TestNetns;

    fn bytes(message: &LinkMessage) -> Vec<u8> {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    /// `struct ifinfomsg` of `AF_BRIDGE` (7) about link 9.
    const HEADER: [u8; 16] = [7, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    fn spec(infos: &[[u16; 2]]) -> Vec<u8> {
        let info = |[flags, id]: &[u16; 2]| {
            attribute(VLAN_INFO, &[flags.to_ne_bytes(), id.to_ne_bytes()].concat())
        };
        infos.iter().flat_map(info).collect()
    }

    // Against the kernel's linux/if_bridge.h: IFLA_BRIDGE_FLAGS 0, BRIDGE_FLAGS_MASTER 1, IFLA_BRIDGE_VLAN_INFO 2; flags PVID 2,
    // UNTAGGED 4, RANGE_BEGIN 8, RANGE_END 16.
    #[test]
    fn golden_messages() {
        let cases = [
            (PortVlan::access(100), spec(&[[6, 100]]), "100 PVID untagged"),
            (PortVlan::tagged(7, 7), spec(&[[0, 7]]), "7"),
            (PortVlan::tagged(10, 4094), spec(&[[8, 10], [16, 4094]]), "10-4094"),
        ];
        for (vlan, infos, text) in cases {
            let master = attribute(0, &1u16.to_ne_bytes());
            let spec = attribute(libc::IFLA_AF_SPEC, &[master, infos].concat());
            assert_eq!(bytes(&vlan.message(9)), [&HEADER[..], &spec].concat(), "{text}");
            assert_eq!(vlan.to_string(), text);
        }
    }

    #[test]
    fn golden_answer() {
        let name = attribute(libc::IFLA_IFNAME, b"veth1\0");
        let spec = attribute(libc::IFLA_AF_SPEC, &spec(&[[6, 1], [0, 7]]));
        let answer = [&HEADER[..], &name, &spec].concat();
        assert_eq!(read(&answer).unwrap(), (9, vec![PortVlan::access(1), PortVlan::tagged(7, 7)]));
        assert_eq!(read(&HEADER).unwrap(), (9, vec![]));
        assert!(read(&HEADER[..9]).is_err());
    }

    #[test]
    fn a_port_in_vlans() {
        let ns = TestNetns::new("portvlan");
        let mut net = ns.netlink();
        if !is_supported().unwrap() {
            println!(
                "not proven on this kernel: VLANs of bridge ports (CONFIG_BRIDGE_VLAN_FILTERING is off)"
            );
            let bridge = Bridge { name: "br0", vlan_filtering: true, ..Bridge::default() };
            let error = net.add_bridge(&bridge).unwrap_err();
            assert_eq!(error.errno(), Some(libc::EOPNOTSUPP));
            assert!(error.to_string().contains("CONFIG_BRIDGE_VLAN_FILTERING"), "{error}");
            return;
        }
        net.add_bridge(&Bridge { name: "br0", vlan_filtering: true, ..Bridge::default() }).unwrap();
        net.add_veth(&Veth::new("port", "far")).unwrap();
        let port = ns.link("port").index;
        net.set_master(port, Some(ns.link("br0").index)).unwrap();
        let default = PortVlan::access(ns.link("br0").default_pvid.unwrap());
        assert_eq!(net.port_vlans(port).unwrap(), [default]);
        net.delete_port_vlan(port, default).unwrap();
        net.add_port_vlan(port, PortVlan::access(100)).unwrap();
        net.add_port_vlan(port, PortVlan::tagged(200, 202)).unwrap();
        let tagged = [200, 201, 202].map(|id| PortVlan::tagged(id, id));
        assert_eq!(net.port_vlans(port).unwrap(), [&[PortVlan::access(100)], &tagged[..]].concat());
    }
}
