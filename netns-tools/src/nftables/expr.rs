//! Expressions: the instructions that rules are made of, as the kernel has them.
//!
//! An expression reads or writes registers; the first that does not match ends its rule. On the wire each is
//! `NFTA_LIST_ELEM { NFTA_EXPR_NAME, NFTA_EXPR_DATA { … } }`; the attributes in the braces are named with each variant.
//! [`super::Rule`] puts them together.

mod decode;
mod encode;

use std::time::Duration;

use super::object::{Family, Verdict};
use super::value::Value;

/// A register (`enum nft_registers`): four of 16 bytes, which can also be used as sixteen words of four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reg(pub(super) u32);

impl Reg {
    /// The register of the verdict, `NFT_REG_VERDICT`: what a map writes there is done.
    pub const VERDICT: Self = Self(0);
    /// The first register, `NFT_REG_1`.
    pub const ONE: Self = Self(1);
    /// The second register, `NFT_REG_2`.
    pub const TWO: Self = Self(2);

    /// The register that begins with word `number`, 0 to 15.
    pub const fn word(number: u32) -> Self {
        // As the kernel tells it: NFT_REG_1.. where one begins, else NFT_REG32_00 + number.
        if number.is_multiple_of(4) { Self(1 + number / 4) } else { Self(8 + number) }
    }

    /// Which word it begins with, 0 to 15. `None`: it is the verdict's register.
    pub const fn first_word(self) -> Option<u32> {
        match self.0 {
            0 => None,
            number @ 1..=4 => Some(4 * (number - 1)),
            number => Some(number - 8),
        }
    }
}

