//! Which registers hold what, in all rules that choose an endpoint.
//!
//! ```text
//! service address, protocol, port | endpoint's address, port
//!                 protocol, port  | endpoint's address, port     by a node port
//! ```
//! So what is looked up is always a part of this row: `services` by the first half, `backends` by that with the number of the
//! endpoint behind it.

use netns_tools::iptables::Family;
use netns_tools::nftables::{Expr, Header, Meta, NatFlags, NatKind, Reg, Value};

use super::layout::{self, SetName};

/// By what the service of a packet is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// By address, protocol and port.
    Address,
    /// By protocol and port, at an address of this node.
    NodePort,
}

/// The registers of a family.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    family: Family,
    source: Source,
    /// Words of an address.
    words: u32,
}

impl Registers {
    /// Of a family.
    pub const fn of(family: Family, source: Source) -> Self {
        let words = match family {
            Family::V4 => 1,
            Family::V6 => 4,
        };
        Self { family, source, words }
    }

    /// The service's address, protocol and port, or its protocol and node port.
    const SERVICE: Reg = Reg::ONE;

    const fn protocol(self) -> u32 {
        match self.source {
            Source::Address => self.words,
            Source::NodePort => 0,
        }
    }

    /// The number of an endpoint, then its address.
    const fn endpoint(self) -> Reg {
        Reg::word(self.protocol() + 2)
    }

    const fn endpoint_port(self) -> Reg {
        Reg::word(self.protocol() + 2 + self.words)
    }

    const fn address(self, dreg: Reg) -> Expr {
        let (offset, len) = match self.family {
            Family::V4 => (16, 4),
            Family::V6 => (24, 16),
        };
        Expr::Payload { dreg, base: Header::NETWORK, offset, len }
    }

    /// `daddr . meta l4proto . th dport`, or without the address.
    pub fn load_service(self) -> Vec<Expr> {
        let (protocol, port) = (Reg::word(self.protocol()), Reg::word(self.protocol() + 1));
        let address = self.address(Self::SERVICE);
        let address = (self.source == Source::Address).then_some(address);
        let rest = [
            Expr::Meta { dreg: protocol, key: Meta::L4PROTO },
            Expr::Payload { dreg: port, base: Header::TRANSPORT, offset: 2, len: 2 },
        ];
        address.into_iter().chain(rest).collect()
    }

    /// `numgen random mod MODULUS offset OFFSET`, as the number of an endpoint.
    pub const fn random(self, modulus: u32, offset: u32) -> Expr {
        Expr::Numgen { dreg: self.endpoint(), modulus, offset, random: true }
    }

    fn map(set: SetName, key: Reg, to: Reg) -> Expr {
        Expr::Lookup { set: set.name().into(), sreg: key, dreg: Some(to), invert: false }
    }

    /// The endpoint of the number.
    pub fn backend(self) -> Expr {
        let set = match self.source {
            Source::Address => SetName::Backends,
            Source::NodePort => SetName::NodePortBackends,
        };
        Self::map(set, Self::SERVICE, self.endpoint())
    }

    /// `dnat to ENDPOINT`.
    pub fn dnat(self) -> Expr {
        Expr::Nat {
            kind: NatKind::Destination,
            family: layout::packets(self.family),
            addr: Some(self.endpoint().into()),
            port: Some(self.endpoint_port().into()),
            flags: NatFlags::NONE,
        }
    }

    /// Goes where the service's address, or the node port, leads.
    pub fn follow_route(self) -> Expr {
        let set = match self.source {
            Source::Address => SetName::Services,
            Source::NodePort => SetName::NodePorts,
        };
        Self::map(set, Self::SERVICE, Reg::VERDICT)
    }
}

/// What an interface's name begins with, to compare with the first bytes of `iifname`.
pub fn name_prefix(prefix: &str) -> Value {
    Value::interface(prefix).truncated(prefix.len().min(15))
}
