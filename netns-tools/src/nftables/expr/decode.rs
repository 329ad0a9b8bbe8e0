//! Bytes to expressions. Nothing here can fail: what is not understood is [`Expr::Other`].

use std::time::Duration;

use super::super::buffer::{find, text_of, u8_of, u32_of, u64_of};
use super::super::object::{Family, Verdict};
use super::super::uapi::{
    NF_NAT_RANGE_MAP_IPS, NF_NAT_RANGE_PROTO_SPECIFIED, NFT_LIMIT_F_INV, NFT_LOOKUP_F_INV,
    NFTA_BITWISE_DREG, NFTA_BITWISE_MASK, NFTA_BITWISE_OP, NFTA_BITWISE_SREG, NFTA_BITWISE_XOR,
    NFTA_CMP_DATA, NFTA_CMP_OP, NFTA_CMP_SREG, NFTA_COUNTER_BYTES, NFTA_COUNTER_PACKETS,
    NFTA_CT_DIRECTION, NFTA_CT_DREG, NFTA_CT_KEY, NFTA_CT_SREG, NFTA_DATA_VALUE, NFTA_DATA_VERDICT,
    NFTA_DYNSET_OP, NFTA_DYNSET_SET_NAME, NFTA_DYNSET_SREG_DATA, NFTA_DYNSET_SREG_KEY,
    NFTA_DYNSET_TIMEOUT, NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_FIB_DREG, NFTA_FIB_FLAGS,
    NFTA_FIB_RESULT, NFTA_IMMEDIATE_DATA, NFTA_IMMEDIATE_DREG, NFTA_LIMIT_BURST, NFTA_LIMIT_FLAGS,
    NFTA_LIMIT_RATE, NFTA_LIMIT_TYPE, NFTA_LIMIT_UNIT, NFTA_LIST_ELEM, NFTA_LOOKUP_DREG,
    NFTA_LOOKUP_FLAGS, NFTA_LOOKUP_SET, NFTA_LOOKUP_SREG, NFTA_MASQ_FLAGS, NFTA_MASQ_REG_PROTO_MAX,
    NFTA_MASQ_REG_PROTO_MIN, NFTA_META_DREG, NFTA_META_KEY, NFTA_META_SREG, NFTA_NAT_FAMILY,
    NFTA_NAT_FLAGS, NFTA_NAT_REG_ADDR_MAX, NFTA_NAT_REG_ADDR_MIN, NFTA_NAT_REG_PROTO_MAX,
    NFTA_NAT_REG_PROTO_MIN, NFTA_NAT_TYPE, NFTA_NG_DREG, NFTA_NG_MODULUS, NFTA_NG_OFFSET,
    NFTA_NG_TYPE, NFTA_PAYLOAD_BASE, NFTA_PAYLOAD_DREG, NFTA_PAYLOAD_LEN, NFTA_PAYLOAD_OFFSET,
    NFTA_RANGE_FROM_DATA, NFTA_RANGE_OP, NFTA_RANGE_SREG, NFTA_RANGE_TO_DATA, NFTA_REDIR_FLAGS,
    NFTA_REDIR_REG_PROTO_MAX, NFTA_REDIR_REG_PROTO_MIN, NFTA_REJECT_ICMP_CODE, NFTA_REJECT_TYPE,
};
use super::super::value::Value;
use super::{
    Ct, DynsetOp, Expr, FibFlags, FibResult, Header, Meta, NatFlags, NatKind, Op, Reg, RegRange,
    Reject,
};
use crate::netlink::reply::attributes;

impl Expr {
    /// The expressions in `NFTA_RULE_EXPRESSIONS`.
    pub(in crate::nftables) fn decode_list(bytes: &[u8]) -> Vec<Self> {
        attributes(bytes)
            .filter(|(kind, _)| *kind == NFTA_LIST_ELEM)
            .map(|(_, element)| Self::decode(element))
            .collect()
    }

