//! Links: list, look up, change, move and delete. How each kind is made is in a file of its own.
//!
//! Source: rtnetlink(7) and the kernel's `Documentation/netlink/specs/rt-link.yaml`.

pub mod attributes;
pub mod bridge;
pub mod checksum;
pub mod dummy;
pub mod ifb;
pub mod ipvlan;
pub mod macvlan;
pub mod new;
pub mod port_vlan;
pub mod tap;
pub mod veth;
pub mod vlan;
pub mod vrf;
pub mod vxlan;

use std::fmt;
use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{parse_i32, parse_string, parse_u16, parse_u32};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridgePort, InfoPortData, InfoPortKind, LinkAttribute, LinkExtentMask, LinkFlags,
    LinkHeader, LinkInfo, LinkMessage,
};
use serde::Serialize;

use crate::mac::MacAddr;
use crate::netlink::reply::{Malformed, attributes};
use crate::netlink::{Netlink, NetlinkError, Result, body};
use crate::netns::NetNs;

/// The longest link name, in bytes (IFNAMSIZ - 1).
pub const NAME_MAX: usize = 15;

/// `sizeof(struct ifinfomsg)`.
const HEADER_LEN: usize = 16;
/// `IFLA_BRPORT_MODE` (`linux/if_link.h`): the hairpin flag.
const BRPORT_MODE: u16 = 4;
/// `IFLA_BRPORT_ISOLATED` (`linux/if_link.h`).
const BRPORT_ISOLATED: u16 = 33;
/// `IFLA_BR_VLAN_FILTERING`, `IFLA_BR_VLAN_DEFAULT_PVID` (`linux/if_link.h`).
const BR_VLAN_FILTERING: u16 = 7;
const BR_VLAN_DEFAULT_PVID: u16 = 39;

/// A link's operational state (RFC 2863, `IF_OPER_*`), printed as `ip link` prints it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum OperState {
    /// The driver does not say; normal for `lo`.
    #[default]
    Unknown,
    /// A part is missing.
    NotPresent,
    /// No traffic passes.
    Down,
    /// The link below, or the other end of a veth pair, is down.
    LowerLayerDown,
    /// In a test mode.
    Testing,
    /// Waiting for something outside, such as authentication.
    Dormant,
    /// Traffic passes.
    Up,
}

impl From<u8> for OperState {
    fn from(state: u8) -> Self {
        match state {
            1 => Self::NotPresent,
            2 => Self::Down,
            3 => Self::LowerLayerDown,
            4 => Self::Testing,
            5 => Self::Dormant,
            6 => Self::Up,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for OperState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "UNKNOWN",
            Self::NotPresent => "NOTPRESENT",
            Self::Down => "DOWN",
            Self::LowerLayerDown => "LOWERLAYERDOWN",
            Self::Testing => "TESTING",
            Self::Dormant => "DORMANT",
            Self::Up => "UP",
        })
    }
}