/// Declares a number with names: the kernel may have more of them than we.
macro_rules! named_numbers {
    ($(#[$doc:meta])* $type:ident { $($(#[$item:meta])* $name:ident = $value:expr),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $type(pub u32);
        #[expect(missing_docs, reason = "the kernel's names")]
        impl $type { $($(#[$item])* pub const $name: Self = Self($value);)+ }
    };
}

named_numbers! {
    /// What `meta` tells of a packet (`enum nft_meta_keys`).
    Meta {
        PROTOCOL = 1, PRIORITY = 2, MARK = 3, IIF = 4, OIF = 5, IIFNAME = 6, OIFNAME = 7, IIFTYPE = 8, SKUID = 10,
        NFPROTO = 15, L4PROTO = 16, BRI_IIFNAME = 17, BRI_OIFNAME = 18, PKTTYPE = 19,
    }
}
named_numbers! {
    /// What `ct` tells of a connection (`enum nft_ct_keys`).
    Ct {
        STATE = 0, DIRECTION = 1, STATUS = 2, MARK = 3, PROTOCOL = 10, PROTO_SRC = 11, PROTO_DST = 12,
        ZONE = 17, SRC_IP = 19, DST_IP = 20, SRC_IP6 = 21, DST_IP6 = 22,
    }
}
named_numbers! {
    /// Comparisons (`enum nft_cmp_ops`).
    Op { EQ = 0, NE = 1, LT = 2, LE = 3, GT = 4, GE = 5 }
}
named_numbers! {
    /// From where in a packet `payload` reads (`enum nft_payload_bases`).
    Header { LINK = 0, NETWORK = 1, TRANSPORT = 2 }
}
named_numbers! {
    /// What the routing table is asked (`enum nft_fib_result`).
    FibResult { OIF = 1, OIFNAME = 2, ADDRTYPE = 3 }
}
named_numbers! {
    /// With what the routing table is asked (`enum nft_fib_flags`); combined with `|`.
    FibFlags { SADDR = 1, DADDR = 2, MARK = 4, IIF = 8, OIF = 16 }
}
named_numbers! {
    /// How addresses and ports are chosen (`NF_NAT_RANGE_*` in `linux/netfilter/nf_nat.h`); combined with `|`.
    NatFlags {
        NONE = 0,
        /// A random port.
        RANDOM = 4,
        /// The same address for the same client.
        PERSISTENT = 8,
        /// A port from the kernel's random number generator.
        FULLY_RANDOM = 16,
    }
}

macro_rules! combined {
    ($($type:ident),+) => { $(
        impl std::ops::BitOr for $type {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }
    )+ };
}
combined!(FibFlags, NatFlags);
named_numbers! {
    /// What a rule does to a set (`enum nft_dynset_ops`).
    ///
    /// `ADD`: adds the element, unless it is there. `UPDATE`: the same, and the time of one that is there begins anew; what a
    /// map holds for it stays. A set that is full ends the rule with either. `DELETE`: one that is not there is no matter.
    DynsetOp { ADD = 0, UPDATE = 1, DELETE = 2 }
}

/// Which side is translated (`enum nft_nat_types`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the sides need no explanation")]
pub enum NatKind {
    Source = 0,
    Destination = 1,
}

/// A register, or a range from one register to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegRange {
    /// The only value, or the smallest.
    pub from: Reg,
    /// The largest.
    pub to: Option<Reg>,
}

impl From<Reg> for RegRange {
    fn from(from: Reg) -> Self {
        Self { from, to: None }
    }
}

/// How a packet is refused (`enum nft_reject_types`, `enum nft_reject_inet_code`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// An ICMP (or `ICMPv6`) "destination unreachable" of this code of its own family.
    Icmp(u8),
    /// A TCP reset; only for TCP.
    TcpReset,
    /// "Port unreachable" in the packet's family.
    PortUnreachable,
    /// "No route" in the packet's family.
    NoRoute,
    /// "Host unreachable" in the packet's family.
    HostUnreachable,
    /// "Administratively prohibited" in the packet's family.
    AdminProhibited,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// `meta`: `NFTA_META_DREG`, `NFTA_META_KEY`.
    Meta {
        /// Where to.
        dreg: Reg,
        /// What.
        key: Meta,
    },
    /// `meta`, to set: `NFTA_META_KEY`, `NFTA_META_SREG`.
    MetaSet {
        /// What.
        key: Meta,
        /// From where.
        sreg: Reg,
    },
    /// `payload`: `NFTA_PAYLOAD_DREG`, `_BASE`, `_OFFSET`, `_LEN`.
    Payload {
        /// Where to.
        dreg: Reg,
        /// Which header.
        base: Header,
        /// The first byte of it.
        offset: u32,
        /// How many bytes.
        len: u32,
    },
    /// `cmp`: `NFTA_CMP_SREG`, `NFTA_CMP_OP`, `NFTA_CMP_DATA`.
    Cmp {
        /// What to compare.
        sreg: Reg,
        /// How.
        op: Op,
        /// With what.
        value: Value,
    },
    /// `range`: `NFTA_RANGE_SREG`, `_OP`, `_FROM_DATA`, `_TO_DATA`.
    Range {
        /// What to compare.
        sreg: Reg,
        /// [`Op::EQ`]: must be within; [`Op::NE`]: must not.
        op: Op,
        /// The smallest.
        from: Value,
        /// The largest.
        to: Value,
    },
    /// `bitwise`: `dreg = (sreg & mask) ^ xor`. `NFTA_BITWISE_SREG`, `_DREG`, `_LEN`, `_MASK`, `_XOR`.
    Bitwise {
        /// From where.
        sreg: Reg,
        /// Where to.
        dreg: Reg,
        /// As long as `xor`.
        mask: Value,
        /// As long as `mask`.
        xor: Value,
    },
    /// `lookup`: `NFTA_LOOKUP_SET`, `_SREG`, `_DREG`, `_FLAGS`.
    Lookup {
        /// The set or map.
        set: Box<str>,
        /// The key.
        sreg: Reg,
        /// Where a map's data goes. The verdict register: the map decides.
        dreg: Option<Reg>,
        /// Must not be in the set.
        invert: bool,
    },
    /// `immediate`: `NFTA_IMMEDIATE_DREG`, `NFTA_IMMEDIATE_DATA { NFTA_DATA_VALUE }`.
    Immediate {
        /// Where to.
        dreg: Reg,
        /// What.
        value: Value,
    },
    /// `immediate` to the verdict register: `NFTA_IMMEDIATE_DATA { NFTA_DATA_VERDICT }`.
    Verdict(Verdict),
    /// `nat`: `NFTA_NAT_TYPE`, `_FAMILY`, `_REG_ADDR_MIN`, `_REG_ADDR_MAX`, `_REG_PROTO_MIN`, `_REG_PROTO_MAX`, `_FLAGS`.
    Nat {
        /// Which side.
        kind: NatKind,
        /// [`Family::Ip`] or [`Family::Ip6`].
        family: Family,
        /// The address or addresses.
        addr: Option<RegRange>,
        /// The port or ports.
        port: Option<RegRange>,
        /// How to choose.
        flags: NatFlags,
    },
    /// `masq`: `NFTA_MASQ_FLAGS`, `NFTA_MASQ_REG_PROTO_MIN`, `_MAX`.
    Masquerade {
        /// The port or ports.
        port: Option<RegRange>,
        /// How to choose.
        flags: NatFlags,
    },
    /// `redir`: `NFTA_REDIR_REG_PROTO_MIN`, `_MAX`, `NFTA_REDIR_FLAGS`.
    Redirect {
        /// The port or ports of this host.
        port: Option<RegRange>,
        /// How to choose.
        flags: NatFlags,
    },
    /// `ct`: `NFTA_CT_DREG`, `NFTA_CT_KEY`, `NFTA_CT_DIRECTION`.
    Ct {
        /// Where to.
        dreg: Reg,
        /// What.
        key: Ct,
        /// 0: of the first packet, 1: of the reply; for addresses and ports.
        direction: Option<u8>,
    },
    /// `ct`, to set: `NFTA_CT_KEY`, `NFTA_CT_SREG`.
    CtSet {
        /// What.
        key: Ct,
        /// From where.
        sreg: Reg,
    },
    /// `fib`: `NFTA_FIB_DREG`, `NFTA_FIB_RESULT`, `NFTA_FIB_FLAGS`.
    Fib {
        /// Where to.
        dreg: Reg,
        /// What is asked.
        result: FibResult,
        /// With what.
        flags: FibFlags,
    },
    /// `numgen`: `NFTA_NG_DREG`, `_MODULUS`, `_TYPE`, `_OFFSET`. A number in host byte order.
    Numgen {
        /// Where to.
        dreg: Reg,
        /// It is less than this (before the offset is added).
        modulus: u32,
        /// Added to it.
        offset: u32,
        /// At random, else one after the other.
        random: bool,
    },
    /// `dynset`: `NFTA_DYNSET_SET_NAME`, `_OP`, `_SREG_KEY`, `_SREG_DATA`, `_TIMEOUT`. The set is [`super::Set::dynamic`].
    Dynset {
        /// The set or map.
        set: Box<str>,
        /// What is done.
        op: DynsetOp,
        /// The key.
        key: Reg,
        /// What a map is to hold for it.
        data: Option<Reg>,
        /// How long the element stays; the set's own time if not told.
        timeout: Option<Duration>,
    },
    /// `counter`: `NFTA_COUNTER_BYTES`, `NFTA_COUNTER_PACKETS`.
    Counter {
        /// So far.
        bytes: u64,
        /// So far.
        packets: u64,
    },
    /// `limit`: `NFTA_LIMIT_RATE`, `_UNIT`, `_BURST`, `_TYPE` (packets), `_FLAGS`.
    Limit {
        /// Packets …
        rate: u64,
        /// … in so many seconds.
        unit: u64,
        /// So many more at once.
        burst: u32,
        /// Matches what exceeds the limit, instead of what does not.
        over: bool,
    },
    /// `reject`: `NFTA_REJECT_TYPE`, `NFTA_REJECT_ICMP_CODE`.
    Reject(Reject),
    /// `notrack`: no connection tracking for this packet.
    Notrack,
    /// One of another kind, or of a form that we do not write. It can be compared, and written back as far as the kernel takes
    /// what it gives (`exthdr` it does not).
    Other {
        /// `NFTA_EXPR_NAME`.
        name: Box<str>,
        /// The content of `NFTA_EXPR_DATA`.
        data: Box<[u8]>,
    },
}
