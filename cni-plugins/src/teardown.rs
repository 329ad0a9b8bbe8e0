//! DEL and GC of the plugins that make veth pairs: whatever is there goes, and what fails does not keep the rest.

use cni::plugin::Call;
use cni::{CniResult, Error};
use ipnetwork::IpNetwork;
use netns_tools::Netlink;
use netns_tools::route::SCOPE_GLOBAL;

use crate::interface::kernel_error;
use crate::masquerade::{self, Masquerade};
use crate::sandbox::{self, Sandbox};
use crate::step::step;
use crate::tag;

/// DEL: removes the interface, gives back the address, removes the rules: each even if another fails.
///
/// `remove_host_end` is what else to try when the container's namespace is gone.
pub fn del(
    call: &Call<'_>,
    masquerade: bool,
    remove_host_end: impl Fn(&CniResult) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut addresses = promised_addresses(call.conf.prev_result.as_ref());
    let link =
        step("remove the interface", || remove_interface(call, &mut addresses, &remove_host_end));
    let lease = match call.conf.ipam_type.as_deref() {
        Some(ipam) => step("give the address back", || call.delegate_del(ipam)),
        None => Ok(()),
    };
    let rules = if masquerade {
        let masquerade = Masquerade::of(call);
        step("remove the masquerading rules", || masquerade.tear_down(&addresses))
    } else {
        Ok(())
    };
    first_with_others([link, lease, rules])
}

/// GC: links, rules and leases of attachments of this network that are not valid any more.
///
/// Rules only if the network masquerades: to look at a table makes it, and with it the kernel's tracking of connections.
pub fn gc(call: &Call<'_>, masquerade: bool) -> Result<(), Error> {
    let links = step("remove stale links", || tag::collect_garbage(call));
    let rules = if masquerade {
        step("remove stale masquerading rules", || {
            masquerade::collect_garbage(&call.conf.name, &call.valid_attachments)
        })
    } else {
        Ok(())
    };
    let leases = match call.conf.ipam_type.as_deref() {
        Some(ipam) => step("give stale addresses back", || call.delegate_gc(ipam)),
        None => Ok(()),
    };
    first_with_others([links, rules, leases])
}

/// Removes the veth pair by the end that can be found, and adds the addresses that it had.
fn remove_interface(
    call: &Call<'_>,
    addresses: &mut Vec<IpNetwork>,
    remove_host_end: &impl Fn(&CniResult) -> Result<(), Error>,
) -> Result<(), Error> {
    match sandbox::find(call)? {
        Sandbox::Present(ns) => {
            let net = Netlink::open_in(&ns);
            let mut net = net.map_err(|e| kernel_error("cannot open netlink", &e))?;
            let failed = |e| kernel_error(&format!("cannot remove {:?}", call.ifname), &e);
            let Some(link) = net.link(&call.ifname).map_err(failed)? else { return Ok(()) };
            let present = net.addresses(Some(link.index)).map_err(failed)?;
            // Link-local ones are the kernel's own and have no rules.
            let global = present.into_iter().filter(|address| address.scope == SCOPE_GLOBAL);
            addresses.extend(global.map(|address| address.net));
            match net.delete_link(link.index) {
                Err(error) if !error.is_not_found() => Err(failed(error)),
                _ => Ok(()),
            }
        }
        // The namespace's file is gone, but a process may still hold the namespace and so the veth pair.
        Sandbox::Gone => {
            let net = Netlink::open();
            let mut net = net.map_err(|e| kernel_error("cannot open netlink", &e))?;
            tag::remove_own(&mut net, call)?;
            call.conf.prev_result.as_ref().map_or(Ok(()), remove_host_end)
        }
    }
}

fn promised_addresses(prev_result: Option<&CniResult>) -> Vec<IpNetwork> {
    prev_result.map(|result| result.ips.iter().map(|ip| ip.address).collect()).unwrap_or_default()
}

/// The first error, its details extended by the others.
pub fn first_with_others(
    results: impl IntoIterator<Item = Result<(), Error>>,
) -> Result<(), Error> {
    let mut errors = results.into_iter().filter_map(Result::err);
    let Some(mut first) = errors.next() else { return Ok(()) };
    for other in errors {
        let separator = if first.details.is_empty() { "" } else { "; " };
        first.details = format!("{}{separator}also: {other}", first.details);
    }
    Err(first)
}
