//! Messages of netfilter's netlink family (`linux/netfilter/nfnetlink.h`): a subsystem's command, a small header, and
//! attributes.

use netlink_packet_core::NetlinkSerializable;

pub(crate) use super::raw::{append, append_nest};
use crate::iptables::Family;

/// `sizeof(struct nfgenmsg)`.
pub(crate) const HEADER_LEN: usize = 4;

/// One message to a subsystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetfilterMessage {
    kind: u16,
    body: Vec<u8>,
}

impl NetfilterMessage {
    /// `subsystem`: `NFNL_SUBSYS_*`; `command`: the subsystem's own number.
    pub(crate) fn new(subsystem: u8, command: u8, family: Option<Family>) -> Self {
        let family = match family {
            None => libc::AF_UNSPEC,
            Some(Family::V4) => libc::AF_INET,
            Some(Family::V6) => libc::AF_INET6,
        };
        // Family, version (NFNETLINK_V0), and a number that only some subsystems use.
        let body = vec![u8::try_from(family).unwrap_or_default(), 0, 0, 0];
        Self { kind: u16::from_be_bytes([subsystem, command]), body }
    }

    /// Adds an attribute. Numbers in netfilter's attributes are in network byte order unless a header says otherwise.
    pub(crate) fn push(&mut self, kind: u16, value: &[u8]) {
        append(&mut self.body, kind, value);
    }

    /// Adds an attribute that consists of attributes.
    pub(crate) fn nest(&mut self, kind: u16, value: &[u8]) {
        append_nest(&mut self.body, kind, value);
    }
}

impl NetlinkSerializable for NetfilterMessage {
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