/// A link as the kernel describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent flags, as the kernel has them")]
pub struct Link {
    /// Its number, unique in its namespace.
    pub index: u32,
    /// Its name, unique in its namespace.
    pub name: String,
    /// `veth`, `bridge`, …; `None` for `lo` and for hardware.
    pub kind: Option<String>,
    /// Its Ethernet address; `None` for links that have none, or another sort. `lo` has all zeros.
    pub mac: Option<MacAddr>,
    /// Maximum transmission unit, in bytes.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether traffic passes.
    pub oper_state: OperState,
    /// Whether its driver sees a carrier (`IFF_LOWER_UP`); `oper_state` follows a little later.
    pub carrier: bool,
    /// How often the carrier came or went: a cable that was out for a moment only is seen by it. 0: this kernel does not count.
    pub carrier_changes: u32,
    /// The bridge (or other master) whose port it is.
    pub master: Option<u32>,
    /// `IFLA_LINK`: the other end of a veth pair, the link below a macvlan (that of a VXLAN device is in `vxlan`). Counts in the namespace that
    /// `peer_netns_id` names.
    pub peer_index: Option<u32>,
    /// `IFLA_LINK_NETNSID`: the number by which this link's namespace knows the one that `peer_index` is in. `None`: the
    /// same. See [`Netlink::netns_id`].
    pub peer_netns_id: Option<i32>,
    /// Whether it was set to take in every frame (`ip link set promisc on`).
    pub promisc: bool,
    /// For a port of a bridge: whether frames may leave by the port they came in by.
    pub hairpin: Option<bool>,
    /// For a port of a bridge: whether it reaches only ports that are not isolated.
    pub isolated: Option<bool>,
    /// For a bridge: the VLAN that a new port is put into. `None`: this kernel's bridges cannot filter VLANs.
    pub default_pvid: Option<u16>,
    /// For a bridge: whether VLANs keep its ports apart.
    pub vlan_filtering: Option<bool>,
    /// A text that somebody gave it (`ip link set alias`).
    pub alias: Option<String>,
    /// Whether it is a loopback link.
    pub loopback: bool,
    /// Whether it was set to take in every multicast frame (`ip link set allmulticast on`).
    pub allmulti: bool,
    /// Length of its transmit queue, in packets.
    pub txqlen: u32,
    /// Of a tun or tap device: who may use it, and how.
    pub tun: Option<tap::Details>,
    /// Of a VRF: the routing table that its ports use.
    pub vrf_table: Option<u32>,
    /// Of a VXLAN device: its identifier, port and underlay.
    pub vxlan: Option<vxlan::Details>,
}

/// One attribute of a list as a switch; `None`: it is not there.
fn flag(list: &[u8], wanted: u16) -> Option<bool> {
    let value = attributes(list).find(|(kind, _)| *kind == wanted)?.1;
    Some(value.first().is_some_and(|flag| *flag != 0))
}

impl Link {
    /// Reads what follows the netlink header of an `RTM_NEWLINK`.
    fn read(bytes: &[u8]) -> std::result::Result<Self, Malformed> {
        let header = LinkHeader::parse(bytes).map_err(|e| Malformed(e.to_string()))?;
        let mut link = Self {
            index: header.index,
            up: header.flags.contains(LinkFlags::Up),
            carrier: header.flags.contains(LinkFlags::LowerUp),
            promisc: header.flags.contains(LinkFlags::Promisc),
            loopback: header.flags.contains(LinkFlags::Loopback),
            allmulti: header.flags.contains(LinkFlags::Allmulti),
            ..Self::default()
        };
        for (kind, value) in attributes(body(bytes, HEADER_LEN)?) {
            link.read_attribute(kind, value);
        }
        if link.name.is_empty() {
            return Err(Malformed(format!("link {} has no name", link.index)));
        }
        Ok(link)
    }

    fn read_attribute(&mut self, kind: u16, value: &[u8]) {
        // The kernel writes 0 for "none".
        let index = |value| parse_u32(value).ok().filter(|index| *index != 0);
        match kind {
            libc::IFLA_IFNAME => self.name = parse_string(value).unwrap_or_default(),
            libc::IFLA_MTU => self.mtu = parse_u32(value).unwrap_or_default(),
            libc::IFLA_ADDRESS => self.mac = <[u8; 6]>::try_from(value).ok().map(MacAddr),
            libc::IFLA_OPERSTATE => {
                self.oper_state = value.first().copied().unwrap_or_default().into();
            }
            libc::IFLA_CARRIER_CHANGES => {
                self.carrier_changes = parse_u32(value).unwrap_or_default();
            }
            libc::IFLA_MASTER => self.master = index(value),
            libc::IFLA_LINK => self.peer_index = index(value),
            libc::IFLA_LINK_NETNSID => self.peer_netns_id = parse_i32(value).ok(),
            libc::IFLA_IFALIAS => {
                self.alias = parse_string(value).ok().filter(|alias| !alias.is_empty());
            }
            libc::IFLA_TXQLEN => self.txqlen = parse_u32(value).unwrap_or_default(),
            libc::IFLA_LINKINFO => self.read_info(value),
            _ => {}
        }
    }

