//! Ipvlan: links that share their parent's Ethernet address and differ by their IP addresses
//! (`Documentation/networking/ipvlan.rst`).

use std::fmt;

use netlink_packet_core::parse_u16;
use netlink_packet_route::link::{InfoData, InfoIpVlan, InfoKind, IpVlanMode};

use super::new::NewLink;
use crate::netlink::reply::attributes;
use crate::netlink::{Netlink, Result};

/// `IFLA_IPVLAN_MODE` (`linux/if_link.h`).
const MODE: u16 = 1;

/// Where a packet is handled. All ipvlans of a parent have the same mode: making one sets that of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IpvlanMode {
    /// As by a switch.
    #[default]
    L2,
    /// As by a router in the parent's namespace; no broadcast, no multicast.
    L3,
    /// The same, and netfilter of the parent's namespace sees it.
    L3s,
    /// Another `IPVLAN_MODE_*`.
    Other(u16),
}

impl IpvlanMode {
    fn data(self) -> InfoData {
        InfoData::IpVlan(vec![InfoIpVlan::Mode(match self {
            Self::L2 => IpVlanMode::L2,
            Self::L3 => IpVlanMode::L3,
            Self::L3s => IpVlanMode::L3S,
            Self::Other(other) => IpVlanMode::Other(other),
        })])
    }

    fn read(data: &[u8]) -> Self {
        let mode = attributes(data).find(|(kind, _)| *kind == MODE);
        mode.and_then(|(_, value)| parse_u16(value).ok()).unwrap_or(u16::MAX).into()
    }
}

impl From<u16> for IpvlanMode {
    fn from(mode: u16) -> Self {
        match mode {
            0 => Self::L2,
            1 => Self::L3,
            2 => Self::L3s,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for IpvlanMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::L2 => f.write_str("l2"),
            Self::L3 => f.write_str("l3"),
            Self::L3s => f.write_str("l3s"),
            Self::Other(other) => write!(f, "{other}"),
        }
    }
}

impl Netlink {
    /// Makes an ipvlan on the link with index `parent` of the socket's namespace; it is down.
    pub fn add_ipvlan(&mut self, link: &NewLink<'_>, parent: u32, mode: IpvlanMode) -> Result<()> {
        self.add_link(link, Some(parent), InfoKind::IpVlan, Some(mode.data()))
    }

    /// The mode of an ipvlan; `None`: there is no link with this index, or it is something else.
    pub fn ipvlan_mode(&mut self, index: u32) -> Result<Option<IpvlanMode>> {
        self.kind_data(index, "ipvlan", IpvlanMode::read)
    }
}

#[cfg(test)]
mod tests {
    use super::super::new::tests::{bytes, expected, info, proven_here};
    use super::*;
    use crate::Veth;
    use crate::netlink::reply::tests::attribute;
    use crate::testing::TestNetns;

    const MODES: [(IpvlanMode, u16, &str); 3] =
        [(IpvlanMode::L2, 0, "l2"), (IpvlanMode::L3, 1, "l3"), (IpvlanMode::L3s, 2, "l3s")];

    #[test]
    fn messages() {
        for (mode, number, name) in MODES {
            let message = NewLink::new("x0").message(Some(7), InfoKind::IpVlan, Some(mode.data()));
            let data = [attribute(1, &number.to_ne_bytes())];
            let want =
                [attribute(3, b"x0\0"), attribute(5, &7u32.to_ne_bytes()), info("ipvlan", &data)];
            assert_eq!(bytes(&message), expected(&want), "{name}");
            assert_eq!(IpvlanMode::read(&data.concat()), mode);
            assert_eq!(mode.to_string(), name);
        }
        assert_eq!(IpvlanMode::read(&[]), IpvlanMode::Other(u16::MAX));
    }

    #[test]
    fn straight_into_another_namespace() {
        let (host, pod) = (TestNetns::new("ipvlan"), TestNetns::new("ipvlan"));
        if !proven_here(&host, "ipvlan") {
            return;
        }
        let mut net = host.netlink();
        net.add_veth(&Veth::new("up0", "far0")).unwrap();
        let parent = host.link("up0").index;
        for (mode, _, name) in MODES {
            let new = NewLink { ns: Some(pod.ns()), mtu: Some(1400), ..NewLink::new("x0") };
            net.add_ipvlan(&new, parent, mode).unwrap();
            let made = pod.link("x0");
            assert_eq!((made.kind.as_deref(), made.mtu), (Some("ipvlan"), 1400));
            assert_eq!((made.peer_index, made.mac), (Some(parent), host.link("up0").mac));
            assert_eq!(pod.netlink().ipvlan_mode(made.index).unwrap(), Some(mode));
            let ip = &pod.json(&["ip", "-j", "-d", "link", "show", "x0"])[0]["linkinfo"];
            assert_eq!(ip["info_data"]["mode"], name);
            pod.netlink().delete_link(made.index).unwrap();
        }
        assert_eq!(net.ipvlan_mode(parent).unwrap(), None);
    }
}
