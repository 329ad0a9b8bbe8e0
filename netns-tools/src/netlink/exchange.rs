//! One request and its answer, over a socket that may be interrupted, lose messages or cut them off.

use std::io;
use std::thread;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};

use super::reply::{Content, Malformed, Refusal, Replies};

/// The kernel sends lists in datagrams of up to 32 KiB when the reader has room for them (`netlink_dump` in
/// `net/netlink/af_netlink.c`).
const DATAGRAM: usize = 32 * 1024;

/// How often a list is asked for again when it changed meanwhile or was lost in part.
const ATTEMPTS: u32 = 10;

/// Where the messages go; the kernel's socket, or a script in tests.
pub(crate) trait Wire {
    /// Sends one request.
    fn send(&mut self, message: &[u8]) -> io::Result<()>;
    /// Replaces `buffer`'s content by the next datagram and returns its true length, which exceeds the buffer's when the
    /// datagram was cut off at its capacity. Without `wait`, an empty queue is `WouldBlock`.
    fn receive(&mut self, buffer: &mut Vec<u8>, wait: bool) -> io::Result<usize>;
}

/// Why an exchange failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Refused(Refusal),
    Socket {
        step: &'static str,
        source: io::Error,
    },
    Malformed(String),
    /// The list never held still, or was lost each time.
    Unsettled {
        attempts: u32,
    },
}

impl From<Malformed> for Failure {
    fn from(e: Malformed) -> Self {
        Self::Malformed(e.0)
    }
}

/// What came of an attempt to receive.
pub(super) enum Received<'a> {
    Datagram(&'a [u8]),
    /// Something was lost before it.
    Lost,
    Nothing,
}

/// Requests over `wire`, one at a time.
pub(crate) struct Exchange<W> {
    wire: W,
    sequence: u32,
    buffer: Vec<u8>,
}

/// What became of one attempt.
enum Attempt<T> {
    Complete(T),
    Again,
}

impl<W: Wire> Exchange<W> {
    pub(crate) fn new(wire: W) -> Self {
        Self { wire, sequence: 0, buffer: Vec::new() }
    }

    /// The wire itself, for exchanges of another kind.
    pub(crate) fn wire(&mut self) -> &mut W {
        &mut self.wire
    }

    /// Sends a change and waits for its acknowledgement. `flags`: `NLM_F_CREATE` and the like.
    ///
    /// Never repeated: if the acknowledgement is lost, whether the change was made is unknown.
    pub(crate) fn change(
        &mut self,
        message: impl NetlinkSerializable,
        flags: u16,
    ) -> Result<(), Failure> {
        self.request(&mut envelope(message), NLM_F_ACK | flags)?;
        loop {
            self.receive()?;
            for reply in Replies::new(&self.buffer, self.sequence) {
                match reply?.content {
                    Content::End => return Ok(()),
                    Content::Refused(refusal) => return Err(Failure::Refused(refusal)),
                    Content::Object(_) | Content::Overrun => {}
                }
            }
        }
    }

    /// Asks for one object.
    pub(crate) fn one<T>(
        &mut self,
        message: impl NetlinkSerializable,
        read: impl Fn(&[u8]) -> Result<T, Malformed>,
    ) -> Result<T, Failure> {
        let mut message = envelope(message);
        for _ in 0..ATTEMPTS {
            self.request(&mut message, 0)?;
            while self.receive()? {
                for reply in Replies::new(&self.buffer, self.sequence) {
                    match reply?.content {
                        Content::Object(bytes) => return Ok(read(bytes)?),
                        Content::Refused(refusal) => return Err(Failure::Refused(refusal)),
                        Content::End | Content::Overrun => {}
                    }
                }
            }
            // The object is larger than the buffer: ask again, now that the buffer has grown.
        }
        Err(Failure::Unsettled { attempts: ATTEMPTS })
    }

    /// Asks for a list. `read` may pass an object over by returning `None`.
    ///
    /// A list that changed while it was read, or of which something was lost, is asked for again.
    pub(crate) fn list<T>(
        &mut self,
        message: impl NetlinkSerializable,
        read: impl Fn(&[u8]) -> Result<Option<T>, Malformed>,
    ) -> Result<Vec<T>, Failure> {
        let mut message = envelope(message);
        for attempt in 1..=ATTEMPTS {
            match self.try_list(&mut message, &read)? {
                Attempt::Complete(list) => return Ok(list),
                Attempt::Again => self.drain(),
            }
            if attempt > 1 {
                // Whatever keeps changing the list is given time to finish.
                thread::sleep(Duration::from_millis(u64::from(attempt)));
            }
        }
        Err(Failure::Unsettled { attempts: ATTEMPTS })
    }