    fn read_info(&mut self, info: &[u8]) {
        let mut bridge_port = false;
        // The kernel writes each kind before its data.
        for (kind, value) in attributes(info) {
            match kind {
                libc::IFLA_INFO_KIND => self.kind = parse_string(value).ok(),
                libc::IFLA_INFO_DATA => self.read_data(value),
                libc::IFLA_INFO_SLAVE_KIND => {
                    bridge_port = parse_string(value).is_ok_and(|kind| kind == "bridge");
                }
                libc::IFLA_INFO_SLAVE_DATA if bridge_port => {
                    let port = |wanted| flag(value, wanted);
                    (self.hairpin, self.isolated) = (port(BRPORT_MODE), port(BRPORT_ISOLATED));
                }
                _ => {}
            }
        }
    }

    fn read_data(&mut self, data: &[u8]) {
        match self.kind.as_deref() {
            Some(vrf::KIND) => self.vrf_table = vrf::read_table(data),
            Some(vxlan::KIND) => self.vxlan = Some(vxlan::Details::read(data)),
            Some(tap::KIND) => self.tun = Some(tap::Details::read(data)),
            Some("bridge") => {
                let pvid = attributes(data).find(|(kind, _)| *kind == BR_VLAN_DEFAULT_PVID);
                self.default_pvid = pvid.and_then(|(_, value)| parse_u16(value).ok());
                self.vlan_filtering = flag(data, BR_VLAN_FILTERING);
            }
            _ => {}
        }
    }
}

/// Checks a link's name as the kernel does (`dev_valid_name` in net/core/dev.c).
///
/// `%` is refused as well: the kernel takes `veth%d` for a pattern and picks a name of its own.
pub fn check_name(name: &str) -> Result<()> {
    let reason = match name {
        "" => "it is empty",
        "." | ".." => "it names a directory",
        _ if name.len() > NAME_MAX => "it is longer than 15 bytes",
        _ if name.contains(['/', ':', '%']) => "it contains `/`, `:` or `%`",
        // C's isspace() on bytes also knows the vertical tab.
        _ if name.bytes().any(|b| b.is_ascii_whitespace() || b == 0x0b || b == 0) => {
            "it contains white space or a zero byte"
        }
        _ => return Ok(()),
    };
    Err(NetlinkError::InvalidName { name: name.into(), reason })
}

