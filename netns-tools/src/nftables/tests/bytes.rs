//! The bytes themselves: what we send, and whatever may come back.

use proptest::prelude::*;

use super::super::buffer::Buffer;
use super::super::listed;
use super::*;
use crate::netlink::exchange::Wire;
use crate::netlink::reply::tests::{attribute, message};

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (place, byte) in bytes.iter().enumerate() {
        let space = if place > 0 && place % 4 == 0 { " " } else { "" };
        text.push_str(&format!("{space}{byte:02x}"));
    }
    text
}

/// Each word by hand, after `linux/netlink.h`, `nfnetlink.h` and `nf_tables.h`. Little-endian machines only.
#[test]
#[cfg(target_endian = "little")]
fn a_batch_to_the_last_byte() {
    let table = Table::new(Family::Ip, "t");
    let mut batch = Batch::at_generation(5);
    batch.add_table(table);
    batch.add_rule(table, "c", &table.rule().iifname_eq("lo").drop().comment("x"));
    let want = [
        // NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, number 0; AF_UNSPEC, subsystem 10; NFNL_BATCH_GENID = 5
        "1c000000 10000100 00000000 00000000 0000000a 08000100 00000005",
        // NFT_MSG_NEWTABLE, NLM_F_REQUEST | NLM_F_CREATE, number 1; NFPROTO_IPV4; NAME "t", FLAGS 0
        "24000000 000a0104 01000000 00000000 02000000 06000100 74000000 08000200 00000000",
        // NFT_MSG_NEWRULE, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND, number 2; TABLE "t", CHAIN "c"
        "bc000000 060a050c 02000000 00000000 02000000 06000100 74000000 06000200 63000000",
        // EXPRESSIONS; ELEM "meta": DREG 1, KEY IIFNAME
        "90000480 24000180 09000100 6d657461 00000000 14000280 08000100 00000001 08000200 00000006",
        // ELEM "cmp": SREG 1, OP EQ, DATA { VALUE "lo" in 16 bytes }
        "38000180 08000100 636d7000 2c000280 08000100 00000001 08000200 00000000 18000380 14000100 6c6f0000 00000000 00000000 00000000",
        // ELEM "immediate": DREG verdict, DATA { VERDICT { CODE NF_DROP } }
        "30000180 0e000100 696d6d65 64696174 65000000 1c000280 08000100 00000000 10000280 0c000280 08000100 00000000",
        // USERDATA: comment, 2 bytes, "x"
        "08000700 00027800",
        // NFNL_MSG_BATCH_END
        "14000000 11000100 02000000 00000000 0000000a",
    ]
    .join(" ");
    let got = hex(batch.bytes());
    assert_eq!(got.replace(' ', ""), want.replace(' ', ""), "\n{got}\n{want}");
}

fn word() -> impl Strategy<Value = Reg> {
    (0u32..16).prop_map(Reg::word)
}

fn value() -> impl Strategy<Value = Value> {
    prop::collection::vec(any::<u8>(), 0..=16).prop_map(|bytes| Value::new(&bytes).unwrap())
}

fn name() -> impl Strategy<Value = Box<str>> {
    "[a-z]{1,20}".prop_map(String::into_boxed_str)
}

fn range() -> impl Strategy<Value = Option<RegRange>> {
    prop::option::of((word(), prop::option::of(word()))).prop_map(|range| {
        range.map(|(from, to)| RegRange { from, to: to.filter(|to| *to != from) })
    })
}

/// What reads, compares and decides.
fn matching() -> impl Strategy<Value = Expr> {
    let verdict = prop_oneof![
        Just(Verdict::Accept),
        Just(Verdict::Drop),
        Just(Verdict::Continue),
        Just(Verdict::Return),
        name().prop_map(Verdict::Jump),
        name().prop_map(Verdict::Goto)
    ];
    prop_oneof![
        (word(), any::<u32>()).prop_map(|(dreg, key)| Expr::Meta { dreg, key: Meta(key) }),
        (word(), any::<u32>()).prop_map(|(sreg, key)| Expr::MetaSet { sreg, key: Meta(key) }),
        (word(), any::<[u32; 3]>()).prop_map(|(dreg, [base, offset, len])| Expr::Payload {
            dreg,
            base: Header(base),
            offset,
            len
        }),
        (word(), any::<u32>(), value()).prop_map(|(sreg, op, value)| Expr::Cmp {
            sreg,
            op: Op(op),
            value
        }),
        (word(), any::<u32>(), value(), value()).prop_map(|(sreg, op, from, to)| Expr::Range {
            sreg,
            op: Op(op),
            from,
            to
        }),
        (word(), word(), value(), value()).prop_map(|(sreg, dreg, mask, xor)| Expr::Bitwise {
            sreg,
            dreg,
            mask,
            xor
        }),
        (name(), word(), prop::option::of(word()), any::<bool>())
            .prop_map(|(set, sreg, dreg, invert)| Expr::Lookup { set, sreg, dreg, invert }),
        (word(), value()).prop_map(|(dreg, value)| Expr::Immediate { dreg, value }),
        verdict.prop_map(Expr::Verdict),
    ]
}

