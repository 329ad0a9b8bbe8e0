//! VXLAN devices: links whose frames travel in UDP (RFC 7348; `Documentation/networking/vxlan.rst`,
//! `drivers/net/vxlan/vxlan_core.c`). Where to is said by forwarding entries, [`crate::fdb`].

use std::net::IpAddr;

use netlink_packet_core::{parse_ip, parse_u16_be, parse_u32};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkInfo};

use super::new::NewLink;
use super::{Link, about, flag};
use crate::netlink::batch::{Change, Object};
use crate::netlink::reply::attributes;
use crate::netlink::{Netlink, NetlinkError, Result};

/// The kind's name.
pub(super) const KIND: &str = "vxlan";
/// `IFLA_VXLAN_*` (`linux/if_link.h`).
const ID: u16 = 1;
const LINK: u16 = 3;
const LOCAL: u16 = 4;
const LEARNING: u16 = 7;
const PORT: u16 = 15;
const LOCAL6: u16 = 17;
const COLLECT_METADATA: u16 = 25;

/// The UDP port that flannel and the kernel use for VXLAN by default.
pub const DEFAULT_PORT: u16 = 8472;

/// What makes a VXLAN device different from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vxlan {
    /// The VXLAN network identifier: below 2²⁴.
    pub vni: u32,
    /// The UDP port, of both ends.
    pub port: u16,
    /// The address of this host that it sends from. The device uses its family, and no other, for good.
    pub local: IpAddr,
    /// The link that it sends by, by index, whatever the routes say. `None`: as the routes say.
    ///
    /// With a link given the device also receives by that one only where `local` is a link-local address (IPv6), and its MTU is that
    /// link's less the headers unless said otherwise. The device goes when that link goes.
    pub underlay: Option<u32>,
    /// Whether it makes forwarding entries of what it receives. Where every peer is known in advance, this is off: anybody who can
    /// send to the port could otherwise redirect an address.
    pub learning: bool,
}

impl Vxlan {
    /// A device on [`DEFAULT_PORT`] that does not learn.
    pub fn new(vni: u32, local: IpAddr) -> Self {
        Self { vni, port: DEFAULT_PORT, local, underlay: None, learning: false }
    }

    fn data(&self) -> InfoData {
        let mut data = vec![InfoVxlan::Id(self.vni), local(self.local)];
        data.extend(self.underlay.map(InfoVxlan::Link));
        data.extend([InfoVxlan::Learning(self.learning), InfoVxlan::Port(self.port)]);
        InfoData::Vxlan(data)
    }
}

fn local(address: IpAddr) -> InfoVxlan {
    match address {
        IpAddr::V4(address) => InfoVxlan::Local(address),
        IpAddr::V6(address) => InfoVxlan::Local6(address),
    }
}

/// What the kernel says of a VXLAN device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Details {
    /// The VXLAN network identifier; 0 in external mode.
    pub vni: u32,
    /// The UDP port.
    pub port: u16,
    /// The address that it sends from; `None`: the kernel chooses.
    pub local: Option<IpAddr>,
    /// The link that it sends by, by index; `None`: as the routes say.
    pub underlay: Option<u32>,
    /// Whether it makes forwarding entries of what it receives.
    pub learning: bool,
    /// Whether it takes every identifier on its port, and is told with each packet where to send it (collect metadata, "external"
    /// mode), as Cilium's and Open vSwitch's do.
    pub external: bool,
}

impl Details {
    pub(super) fn read(data: &[u8]) -> Self {
        let on = |wanted| flag(data, wanted).unwrap_or(false);
        let (learning, external) = (on(LEARNING), on(COLLECT_METADATA));
        let mut details = Self { learning, external, ..Self::default() };
        for (kind, value) in attributes(data) {
            match kind {
                ID => details.vni = parse_u32(value).unwrap_or_default(),
                LINK => details.underlay = parse_u32(value).ok().filter(|index| *index != 0),
                LOCAL | LOCAL6 => details.local = parse_ip(value).ok(),
                PORT => details.port = parse_u16_be(value).unwrap_or_default(),
                _ => {}
            }
        }
        details
    }

    /// Whether a device with that identifier on that port cannot be beside this one.
    fn excludes(&self, vni: u32, port: u16) -> bool {
        self.port == port && (self.external || self.vni == vni)
    }
}

/// What can be changed of a VXLAN device while it is in use; `None`: as it is.
///
/// Tried on kernel 6.18: the local address (of the same family), the underlay link and learning. The kernel refuses another
/// identifier, port and family; for those the device has to be made anew.
/// Packets come from the new address at once, those to nodes that were sent to before included: each forwarding entry remembers the way
/// to its node. Over IPv4 the kernel makes it forget when the device changes; over IPv6 it does not, so [`Netlink::change_vxlan`]
/// makes the permanent entries anew. Entries that were learned keep the old way until they grow old.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    /// The address to send from.
    pub local: Option<IpAddr>,
    /// The link to send by, by index.
    pub underlay: Option<u32>,
    /// Whether it makes forwarding entries of what it receives.
    pub learning: Option<bool>,
}

