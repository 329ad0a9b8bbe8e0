//! Tracked connections of an address that goes from one container to another.
//!
//! The kernel translates only a connection's first packet by the rules. What was translated for the container of before goes on to
//! be, for as long as packets come: to a new container that knows nothing of it, or under a translation that no rule asks for now.
//!
//! DEL and GC forget them, who make an address free; an address is given to nobody before. ADD does not ask again: a container waits for
//! it, and the kernel walks through its whole table, of all namespaces, for each question. netns-tools' example `conntrack_scan` measures
//! that: tens of ms if nothing is tracked, 0.1 to 0.2 s with 100 000 flows, 0.8 s for IPv6 (on a busy machine with 2 processors). After a
//! boot, when leases end without either of them, nothing is tracked.

use std::net::IpAddr;

use cni::plugin::Call;
use netns_tools::cause::one_line;
use netns_tools::conntrack::{Conntrack, Filter, Flow};
use netns_tools::iptables::Family;
use netns_tools::route::SCOPE_GLOBAL;
use netns_tools::{Netlink, NetlinkError};

use crate::host_local;
use crate::sandbox::{self, Sandbox};

/// Forgets every connection that one of these addresses has begun, or answers, behind all translation. That it failed is told to the
/// reader of standard error only: connections end by themselves.
pub fn forget(addresses: &[IpAddr]) {
    if addresses.is_empty() {
        return;
    }
    let forget_each = |mut conntrack: Conntrack| {
        let mut outcome = Ok(());
        // each even if another fails
        for address in addresses {
            outcome = outcome.and(forget_one(&mut conntrack, *address));
        }
        outcome
    };
    if let Err(error) = Conntrack::open().and_then(forget_each) {
        eprintln!("stale connections were not forgotten: {}", one_line(&error));
    }
}

/// The kernel walks through its whole table for each question, and compares addresses of IPv4 itself: of 100 000 connections that is
/// a tenth of what it takes to print and to read them all. Those of IPv6 it has to print (see [`Filter`]), so they are asked for once.
fn forget_one(conntrack: &mut Conntrack, address: IpAddr) -> Result<(), NetlinkError> {
    let stale = if address.is_ipv4() {
        let all = Filter::new(Family::V4);
        let mut stale = conntrack.list(&all.from(address))?;
        stale.extend(conntrack.list(&all.answered_by(address))?);
        stale
    } else {
        let is_of = |flow: &Flow| {
            [flow.original.source, flow.reply.source].iter().any(|end| end.ip() == address)
        };
        conntrack.list_where(&Filter::new(Family::V6), is_of)?
    };
    let mut outcome = Ok(());
    for flow in &stale {
        outcome = outcome.and(conntrack.delete(flow).map(drop));
    }
    outcome
}

/// The addresses of a call's attachment: those that ADD answered, or else those that its interface has, or else (it went with its
/// namespace) those that `host-local` gave it. `inner` is the delegate's call.
pub fn addresses(call: &Call<'_>, inner: &Call<'_>) -> Vec<IpAddr> {
    let promised = call.conf.prev_result.iter().flat_map(|result| &result.ips);
    let promised: Vec<_> = promised.map(|ip| ip.address.ip()).collect();
    if !promised.is_empty() {
        return promised;
    }
    let present = present(call).filter(|addresses| !addresses.is_empty());
    present.unwrap_or_else(|| host_local::leased_to(inner))
}

/// Link-local ones are nobody's for long.
fn present(call: &Call<'_>) -> Option<Vec<IpAddr>> {
    let Ok(Sandbox::Present(ns)) = sandbox::find(call) else { return None };
    let mut net = Netlink::open_in(&ns).ok()?;
    let link = net.link(&call.ifname).ok()??;
    let addresses = net.addresses(Some(link.index)).ok()?;
    let global = addresses.iter().filter(|address| address.scope == SCOPE_GLOBAL);
    Some(global.map(|address| address.net.ip()).collect())
}
