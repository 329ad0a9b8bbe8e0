//! What can be set on a link of any kind beside its name, address and MTU, and moving it together with its name.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::DefaultNla;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags};

use super::{about, check_name};
use crate::netlink::{Netlink, NetlinkError, Result};
use crate::netns::NetNs;

/// The longest alias, in bytes (IFALIASZ - 1).
pub const ALIAS_MAX: usize = 255;

impl Netlink {
    /// Attaches a text to a link, or with an empty one takes it away. The text stays with the link when it is renamed or
    /// moved to another namespace.
    pub fn set_alias(&mut self, index: u32, alias: &str) -> Result<()> {
        if alias.len() > ALIAS_MAX {
            return Err(NetlinkError::InvalidName {
                name: alias.into(),
                reason: "an alias has at most 255 bytes",
            });
        }
        // Without a zero byte at its end: the kernel takes a length of 0 for "none".
        let attribute = DefaultNla::new(libc::IFLA_IFALIAS, alias.as_bytes().to_vec());
        self.set_attribute(index, "set the alias of", LinkAttribute::Other(attribute))
    }

    /// Sets the length of a link's transmit queue, in packets.
    pub fn set_txqlen(&mut self, index: u32, packets: u32) -> Result<()> {
        let operation = format!("set transmit queue length {packets} of");
        self.set_attribute(index, &operation, LinkAttribute::TxQueueLen(packets))
    }

    /// Sets whether a link takes in every multicast frame.
    pub fn set_allmulti(&mut self, index: u32, on: bool) -> Result<()> {
        self.set_flag(index, "set all-multicast mode of", LinkFlags::Allmulti, on)
    }

    /// Moves a link to another namespace under a name there, in one request: nobody sees it there under its old name, and
    /// that one need not be free. As with [`Netlink::move_to`] it loses its addresses and is down, and may get another index.
    ///
    /// The kernel moves first and renames then (`do_setlink` in net/core/rtnetlink.c). So in one case a refusal leaves the link
    /// moved: its old name is free there and the new one is not. Look up the new name before, and the link after an error.
    pub fn move_as(&mut self, index: u32, ns: &NetNs, name: &str) -> Result<()> {
        check_name(name)?;
        let mut message = about(index);
        message.attributes = vec![
            LinkAttribute::NetNsFd(ns.as_fd().as_raw_fd()),
            LinkAttribute::IfName(name.into()),
        ];
        let operation = format!("move to network namespace {} as {name}", ns.path().display());
        self.alter(index, &operation, RouteNetlinkMessage::SetLink(message))
    }
}

#[cfg(test)]
mod tests {
    use crate::Veth;
    use crate::testing::TestNetns;

    #[test]
    fn alias_queue_length_and_multicast() {
        let ns = TestNetns::new("attr");
        let mut netlink = ns.netlink();
        netlink.add_veth(&Veth::new("a", "b")).unwrap();
        let index = ns.link("a").index;
        assert_eq!((ns.link("a").alias, ns.link("a").allmulti), (None, false));
        netlink.set_alias(index, "uplink to rack 3").unwrap();
        netlink.set_txqlen(index, 77).unwrap();
        netlink.set_allmulti(index, true).unwrap();
        let link = ns.link("a");
        assert_eq!(link.alias.as_deref(), Some("uplink to rack 3"));
        assert_eq!((link.txqlen, link.allmulti, link.promisc), (77, true, false));
        let ip = ns.json(&["ip", "-j", "link", "show", "a"])[0].clone();
        assert_eq!((&ip["ifalias"], &ip["txqlen"]), (&"uplink to rack 3".into(), &77.into()));
        assert!(ip["flags"].as_array().unwrap().contains(&"ALLMULTI".into()), "{ip}");
        netlink.set_alias(index, "").unwrap();
        netlink.set_allmulti(index, false).unwrap();
        assert_eq!((ns.link("a").alias, ns.link("a").allmulti), (None, false));
        assert!(ns.json(&["ip", "-j", "link", "show", "a"])[0].get("ifalias").is_none());
        assert!(netlink.set_alias(index, &"x".repeat(256)).is_err());
    }

    #[test]
    fn a_link_moves_and_is_renamed_at_once() {
        let (from, to) = (TestNetns::new("move"), TestNetns::new("move"));
        let mut netlink = from.netlink();
        netlink.add_veth(&Veth::new("uplink", "far")).unwrap();
        // The name that it has is taken where it goes; the one that it gets is not.
        to.netlink().add_veth(&Veth::new("uplink", "other")).unwrap();
        let index = from.link("uplink").index;
        netlink.set_alias(index, "uplink").unwrap();
        netlink.set_up(index).unwrap();
        netlink.move_as(index, to.ns(), "eth0").unwrap();
        assert_eq!(netlink.link("uplink").unwrap(), None);
        let there = to.link("eth0");
        assert_eq!((there.alias.as_deref(), there.up), (Some("uplink"), false));
        // Its own name is free there, the new one is not: the case in which a refusal leaves it moved.
        let refused = to.netlink().move_as(there.index, from.ns(), "far").unwrap_err();
        assert!(refused.is_exists(), "{refused}");
        assert_eq!(from.link("eth0").alias.as_deref(), Some("uplink"));
    }

    #[test]
    fn where_both_names_are_taken_a_link_stays() {
        let (from, to) = (TestNetns::new("move"), TestNetns::new("move"));
        from.netlink().add_veth(&Veth::new("a", "b")).unwrap();
        to.netlink().add_veth(&Veth::new("a", "c")).unwrap();
        let before = from.link("a");
        let refused = from.netlink().move_as(before.index, to.ns(), "c").unwrap_err();
        assert!(refused.is_exists(), "{refused}");
        assert_eq!(from.link("a"), before);
    }
}
