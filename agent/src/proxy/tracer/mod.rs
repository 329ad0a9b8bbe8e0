//! Where a new connection's first packet ends up, told from the rules alone: no kernel, no packet.
//!
//! The tracer walks generated rules of either mode as the kernel would, through the hooks in their order, and follows every
//! random branch. Rules that it does not understand are errors, never ignored: a verdict is only worth something if every rule
//! that the packet met was taken into account.
//!
//! | file | what |
//! | --- | --- |
//! | `packet` | the packet and what must be known of the host that it meets |
//! | `fate`, `choices` | what becomes of a packet, and the random choices on the way |
//! | `path` | the hooks in their order (kernel: `net/ipv4/ip_input.c`, `ip_forward.c`, `ip_output.c`) |
//! | `memory` | which clients were seen by which rule: session affinity |
//! | `iptables`, `nftables` | the rules of the two modes |
//! | `lint` | rules that lead nowhere or that nothing leads to |

mod choices;
mod fate;
pub mod iptables;
pub mod lint;
mod memory;
pub mod nftables;
mod packet;
mod path;

pub use fate::{Fate, Verdict};
pub use memory::{Memory, Seen};
pub use packet::{Arrival, Host, Interface, Packet};
pub use path::{Decision, Flight, Hooks, Path, trace};

/// Rules that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct TraceError {
    /// The chain, and the rule as far as it is known.
    pub place: String,
    /// What is not understood, or wrong.
    pub reason: String,
}

impl TraceError {
    fn new(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { place: place.into(), reason: reason.into() }
    }
}

/// Results of this module.
pub type Result<T> = std::result::Result<T, TraceError>;

#[cfg(test)]
mod tests;
