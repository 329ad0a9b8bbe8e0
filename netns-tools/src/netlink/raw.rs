//! Messages put together byte by byte: those that our packet library does not know, and those that are sent by the thousand.

use std::net::IpAddr;

use netlink_packet_core::NetlinkSerializable;

/// `NLA_F_NESTED` (`linux/netlink.h`).
const NESTED: u16 = 1 << 15;

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

    /// Adds a number as an attribute, if there is one.
    pub(crate) fn push(&mut self, kind: u16, number: Option<u32>) {
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

/// Appends one attribute: length, kind, value, and zeros up to a multiple of four bytes.
pub(crate) fn append(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    to.extend(length.to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(value);
    to.resize(to.len().next_multiple_of(4), 0);
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
