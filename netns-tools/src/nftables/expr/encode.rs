//! Expressions to bytes.

use super::super::buffer::Buffer;
use super::super::set::milliseconds;
use super::super::uapi::{
    NFT_LIMIT_F_INV, NFT_LOOKUP_F_INV, NFTA_BITWISE_DREG, NFTA_BITWISE_LEN, NFTA_BITWISE_MASK,
    NFTA_BITWISE_SREG, NFTA_BITWISE_XOR, NFTA_CMP_DATA, NFTA_CMP_OP, NFTA_CMP_SREG,
    NFTA_COUNTER_BYTES, NFTA_COUNTER_PACKETS, NFTA_CT_DIRECTION, NFTA_CT_DREG, NFTA_CT_KEY,
    NFTA_CT_SREG, NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_DYNSET_OP, NFTA_DYNSET_SET_NAME,
    NFTA_DYNSET_SREG_DATA, NFTA_DYNSET_SREG_KEY, NFTA_DYNSET_TIMEOUT, NFTA_EXPR_DATA,
    NFTA_EXPR_NAME, NFTA_FIB_DREG, NFTA_FIB_FLAGS, NFTA_FIB_RESULT, NFTA_IMMEDIATE_DATA,
    NFTA_IMMEDIATE_DREG, NFTA_LIMIT_BURST, NFTA_LIMIT_FLAGS, NFTA_LIMIT_RATE, NFTA_LIMIT_TYPE,
    NFTA_LIMIT_UNIT, NFTA_LIST_ELEM, NFTA_LOOKUP_DREG, NFTA_LOOKUP_FLAGS, NFTA_LOOKUP_SET,
    NFTA_LOOKUP_SREG, NFTA_MASQ_FLAGS, NFTA_MASQ_REG_PROTO_MAX, NFTA_MASQ_REG_PROTO_MIN,
    NFTA_META_DREG, NFTA_META_KEY, NFTA_META_SREG, NFTA_NAT_FAMILY, NFTA_NAT_FLAGS,
    NFTA_NAT_REG_ADDR_MAX, NFTA_NAT_REG_ADDR_MIN, NFTA_NAT_REG_PROTO_MAX, NFTA_NAT_REG_PROTO_MIN,
    NFTA_NAT_TYPE, NFTA_NG_DREG, NFTA_NG_MODULUS, NFTA_NG_OFFSET, NFTA_NG_TYPE, NFTA_PAYLOAD_BASE,
    NFTA_PAYLOAD_DREG, NFTA_PAYLOAD_LEN, NFTA_PAYLOAD_OFFSET, NFTA_RANGE_FROM_DATA, NFTA_RANGE_OP,
    NFTA_RANGE_SREG, NFTA_RANGE_TO_DATA, NFTA_REDIR_FLAGS, NFTA_REDIR_REG_PROTO_MAX,
    NFTA_REDIR_REG_PROTO_MIN, NFTA_REJECT_ICMP_CODE, NFTA_REJECT_TYPE,
};
use super::super::value::Value;
use super::{Expr, NatFlags, Reg, RegRange, Reject};
use crate::nftables::NatKind;

impl Expr {
    /// Writes one `NFTA_LIST_ELEM`.
    pub(in crate::nftables) fn encode(&self, to: &mut Buffer) {
        to.nested(NFTA_LIST_ELEM, |to| {
            to.word(NFTA_EXPR_NAME, self.name());
            // `notrack` has no attributes, and no NFTA_EXPR_DATA.
            if !matches!(self, Self::Notrack) {
                to.nested(NFTA_EXPR_DATA, |to| self.encode_data(to));
            }
        });
    }

    /// `NFTA_EXPR_NAME`.
    pub fn name(&self) -> &str {
        match self {
            Self::Meta { .. } | Self::MetaSet { .. } => "meta",
            Self::Payload { .. } => "payload",
            Self::Cmp { .. } => "cmp",
            Self::Range { .. } => "range",
            Self::Bitwise { .. } => "bitwise",
            Self::Lookup { .. } => "lookup",
            Self::Immediate { .. } | Self::Verdict(_) => "immediate",
            Self::Nat { .. } => "nat",
            Self::Masquerade { .. } => "masq",
            Self::Redirect { .. } => "redir",
            Self::Ct { .. } | Self::CtSet { .. } => "ct",
            Self::Fib { .. } => "fib",
            Self::Numgen { .. } => "numgen",
            Self::Dynset { .. } => "dynset",
            Self::Counter { .. } => "counter",
            Self::Limit { .. } => "limit",
            Self::Reject(_) => "reject",
            Self::Notrack => "notrack",
            Self::Other { name, .. } => name,
        }
    }

