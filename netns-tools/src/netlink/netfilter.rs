//! Messages of netfilter's netlink family (`linux/netfilter/nfnetlink.h`): a subsystem's command, a small header, and
//! attributes. Numbers in these are in network byte order unless a header says otherwise.

use super::raw::RawMessage;
use crate::iptables::Family;

/// `sizeof(struct nfgenmsg)`.
pub(crate) const HEADER_LEN: usize = 4;

/// One message to a subsystem, without attributes yet. `subsystem`: `NFNL_SUBSYS_*`; `command`: the subsystem's own number.
pub(crate) fn message(subsystem: u8, command: u8, family: Option<Family>) -> RawMessage {
    let family = match family {
        None => libc::AF_UNSPEC,
        Some(Family::V4) => libc::AF_INET,
        Some(Family::V6) => libc::AF_INET6,
    };
    // Family, version (NFNETLINK_V0), and a number that only some subsystems use.
    let body = [u8::try_from(family).unwrap_or_default(), 0, 0, 0];
    RawMessage::new(u16::from_be_bytes([subsystem, command]), body)
}
