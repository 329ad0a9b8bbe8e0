//! A scripted wire: what the kernel does seldom, done on demand.

use std::collections::VecDeque;

use netlink_packet_core::{NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NLMSG_OVERRUN};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkMessage;

use super::super::reply::tests::message;
use super::*;

/// One step of a script.
enum Step {
    /// A request must come now.
    Request,
    /// A datagram whose messages (type, flags, payload) answer the last request.
    Datagram(Vec<(u16, u16, Vec<u8>)>),
    /// A datagram of this length, cut off at what fits.
    Large(usize),
    /// `recv` fails.
    Fails(i32),
}

use Step::{Datagram, Fails, Large, Request};

struct Script {
    steps: VecDeque<Step>,
    sequence: u32,
}

impl Wire for Script {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        assert!(matches!(self.steps.pop_front(), Some(Request)), "a request too many");
        let sequence = u32::from_ne_bytes(request[8..12].try_into().unwrap());
        assert_ne!(sequence, self.sequence, "every request has a number of its own");
        self.sequence = sequence;
        Ok(())
    }

    fn receive(&mut self, buffer: &mut Vec<u8>, wait: bool) -> io::Result<usize> {
        if !wait && matches!(self.steps.front(), None | Some(Request)) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match self.steps.pop_front() {
            Some(Datagram(messages)) => {
                for (kind, flags, payload) in messages {
                    buffer.extend(message(kind, flags, self.sequence, &payload));
                }
                Ok(buffer.len())
            }
            Some(Large(length)) => {
                let whole = message(16, 0, self.sequence, &vec![1; length - 16]);
                let fits = buffer.capacity().min(length);
                buffer.extend(&whole[..fits]);
                Ok(length)
            }
            Some(Fails(errno)) => Err(io::Error::from_raw_os_error(errno)),
            Some(Request) | None => panic!("nothing to receive"),
        }
    }
}

fn exchange(steps: impl IntoIterator<Item = Step>) -> Exchange<Script> {
    Exchange::new(Script { steps: steps.into_iter().collect(), sequence: 0 })
}

fn object(value: u8) -> (u16, u16, Vec<u8>) {
    (16, 0, vec![value])
}

fn done() -> (u16, u16, Vec<u8>) {
    (NLMSG_DONE, 0, vec![0; 4])
}

fn verdict(code: i32) -> (u16, u16, Vec<u8>) {
    (NLMSG_ERROR, 0, [&code.to_ne_bytes()[..], &[0; 16]].concat())
}

fn any_message() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetLink(LinkMessage::default())
}

#[expect(clippy::unnecessary_wraps, reason = "what `list` takes")]
fn first_byte(bytes: &[u8]) -> Result<Option<u8>, Malformed> {
    Ok(bytes.first().copied())
}

fn list(steps: impl IntoIterator<Item = Step>) -> Result<Vec<u8>, Failure> {
    let mut exchange = exchange(steps);
    let list = exchange.list(any_message(), first_byte);
    assert!(exchange.wire.steps.is_empty(), "the whole script was played");
    list
}

#[test]
fn a_list_in_several_datagrams() {
    let got = list([
        Request,
        Datagram(vec![object(1), object(2)]),
        Datagram(vec![object(3)]),
        Datagram(vec![done()]),
    ]);
    assert_eq!(got.unwrap(), [1, 2, 3]);
}

#[test]
fn a_list_that_changed_meanwhile_is_asked_for_again() {
    let got = list([
        Request,
        Datagram(vec![(16, NLM_F_DUMP_INTR, vec![1]), object(2)]),
        Datagram(vec![done()]),
        Request,
        // The flag may come with the end only.
        Datagram(vec![object(1), (NLMSG_DONE, NLM_F_DUMP_INTR, vec![0; 4])]),
        Request,
        Datagram(vec![object(3), done()]),
    ]);
    assert_eq!(got.unwrap(), [3]);
}

#[test]
fn a_list_that_was_lost_in_part_is_asked_for_again() {
    let got = list([
        Request,
        Datagram(vec![object(1)]),
        Fails(libc::ENOBUFS),
        // What is still queued is thrown away, whatever it is.
        Datagram(vec![object(9), done()]),
        Fails(libc::ENOBUFS),
        Datagram(vec![done()]),
        Request,
        Datagram(vec![(NLMSG_OVERRUN, 0, vec![])]),
        Request,
        Datagram(vec![verdict(-libc::EBUSY)]),
        Request,
        Datagram(vec![object(3), done()]),
    ]);
    assert_eq!(got.unwrap(), [3]);
}

#[test]
fn a_datagram_that_was_cut_off_is_asked_for_again_with_more_room() {
    let got = list([
        Request,
        Large(5 * DATAGRAM),
        Datagram(vec![done()]),
        Request,
        Large(5 * DATAGRAM),
        Datagram(vec![done()]),
    ]);
    assert_eq!(got.unwrap(), [1]);

    let mut exchange = exchange([Request, Large(3 * DATAGRAM), Request, Large(3 * DATAGRAM)]);
    let length = exchange.one(any_message(), |bytes| Ok(bytes.len())).unwrap();
    assert_eq!(length, 3 * DATAGRAM - 16);
}

#[test]
fn a_list_that_never_holds_still_is_given_up() {
    let attempt = || [Request, Datagram(vec![(NLMSG_DONE, NLM_F_DUMP_INTR, vec![0; 4])])];
    let got = list((0..ATTEMPTS).flat_map(|_| attempt()));
    assert!(matches!(got, Err(Failure::Unsettled { attempts: ATTEMPTS })));
}

#[test]
fn a_refused_list() {
    let got = list([Request, Datagram(vec![verdict(-libc::EPERM)])]);
    assert!(matches!(got, Err(Failure::Refused(Refusal { errno: libc::EPERM, .. }))));
}

#[test]
fn a_malformed_object_does_not_leave_the_rest_unread() {
    let mut exchange = exchange([
        Request,
        Datagram(vec![object(1)]),
        Datagram(vec![object(2), done()]),
        Request,
        Datagram(vec![object(3), done()]),
    ]);
    let read = |bytes: &[u8]| match bytes {
        [1, ..] => Err(Malformed("one".into())),
        _ => first_byte(bytes),
    };
    let got = exchange.list(any_message(), read);
    assert!(matches!(got, Err(Failure::Malformed(reason)) if reason == "one"));
    assert_eq!(exchange.list(any_message(), read).unwrap(), [3]);
}

#[test]
fn a_change_is_never_repeated() {
    let mut lost = exchange([Request, Fails(libc::ENOBUFS)]);
    let got = lost.change(any_message(), 0);
    assert!(matches!(got, Err(Failure::Socket { step: "receive the answer", .. })));

    let mut refused = exchange([Request, Datagram(vec![verdict(-libc::EEXIST)])]);
    let got = refused.change(any_message(), 0);
    assert!(matches!(got, Err(Failure::Refused(Refusal { errno: libc::EEXIST, .. }))));

    let mut done = exchange([Request, Datagram(vec![verdict(0)])]);
    done.change(any_message(), 0).unwrap();
}
