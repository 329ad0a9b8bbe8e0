//! Named packet counters that rules refer to, as `iptables -m nfacct` does (`linux/netfilter/nfnetlink_acct.h`).
//!
//! A counter belongs to its network namespace and has to be there before a rule that names it.

use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::netlink::exchange::{Exchange, Failure};
use crate::netlink::netfilter::{self, HEADER_LEN};
use crate::netlink::raw::RawMessage;
use crate::netlink::reply::{Malformed, attributes};
use crate::netlink::{Action, KernelSocket, NetlinkError, Result, body};
use crate::netns::NetNs;

/// `NFNL_SUBSYS_ACCT` (`linux/netfilter/nfnetlink.h`).
const SUBSYSTEM: u8 = 7;
/// `NFNL_MSG_ACCT_NEW`, `NFNL_MSG_ACCT_GET`, `NFNL_MSG_ACCT_DEL`.
const NEW: u8 = 0;
const GET: u8 = 1;
const DELETE: u8 = 3;
/// `NFACCT_NAME`, `NFACCT_PKTS`, `NFACCT_BYTES`.
const NAME: u16 = 1;
const PACKETS: u16 = 2;
const BYTES: u16 = 3;

/// What a counter has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A socket to one namespace's counters.
pub struct PacketCounters {
    exchange: Exchange<KernelSocket>,
}

impl std::fmt::Debug for PacketCounters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PacketCounters").finish_non_exhaustive()
    }
}

impl PacketCounters {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> Result<Self> {
        let wire =
            KernelSocket::open(NETLINK_NETFILTER).map_err(|source| NetlinkError::Socket {
                action: action("use packet counters", String::new()),
                step: "open a socket",
                source,
            })?;
        Ok(Self { exchange: Exchange::new(wire) })
    }

    /// Opens a socket in `ns`. The calling thread does not leave its own namespace.
    pub fn open_in(ns: &NetNs) -> Result<Self> {
        if ns.is_current()? { Self::open() } else { ns.run(Self::open)? }
    }

    /// Makes a counter if it is not there; one that is there keeps its count. `name`: at most 31 bytes.
    ///
    /// Refused with `EINVAL` by a kernel without `nfnetlink_acct`.
    pub fn ensure(&mut self, name: &str) -> Result<()> {
        match self.exchange.change(message(NEW, name), 0) {
            Ok(()) => Ok(()),
            Err(Failure::Refused(refusal)) if refusal.errno == libc::EBUSY => Ok(()),
            Err(failure) => Err(failed("make packet counter", name, failure)),
        }
    }

    /// What a counter has seen; `None` if there is none.
    pub fn get(&mut self, name: &str) -> Result<Option<Count>> {
        match self.exchange.one(message(GET, name), |bytes| Count::read(body(bytes, HEADER_LEN)?)) {
            Ok(count) => Ok(Some(count)),
            Err(failure) => match failed("read packet counter", name, failure) {
                error if error.is_not_found() => Ok(None),
                error => Err(error),
            },
        }
    }

    /// Removes a counter. `false`: it was gone already. `EBUSY` while a rule refers to it.
    pub fn delete(&mut self, name: &str) -> Result<bool> {
        match self.exchange.change(message(DELETE, name), 0) {
            Ok(()) => Ok(true),
            Err(failure) => match failed("delete packet counter", name, failure) {
                error if error.is_not_found() => Ok(false),
                error => Err(error),
            },
        }
    }
}

impl Count {
    fn read(bytes: &[u8]) -> std::result::Result<Self, Malformed> {
        let mut count = Self::default();
        for (kind, value) in attributes(bytes) {
            let number = || <[u8; 8]>::try_from(value).map(u64::from_be_bytes);
            let field = match kind {
                PACKETS => &mut count.packets,
                BYTES => &mut count.bytes,
                _ => continue,
            };
            *field = number().map_err(|_| Malformed(format!("a count of {value:?}")))?;
        }
        Ok(count)
    }
}

fn message(command: u8, name: &str) -> RawMessage {
    let mut message = netfilter::message(SUBSYSTEM, command, None);
    let mut terminated = name.as_bytes().to_vec();
    terminated.push(0);
    message.push(NAME, &terminated);
    message
}

fn action(operation: &str, object: String) -> Action {
    Action { operation: operation.to_owned(), object }
}

fn failed(operation: &str, name: &str, failure: Failure) -> NetlinkError {
    NetlinkError::new(action(operation, name.to_owned()), failure)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::testing::TestNetns;

    #[test]
    fn a_counter_counts_what_its_rule_matches() {
        let ns = TestNetns::new("nfacct");
        let mut counters = PacketCounters::open_in(ns.ns()).unwrap();
        assert_eq!(counters.get("demo").unwrap(), None);
        assert!(!counters.delete("demo").unwrap());
        counters.ensure("demo").unwrap();
        assert_eq!(counters.get("demo").unwrap(), Some(Count::default()));
        ns.configure("lo", &[]);
        ns.cmd(&["iptables", "-A", "OUTPUT", "-p", "udp", "-m", "nfacct", "--nfacct-name", "demo"]);
        let sent =
            ns.run(|| UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"1234", "127.0.0.1:9"));
        assert_eq!(sent.unwrap(), 4);
        // made again, it keeps its count
        counters.ensure("demo").unwrap();
        let count = counters.get("demo").unwrap().unwrap();
        assert_eq!((count.packets, count.bytes), (1, 32));
        assert!(counters.delete("demo").is_err(), "a rule refers to it");
        ns.cmd(&["iptables", "-F", "OUTPUT"]);
        assert!(counters.delete("demo").unwrap());
    }

    #[test]
    fn half_a_number_is_refused() {
        assert!(Count::read(&[8, 0, 2, 0, 0, 0, 0, 1]).is_err());
    }
}