    fn encode_data(&self, to: &mut Buffer) {
        match self {
            Self::Meta { dreg, key } => {
                to.u32(NFTA_META_DREG, dreg.0);
                to.u32(NFTA_META_KEY, key.0);
            }
            Self::MetaSet { key, sreg } => {
                to.u32(NFTA_META_KEY, key.0);
                to.u32(NFTA_META_SREG, sreg.0);
            }
            Self::Payload { dreg, base, offset, len } => {
                to.u32(NFTA_PAYLOAD_DREG, dreg.0);
                to.u32(NFTA_PAYLOAD_BASE, base.0);
                to.u32(NFTA_PAYLOAD_OFFSET, *offset);
                to.u32(NFTA_PAYLOAD_LEN, *len);
            }
            Self::Cmp { sreg, op, value } => {
                to.u32(NFTA_CMP_SREG, sreg.0);
                to.u32(NFTA_CMP_OP, op.0);
                to.data(NFTA_CMP_DATA, value);
            }
            Self::Range { sreg, op, from, to: upto } => {
                to.u32(NFTA_RANGE_SREG, sreg.0);
                to.u32(NFTA_RANGE_OP, op.0);
                to.data(NFTA_RANGE_FROM_DATA, from);
                to.data(NFTA_RANGE_TO_DATA, upto);
            }
            Self::Bitwise { sreg, dreg, mask, xor } => bitwise(to, *sreg, *dreg, mask, xor),
            Self::Lookup { set, sreg, dreg, invert } => lookup(to, set, *sreg, *dreg, *invert),
            Self::Immediate { dreg, value } => {
                to.u32(NFTA_IMMEDIATE_DREG, dreg.0);
                to.data(NFTA_IMMEDIATE_DATA, value);
            }
            Self::Verdict(verdict) => {
                to.u32(NFTA_IMMEDIATE_DREG, Reg::VERDICT.0);
                to.nested(NFTA_IMMEDIATE_DATA, |to| {
                    to.nested(NFTA_DATA_VERDICT, |to| verdict.encode(to));
                });
            }
            _ => self.encode_more(to),
        }
    }

