//! Bytes in, meaning out.

use netlink_packet_core::NLA_TYPE_MASK;

use super::*;

/// A netlink message.
pub(crate) fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = HEADER_LEN + payload.len();
    let mut bytes = Vec::new();
    bytes.extend(u32::try_from(length).unwrap().to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

/// An attribute.
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut bytes = Vec::new();
    bytes.extend(u16::try_from(length).unwrap().to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

fn error(code: i32, rest: &[u8]) -> Vec<u8> {
    [&code.to_ne_bytes(), rest].concat()
}

fn read(datagram: &[u8]) -> Vec<Result<Reply<'_>, Malformed>> {
    Replies::new(datagram, 7).collect()
}

fn content<'a>(replies: &'a [Result<Reply<'a>, Malformed>]) -> Vec<&'a Content<'a>> {
    replies.iter().map(|reply| &reply.as_ref().unwrap().content).collect()
}

#[test]
fn several_messages_in_one_datagram() {
    let datagram = [
        message(16, 0, 7, b"first"),
        message(NLMSG_NOOP, 0, 7, b""),
        message(16, 0, 6, b"of an earlier request"),
        message(16, NLM_F_DUMP_INTR, 7, b"second"),
        message(NLMSG_DONE, 0, 7, &0i32.to_ne_bytes()),
    ]
    .concat();
    let replies = read(&datagram);
    assert_eq!(
        content(&replies),
        [&Content::Object(b"first"), &Content::Object(b"second"), &Content::End]
    );
    let interrupted: Vec<_> = replies.iter().map(|r| r.as_ref().unwrap().interrupted).collect();
    assert_eq!(interrupted, [false, true, false]);
}

#[test]
fn acknowledgements_and_refusals() {
    let request = message(16, 0, 7, b"some request");
    let said = attribute(ATTR_MSG, b"No such thing\0");
    let refused = |errno, text: Option<&str>| {
        Content::Refused(Refusal { errno, text: text.map(Into::into), offset: None })
    };
    let table = [
        (message(NLMSG_ERROR, NLM_F_CAPPED, 7, &error(0, &request[..16])), Content::End),
        (message(NLMSG_ERROR, 0, 7, &error(-17, &request)), refused(17, None)),
        (
            message(NLMSG_ERROR, NLM_F_ACK_TLVS, 7, &error(-22, &[&request[..], &said].concat())),
            refused(22, Some("No such thing")),
        ),
        (
            message(
                NLMSG_ERROR,
                NLM_F_ACK_TLVS | NLM_F_CAPPED,
                7,
                &error(-22, &[&request[..16], &said].concat()),
            ),
            refused(22, Some("No such thing")),
        ),
        // Lists end in NLMSG_DONE also when they fail half-way.
        (
            message(NLMSG_DONE, NLM_F_ACK_TLVS, 7, &error(-19, &said)),
            refused(19, Some("No such thing")),
        ),
        (message(NLMSG_DONE, 0, 7, b""), Content::End),
        (message(NLMSG_OVERRUN, 0, 7, b""), Content::Overrun),
    ];
    for (datagram, want) in &table {
        assert_eq!(content(&read(datagram)), [want]);
    }
}

#[test]
fn the_answers_to_a_batch() {
    let at = [attribute(ATTR_MSG, b"No\0"), attribute(ATTR_OFFS, &40u32.to_ne_bytes())].concat();
    let quoted = message(2568, 0, 3, b"");
    let datagram = [
        message(NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS, 3, &error(-2, &[quoted, at].concat())),
        message(16, 0, 4, b"something else"),
        message(NLMSG_ERROR, NLM_F_CAPPED, 9, &error(0, &message(2568, 0, 9, b""))),
    ]
    .concat();
    let refusal = Refusal { errno: 2, text: Some("No".to_owned()), offset: Some(40) };
    let answers: Vec<_> = refusals(&datagram).collect();
    assert_eq!(answers, [Ok((3, Some(refusal))), Ok((9, None))]);
    let half = [&datagram[..], &[9, 9, 9]].concat();
    assert!(refusals(&half).last().unwrap().is_err());
}

#[test]
fn malformed_messages_are_told_and_end_the_datagram() {
    let whole = message(16, 0, 7, b"whole");
    let mut too_long = message(16, 0, 7, b"half");
    too_long[0] = 200;
    let mut too_short = message(16, 0, 7, b"");
    too_short[0] = 8;
    for wrong in [&too_long, &too_short, &vec![1, 2, 3]] {
        let datagram = [&whole[..], wrong].concat();
        let replies = read(&datagram);
        assert_eq!(replies.len(), 2);
        assert!(replies[0].is_ok() && replies[1].is_err());
    }
    assert!(read(&message(NLMSG_ERROR, 0, 7, &[1, 2]))[0].is_err());
}

#[test]
fn no_bytes_make_it_panic() {
    use proptest::prelude::*;
    proptest!(|(mut bytes in prop::collection::vec(any::<u8>(), 0..200), plausible in any::<bool>())| {
        if plausible && bytes.len() >= 12 {
            // Past the header, so that the rest is looked at.
            bytes[1..4].fill(0);
            bytes[4] = [2, 3, 16][usize::from(bytes[4]) % 3];
            bytes[5] = 0;
            bytes[8..12].copy_from_slice(&7u32.to_ne_bytes());
        }
        for reply in Replies::new(&bytes, 7) {
            if let Ok(Reply { content: Content::Object(object), .. }) = reply {
                let _ = attributes(object).count();
            }
        }
        let _ = refusals(&bytes).count();
    });
}

#[test]
fn attributes_up_to_the_first_that_is_cut_short() {
    let bytes = [attribute(1, b"a"), attribute(NLA_TYPE_MASK, b""), vec![40, 0, 1, 0, 9]].concat();
    let read: Vec<_> = attributes(&bytes).collect();
    assert_eq!(read, [(1, &b"a"[..]), (NLA_TYPE_MASK, &b""[..])]);
}