    fn try_list<T>(
        &mut self,
        message: &mut NetlinkMessage<impl NetlinkSerializable>,
        read: &impl Fn(&[u8]) -> Result<Option<T>, Malformed>,
    ) -> Result<Attempt<Vec<T>>, Failure> {
        self.request(message, NLM_F_DUMP)?;
        let (mut list, mut whole) = (Vec::new(), true);
        // Read to the end even when an object is malformed: the kernel serves one list at a time per socket.
        let mut first_error = None;
        loop {
            match self.receive() {
                Ok(complete) => whole &= complete,
                // Something was lost, perhaps the end: do not wait for it.
                Err(e) if is_no_buffers(&e) => return Ok(Attempt::Again),
                Err(e) => return Err(e),
            }
            for reply in Replies::new(&self.buffer, self.sequence) {
                let reply = match reply {
                    Ok(reply) => reply,
                    // What was cut off by too small a buffer ends in half a message.
                    Err(_) if !whole => break,
                    Err(e) => return Err(e.into()),
                };
                whole &= !reply.interrupted;
                match reply.content {
                    Content::Object(bytes) => match read(bytes) {
                        Ok(object) => list.extend(object),
                        Err(e) => first_error = first_error.or(Some(e)),
                    },
                    Content::End if !whole => return Ok(Attempt::Again),
                    Content::End => {
                        return first_error.map_or(Ok(Attempt::Complete(list)), |e| Err(e.into()));
                    }
                    // The list that an earlier attempt asked for is still being served.
                    Content::Refused(Refusal { errno: libc::EBUSY, .. }) | Content::Overrun => {
                        return Ok(Attempt::Again);
                    }
                    Content::Refused(refusal) => return Err(Failure::Refused(refusal)),
                }
            }
        }
    }

    fn request(
        &mut self,
        message: &mut NetlinkMessage<impl NetlinkSerializable>,
        flags: u16,
    ) -> Result<(), Failure> {
        message.header.sequence_number = self.next_sequence();
        message.header.flags = NLM_F_REQUEST | flags;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.wire
            .send(&bytes)
            .map_err(|source| Failure::Socket { step: "send the request", source })
    }

    /// Receives the next datagram. `false`: it was cut off; the buffer has been enlarged for the next time.
    fn receive(&mut self) -> Result<bool, Failure> {
        self.buffer.clear();
        self.buffer.reserve(DATAGRAM);
        let length = self
            .wire
            .receive(&mut self.buffer, true)
            .map_err(|source| Failure::Socket { step: "receive the answer", source })?;
        let complete = length <= self.buffer.len();
        if !complete {
            self.buffer.reserve(length.next_multiple_of(DATAGRAM));
        }
        Ok(complete)
    }

    /// The number of the next request.
    pub(super) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends requests that are put together already, as one datagram.
    pub(super) fn send(&mut self, requests: &[u8]) -> Result<(), Failure> {
        let sent = self.wire.send(requests);
        sent.map_err(|source| Failure::Socket { step: "send the requests", source })
    }

    /// The next datagram. Without `wait`, there may be none.
    pub(super) fn next_datagram(&mut self, wait: bool) -> Result<Received<'_>, Failure> {
        self.buffer.clear();
        self.buffer.reserve(DATAGRAM);
        match self.wire.receive(&mut self.buffer, wait) {
            Ok(length) if length > self.buffer.len() => Ok(Received::Lost),
            Ok(_) => Ok(Received::Datagram(&self.buffer)),
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => Ok(Received::Lost),
            Err(e) if !wait && e.kind() == io::ErrorKind::WouldBlock => Ok(Received::Nothing),
            Err(source) => Err(Failure::Socket { step: "receive the answers", source }),
        }
    }

    /// Throws away what is queued.
    fn drain(&mut self) {
        loop {
            self.buffer.clear();
            self.buffer.reserve(DATAGRAM);
            match self.wire.receive(&mut self.buffer, false) {
                Ok(_) => {}
                // ENOBUFS is reported once; the queue behind it is intact.
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(_) => return,
            }
        }
    }
}

fn envelope<T>(message: T) -> NetlinkMessage<T> {
    NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(message))
}

fn is_no_buffers(failure: &Failure) -> bool {
    matches!(failure, Failure::Socket { source, .. } if source.raw_os_error() == Some(libc::ENOBUFS))
}

#[cfg(test)]
mod tests;