    /// The content of one `NFTA_LIST_ELEM`.
    pub(in crate::nftables) fn decode(element: &[u8]) -> Self {
        let name = text_of(element, NFTA_EXPR_NAME).unwrap_or_default();
        let data = find(element, NFTA_EXPR_DATA).unwrap_or_default();
        Self::known(&name, data)
            .unwrap_or_else(|| Self::Other { name: name.into(), data: data.into() })
    }

    fn known(name: &str, data: &[u8]) -> Option<Self> {
        let reg = |kind| u32_of(data, kind).map(Reg);
        Some(match name {
            "meta" => {
                let key = Meta(u32_of(data, NFTA_META_KEY)?);
                match reg(NFTA_META_DREG) {
                    Some(dreg) => Self::Meta { dreg, key },
                    None => Self::MetaSet { key, sreg: reg(NFTA_META_SREG)? },
                }
            }
            "payload" => Self::Payload {
                // Without, it writes to the packet.
                dreg: reg(NFTA_PAYLOAD_DREG)?,
                base: Header(u32_of(data, NFTA_PAYLOAD_BASE)?),
                offset: u32_of(data, NFTA_PAYLOAD_OFFSET)?,
                len: u32_of(data, NFTA_PAYLOAD_LEN)?,
            },
            "cmp" => Self::Cmp {
                sreg: reg(NFTA_CMP_SREG)?,
                op: Op(u32_of(data, NFTA_CMP_OP)?),
                value: value_of(data, NFTA_CMP_DATA)?,
            },
            "range" => Self::Range {
                sreg: reg(NFTA_RANGE_SREG)?,
                op: Op(u32_of(data, NFTA_RANGE_OP)?),
                from: value_of(data, NFTA_RANGE_FROM_DATA)?,
                to: value_of(data, NFTA_RANGE_TO_DATA)?,
            },
            // Other operations are shifts.
            "bitwise" if u32_of(data, NFTA_BITWISE_OP).unwrap_or(0) == 0 => Self::Bitwise {
                sreg: reg(NFTA_BITWISE_SREG)?,
                dreg: reg(NFTA_BITWISE_DREG)?,
                mask: value_of(data, NFTA_BITWISE_MASK)?,
                xor: value_of(data, NFTA_BITWISE_XOR)?,
            },
            "lookup" => Self::Lookup {
                set: text_of(data, NFTA_LOOKUP_SET)?.into(),
                sreg: reg(NFTA_LOOKUP_SREG)?,
                dreg: reg(NFTA_LOOKUP_DREG),
                invert: u32_of(data, NFTA_LOOKUP_FLAGS).unwrap_or(0) & NFT_LOOKUP_F_INV != 0,
            },
            "immediate" => immediate(data)?,
            _ => return Self::known_action(name, data),
        })
    }

