//! Virtual Ethernet pairs (veth(4)): what enters one end leaves the other.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};

use super::check_name;
use crate::mac::MacAddr;
use crate::netlink::{Netlink, Result};
use crate::netns::NetNs;

/// A veth pair to be made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Veth<'a> {
    /// The name of the end in the socket's namespace.
    pub name: &'a str,
    /// The name of the other end.
    pub peer: &'a str,
    /// Where the other end is put, at once: it never appears in the socket's namespace, so its name need not be free
    /// there. `None`: in the same namespace.
    pub peer_ns: Option<&'a NetNs>,
    /// Maximum transmission unit of both ends, in bytes. `None`: 1500.
    pub mtu: Option<u32>,
    /// The Ethernet address of the first end. `None`: a random one.
    pub mac: Option<MacAddr>,
    /// The Ethernet address of the other end. `None`: a random one.
    pub peer_mac: Option<MacAddr>,
}

impl<'a> Veth<'a> {
    /// A pair with the kernel's defaults, both ends in the same namespace.
    pub fn new(name: &'a str, peer: &'a str) -> Self {
        Self { name, peer, ..Self::default() }
    }

    fn message(&self) -> LinkMessage {
        let mut peer = end(self.peer, self.mtu, self.peer_mac);
        if let Some(ns) = self.peer_ns {
            peer.attributes.push(LinkAttribute::NetNsFd(ns.as_fd().as_raw_fd()));
        }
        let mut message = end(self.name, self.mtu, self.mac);
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        message
    }
}

/// What can be said of a link when it is made.
pub(super) fn end(name: &str, mtu: Option<u32>, mac: Option<MacAddr>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.into()));
    message.attributes.extend(mtu.map(LinkAttribute::Mtu));
    message.attributes.extend(mac.map(|mac| LinkAttribute::Address(mac.0.into())));
    message
}

impl Netlink {
    /// Makes a veth pair; both ends are down. All of it is made, or nothing.
    pub fn add_veth(&mut self, veth: &Veth<'_>) -> Result<()> {
        check_name(veth.name)?;
        check_name(veth.peer)?;
        let place = match veth.peer_ns {
            Some(ns) => format!(" (the latter in {})", ns.path().display()),
            None => String::new(),
        };
        self.change(
            "create veth pair",
            format_args!("{} and {}{place}", veth.name, veth.peer),
            RouteNetlinkMessage::NewLink(veth.message()),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }
}
