//! Reading the kernel's answers: pure, from the bytes of a datagram to what they say.
//!
//! See netlink(7) and the kernel's `Documentation/userspace-api/netlink/intro.rst`.

use netlink_packet_core::{
    NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP,
    NLMSG_OVERRUN, NetlinkBuffer, NlasIterator, parse_i32, parse_string, parse_u32,
};

/// `sizeof(struct nlmsghdr)`.
const HEADER_LEN: usize = 16;
/// `NLMSGERR_ATTR_MSG` (`linux/netlink.h`): the kernel's reason, as text.
const ATTR_MSG: u16 = 1;
/// `NLMSGERR_ATTR_OFFS`: which byte of the request it complains of.
const ATTR_OFFS: u16 = 2;

/// The bytes are not what the protocol allows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) String);

/// The kernel's "no".
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Positive.
    pub(crate) errno: i32,
    /// The extended acknowledgement's text, where the kernel gives one.
    pub(crate) text: Option<String>,
    /// Where in the request the attribute begins that is at fault.
    pub(crate) offset: Option<u32>,
}

/// What one message says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content<'a> {
    /// A link, an address, …: what follows its netlink header.
    Object(&'a [u8]),
    /// The request was carried out, or the list is complete.
    End,
    /// The request failed.
    Refused(Refusal),
    /// Messages were lost.
    Overrun,
}

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply<'a> {
    /// The list changed while it was being read: it may lack entries or hold some twice.
    pub(crate) interrupted: bool,
    pub(crate) content: Content<'a>,
}

/// The messages of one datagram that answer the request numbered `sequence`. Others are answers to an earlier request
/// that was given up, and are passed over.
pub(crate) struct Replies<'a> {
    rest: &'a [u8],
    sequence: u32,
}

impl<'a> Replies<'a> {
    pub(crate) fn new(datagram: &'a [u8], sequence: u32) -> Self {
        Self { rest: datagram, sequence }
    }

    /// Cuts the next message off: its type, flags, sequence number and what follows its header.
    fn cut(&mut self) -> Result<(u16, u16, u32, &'a [u8]), Malformed> {
        let rest = std::mem::take(&mut self.rest);
        let message = NetlinkBuffer::new_checked(rest)
            .map_err(|e| Malformed(format!("netlink header: {e}")))?;
        // `new_checked` has compared the length with that of `rest` and of the header.
        let length = message.length() as usize;
        self.rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Ok((
            message.message_type(),
            message.flags(),
            message.sequence_number(),
            &rest[HEADER_LEN..length],
        ))
    }
}

impl<'a> Iterator for Replies<'a> {
    type Item = Result<Reply<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let (kind, flags, sequence, payload) = match self.cut() {
                Ok(message) => message,
                Err(e) => return Some(Err(e)),
            };
            if sequence != self.sequence || kind == NLMSG_NOOP {
                continue;
            }
            let content = match kind {
                NLMSG_ERROR => verdict(payload, flags, true),
                NLMSG_DONE => verdict(payload, flags, false),
                NLMSG_OVERRUN => Ok(Content::Overrun),
                _ => Ok(Content::Object(payload)),
            };
            let interrupted = flags & NLM_F_DUMP_INTR != 0;
            return Some(content.map(|content| Reply { interrupted, content }));
        }
        None
    }
}

/// Reads `NLMSG_ERROR` (which quotes the request) and `NLMSG_DONE` (which does not).
fn verdict(payload: &[u8], flags: u16, quotes: bool) -> Result<Content<'static>, Malformed> {
    let Some((code, rest)) = payload.split_at_checked(4) else {
        // The kernel may end a list with an empty NLMSG_DONE.
        return if quotes {
            Err(Malformed("short error message".into()))
        } else {
            Ok(Content::End)
        };
    };
    let code = parse_i32(code).map_err(|e| Malformed(e.to_string()))?;
    if code >= 0 {
        return Ok(Content::End);
    }
    let request_len = if !quotes {
        0
    } else if flags & NLM_F_CAPPED != 0 {
        HEADER_LEN
    } else {
        rest.get(..4).and_then(|length| parse_u32(length).ok()).unwrap_or(0) as usize
    };
    let details = if flags & NLM_F_ACK_TLVS == 0 {
        &[]
    } else {
        rest.get(request_len.next_multiple_of(4)..).unwrap_or_default()
    };
    let detail = |wanted| attributes(details).find(|(kind, _)| *kind == wanted);
    let text = detail(ATTR_MSG).and_then(|(_, value)| parse_string(value).ok());
    Ok(Content::Refused(Refusal {
        errno: code.saturating_neg(),
        text: text.filter(|text| !text.is_empty()),
        offset: detail(ATTR_OFFS).and_then(|(_, value)| parse_u32(value).ok()),
    }))
}

/// What a datagram says about requests, whichever they are: the sequence number of each and the refusal, if it is one. For
/// batches, whose messages are answered one by one.
pub(crate) fn refusals(
    datagram: &[u8],
) -> impl Iterator<Item = Result<(u32, Option<Refusal>), Malformed>> {
    let mut messages = Replies::new(datagram, 0);
    std::iter::from_fn(move || {
        while !messages.rest.is_empty() {
            let (kind, flags, sequence, payload) = match messages.cut() {
                Ok(message) => message,
                Err(e) => return Some(Err(e)),
            };
            if kind == NLMSG_ERROR {
                return Some(verdict(payload, flags, true).map(|content| match content {
                    Content::Refused(refusal) => (sequence, Some(refusal)),
                    _ => (sequence, None),
                }));
            }
        }
        None
    })
}

/// The attributes in `bytes`, as kind and value, up to the first that is cut short.
///
/// We read objects attribute by attribute, and only the attributes that we use: one that a newer kernel has changed can
/// then not make a whole link unreadable.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).map(|attribute| {
        let (kind, end) = (attribute.kind(), usize::from(attribute.length()));
        // NlasIterator has compared the length with the attribute's header and with what there is.
        (kind, &attribute.into_inner()[4..end])
    })
}

#[cfg(test)]
pub(crate) mod tests;