/// What acts on packets and connections.
fn acting() -> impl Strategy<Value = Expr> {
    let flags = || (0u32..8).prop_map(|flags| NatFlags(flags << 2));
    let family = prop_oneof![Just(Family::Ip), Just(Family::Ip6)];
    let kind = prop_oneof![Just(NatKind::Source), Just(NatKind::Destination)];
    let reject = prop_oneof![
        any::<u8>().prop_map(Reject::Icmp),
        Just(Reject::TcpReset),
        Just(Reject::PortUnreachable),
        Just(Reject::NoRoute),
        Just(Reject::HostUnreachable),
        Just(Reject::AdminProhibited)
    ];
    prop_oneof![
        (kind, family, range(), range(), flags()).prop_map(|(kind, family, addr, port, flags)| {
            Expr::Nat { kind, family, addr, port, flags }
        }),
        (range(), flags()).prop_map(|(port, flags)| Expr::Masquerade { port, flags }),
        (range(), flags()).prop_map(|(port, flags)| Expr::Redirect { port, flags }),
        (word(), any::<u32>(), any::<Option<u8>>()).prop_map(|(dreg, key, direction)| Expr::Ct {
            dreg,
            key: Ct(key),
            direction
        }),
        (word(), any::<u32>()).prop_map(|(sreg, key)| Expr::CtSet { sreg, key: Ct(key) }),
        (word(), any::<[u32; 2]>()).prop_map(|(dreg, [result, flags])| Expr::Fib {
            dreg,
            result: FibResult(result),
            flags: FibFlags(flags)
        }),
        (word(), any::<[u32; 2]>(), any::<bool>()).prop_map(|(dreg, [modulus, offset], random)| {
            Expr::Numgen { dreg, modulus, offset, random }
        }),
        any::<[u64; 2]>().prop_map(|[bytes, packets]| Expr::Counter { bytes, packets }),
        (any::<[u64; 2]>(), any::<u32>(), any::<bool>())
            .prop_map(|([rate, unit], burst, over)| Expr::Limit { rate, unit, burst, over }),
        reject.prop_map(Expr::Reject),
        Just(Expr::Notrack),
        ("x[a-z]{1,9}", prop::collection::vec(any::<u8>(), 0..5)).prop_map(|(name, words)| {
            let data = words.iter().flat_map(|word| attribute(1, &[*word; 4])).collect();
            Expr::Other { name: name.into(), data }
        }),
    ]
}

#[test]
fn every_expression_survives_the_way_there_and_back() {
    proptest!(|(expressions in prop::collection::vec(prop_oneof![matching(), acting()], 0..6))| {
        let mut buffer = Buffer::default();
        for expression in &expressions {
            expression.encode(&mut buffer);
        }
        prop_assert!(buffer.invalid.is_none());
        prop_assert_eq!(Expr::decode_list(&buffer.bytes), expressions);
    });
}

/// Bytes that are often attributes of attributes, and often not quite.
fn plausible() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop::collection::vec(any::<u8>(), 0..24);
    let names = prop::sample::select(vec![
        "meta",
        "cmp",
        "lookup",
        "immediate",
        "nat",
        "masq",
        "limit",
        "reject",
        "ct",
        "fib",
    ]);
    let leaf = prop_oneof![3 => leaf, 1 => names.prop_map(|name| format!("{name}\0").into_bytes())];
    let tree = leaf.prop_recursive(5, 60, 6, |inner| {
        prop::collection::vec((0u16..18, inner), 0..6).prop_map(|list| {
            list.iter().flat_map(|(kind, value)| attribute(*kind, value)).collect()
        })
    });
    (
        tree,
        any::<u8>(),
        prop::option::of(any::<usize>()),
        prop::option::of((any::<usize>(), any::<u8>())),
    )
        .prop_map(|(tree, family, cut, noise)| {
            let mut bytes = [&[family % 11, 0, 0, 0][..], &tree].concat();
            if let Some((place, value)) = noise {
                let place = place % bytes.len();
                bytes[place] = value;
            }
            bytes.truncate(cut.map_or(bytes.len(), |cut| cut % (bytes.len() + 1)));
            bytes
        })
}

