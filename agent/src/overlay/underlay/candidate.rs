//! Which links can be the underlay at all.

use std::fmt;

use ipnetwork::IpNetwork;
use netns_tools::route::SCOPE_LINK;
use netns_tools::{Address, Link};
use nix::libc::{IFA_F_DEPRECATED, IFA_F_SECONDARY};

use super::{Host, Wanted};

/// What the names of the overlay's own devices begin with; a number follows.
const OURS: [&str; 2] = ["heddle.", "heddle-v6."];

/// A link that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub link: String,
    /// Why not.
    pub refusal: Refusal,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.link, self.refusal)
    }
}

/// Why a link is not the underlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It leads to this host only.
    Loopback,
    /// It is the overlay's own.
    Ours,
    /// It is switched off.
    Down,
    /// It is a port of the link named, which has the addresses.
    Port(String),
    /// It has addresses of pods.
    Pods(IpNetwork),
    /// It has no address that can be used: none at all, only link-local ones, or ones that are still being checked.
    NoAddress,
    /// Nothing is wrong with it, but nothing points to it either.
    NotNamed,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback => f.write_str("it leads to this host only"),
            Self::Ours => f.write_str("it is the overlay's own"),
            Self::Down => f.write_str("it is down"),
            Self::Port(master) => write!(f, "it is a port of {master}"),
            Self::Pods(address) => write!(f, "it leads to pods, by its address {address}"),
            Self::NoAddress => f.write_str("it has no address that other nodes can reach"),
            Self::NotNamed => {
                f.write_str("it has neither an InternalIP of the Node nor the default route")
            }
        }
    }
}

/// Why a link cannot be the underlay, whatever is configured; `None`: it can.
pub(super) fn refusal(host: &Host, wanted: &Wanted<'_>, link: &Link) -> Option<Refusal> {
    let mut own = host.addresses.iter().filter(|address| address.index == link.index);
    if link.loopback {
        return Some(Refusal::Loopback);
    }
    if is_ours(&link.name) {
        return Some(Refusal::Ours);
    }
    if own.clone().any(|address| usable(address, wanted.pods)) {
        return (!link.up).then_some(Refusal::Down);
    }
    if let Some(address) = own.find(|address| is_of_pods(address, wanted.pods)) {
        return Some(Refusal::Pods(address.net));
    }
    if !link.up {
        return Some(Refusal::Down);
    }
    let master = link.master.and_then(|master| host.link(master));
    Some(master.map_or(Refusal::NoAddress, |master| Refusal::Port(master.name.clone())))
}

fn is_ours(name: &str) -> bool {
    let number = OURS.iter().find_map(|prefix| name.strip_prefix(prefix));
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_of_pods(address: &Address, pods: &[IpNetwork]) -> bool {
    pods.iter().any(|range| range.contains(address.net.ip()))
}

/// Whether other nodes can be expected to reach this address.
pub(super) fn usable(address: &Address, pods: &[IpNetwork]) -> bool {
    address.scope < SCOPE_LINK
        && !address.is_tentative()
        && !address.is_duplicate()
        && !address.net.ip().is_loopback()
        && !is_of_pods(address, pods)
}

/// Whether it is not the address that this host is known by: a further one of its network, or (IPv6) one that changes for privacy or is
/// about to go.
pub(super) fn is_passing(address: &Address) -> bool {
    // IFA_F_TEMPORARY of IPv6 is the same bit as IFA_F_SECONDARY
    address.flags & (IFA_F_SECONDARY | IFA_F_DEPRECATED) != 0
}
