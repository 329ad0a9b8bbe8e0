//! Messages put together byte by byte: those that our packet library does not know, and those that are sent by the thousand.

use std::net::IpAddr;

use netlink_packet_core::NetlinkSerializable;

/// `NLA_F_NESTED` (`linux/netlink.h`): an attribute that consists of attributes is marked as such.
pub(crate) const NESTED: u16 = 1 << 15;

/// A message's type, and what follows its netlink header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawMessage {
    kind: u16,
    body: Vec<u8>,
}

impl RawMessage {
    /// `kind`: `RTM_*`. `body` begins with the kind's fixed header.
    pub(crate) fn new(kind: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { kind, body: body.into() }
    }

    /// The same, with what `write` appends.
    pub(crate) fn written(kind: u16, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut body = Vec::with_capacity(96);
        write(&mut body);
        Self { kind, body }
    }

    /// Adds an attribute.
    pub(crate) fn push(&mut self, kind: u16, value: &[u8]) {
        append(&mut self.body, kind, value);
    }

    /// Adds an attribute that consists of attributes.
    pub(crate) fn nest(&mut self, kind: u16, value: &[u8]) {
        append_nest(&mut self.body, kind, value);
    }

    /// Adds a number as an attribute, if there is one.
    pub(crate) fn push_number(&mut self, kind: u16, number: Option<u32>) {
        append_number(&mut self.body, kind, number);
    }
}

impl NetlinkSerializable for RawMessage {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.body.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer[..self.body.len()].copy_from_slice(&self.body);
    }
}

/// Begins an attribute: its value is what is appended until [`end`], which wants to know what is returned here.
pub(crate) fn begin(to: &mut Vec<u8>, kind: u16) -> usize {
    let start = to.len();
    to.extend([0, 0]);
    to.extend(kind.to_ne_bytes());
    start
}

/// Ends an attribute: its length, and zeros up to a multiple of four bytes. `false`: it is longer than an attribute can be, 64 KiB.
pub(crate) fn end(to: &mut Vec<u8>, start: usize) -> bool {
    let length = u16::try_from(to.len() - start);
    to[start..start + 2].copy_from_slice(&length.unwrap_or(u16::MAX).to_ne_bytes());
    to.resize(to.len().next_multiple_of(4), 0);
    length.is_ok()
}

/// Appends one attribute, which must not be longer than one can be.
pub(crate) fn append(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let start = begin(to, kind);
    to.extend(value);
    let fits = end(to, start);
    debug_assert!(fits, "an attribute of {} bytes", value.len());
}

/// Appends an attribute that consists of attributes.
pub(crate) fn append_nest(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    append(to, kind | NESTED, value);
}

/// Appends a number as an attribute, if there is one.
pub(crate) fn append_number(to: &mut Vec<u8>, kind: u16, number: Option<u32>) {
    if let Some(number) = number {
        append(to, kind, &number.to_ne_bytes());
    }
}

/// Appends an IP address as an attribute, in four bytes or sixteen.
pub(crate) fn append_ip(to: &mut Vec<u8>, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(address) => append(to, kind, &address.octets()),
        IpAddr::V6(address) => append(to, kind, &address.octets()),
    }
}

/// `AF_INET` or `AF_INET6`, in the byte that headers have for it.
pub(crate) fn family(is_ipv4: bool) -> u8 {
    let family = if is_ipv4 { libc::AF_INET } else { libc::AF_INET6 };
    u8::try_from(family).unwrap_or_default()
}
