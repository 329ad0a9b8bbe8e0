//! Which registers hold what, in all rules that choose an endpoint.
//!
//! ```text
//! client | service address, protocol, port | endpoint's address, port
//! ```
//! So what is looked up is always a part of this row: `services` by the middle, `backends` by the middle with the number of the
//! endpoint behind it, `clients` by the first two parts, `members` by the last two.

use netns_tools::iptables::Family;
use netns_tools::nftables::{DynsetOp, Expr, Header, Meta, NatFlags, NatKind, Reg, Value};
use std::time::Duration;

use super::layout::{self, SetName};

/// The registers of a family.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    family: Family,
    /// Words of an address.
    words: u32,
}

impl Registers {
    /// Of a family.
    pub const fn of(family: Family) -> Self {
        let words = match family {
            Family::V4 => 1,
            Family::V6 => 4,
        };
        Self { family, words }
    }

    /// The client's address.
    pub const fn client(self) -> Reg {
        Reg::word(0)
    }

    /// The service's address, before its protocol and port.
    pub const fn service(self) -> Reg {
        Reg::word(self.words)
    }

    const fn protocol(self) -> Reg {
        Reg::word(2 * self.words)
    }

    const fn port(self) -> Reg {
        Reg::word(2 * self.words + 1)
    }

    /// The number of an endpoint, then its address.
    pub const fn endpoint(self) -> Reg {
        Reg::word(2 * self.words + 2)
    }

    const fn endpoint_port(self) -> Reg {
        Reg::word(3 * self.words + 2)
    }

    const fn address(self, dreg: Reg, source: bool) -> Expr {
        let (offset, len) = match (self.family, source) {
            (Family::V4, true) => (12, 4),
            (Family::V4, false) => (16, 4),
            (Family::V6, true) => (8, 16),
            (Family::V6, false) => (24, 16),
        };
        Expr::Payload { dreg, base: Header::NETWORK, offset, len }
    }

    /// `saddr`, as the client.
    pub const fn load_client(self) -> Expr {
        self.address(self.client(), true)
    }

    /// `daddr . meta l4proto . th dport`, as the service.
    pub fn load_destination(self) -> [Expr; 3] {
        [
            self.address(self.service(), false),
            Expr::Meta { dreg: self.protocol(), key: Meta::L4PROTO },
            port_of_destination(self.port()),
        ]
    }

    /// `meta l4proto . th dport`, where the service will be.
    pub fn load_node_port(self) -> [Expr; 2] {
        let dport = match self.family {
            Family::V4 => self.protocol(),
            Family::V6 => Reg::word(self.words + 1),
        };
        [Expr::Meta { dreg: self.service(), key: Meta::L4PROTO }, port_of_destination(dport)]
    }

    /// `… map @set`: what is found goes to `to`.
    pub fn map(self, set: SetName, key: Reg, to: Reg) -> Expr {
        Expr::Lookup { set: set.name().into(), sreg: key, dreg: Some(to), invert: false }
    }

    /// `… @set`.
    pub fn is_in(self, set: SetName, key: Reg) -> Expr {
        Expr::Lookup { set: set.name().into(), sreg: key, dreg: None, invert: false }
    }

    /// `numgen random mod COUNT offset OFFSET`, as the number of an endpoint.
    pub const fn random(self, modulus: u32, offset: u32) -> Expr {
        Expr::Numgen { dreg: self.endpoint(), modulus, offset, random: true }
    }

    /// `update @clients { client . service : endpoint }` and the like.
    pub fn remember(self, op: DynsetOp, timeout: Option<Duration>) -> Expr {
        Expr::Dynset {
            set: SetName::Clients.name().into(),
            op,
            key: self.client(),
            data: (op != DynsetOp::DELETE).then(|| self.endpoint()),
            timeout,
        }
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
}

fn port_of_destination(dreg: Reg) -> Expr {
    Expr::Payload { dreg, base: Header::TRANSPORT, offset: 2, len: 2 }
}

/// What an interface's name begins with, to compare with the first bytes of `iifname`.
pub fn name_prefix(prefix: &str) -> Value {
    Value::interface(prefix).truncated(prefix.len().min(15))
}