#[test]
fn no_bytes_make_the_readers_panic() {
    proptest!(ProptestConfig::with_cases(2000), |(bytes in plausible())| {
        let _ = listed::generation(&bytes);
        let _ = listed::table(&bytes);
        let _ = listed::elements(&bytes);
        for family in [Family::Inet, Family::Ip, Family::Bridge] {
            let table = Table::new(family, "t");
            let _ = listed::chain(&bytes, table);
            let _ = listed::rule(&bytes, table);
            let _ = listed::set(&bytes, table);
        }
        let _ = Expr::decode_list(&bytes);
    });
}

#[test]
fn no_offset_makes_the_explanation_panic() {
    let mut batch = with_chain(Family::Inet);
    batch.add_rule(INET, "c", &INET.rule().counter().jump("x").comment("y"));
    proptest!(|(sequence in 0u32..6, offset in any::<Option<u32>>(), near in 0u32..300)| {
        let _ = batch.describe(sequence, offset);
        let _ = batch.describe(sequence, Some(near));
    });
    let (operation, _) = batch.describe(3, None);
    assert_eq!(operation, "add a rule to chain c in table inet t");
    assert_eq!(batch.describe(9, None).0, "change packet filter rules");
}

/// What the kernel answers, one datagram after the other, to whatever is sent.
struct Script {
    sent: usize,
    answers: Vec<std::result::Result<Vec<u8>, i32>>,
}

impl Wire for Script {
    fn send(&mut self, _: &[u8]) -> std::io::Result<()> {
        self.sent += 1;
        Ok(())
    }

    fn receive(&mut self, buffer: &mut Vec<u8>, wait: bool) -> std::io::Result<usize> {
        assert!(!wait, "nothing is waited for");
        if self.sent == 0 || self.answers.is_empty() {
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        let datagram = self.answers.remove(0).map_err(std::io::Error::from_raw_os_error)?;
        buffer.extend_from_slice(&datagram);
        Ok(datagram.len())
    }
}

fn answer(sequence: u32, errno: i32) -> Vec<u8> {
    let quoted = message(0, 0, sequence, b"");
    message(2, 0x100, sequence, &[&(-errno).to_ne_bytes()[..], &quoted].concat())
}

fn outcome(answers: Vec<std::result::Result<Vec<u8>, i32>>) -> Result<()> {
    commit(&mut Script { sent: 0, answers }, &with_chain(Family::Inet))
}

#[test]
fn answers_that_the_kernel_seldom_gives() {
    assert!(outcome(vec![Ok(answer(2, 0))]).is_ok());
    // Refused in the middle, although the last change alone would have been right.
    let both = outcome(vec![Ok(answer(1, libc::EEXIST)), Ok(answer(2, 0))]).unwrap_err();
    assert_eq!(refusal(both), ("add table inet t".to_owned(), libc::EEXIST, None));
    // The batch as a whole.
    let whole = outcome(vec![Ok(answer(0, libc::ENOMEM))]).unwrap_err();
    assert_eq!(refusal(whole).0, "change packet filter rules");
    assert!(matches!(outcome(vec![Ok(answer(0, ERESTART))]), Err(NftError::Changed)));
    // Answers were lost: the first refusal is the cause all the same.
    let lost = outcome(vec![Ok(answer(1, libc::EPERM)), Err(libc::ENOBUFS)]).unwrap_err();
    assert_eq!(refusal(lost).1, libc::EPERM);
    // Nothing at all, or nonsense: success is never guessed.
    assert!(matches!(outcome(vec![]), Err(NftError::Socket { .. })));
    assert!(matches!(outcome(vec![Ok(answer(1, 0))]), Err(NftError::Socket { .. })));
    assert!(matches!(outcome(vec![Ok(vec![1, 2, 3])]), Err(NftError::Malformed { .. })));
    assert!(matches!(outcome(vec![Err(libc::EIO)]), Err(NftError::Socket { .. })));
}
