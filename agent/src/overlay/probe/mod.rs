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
    /// This node's address that they come from: of the VXLAN device, or on the underlay.
    pub from: IpAddr,
    /// The port where the node answers ([`crate::overlay::node::Announcement::probe_port`]).
    pub port: u16,
    /// The largest packet that pods send this way, in bytes.
    pub full: u32,
    /// The search for a smaller one ends here: 1280 where pods have IPv6 (RFC 8200), else 576 (RFC 791).
    pub floor: u32,
    /// What is around them, if that is a tunnel.
    pub tunnel: Option<Tunnel>,
}

/// The tunnel that probes travel in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// This node's VXLAN device.
    pub device: Arc<str>,
    /// The other node on the underlay.
    pub remote: IpAddr,
    /// This node on the underlay.
    pub local: IpAddr,
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
