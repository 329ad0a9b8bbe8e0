//! What the fields of a key are for nft(8): `typeof`, where their types have no word in its language.
//!
//! nft keeps that in a set's user data (`NFTNL_UDATA_SET_KEY_TYPEOF`) as entries of a byte for the kind, one for the length, and the
//! content; numbers have four bytes. An expression is its type and its data, a concatenation one expression for each field. The
//! numbers are nft's `enum expr_types` (`expression.h`), `proto_desc_id` and the fields of headers (`proto.h`), which it keeps as they
//! are for the rules of other versions.

use super::expr::Meta;
use super::rule::Field;

/// `NFTNL_UDATA_SET_TYPEOF_EXPR`, `NFTNL_UDATA_SET_TYPEOF_DATA`.
const EXPRESSION: u8 = 0;
const DATA: u8 = 1;

/// `EXPR_PAYLOAD`, `EXPR_META`, `EXPR_CONCAT`, `EXPR_NUMGEN`.
const PAYLOAD: u32 = 7;
const META: u32 = 9;
const CONCATENATION: u32 = 13;
const NUMGEN: u32 = 23;

/// `PROTO_DESC_TH`, `PROTO_DESC_IP`, `PROTO_DESC_IP6`.
const TRANSPORT: u32 = 11;
const IP: u32 = 12;
const IP6: u32 = 13;

/// `NFT_NG_RANDOM`.
const RANDOM: u32 = 1;

/// The content of `NFTNL_UDATA_SET_KEY_TYPEOF`. `None`: a field of them is not known here, or they are too many.
pub(super) fn fields(fields: &[Field]) -> Option<Vec<u8>> {
    if let [only] = fields {
        return expression(*only);
    }
    let parts = (0..).zip(fields).map(|(number, field)| entry(number, &expression(*field)?));
    let parts = parts.collect::<Option<Vec<_>>>()?.concat();
    Some([number(EXPRESSION, CONCATENATION), entry(DATA, &parts)?].concat())
}

fn expression(field: Field) -> Option<Vec<u8>> {
    let (kind, numbers) = match field {
        Field::IpSaddr => (PAYLOAD, vec![IP, 11]),
        Field::IpDaddr => (PAYLOAD, vec![IP, 12]),
        Field::Ip6Saddr => (PAYLOAD, vec![IP6, 8]),
        Field::Ip6Daddr => (PAYLOAD, vec![IP6, 9]),
        Field::Sport => (PAYLOAD, vec![TRANSPORT, 1]),
        Field::Dport => (PAYLOAD, vec![TRANSPORT, 2]),
        Field::L4Proto => (META, vec![Meta::L4PROTO.0]),
        Field::Random(modulus) => (NUMGEN, vec![RANDOM, modulus, 0]),
        _ => return None,
    };
    let data: Vec<Vec<u8>> = (0..).zip(numbers).map(|(kind, value)| number(kind, value)).collect();
    Some([number(EXPRESSION, kind), entry(DATA, &data.concat())?].concat())
}

fn number(kind: u8, number: u32) -> Vec<u8> {
    let [a, b, c, d] = number.to_ne_bytes();
    vec![kind, 4, a, b, c, d]
}

fn entry(kind: u8, content: &[u8]) -> Option<Vec<u8>> {
    let length = u8::try_from(content.len()).ok()?;
    Some([&[kind, length], content].concat())
}