impl Netlink {
    /// Every link of the namespace, ordered by index.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let message = question(0);
        let mut links =
            self.list("list links", RouteNetlinkMessage::GetLink(message), |bytes| {
                Link::read(bytes).map(Some)
            })?;
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// The link named `name`, or `None`.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>> {
        check_name(name)?;
        let mut message = question(0);
        message.attributes.push(LinkAttribute::IfName(name.into()));
        self.one("look up link", name, RouteNetlinkMessage::GetLink(message), Link::read)
    }

    /// The link with this index, or `None`.
    pub fn link_by_index(&mut self, index: u32) -> Result<Option<Link>> {
        // To the kernel 0 means "no index given", which is an invalid request rather than a missing link.
        if index == 0 {
            return Ok(None);
        }
        let message = question(index);
        self.one("look up link", index, RouteNetlinkMessage::GetLink(message), Link::read)
    }

    /// Sets a link administratively up. A VXLAN device opens its UDP port then; what is in the way is named in
    /// [`NetlinkError::VxlanTaken`].
    pub fn set_up(&mut self, index: u32) -> Result<()> {
        let done = self.set_flag(index, "set up", LinkFlags::Up, true);
        done.map_err(|error| match error.errno() {
            Some(libc::EADDRINUSE) => self.explain_port(error, index),
            _ => error,
        })
    }

    /// Sets a link administratively down. Its routes go; its IPv6 addresses too, unless `keep_addr_on_down` is set.
    pub fn set_down(&mut self, index: u32) -> Result<()> {
        self.set_flag(index, "set down", LinkFlags::Up, false)
    }

    /// Sets whether a link takes in every frame.
    pub fn set_promisc(&mut self, index: u32, on: bool) -> Result<()> {
        self.set_flag(index, "set promiscuous mode of", LinkFlags::Promisc, on)
    }

    /// Sets a link's Ethernet address.
    pub fn set_mac(&mut self, index: u32, mac: MacAddr) -> Result<()> {
        self.set_attribute(
            index,
            &format!("set MAC {mac} of"),
            LinkAttribute::Address(mac.0.into()),
        )
    }

    /// Sets a link's maximum transmission unit, in bytes.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<()> {
        self.set_attribute(index, &format!("set MTU {mtu} of"), LinkAttribute::Mtu(mtu))
    }

    /// Makes a link a port of the bridge with index `master`, or of none.
    pub fn set_master(&mut self, index: u32, master: Option<u32>) -> Result<()> {
        let operation = match master {
            Some(master) => format!("set master {master} of"),
            None => "take off its master".into(),
        };
        self.set_attribute(index, &operation, LinkAttribute::Controller(master.unwrap_or(0)))
    }

    /// Makes a link a port of the bridge with index `master` and sets it up, in one request.
    pub fn set_up_on(&mut self, index: u32, master: u32) -> Result<()> {
        let mut message = about(index);
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = LinkFlags::Up;
        message.attributes.push(LinkAttribute::Controller(master));
        let operation = format!("set up, with master {master},");
        self.alter(index, &operation, RouteNetlinkMessage::SetLink(message))
    }

    /// Sets whether frames may leave a bridge by the port they came in by; `index` is the port's. A pod that reaches
    /// itself through a service address needs it.
    pub fn set_hairpin(&mut self, index: u32, on: bool) -> Result<()> {
        self.set_port(index, "set hairpin mode of", InfoBridgePort::HairpinMode(on))
    }

    /// Sets whether a bridge passes no frames between this port and others that are isolated, too; `index` is the port's.
    pub fn set_isolated(&mut self, index: u32, on: bool) -> Result<()> {
        self.set_port(index, "set isolation of", InfoBridgePort::Isolated(on))
    }

    fn set_port(&mut self, index: u32, operation: &str, option: InfoBridgePort) -> Result<()> {
        let mut message = about(index);
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![option])),
        ]));
        self.alter(index, operation, RouteNetlinkMessage::NewLink(message))
    }

    /// Gives a link another name. Older kernels want it down.
    pub fn rename(&mut self, index: u32, name: &str) -> Result<()> {
        check_name(name)?;
        self.set_attribute(index, &format!("rename to {name}"), LinkAttribute::IfName(name.into()))
    }

    /// Moves a link to another namespace. It loses its addresses and is down there, and may get another index.
    pub fn move_to(&mut self, index: u32, ns: &NetNs) -> Result<()> {
        self.set_attribute(
            index,
            &format!("move to network namespace {}", ns.path().display()),
            LinkAttribute::NetNsFd(ns.as_fd().as_raw_fd()),
        )
    }

    /// Deletes a link. Of a veth pair, the other end goes too.
    pub fn delete_link(&mut self, index: u32) -> Result<()> {
        self.alter(index, "delete", RouteNetlinkMessage::DelLink(about(index)))
    }

    fn set_flag(&mut self, index: u32, operation: &str, flag: LinkFlags, on: bool) -> Result<()> {
        let mut message = about(index);
        message.header.change_mask = flag;
        message.header.flags = if on { flag } else { LinkFlags::empty() };
        self.alter(index, operation, RouteNetlinkMessage::SetLink(message))
    }

    fn set_attribute(
        &mut self,
        index: u32,
        operation: &str,
        attribute: LinkAttribute,
    ) -> Result<()> {
        let mut message = about(index);
        message.attributes.push(attribute);
        self.alter(index, operation, RouteNetlinkMessage::SetLink(message))
    }

    fn alter(&mut self, index: u32, operation: &str, message: RouteNetlinkMessage) -> Result<()> {
        self.change(operation, format_args!("link {index}"), message, 0).map_err(|mut error| {
            // The caller knows the link by its index; a reader wants its name.
            if let NetlinkError::Refused { action, .. } = &mut error
                && let Ok(Some(link)) = self.link_by_index(index)
            {
                action.object = format!("link {} ({index})", link.name);
            }
            error
        })
    }
}

/// A request about the link `index`.
fn about(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

/// A request for the link `index`, or with 0 for every link, without their counters: those are most of an answer's bytes.
fn question(index: u32) -> LinkMessage {
    let mut message = about(index);
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    message
}

#[cfg(test)]
mod tests;
