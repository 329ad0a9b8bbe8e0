//! DEL and GC of the plugins that make veth pairs: whatever is there goes, and what fails does not keep the rest.

use cni::plugin::Call;
use cni::{CniResult, Error};
use ipnetwork::IpNetwork;
use netns_tools::Netlink;
use netns_tools::route::SCOPE_GLOBAL;

use crate::collect::first_with_others;
use crate::interface::kernel_error;
use crate::masquerade::{self, Masquerade};
use crate::sandbox::{self, Sandbox};
use crate::step::step;
use crate::tag;

/// DEL: removes the interface, gives back the address, removes the rules: each even if another fails.
///
/// `master` tells whose port the host's end is, which is needed when only the host's end is left.
pub fn del(
    call: &Call<'_>,
    masquerade: bool,
    master: impl Fn(&mut Netlink) -> Result<Option<u32>, Error>,
) -> Result<(), Error> {
    let mut addresses = promised_addresses(call.conf.prev_result.as_ref());
    let link = step("remove the interface", || {
        if !remove_interface(call, &mut addresses)? {
            remove_host_end(call, master)?;
        }
        Ok(())
    });
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

/// Removes the veth pair by the container's end, and adds the addresses that it had. `false`: there is no such end.
fn remove_interface(call: &Call<'_>, addresses: &mut Vec<IpNetwork>) -> Result<bool, Error> {
    let Sandbox::Present(ns) = sandbox::find(call)? else { return Ok(false) };
    let failed = |e| kernel_error(&format!("cannot remove {:?}", call.ifname), &e);
    let mut net = Netlink::open_in(&ns).map_err(failed)?;
    let Some(link) = net.link(&call.ifname).map_err(failed)? else { return Ok(false) };
    let present = net.addresses(Some(link.index)).map_err(failed)?;
    // Link-local ones are the kernel's own and have no rules.
    let global = present.into_iter().filter(|address| address.scope == SCOPE_GLOBAL);
    addresses.extend(global.map(|address| address.net));
    match net.delete_link(link.index) {
        Err(error) if !error.is_not_found() => Err(failed(error)),
        _ => Ok(true),
    }
}

/// The namespace's file may be gone though a process still holds the namespace, or the container gave its end another name:
/// then the pair is there yet. Ours have a tag; for the reference's, ADD's result names the end on the host.
fn remove_host_end(
    call: &Call<'_>,
    master: impl Fn(&mut Netlink) -> Result<Option<u32>, Error>,
) -> Result<(), Error> {
    let failed = |e| kernel_error("cannot remove the host's end of the veth pair", &e);
    let mut net = Netlink::open().map_err(failed)?;
    tag::remove_own(&mut net, call)?;
    let Some(result) = &call.conf.prev_result else { return Ok(()) };
    let master = master(&mut net)?;
    for end in result.interfaces.iter().filter(|interface| interface.sandbox.is_empty()) {
        let Some(link) = net.link(&end.name).map_err(failed)? else { continue };
        // Only what is still what ADD made: the name may be another's by now.
        let same_mac = link.mac.is_some_and(|mac| mac.to_string().eq_ignore_ascii_case(&end.mac));
        let is_tagged = link.alias.is_some();
        if link.kind.as_deref() != Some("veth") || link.master != master || !same_mac || is_tagged {
            continue;
        }
        match net.delete_link(link.index) {
            Err(error) if !error.is_not_found() => return Err(failed(error)),
            _ => {}
        }
    }
    Ok(())
}

fn promised_addresses(prev_result: Option<&CniResult>) -> Vec<IpNetwork> {
    prev_result.map(|result| result.ips.iter().map(|ip| ip.address).collect()).unwrap_or_default()
}
