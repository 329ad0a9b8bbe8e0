//! What must hold in the kernel of this node: plain data, made by the plan and compared with the kernel.

use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use netns_tools::MacAddr;

/// One VXLAN device; one for each family of the underlay that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// `heddle.1`, or `heddle-v6.1` over IPv6.
    pub name: String,
    /// The VXLAN network identifier.
    pub vni: u32,
    /// The UDP port.
    pub port: u16,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// The underlay's address that it sends from.
    pub local: IpAddr,
    /// The underlay's link, by index.
    pub underlay: u32,
    /// In bytes.
    pub mtu: u32,
    /// Its own addresses (the first of this node's pod CIDRs, with all bits of the prefix), from which this node speaks to remote pods.
    pub addresses: Vec<IpNetwork>,
}

/// The way to the pods of another node, by one of its pod CIDRs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Through a VXLAN device: a route over the gateway, its neighbour entry, and the entry of the forwarding database.
    Tunnel {
        /// The name of the device.
        device: Arc<str>,
        /// The first address of the remote pod CIDR.
        gateway: IpAddr,
        /// The remote device's Ethernet address.
        mac: MacAddr,
        /// The remote node on the underlay.
        remote: IpAddr,
    },
    /// By the remote node itself as the gateway.
    Direct {
        /// Its address on the link.
        gateway: IpAddr,
        /// The underlay's link, by index.
        link: u32,
        /// The address that packets of this host itself get: the one that it announces, by which its peers know it as a node.
        source: IpAddr,
    },
}

/// A remote pod CIDR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub destination: IpNetwork,
    /// How.
    pub way: Way,
    /// Of this size packets are known to arrive, where it is less than the link's; `None`: not known to be less.
    pub mtu: Option<u32>,
}

/// All of it. What is not in here and is the overlay's own (by the devices' names, and by the routes' protocol number) goes, unless there
/// may be more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// By family of the underlay.
    pub devices: Vec<Device>,
    /// By destination, each once.
    pub routes: Vec<Route>,
    /// There may be more nodes than these are for: routes to other destinations stay, with their neighbours and forwarding entries.
    pub partial: bool,
}

/// One step from one [`Desired`] to the next, where the devices stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The way to its destination is this one now.
    Put(Route),
    /// There is no way to this destination any more.
    Gone(IpNetwork),
}

impl Change {
    /// What it is about.
    pub fn destination(&self) -> IpNetwork {
        match self {
            Self::Put(route) => route.destination,
            Self::Gone(destination) => *destination,
        }
    }
}
