//! Intermediate functional blocks (`drivers/net/ifb.c`): what is redirected to one can be queued as if the link sent it, and then
//! goes on where it was going.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo};

use super::veth::end;
use super::{Link, check_name, question};
use crate::netlink::{Netlink, Result};

/// An ifb to be made.
#[derive(Debug, Clone, Copy)]
pub struct Ifb<'a> {
    /// Its name.
    pub name: &'a str,
    /// Maximum transmission unit, in bytes.
    pub mtu: u32,
    /// The length of its queue, in packets.
    pub queue_length: u32,
}

impl Netlink {
    /// Makes an ifb; it is down. (The kernel ignores an alias in this message.)
    pub fn add_ifb(&mut self, ifb: &Ifb<'_>) -> Result<()> {
        check_name(ifb.name)?;
        let mut message = end(ifb.name, Some(ifb.mtu), None);
        message.attributes.push(LinkAttribute::TxQueueLen(ifb.queue_length));
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]));
        self.change(
            "create ifb",
            ifb.name,
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    /// Every ifb of the namespace.
    pub fn ifbs(&mut self) -> Result<Vec<Link>> {
        let mut message = question(0);
        // Kernels from 4.5 on then list nothing else.
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]));
        self.list("list ifbs", RouteNetlinkMessage::GetLink(message), |bytes| {
            Ok(Some(Link::read(bytes)?).filter(is_ifb))
        })
    }

    /// The ifb named `name`, or `None`; also `None` when the name is another kind of link's.
    pub fn ifb(&mut self, name: &str) -> Result<Option<Link>> {
        Ok(self.link(name)?.filter(is_ifb))
    }
}

fn is_ifb(link: &Link) -> bool {
    link.kind.as_deref() == Some("ifb")
}
