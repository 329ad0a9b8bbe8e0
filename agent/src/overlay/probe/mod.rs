//! What arrives at other nodes, found out by asking them: small UDP echoes between the agents.
//!
//! Full-sized datagrams that must not be fragmented find a wire that carries less than its ends say, whoever filters ICMP in between. Small
//! ones find checksums that a device fills in wrongly inside of a tunnel: those with a complete checksum arrive, the others do not.
//!
//! | file | what |
//! | --- | --- |
//! | `datagram` | the bytes |
//! | `respond` | the end that answers |
//! | `round` | what to ask one node next: sizes, and what is wrong when nothing arrives |
//! | `schedule` | which node is next, and when |
//! | `checksum` | whether a device's checksum offload is switched off |
//! | `routers` | what routers say of too large packets: a round begins at once |
//! | `prober` | sockets and clock for these |
//! | `told` | what was found, in words |

mod bucket;
mod checksum;
mod datagram;
mod prober;
mod respond;
mod round;
mod routers;
mod schedule;
pub mod told;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

pub use self::checksum::{Command, Offload, Setting};
pub use self::prober::{Channels, Input, Switch, probe};
pub use self::respond::{Answering, respond};
use self::round::Flavour;
use self::routers::Said;
use super::plan::{OVERHEAD_IPV4, OVERHEAD_IPV6};

/// What is probed: a way to a node. One node has several, if it has several tunnels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The node's name.
    pub node: Arc<str>,
    /// Where the probes go.
    pub to: IpAddr,
}

/// How to probe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// This node's end, which thousands of ways share.
    pub end: Arc<End>,
    /// The port where the node answers ([`crate::overlay::node::Announcement::probe_port`]).
    pub port: u16,
    /// The other node on the underlay.
    pub remote: IpAddr,
}

/// This node's end of ways to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The address that probes come from: of the VXLAN device, or [`Self::local`].
    pub from: IpAddr,
    /// This node on the underlay.
    pub local: IpAddr,
    /// The VXLAN device; `None`: there is no tunnel around them.
    pub device: Option<Arc<str>>,
    /// The largest packet that pods send this way, in bytes.
    pub full: u32,
    /// The search for a smaller one ends here: 1280 where pods have IPv6 (RFC 8200), else 576 (RFC 791).
    pub floor: u32,
}

impl Target {
    /// What the tunnel takes of each packet, in bytes; 0 without one.
    pub fn overhead(&self) -> u32 {
        match (&self.end.device, self.remote) {
            (None, _) => 0,
            (Some(_), IpAddr::V4(_)) => OVERHEAD_IPV4,
            (Some(_), IpAddr::V6(_)) => OVERHEAD_IPV6,
        }
    }

    /// Whether it leads through the VXLAN device of that name.
    pub fn is_through(&self, device: &str) -> bool {
        self.end.device.as_deref() == Some(device)
    }

    /// Of what routers say: how large a packet of pods may be on this way.
    fn fits(&self, said: &Said) -> Option<u32> {
        let mtu = said.get(&(self.end.local, self.remote))?;
        Some(mtu.saturating_sub(self.overhead()))
    }

    fn destination(&self, key: &Key, flavour: Flavour) -> IpAddr {
        if flavour == Flavour::Outside { self.remote } else { key.to }
    }
}

/// What a round of probes found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Full-sized packets arrive.
    Arrives,
    /// Only packets of up to this many bytes do.
    ArrivesUpTo(u32),
    /// None do.
    Nothing(Cause),
}

/// Why nothing arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The node does not answer outside of the tunnel either.
    Silent,
    /// It answers outside of the tunnel.
    Tunnel,
    /// It answers what comes with a complete checksum.
    Checksum,
}

/// What is known of a way to a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// What the last round found; `None`: there was none yet.
    pub outcome: Option<Outcome>,
    /// No larger packets than this arrive, as far as is known: the route's MTU ([`crate::overlay::desired::Route::mtu`]). It outlives a time
    /// in which nothing arrives.
    pub mtu: Option<u32>,
    /// The size of full packets when it was found.
    pub full: u32,
}

/// What is known of all ways.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results {
    /// By way.
    pub ways: BTreeMap<Key, Known>,
    /// By VXLAN device.
    pub devices: BTreeMap<String, Offload>,
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = self.full;
        match self.outcome {
            None => f.write_str("not probed yet"),
            Some(Outcome::Arrives) => write!(f, "packets of {full} bytes arrive"),
            Some(Outcome::ArrivesUpTo(size)) => write!(
                f,
                "packets of up to {size} bytes arrive, of {full} do not: something on the way carries less than the links of the nodes say"
            ),
            Some(Outcome::Nothing(cause)) => cause.fmt(f),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "the node answers no probes: it is down, its agent is, or the UDP port of probes is filtered",
            Self::Tunnel => {
                "the node answers outside of the tunnel but not inside: is the tunnel's UDP port open in every firewall between the nodes?"
            }
            Self::Checksum => {
                "only packets with a complete checksum arrive: a network device fills in checksums wrongly inside of the tunnel"
            }
        })
    }
}

#[cfg(test)]
mod tests;
