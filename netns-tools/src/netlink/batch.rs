//! Many changes in few system calls.

use std::fmt;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
};

use super::exchange::{Exchange, Failure, Received, Wire};
use super::reply::{Refusal, refusals};
use super::{Action, Netlink, NetlinkError, Result, grow_receive_buffer};
use crate::fdb::FdbEntry;
use crate::neighbour::PermanentNeighbour;
use crate::nexthop::{self, Nexthop};
use crate::route::Route;

/// So many changes go in one datagram, of about 60 bytes each. More make nothing faster, and the refusals of all of them must find
/// room in the socket's queue.
pub const DATAGRAM: usize = 512;
/// Room for the answers, in bytes as the kernel counts them; it doubles the number. A refusal with a text takes up to 1.3 KiB.
const ANSWERS: libc::c_int = 1 << 20;

/// What is done with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Made; refused with `EEXIST` where there is one.
    Add,
    /// Made beside others: for forwarding entries of the all-zero address, which may lead to several nodes. Of another address the
    /// kernel keeps the entry that there is, and says that all went well.
    Append,
    /// Made, or changed where there is one.
    Replace,
    /// Deleted; refused where there is none ([`NetlinkError::is_not_found`]).
    Delete,
}

/// What a change is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A route. See [`Netlink::replace_route`] and [`Netlink::delete_route`] for which one is meant.
    Route(Route),
    /// A neighbour that never grows old.
    Neighbour(PermanentNeighbour),
    /// A forwarding entry of a VXLAN device.
    Fdb(FdbEntry),
    /// A nexthop object.
    Nexthop(Nexthop),
    /// A link, by index. It can be deleted only; how links are made is in [`crate::link`].
    Link(u32),
}

impl Object {
    fn name(&self) -> &'static str {
        match self {
            Self::Route(_) => "route",
            Self::Neighbour(_) => "neighbour",
            Self::Fdb(_) => "forwarding entry",
            Self::Nexthop(_) => "nexthop",
            Self::Link(_) => "link",
        }
    }

    /// `RTM_NEW*` and `RTM_DEL*`.
    fn kinds(&self) -> (u16, u16) {
        match self {
            Self::Route(_) => (libc::RTM_NEWROUTE, libc::RTM_DELROUTE),
            Self::Neighbour(_) | Self::Fdb(_) => (libc::RTM_NEWNEIGH, libc::RTM_DELNEIGH),
            Self::Nexthop(_) => (nexthop::RTM_NEWNEXTHOP, nexthop::RTM_DELNEXTHOP),
            Self::Link(_) => (libc::RTM_NEWLINK, libc::RTM_DELLINK),
        }
    }

    /// Appends the fixed header and the attributes.
    fn write(&self, verb: Verb, to: &mut Vec<u8>) {
        match (self, verb) {
            (Self::Route(route), Verb::Delete) => route.write_delete(to),
            (Self::Route(route), _) => route.write_new(to),
            (Self::Neighbour(neighbour), Verb::Delete) => neighbour.write_delete(to),
            (Self::Neighbour(neighbour), _) => neighbour.write_new(to),
            (Self::Fdb(entry), _) => entry.write(to),
            (Self::Nexthop(nexthop), Verb::Delete) => nexthop::write_id(nexthop.id, to),
            (Self::Nexthop(nexthop), _) => nexthop.write_new(to),
            // `struct ifinfomsg`; to make one, without a kind, is what the kernel refuses.
            (Self::Link(index), _) => {
                to.extend([0; 4]);
                to.extend(index.to_ne_bytes());
                to.extend([0; 8]);
            }
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route(route) => route.fmt(f),
            Self::Neighbour(neighbour) => neighbour.fmt(f),
            Self::Fdb(entry) => entry.fmt(f),
            Self::Nexthop(nexthop) => nexthop.fmt(f),
            Self::Link(index) => index.fmt(f),
        }
    }
}

/// One change of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What is done
    pub verb: Verb,
    /// with what.
    pub object: Object,
}

impl Change {
    /// Makes an object, where there is none.
    pub fn add(object: Object) -> Self {
        Self { verb: Verb::Add, object }
    }

    /// Makes an object beside others.
    pub fn append(object: Object) -> Self {
        Self { verb: Verb::Append, object }
    }

    /// Makes an object, or changes it.
    pub fn replace(object: Object) -> Self {
        Self { verb: Verb::Replace, object }
    }

    /// Deletes an object.
    pub fn delete(object: Object) -> Self {
        Self { verb: Verb::Delete, object }
    }

    fn action(&self) -> Action {
        let verb = match self.verb {
            Verb::Add => "add",
            Verb::Append => "append",
            Verb::Replace => "replace",
            Verb::Delete => "delete",
        };
        let operation = format!("{verb} {}", self.object.name());
        Action { operation, object: self.object.to_string() }
    }

