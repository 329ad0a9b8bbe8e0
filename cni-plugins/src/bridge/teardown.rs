//! DEL of `bridge`: whatever is there goes, and what fails does not keep the rest.

use cni::plugin::Call;
use cni::{CniResult, Error};
use ipnetwork::IpNetwork;
use netns_tools::Netlink;
use netns_tools::route::SCOPE_GLOBAL;

use super::conf::Teardown;
use crate::interface::kernel_error;
use crate::masquerade::Masquerade;
use crate::sandbox::{self, Sandbox};
use crate::step::step;

/// Removes the interface, gives back the address, removes the rules: each even if another fails.
pub fn del(call: &Call<'_>) -> Result<(), Error> {
    let conf = Teardown::parse(call)?;
    let mut addresses = promised_addresses(call.conf.prev_result.as_ref());
    let link = step("remove the interface", || remove_interface(call, &conf, &mut addresses));
    let lease = match call.conf.ipam_type.as_deref() {
        Some(ipam) => step("give the address back", || call.delegate_del(ipam)),
        None => Ok(()),
    };
    let rules = if conf.masquerade {
        let masquerade = Masquerade::new(&call.conf.name, &call.container_id);
        step("remove the masquerading rules", || masquerade.tear_down(&addresses))
    } else {
        Ok(())
    };
    first_with_others([link, lease, rules])
}

/// Removes the veth pair by the end that can be found, and adds the addresses that it had.
fn remove_interface(
    call: &Call<'_>,
    conf: &Teardown,
    addresses: &mut Vec<IpNetwork>,
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
        Sandbox::Gone => remove_host_end(call, conf),
    }
}

/// The namespace's file is gone, but a process may still hold the namespace and so the veth pair: ADD's result
/// names the end on the host.
fn remove_host_end(call: &Call<'_>, conf: &Teardown) -> Result<(), Error> {
    let Some(result) = &call.conf.prev_result else { return Ok(()) };
    let on_host = result.interfaces.iter().filter(|interface| interface.sandbox.is_empty());
    let ends: Vec<_> = on_host.filter(|interface| interface.name != conf.bridge).collect();
    if ends.is_empty() {
        return Ok(());
    }
    let failed = |e| kernel_error("cannot remove the host's end of the veth pair", &e);
    let mut net = Netlink::open().map_err(failed)?;
    let Some(bridge) = net.link(&conf.bridge).map_err(failed)? else { return Ok(()) };
    for end in ends {
        let Some(link) = net.link(&end.name).map_err(failed)? else { continue };
        // Only what is still what ADD made: the name may be another's by now.
        let same_mac = link.mac.is_some_and(|mac| mac.to_string().eq_ignore_ascii_case(&end.mac));
        if link.kind.as_deref() != Some("veth") || link.master != Some(bridge.index) || !same_mac {
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

/// The first error, its details extended by the others.
fn first_with_others(results: [Result<(), Error>; 3]) -> Result<(), Error> {
    let mut errors = results.into_iter().filter_map(Result::err);
    let Some(mut first) = errors.next() else { return Ok(()) };
    for other in errors {
        let separator = if first.details.is_empty() { "" } else { "; " };
        first.details = format!("{}{separator}also: {other}", first.details);
    }
    Err(first)
}