    /// What acts on packets and connections.
    fn encode_more(&self, to: &mut Buffer) {
        match self {
            Self::Nat { kind, family, addr, port, flags } => {
                to.u32(NFTA_NAT_TYPE, *kind as u32);
                to.u32(NFTA_NAT_FAMILY, family.number().into());
                to.range([NFTA_NAT_REG_ADDR_MIN, NFTA_NAT_REG_ADDR_MAX], *addr);
                to.range([NFTA_NAT_REG_PROTO_MIN, NFTA_NAT_REG_PROTO_MAX], *port);
                to.nat_flags(NFTA_NAT_FLAGS, *flags);
            }
            Self::Masquerade { port, flags } => {
                to.nat_flags(NFTA_MASQ_FLAGS, *flags);
                to.range([NFTA_MASQ_REG_PROTO_MIN, NFTA_MASQ_REG_PROTO_MAX], *port);
            }
            Self::Redirect { port, flags } => {
                to.range([NFTA_REDIR_REG_PROTO_MIN, NFTA_REDIR_REG_PROTO_MAX], *port);
                to.nat_flags(NFTA_REDIR_FLAGS, *flags);
            }
            Self::Ct { dreg, key, direction } => {
                to.u32(NFTA_CT_DREG, dreg.0);
                to.u32(NFTA_CT_KEY, key.0);
                if let Some(direction) = direction {
                    to.byte(NFTA_CT_DIRECTION, *direction);
                }
            }
            Self::CtSet { key, sreg } => {
                to.u32(NFTA_CT_KEY, key.0);
                to.u32(NFTA_CT_SREG, sreg.0);
            }
            Self::Fib { dreg, result, flags } => {
                to.u32(NFTA_FIB_DREG, dreg.0);
                to.u32(NFTA_FIB_RESULT, result.0);
                to.u32(NFTA_FIB_FLAGS, flags.0);
            }
            Self::Numgen { dreg, modulus, offset, random } => {
                to.u32(NFTA_NG_DREG, dreg.0);
                to.u32(NFTA_NG_MODULUS, *modulus);
                to.u32(NFTA_NG_TYPE, u32::from(*random));
                to.u32(NFTA_NG_OFFSET, *offset);
            }
            Self::Dynset { set, op, key, data, timeout } => {
                to.name(NFTA_DYNSET_SET_NAME, set);
                to.u32(NFTA_DYNSET_OP, op.0);
                to.u32(NFTA_DYNSET_SREG_KEY, key.0);
                if let Some(data) = data {
                    to.u32(NFTA_DYNSET_SREG_DATA, data.0);
                }
                if let Some(timeout) = timeout {
                    to.u64(NFTA_DYNSET_TIMEOUT, milliseconds(*timeout));
                }
            }
            Self::Counter { bytes, packets } => {
                to.u64(NFTA_COUNTER_BYTES, *bytes);
                to.u64(NFTA_COUNTER_PACKETS, *packets);
            }
            Self::Limit { rate, unit, burst, over } => {
                to.u64(NFTA_LIMIT_RATE, *rate);
                to.u64(NFTA_LIMIT_UNIT, *unit);
                to.u32(NFTA_LIMIT_BURST, *burst);
                to.u32(NFTA_LIMIT_TYPE, 0);
                to.u32(NFTA_LIMIT_FLAGS, if *over { NFT_LIMIT_F_INV } else { 0 });
            }
            Self::Reject(reject) => {
                let (kind, code) = reject.parts();
                to.u32(NFTA_REJECT_TYPE, kind);
                to.byte(NFTA_REJECT_ICMP_CODE, code);
            }
            Self::Other { data, .. } => to.bytes.extend_from_slice(data),
            // The rest is `encode_data`'s.
            _ => {}
        }
    }
}

fn bitwise(to: &mut Buffer, sreg: Reg, dreg: Reg, mask: &Value, xor: &Value) {
    to.u32(NFTA_BITWISE_SREG, sreg.0);
    to.u32(NFTA_BITWISE_DREG, dreg.0);
    // A value has at most 16 bytes.
    to.u32(NFTA_BITWISE_LEN, u32::try_from(mask.as_slice().len()).unwrap_or(u32::MAX));
    to.data(NFTA_BITWISE_MASK, mask);
    to.data(NFTA_BITWISE_XOR, xor);
}

fn lookup(to: &mut Buffer, set: &str, sreg: Reg, dreg: Option<Reg>, invert: bool) {
    to.name(NFTA_LOOKUP_SET, set);
    to.u32(NFTA_LOOKUP_SREG, sreg.0);
    if let Some(dreg) = dreg {
        to.u32(NFTA_LOOKUP_DREG, dreg.0);
    }
    if invert {
        to.u32(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
    }
}

impl Buffer {
    fn data(&mut self, kind: u16, value: &Value) {
        self.nested(kind, |to| to.put(NFTA_DATA_VALUE, value.as_slice()));
    }

    fn range(&mut self, [min, max]: [u16; 2], range: Option<RegRange>) {
        let Some(range) = range else { return };
        self.u32(min, range.from.0);
        if let Some(upto) = range.to {
            self.u32(max, upto.0);
        }
    }

    fn nat_flags(&mut self, kind: u16, flags: NatFlags) {
        if flags != NatFlags::NONE {
            self.u32(kind, flags.0);
        }
    }
}

impl Reject {
    /// Type and code.
    pub(super) const fn parts(self) -> (u32, u8) {
        match self {
            Self::Icmp(code) => (0, code),
            Self::TcpReset => (1, 0),
            Self::NoRoute => (2, 0),
            Self::PortUnreachable => (2, 1),
            Self::HostUnreachable => (2, 2),
            Self::AdminProhibited => (2, 3),
        }
    }
}

impl NatKind {
    pub(super) const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Source),
            1 => Some(Self::Destination),
            _ => None,
        }
    }
}