    /// Appends the whole message.
    fn write(&self, sequence: u32, flags: u16, to: &mut Vec<u8>) {
        let (new, delete) = self.object.kinds();
        let (kind, own) = match self.verb {
            Verb::Add => (new, NLM_F_CREATE | NLM_F_EXCL),
            Verb::Append => (new, NLM_F_CREATE | NLM_F_APPEND),
            Verb::Replace => (new, NLM_F_CREATE | NLM_F_REPLACE),
            Verb::Delete => (delete, 0),
        };
        let start = to.len();
        to.extend([0; 4]);
        to.extend(kind.to_ne_bytes());
        to.extend((NLM_F_REQUEST | own | flags).to_ne_bytes());
        to.extend(sequence.to_ne_bytes());
        to.extend([0; 4]);
        self.object.write(self.verb, to);
        // Attributes are padded, so the next message begins where it must.
        let length = u32::try_from(to.len() - start).unwrap_or(u32::MAX);
        to[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }
}

/// A change that the kernel refused.
#[derive(Debug)]
pub struct Refused {
    /// Its place in the batch, from 0.
    pub position: usize,
    /// What was to be done, and why it was not. Always [`NetlinkError::Refused`].
    pub error: NetlinkError,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many changes were made.
    pub made: usize,
    /// Those that were refused, in the order of the batch. The others were made all the same.
    pub refused: Vec<Refused>,
    /// Of how many it is not known whether they were made, because answers were lost: read the objects again.
    pub unknown: usize,
}

/// What the kernel said to one datagram of changes.
struct Answer {
    /// By place in the datagram.
    refused: Vec<(usize, Refusal)>,
    /// Nothing was lost: what was not refused was made.
    complete: bool,
}

impl Netlink {
    /// Makes changes one after the other, [`DATAGRAM`] to a system call. One that is refused does not keep the others from being
    /// made. Not a transaction: others see each change when it is made.
    ///
    /// Memory is taken for one datagram at a time, and for the refusals: `changes` may be made up while they are sent.
    ///
    /// An error means that the socket failed: what was made is then unknown, as with [`Outcome::unknown`], for all of the batch.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Result<Outcome> {
        // Without it a datagram full of refusals loses some, which is noticed.
        let _ = grow_receive_buffer(&self.exchange.wire().0, ANSWERS);
        let failed = |failure| {
            let action =
                Action { operation: "make a batch of changes".into(), object: String::new() };
            NetlinkError::new(action, failure)
        };
        self.exchange.apply(changes).map_err(failed)
    }
}

impl<W: Wire> Exchange<W> {
    fn apply(
        &mut self,
        changes: impl IntoIterator<Item = Change>,
    ) -> std::result::Result<Outcome, Failure> {
        let mut changes = changes.into_iter();
        let (mut outcome, mut begun) = (Outcome::default(), 0);
        let (mut part, mut bytes) = (Vec::new(), Vec::new());
        loop {
            part.clear();
            part.extend(changes.by_ref().take(DATAGRAM));
            if part.is_empty() {
                return Ok(outcome);
            }
            let answer = self.apply_part(&part, &mut bytes)?;
            let undisputed = part.len() - answer.refused.len();
            let count = if answer.complete { &mut outcome.made } else { &mut outcome.unknown };
            *count += undisputed;
            outcome.refused.extend(answer.refused.into_iter().map(|(at, refusal)| {
                let failure = Failure::Refused(refusal);
                let error = NetlinkError::new(part[at].action(), failure);
                Refused { position: begun + at, error }
            }));
            begun += part.len();
        }
    }

    /// Sends changes in one datagram and reads what became of them.
    ///
    /// The kernel has done everything when the call to send returns (`netlink_unicast_kernel` in `net/netlink/af_netlink.c`), and
    /// all its answers are queued then. It always tells of refusals, and of success where it is asked to: for the last change
    /// only, which so marks the end. An answer that found no room is reported before any that did (`ENOBUFS`), so a refusal
    /// cannot get lost unnoticed.
    fn apply_part(
        &mut self,
        part: &[Change],
        bytes: &mut Vec<u8>,
    ) -> std::result::Result<Answer, Failure> {
        bytes.clear();
        let (mut first, mut last) = (0, 0);
        for (at, change) in part.iter().enumerate() {
            last = self.next_sequence();
            if at == 0 {
                first = last;
            }
            let flags = if at + 1 == part.len() { NLM_F_ACK } else { 0 };
            change.write(last, flags, bytes);
        }
        self.send(bytes)?;
        let mut answer = Answer { refused: Vec::new(), complete: true };
        loop {
            // After a loss the end may be what was lost: only what is there is read.
            let datagram = match self.next_datagram(answer.complete)? {
                Received::Datagram(datagram) => datagram,
                Received::Lost => {
                    answer.complete = false;
                    continue;
                }
                Received::Nothing => return Ok(answer),
            };
            for reply in refusals(datagram) {
                let (sequence, refusal) = reply?;
                let at = sequence.wrapping_sub(first) as usize;
                // Others answer an earlier request that was given up.
                if at < part.len() {
                    answer.refused.extend(refusal.map(|refusal| (at, refusal)));
                    if sequence == last && answer.complete {
                        return Ok(answer);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