    fn known_action(name: &str, data: &[u8]) -> Option<Self> {
        let reg = |kind| u32_of(data, kind).map(Reg);
        Some(match name {
            "nat" => Self::Nat {
                kind: NatKind::from_number(u32_of(data, NFTA_NAT_TYPE)?)?,
                family: Family::from_number(
                    u32_of(data, NFTA_NAT_FAMILY).and_then(|n| n.try_into().ok())?,
                )?,
                addr: range_of(data, [NFTA_NAT_REG_ADDR_MIN, NFTA_NAT_REG_ADDR_MAX]),
                port: range_of(data, [NFTA_NAT_REG_PROTO_MIN, NFTA_NAT_REG_PROTO_MAX]),
                flags: flags_of(data, NFTA_NAT_FLAGS),
            },
            "masq" => Self::Masquerade {
                port: range_of(data, [NFTA_MASQ_REG_PROTO_MIN, NFTA_MASQ_REG_PROTO_MAX]),
                flags: flags_of(data, NFTA_MASQ_FLAGS),
            },
            "redir" => Self::Redirect {
                port: range_of(data, [NFTA_REDIR_REG_PROTO_MIN, NFTA_REDIR_REG_PROTO_MAX]),
                flags: flags_of(data, NFTA_REDIR_FLAGS),
            },
            "ct" => {
                let key = Ct(u32_of(data, NFTA_CT_KEY)?);
                match reg(NFTA_CT_DREG) {
                    Some(dreg) => Self::Ct { dreg, key, direction: u8_of(data, NFTA_CT_DIRECTION) },
                    None => Self::CtSet { key, sreg: reg(NFTA_CT_SREG)? },
                }
            }
            "fib" => Self::Fib {
                dreg: reg(NFTA_FIB_DREG)?,
                result: FibResult(u32_of(data, NFTA_FIB_RESULT)?),
                flags: FibFlags(u32_of(data, NFTA_FIB_FLAGS)?),
            },
            "numgen" => Self::Numgen {
                dreg: reg(NFTA_NG_DREG)?,
                modulus: u32_of(data, NFTA_NG_MODULUS)?,
                offset: u32_of(data, NFTA_NG_OFFSET).unwrap_or(0),
                random: u32_of(data, NFTA_NG_TYPE)? == 1,
            },
            "dynset" => Self::Dynset {
                set: text_of(data, NFTA_DYNSET_SET_NAME)?.into(),
                op: DynsetOp(u32_of(data, NFTA_DYNSET_OP)?),
                key: reg(NFTA_DYNSET_SREG_KEY)?,
                data: reg(NFTA_DYNSET_SREG_DATA),
                timeout: u64_of(data, NFTA_DYNSET_TIMEOUT)
                    .filter(|time| *time > 0)
                    .map(Duration::from_millis),
            },
            "counter" => Self::Counter {
                bytes: u64_of(data, NFTA_COUNTER_BYTES)?,
                packets: u64_of(data, NFTA_COUNTER_PACKETS)?,
            },
            "limit" if u32_of(data, NFTA_LIMIT_TYPE).unwrap_or(0) == 0 => Self::Limit {
                rate: u64_of(data, NFTA_LIMIT_RATE)?,
                unit: u64_of(data, NFTA_LIMIT_UNIT)?,
                burst: u32_of(data, NFTA_LIMIT_BURST).unwrap_or(0),
                over: u32_of(data, NFTA_LIMIT_FLAGS).unwrap_or(0) & NFT_LIMIT_F_INV != 0,
            },
            "reject" => Self::Reject(reject(data)?),
            "notrack" => Self::Notrack,
            _ => return None,
        })
    }
}

fn immediate(data: &[u8]) -> Option<Expr> {
    let content = find(data, NFTA_IMMEDIATE_DATA)?;
    if let Some(verdict) = find(content, NFTA_DATA_VERDICT) {
        return Verdict::decode(verdict).map(Expr::Verdict);
    }
    let value = Value::new(find(content, NFTA_DATA_VALUE)?)?;
    Some(Expr::Immediate { dreg: Reg(u32_of(data, NFTA_IMMEDIATE_DREG)?), value })
}

fn reject(data: &[u8]) -> Option<Reject> {
    let code = u8_of(data, NFTA_REJECT_ICMP_CODE).unwrap_or(0);
    Some(match (u32_of(data, NFTA_REJECT_TYPE)?, code) {
        (0, code) => Reject::Icmp(code),
        (1, _) => Reject::TcpReset,
        (2, 0) => Reject::NoRoute,
        (2, 1) => Reject::PortUnreachable,
        (2, 2) => Reject::HostUnreachable,
        (2, 3) => Reject::AdminProhibited,
        _ => return None,
    })
}

fn value_of(data: &[u8], kind: u16) -> Option<Value> {
    Value::new(find(find(data, kind)?, NFTA_DATA_VALUE)?)
}

/// The kernel tells a single register as a range from itself to itself.
fn range_of(data: &[u8], [min, max]: [u16; 2]) -> Option<RegRange> {
    let from = Reg(u32_of(data, min)?);
    Some(RegRange { from, to: u32_of(data, max).map(Reg).filter(|to| *to != from) })
}

/// The kernel adds flags that say which registers are given.
fn flags_of(data: &[u8], kind: u16) -> NatFlags {
    let given = NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED;
    NatFlags(u32_of(data, kind).unwrap_or(0) & !given)
}
