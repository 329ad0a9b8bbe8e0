//! Bridges: Ethernet switches in the kernel (`Documentation/networking/bridge.rst`).

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo};

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
}

impl Netlink {
    /// Makes a bridge; it is down.
    pub fn add_bridge(&mut self, bridge: &Bridge<'_>) -> Result<()> {
        check_name(bridge.name)?;
        let mut message = end(bridge.name, bridge.mtu, bridge.mac);
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
        self.change(
            "create bridge",
            bridge.name,
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }
}