impl Netlink {
    /// Makes a VXLAN device; it is down. Another one that is in the way is named in [`NetlinkError::VxlanTaken`].
    ///
    /// The UDP port is opened when the device is set up ([`Netlink::set_up`]), not before.
    pub fn add_vxlan(&mut self, link: &NewLink<'_>, vxlan: &Vxlan) -> Result<()> {
        let kind = InfoKind::Vxlan;
        let made = self.add_link(link, None, kind, Some(vxlan.data()));
        made.map_err(|error| {
            self.name_owner(error, (vxlan.vni, vxlan.port, Some(vxlan.local)), None)
        })
    }

    /// Changes a VXLAN device in place; it keeps its forwarding entries, and routes that go by it. See [`Changes`] for what can be
    /// changed.
    ///
    /// Over IPv6 each permanent forwarding entry is deleted and made again, which takes some microseconds. After an error do the same
    /// change again: it renews the entries whether or not anything else differs. Entries that were missing then are the caller's
    /// to compare.
    pub fn change_vxlan(&mut self, index: u32, changes: &Changes) -> Result<()> {
        let mut data: Vec<_> = changes.local.map(local).into_iter().collect();
        data.extend(changes.underlay.map(InfoVxlan::Link));
        data.extend(changes.learning.map(InfoVxlan::Learning));
        let mut message = about(index);
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vxlan),
            LinkInfo::Data(InfoData::Vxlan(data)),
        ]));
        self.alter(index, "change vxlan", RouteNetlinkMessage::NewLink(message))?;
        if changes.local.is_none() && changes.underlay.is_none() {
            return Ok(());
        }
        let own = self.link_by_index(index)?.and_then(|link| link.vxlan?.local);
        if own.is_some_and(|local| local.is_ipv6()) { self.renew_fdb(index) } else { Ok(()) }
    }

    /// Makes the permanent forwarding entries of a device anew, so that they forget the way to their nodes. (To replace one by itself
    /// changes nothing.)
    fn renew_fdb(&mut self, index: u32) -> Result<()> {
        let mut entries = self.fdb(index)?;
        entries.retain(|entry| entry.permanent && entry.remote.is_some());
        let changes = entries.into_iter().map(Object::Fdb).flat_map(|entry| {
            // The all-zero address may have several nodes, so the others must stay.
            [Change::delete(entry.clone()), Change::append(entry)]
        });
        let outcome = self.apply(changes)?;
        // Gone meanwhile is as good; made meanwhile by somebody else is new.
        let bad = |error: &NetlinkError| !error.is_not_found() && !error.is_exists();
        match outcome.refused.into_iter().map(|refused| refused.error).find(bad) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Says of a link that could not be set up who has its port, if it is a VXLAN device.
    pub(super) fn explain_port(&mut self, error: NetlinkError, index: u32) -> NetlinkError {
        let own = self.link_by_index(index).ok().flatten().and_then(|link| link.vxlan);
        match own {
            Some(own) => self.name_owner(error, (own.vni, own.port, own.local), Some(index)),
            None => error,
        }
    }

    /// Turns the kernel's "exists" or "in use" into an error that names what is in the way. `own`: the link itself, by index.
    fn name_owner(
        &mut self,
        error: NetlinkError,
        (vni, port, local): (u32, u16, Option<IpAddr>),
        own: Option<u32>,
    ) -> NetlinkError {
        let NetlinkError::Refused { action, errno, text } = error else { return error };
        let in_use = errno == libc::EADDRINUSE;
        // Only the text tells a taken identifier from a taken name.
        let about_vni = text.as_deref().is_some_and(|text| text.contains("VNI"));
        let links = if in_use || errno == libc::EEXIST { self.links() } else { Ok(Vec::new()) };
        let excludes = |other: Details| other.excludes(vni, port) || (in_use && other.port == port);
        let others = links
            .unwrap_or_default()
            .into_iter()
            .filter(|link| Some(link.index) != own && link.vxlan.is_some_and(excludes));
        // Those over IPv4 and over IPv6 have identifiers of their own. Of a device without an address that is not known.
        let of_other_family = |link: &Link| {
            let theirs = link.vxlan.and_then(|other| other.local);
            theirs.zip(local).is_some_and(|(one, other)| one.is_ipv4() != other.is_ipv4())
        };
        let owner = others.into_iter().find(|link| !of_other_family(link));
        let taken_name = errno == libc::EEXIST && !about_vni && text.is_some();
        match owner.as_ref().map(describe).or_else(|| unseen(in_use, about_vni)) {
            Some(owner) if !taken_name => {
                NetlinkError::VxlanTaken { action, errno, vni, port, owner }
            }
            _ => NetlinkError::Refused { action, errno, text },
        }
    }
}

fn describe(link: &Link) -> String {
    let external = link.vxlan.is_some_and(|vxlan| vxlan.external);
    let mode = if external { ", in external mode, which takes every VNI of the port" } else { "" };
    format!("it belongs to the VXLAN device {} (link {}{mode})", link.name, link.index)
}

/// The owner is none of this namespace's links.
fn unseen(in_use: bool, about_vni: bool) -> Option<String> {
    if in_use {
        return Some("a program has opened the port (`ss -ulnp` shows which)".into());
    }
    about_vni.then(|| {
        "it belongs to a VXLAN device that was made here and is now in another network namespace".into()
    })
}

#[cfg(test)]
mod tests;
