//! Tracked connections: listing them by what they were sent to and who answers, and forgetting them (ctnetlink,
//! `linux/netfilter/nfnetlink_conntrack.h`).
//!
//! Whoever changes where a port leads has to forget the UDP flows of before: they go on to where their first packet went, for as
//! long as packets come.
//!
//! ```no_run
//! use netns_tools::conntrack::{Conntrack, Filter, UDP};
//! use netns_tools::iptables::Family;
//!
//! let mut conntrack = Conntrack::open()?;
//! let stale = Filter::new(Family::V4).protocol(UDP).to("10.96.0.10".parse()?).port(53);
//! conntrack.forget(&stale.answered_by("10.1.0.7".parse()?))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod filter;
mod flow;

use netlink_sys::protocols::NETLINK_NETFILTER;

pub use self::filter::Filter;
pub use self::flow::{Flow, Tuple};
use crate::netlink::exchange::{Exchange, Failure};
use crate::netlink::netfilter::{self, HEADER_LEN};
use crate::netlink::{Action, KernelSocket, NetlinkError, Result, body};
use crate::netns::NetNs;

/// `IPPROTO_TCP`.
pub const TCP: u8 = 6;
/// `IPPROTO_UDP`.
pub const UDP: u8 = 17;
/// `IPPROTO_SCTP`.
pub const SCTP: u8 = 132;

/// `NFNL_SUBSYS_CTNETLINK` (`linux/netfilter/nfnetlink.h`).
const SUBSYSTEM: u8 = 1;
/// `IPCTNL_MSG_CT_GET` and `IPCTNL_MSG_CT_DELETE`.
const GET: u8 = 1;
const DELETE: u8 = 2;

/// A socket to one namespace's connection tracking. As [`crate::Netlink`], it belongs to the namespace that it was opened in.
pub struct Conntrack {
    exchange: Exchange<KernelSocket>,
    /// The kernel compares tuples itself (since 5.8), so that it has to print only what matches.
    filters: bool,
}

impl std::fmt::Debug for Conntrack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conntrack").finish_non_exhaustive()
    }
}

impl Conntrack {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> Result<Self> {
        let wire =
            KernelSocket::open(NETLINK_NETFILTER).map_err(|source| NetlinkError::Socket {
                action: action("use connection tracking", String::new()),
                step: "open a socket",
                source,
            })?;
        Ok(Self { exchange: Exchange::new(wire), filters: true })
    }

    /// Opens a socket in `ns`. The calling thread does not leave its own namespace.
    pub fn open_in(ns: &NetNs) -> Result<Self> {
        ns.visit(Self::open)?
    }

    /// The flows that `filter` lets through.
    pub fn list(&mut self, filter: &Filter) -> Result<Vec<Flow>> {
        self.list_where(filter, |_| true)
    }

    /// The flows that `filter` lets through and that are `wanted`. Only these are kept in memory while the kernel prints: of
    /// hundreds of thousands, mostly few are.
    pub fn list_where(
        &mut self,
        filter: &Filter,
        wanted: impl Fn(&Flow) -> bool,
    ) -> Result<Vec<Flow>> {
        // An older kernel prints everything.
        let wanted = |flow: &Flow| filter.matches(flow) && wanted(flow);
        let mut listed = self.dump(filter, wanted);
        if self.filters && matches!(&listed, Err(failure) if is_unknown_filter(failure)) {
            self.filters = false;
            listed = self.dump(filter, wanted);
        }
        listed.map_err(|e| failed("list connections", filter.to_string(), e))
    }

    /// Forgets one flow. `false`: it was gone already.
    ///
    /// The kernel knows a flow by its original direction, its zone and a number made of that and of its place in memory
    /// (`nf_ct_get_id`). So another one with the same addresses that took its place since is mostly, but not surely, spared.
    pub fn delete(&mut self, flow: &Flow) -> Result<bool> {
        let mut message = netfilter::message(SUBSYSTEM, DELETE, Some(flow.family()));
        flow.identify(&mut message);
        match self.exchange.change(message, 0) {
            Ok(()) => Ok(true),
            Err(failure) => match failed("forget connection", flow.to_string(), failure) {
                error if error.is_not_found() => Ok(false),
                error => Err(error),
            },
        }
    }

    /// Forgets every flow that `filter` lets through, and says how many there were. One that cannot be forgotten does not
    /// keep the others; its error is returned in the end.
    pub fn forget(&mut self, filter: &Filter) -> Result<usize> {
        let mut result = Ok(0);
        for flow in self.list(filter)? {
            match self.delete(&flow) {
                Ok(deleted) => result = result.map(|count| count + usize::from(deleted)),
                Err(error) => result = result.and(Err(error)),
            }
        }
        result
    }

    fn dump(
        &mut self,
        filter: &Filter,
        wanted: impl Fn(&Flow) -> bool,
    ) -> std::result::Result<Vec<Flow>, Failure> {
        let mut message = netfilter::message(SUBSYSTEM, GET, Some(filter.family));
        if self.filters {
            filter.ask(&mut message);
        }
        let read = |bytes: &[u8]| Ok(Flow::read(body(bytes, HEADER_LEN)?).filter(&wanted));
        self.exchange.list(message, read)
    }
}

/// The kernel knows filters, and not this one.
fn is_unknown_filter(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(refusal) if matches!(refusal.errno, libc::EOPNOTSUPP | libc::EINVAL))
}

fn action(operation: &str, object: String) -> Action {
    Action { operation: operation.to_owned(), object }
}

fn failed(operation: &str, object: String, failure: Failure) -> NetlinkError {
    NetlinkError::new(action(operation, object), failure)
}

#[cfg(test)]
mod tests;
