//! Bridges: Ethernet switches in the kernel (`Documentation/networking/bridge.rst`).

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, LinkAttribute, LinkInfo, LinkMessage,
};

use super::check_name;
use super::veth::end;
use crate::mac::MacAddr;
use crate::netlink::{Netlink, Result};

/// A bridge to be made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bridge<'a> {
    /// Its name.
    pub name: &'a str,
    /// Maximum transmission unit, in bytes. `None`: the smallest of its ports'.
    pub mtu: Option<u32>,
    /// Its Ethernet address. `None`: the lowest of its ports', so that it changes when ports come and go, which
    /// interrupts traffic until neighbours have noticed.
    pub mac: Option<MacAddr>,
    /// Whether VLANs keep its ports apart; see [`super::port_vlan`].
    pub vlan_filtering: bool,
}

impl Bridge<'_> {
    fn message(&self) -> LinkMessage {
        let mut info = vec![LinkInfo::Kind(InfoKind::Bridge)];
        if self.vlan_filtering {
            info.push(LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::VlanFiltering(true)])));
        }
        let mut message = end(self.name, self.mtu, self.mac);
        message.attributes.push(LinkAttribute::LinkInfo(info));
        message
    }
}

impl Netlink {
    /// Makes a bridge; it is down.
    pub fn add_bridge(&mut self, bridge: &Bridge<'_>) -> Result<()> {
        check_name(bridge.name)?;
        let operation =
            if bridge.vlan_filtering { "create VLAN filtering bridge" } else { "create bridge" };
        self.change(
            operation,
            bridge.name,
            RouteNetlinkMessage::NewLink(bridge.message()),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;

    use super::*;
    use crate::netlink::reply::tests::attribute;

    // linux/if_link.h: IFLA_LINKINFO 18, IFLA_INFO_KIND 1, IFLA_INFO_DATA 2, IFLA_BR_VLAN_FILTERING 7.
    #[test]
    fn golden_message() {
        let message = Bridge { name: "br0", vlan_filtering: true, ..Bridge::default() }.message();
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        let info = [attribute(1, b"bridge\0"), attribute(2, &attribute(7, &[1]))].concat();
        let expected = [&[0; 16][..], &attribute(3, b"br0\0"), &attribute(18, &info)].concat();
        assert_eq!(bytes, expected);
    }
}
