//! Tracked connections of an address that goes from one container to another.
//!
//! The kernel translates only a connection's first packet by the rules. What was translated for the container of before goes on to
//! be, for as long as packets come: to a new container that knows nothing of it, or under a translation that no rule asks for now.

use std::net::IpAddr;

use cni::plugin::Call;
use netns_tools::cause::one_line;
use netns_tools::conntrack::{Conntrack, Filter, Flow};
use netns_tools::iptables::Family;
use netns_tools::route::SCOPE_GLOBAL;
use netns_tools::{Netlink, NetlinkError};

use crate::sandbox::{self, Sandbox};

/// Forgets every connection that begins or ends at one of these addresses, before or behind translation. That it failed is told
/// to the reader of standard error only: connections end by themselves.
///
/// One look at the table for each family, whatever the number of addresses.
pub fn forget(addresses: &[IpAddr]) {
    for family in [Family::V4, Family::V6] {
        let of_family: Vec<_> =
            addresses.iter().filter(|ip| ip.is_ipv4() == (family == Family::V4)).collect();
        if let Err(error) = forget_family(family, &of_family) {
            eprintln!("stale connections were not forgotten: {}", one_line(&error));
        }
    }
}

fn forget_family(family: Family, addresses: &[&IpAddr]) -> Result<(), NetlinkError> {
    if addresses.is_empty() {
        return Ok(());
    }
    let mut conntrack = Conntrack::open()?;
    let is_of = |flow: &Flow| {
        let ends = [&flow.original, &flow.reply].map(|tuple| [tuple.source, tuple.destination]);
        ends.iter().flatten().any(|end| addresses.contains(&&end.ip()))
    };
    let stale = conntrack.list_where(&Filter::new(family), is_of)?;
    let mut outcome = Ok(());
    // each even if another fails
    for flow in &stale {
        outcome = outcome.and(conntrack.delete(flow).map(drop));
    }
    outcome
}

/// The addresses of a call's attachment: those that ADD answered, or else those that its interface has.
pub fn addresses(call: &Call<'_>) -> Vec<IpAddr> {
    let promised = call.conf.prev_result.iter().flat_map(|result| &result.ips);
    let promised: Vec<_> = promised.map(|ip| ip.address.ip()).collect();
    if promised.is_empty() { present(call).unwrap_or_default() } else { promised }
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
