//! Intermediate functional blocks (`drivers/net/ifb.c`): what is redirected to one can be queued as if the link sent it, and then
//! goes on where it was going.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, parse_string, parse_u32};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo};

use super::veth::end;
use super::{HEADER_LEN, Link, about, check_name, question};
use crate::netlink::reply::{Malformed, attributes};
use crate::netlink::{Netlink, Result, body};

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

/// An ifb as the kernel tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenIfb {
    /// The link.
    pub link: Link,
    /// A text that whoever made it may have given it.
    pub alias: Option<String>,
    /// The length of its queue, in packets.
    pub queue_length: u32,
}

impl SeenIfb {
    fn read(bytes: &[u8]) -> std::result::Result<Self, Malformed> {
        let mut seen = Self { link: Link::read(bytes)?, alias: None, queue_length: 0 };
        for (kind, value) in attributes(body(bytes, HEADER_LEN)?) {
            match kind {
                libc::IFLA_IFALIAS => seen.alias = parse_string(value).ok(),
                libc::IFLA_TXQLEN => seen.queue_length = parse_u32(value).unwrap_or_default(),
                _ => {}
            }
        }
        Ok(seen)
    }

    fn is_ifb(&self) -> bool {
        self.link.kind.as_deref() == Some("ifb")
    }
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

    /// Gives a link its alias, up to 255 bytes, and sets it up, in one message.
    pub fn set_alias_and_up(&mut self, index: u32, alias: &str) -> Result<()> {
        let mut message = about(index);
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = LinkFlags::Up;
        message.attributes.push(LinkAttribute::IfAlias(alias.into()));
        self.alter(index, "set the alias of", RouteNetlinkMessage::SetLink(message))
    }

    /// Every ifb of the namespace.
    pub fn ifbs(&mut self) -> Result<Vec<SeenIfb>> {
        let mut message = question(0);
        // Kernels from 4.5 on then list nothing else.
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]));
        self.list("list ifbs", RouteNetlinkMessage::GetLink(message), |bytes| {
            Ok(Some(SeenIfb::read(bytes)?).filter(SeenIfb::is_ifb))
        })
    }

    /// The ifb named `name`, or `None`; also `None` when the name is another kind of link's.
    pub fn ifb(&mut self, name: &str) -> Result<Option<SeenIfb>> {
        check_name(name)?;
        let mut message = question(0);
        message.attributes.push(LinkAttribute::IfName(name.into()));
        let message = RouteNetlinkMessage::GetLink(message);
        Ok(self.one("look up ifb", name, message, SeenIfb::read)?.filter(SeenIfb::is_ifb))
    }
}
