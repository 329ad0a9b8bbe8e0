//! What the overlay takes of a Node object, and what nodes announce to each other.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netns_tools::MacAddr;

/// How packets travel to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Backend {
    /// Something else routes them, such as a cloud's own tables.
    None,
    /// In UDP (RFC 7348).
    Vxlan,
    /// As they are, where both nodes are on one link.
    HostGw,
    /// As they are on one link, in UDP elsewhere.
    Auto,
}

/// What a node says of its end of a tunnel, by the family of the underlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vtep {
    /// Where its packets are sent to.
    pub address: IpAddr,
    /// The Ethernet address of its VXLAN device.
    pub mac: MacAddr,
}

/// What a node announces in the annotations of its Node object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// How it sends, and expects to be sent to.
    pub backend: Backend,
    /// The VXLAN network identifier. Nodes of another one cannot be reached by VXLAN.
    pub vni: u32,
    /// The UDP port of its VXLAN device; `None`: as ours (flannel does not announce it).
    pub port: Option<u16>,
    /// Its ends of tunnels: at most one for each family of the underlay, IPv4 first. With [`Backend::HostGw`] there are none.
    pub vteps: Vec<Vtep>,
    /// Its addresses on the underlay, at most one of each family, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// The UDP port where it answers probes; `None`: it does not.
    pub probe_port: Option<u16>,
}

/// A node as the overlay knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// Its name.
    pub name: String,
    /// `metadata.uid`; empty in manifests.
    pub uid: String,
    /// `metadata.creationTimestamp` in seconds since 1970: of two that claim one range the older keeps it.
    pub created: Option<i64>,
    /// `spec.podCIDRs`: at most one of each family.
    pub pod_cidrs: Vec<IpNetwork>,
    /// `status.addresses` of type `InternalIP`.
    pub internal_ips: Vec<IpAddr>,
    /// What it announces; `None`: nothing yet.
    pub announced: Option<Announcement>,
}
