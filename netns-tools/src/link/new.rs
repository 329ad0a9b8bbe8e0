//! What can be said of any link when it is made, and asking whether the kernel can make a kind at all.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, LinkAttribute, LinkInfo, LinkMessage};

use super::veth::end;
use super::{HEADER_LEN, check_name, question};
use crate::mac::MacAddr;
use crate::netlink::reply::{Malformed, attributes};
use crate::netlink::{Netlink, NetlinkError, Result, body};
use crate::netns::NetNs;

/// A link to be made, without what its kind adds.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewLink<'a> {
    /// Its name. Older kernels (before 6.15) want it to be free in the socket's namespace as well as in `ns`.
    pub name: &'a str,
    /// Where it is put, at once: it never appears in the socket's namespace. `None`: there.
    pub ns: Option<&'a NetNs>,
    /// Maximum transmission unit, in bytes. `None`: that of the link below.
    pub mtu: Option<u32>,
    /// Its Ethernet address. `None`: as is usual for the kind.
    pub mac: Option<MacAddr>,
}

impl<'a> NewLink<'a> {
    /// A link with the kernel's defaults, in the socket's namespace.
    pub fn new(name: &'a str) -> Self {
        Self { name, ..Self::default() }
    }

    /// `lower` is the index of the link below, in the socket's namespace.
    pub(super) fn message(
        &self,
        lower: Option<u32>,
        kind: InfoKind,
        data: Option<InfoData>,
    ) -> LinkMessage {
        let mut message = end(self.name, self.mtu, self.mac);
        let add = &mut message.attributes;
        add.extend(lower.map(LinkAttribute::Link));
        add.extend(self.ns.map(|ns| LinkAttribute::NetNsFd(ns.as_fd().as_raw_fd())));
        let mut info = vec![LinkInfo::Kind(kind)];
        info.extend(data.map(LinkInfo::Data));
        add.push(LinkAttribute::LinkInfo(info));
        message
    }
}

impl Netlink {
    /// Makes a link; it is down.
    pub(super) fn add_link(
        &mut self,
        link: &NewLink<'_>,
        lower: Option<u32>,
        kind: InfoKind,
        data: Option<InfoData>,
    ) -> Result<()> {
        check_name(link.name)?;
        let place = link.ns.map_or(String::new(), |ns| format!(" in {}", ns.path().display()));
        let base = lower.map_or(String::new(), |lower| format!(" on link {lower}"));
        self.change(
            &format!("create {kind}"),
            format_args!("{}{base}{place}", link.name),
            RouteNetlinkMessage::NewLink(link.message(lower, kind.clone(), data)),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    /// What `read` makes of the kind's own attributes of a link. `None`: it is not there, or of another kind.
    pub(super) fn kind_data<T>(
        &mut self,
        index: u32,
        kind: &str,
        read: impl Fn(&[u8]) -> T,
    ) -> Result<Option<T>> {
        let message = RouteNetlinkMessage::GetLink(question(index));
        let found =
            self.one("look up link", index, message, |bytes| Ok(data_of(bytes, kind)?.map(&read)));
        found.map(Option::flatten)
    }

    /// Whether this kernel can make links of a kind such as `macvlan`; it may load a module for it, as making one would.
    ///
    /// It is asked for a link that it has to refuse, so none appears: with a group's Ethernet address, and without a link below.
    /// Kinds that are made by other means than netlink (`tun`) count as missing.
    pub fn has_link_kind(&mut self, kind: &str) -> Result<bool> {
        let name = format!("probe{}", std::process::id());
        let group = MacAddr([1, 0, 0, 0, 0, 0]);
        let link = NewLink { mac: Some(group), ..NewLink::new(&name) };
        match self.add_link(&link, None, kind.into(), None) {
            // A kind that does not mind.
            Ok(()) => {
                if let Some(link) = self.link(&name)? {
                    self.delete_link(link.index)?;
                }
                Ok(true)
            }
            Err(NetlinkError::Refused { errno: libc::EOPNOTSUPP, .. }) => Ok(false),
            Err(NetlinkError::Refused { errno, .. }) if errno != libc::EPERM => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// `IFLA_INFO_DATA` of a link of that kind; empty if the kind has no attributes. `bytes` follow the netlink header.
fn data_of<'a>(bytes: &'a [u8], kind: &str) -> std::result::Result<Option<&'a [u8]>, Malformed> {
    let named = |wanted, list: &'a [u8]| {
        attributes(list).find(|(name, _)| *name == wanted).map(|(_, value)| value)
    };
    let Some(info) = named(libc::IFLA_LINKINFO, body(bytes, HEADER_LEN)?) else { return Ok(None) };
    let own = named(libc::IFLA_INFO_KIND, info).unwrap_or_default();
    if own.strip_suffix(&[0]).unwrap_or(own) != kind.as_bytes() {
        return Ok(None);
    }
    Ok(Some(named(libc::IFLA_INFO_DATA, info).unwrap_or_default()))
}

#[cfg(test)]
pub(super) mod tests;
