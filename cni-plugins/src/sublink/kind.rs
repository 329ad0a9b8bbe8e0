//! The kinds of links: what is special about each.

use std::fmt::Display;
use std::ops::RangeInclusive;

use netns_tools::{IpvlanMode, Macvlan, NetNs, Netlink, NetlinkError, NewLink, sysctl};

/// `ETH_MIN_MTU` and `ETH_MAX_MTU` of the kernel.
const ETHERNET_MTU: RangeInclusive<u32> = 68..=65535;

/// What to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A further MAC address on the master.
    Macvlan(Macvlan),
    /// Further IP addresses on the master.
    Ipvlan(IpvlanMode),
    /// The frames of the master with this tag.
    Vlan(u16),
    /// A link without anything behind it.
    Dummy,
}

impl Kind {
    /// Its name, which is also the plugin's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Macvlan(_) => "macvlan",
            Self::Ipvlan(_) => "ipvlan",
            Self::Vlan(_) => "vlan",
            Self::Dummy => "dummy",
        }
    }

    /// The kernel's limits for an MTU that is given.
    pub fn mtu_limits(self) -> RangeInclusive<u32> {
        match self {
            Self::Vlan(_) => 1..=*ETHERNET_MTU.end(),
            _ => ETHERNET_MTU,
        }
    }

    /// Whether it cannot have a larger MTU than its master. An ipvlan can, as in the reference.
    pub fn is_limited_by_master(self) -> bool {
        matches!(self, Self::Macvlan(_) | Self::Vlan(_))
    }

    /// Whether it can be set up only when its master is.
    pub fn needs_master_up(self) -> bool {
        matches!(self, Self::Vlan(_))
    }

    /// Makes it in the socket's namespace, or where `link` says.
    pub fn make(
        self,
        net: &mut Netlink,
        link: &NewLink<'_>,
        parent: Option<u32>,
    ) -> Result<(), NetlinkError> {
        // To the kernel 0 is no link.
        let parent = parent.unwrap_or(0);
        match self {
            Self::Macvlan(settings) => net.add_macvlan(link, parent, settings),
            Self::Ipvlan(mode) => net.add_ipvlan(link, parent, mode),
            Self::Vlan(id) => net.add_vlan(link, parent, id),
            Self::Dummy => net.add_dummy(link),
        }
    }

    /// Neighbours shall learn of it when it comes up: it may have the address of one that was here before. As in the
    /// reference, of the kinds that have a MAC address or IP addresses beside others on their master.
    pub fn announce(self, ns: &NetNs, ifname: &str) {
        if !matches!(self, Self::Macvlan(_) | Self::Ipvlan(_)) {
            return;
        }
        // They fail only on a kernel without the protocol, which then has no need for them.
        let _ = ns.visit(|| {
            let _ = sysctl::ensure(&format!("net/ipv4/conf/{ifname}/arp_notify"), "1");
            let _ = sysctl::ensure(&format!("net/ipv6/conf/{ifname}/ndisc_notify"), "1");
        });
    }

    /// How the settings of the link with this index differ from these.
    pub fn differences(self, net: &mut Netlink, index: u32) -> Result<Vec<String>, NetlinkError> {
        Ok(match self {
            Self::Macvlan(wanted) => {
                net.macvlan(index)?.map_or(Vec::new(), |found| macvlan(wanted, found))
            }
            Self::Ipvlan(wanted) => compare("ipvlan mode", wanted, net.ipvlan_mode(index)?),
            Self::Vlan(wanted) => compare("VLAN ID", wanted, net.vlan_id(index)?),
            Self::Dummy => Vec::new(),
        })
    }
}

fn macvlan(wanted: Macvlan, found: Macvlan) -> Vec<String> {
    let mut differences = compare("macvlan mode", wanted.mode, Some(found.mode));
    if let Some(length) = wanted.bc_queue_len {
        // A kernel before 5.11 knows no such length, and says none.
        differences.extend(compare("bcqueuelen", length, found.bc_queue_len));
    }
    differences
}

/// `found` is `None` where the kernel does not say.
fn compare<T: Display + PartialEq>(what: &str, wanted: T, found: Option<T>) -> Vec<String> {
    match found {
        Some(found) if found != wanted => vec![format!("{what} is {found}, not {wanted}")],
        _ => Vec::new(),
    }
}
