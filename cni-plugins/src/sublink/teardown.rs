//! DEL and GC. They need neither the master nor a configuration that ADD would accept.

use cni::Error;
use cni::plugin::Call;
use netns_tools::{NetNs, Netlink};

use super::plan::temporary_name;
use crate::interface::kernel_error;
use crate::sandbox::{self, Sandbox};
use crate::step::step;

/// Removes the interface and gives the address back: each even if the other fails. The interface goes first, so that nobody
/// gets an address that is still in use.
pub fn del(call: &Call<'_>, kind: &str) -> Result<(), Error> {
    let link = step("remove the interface", || match sandbox::find(call)? {
        Sandbox::Present(ns) => {
            let temporary = temporary_name(&call.container_id, &call.ifname);
            remove(&ns, &[&call.ifname, &temporary], kind)
        }
        Sandbox::Gone => Ok(()),
    });
    let lease = match call.conf.ipam_type.as_deref() {
        Some(ipam) => step("give the address back", || call.delegate_del(ipam)),
        None => Ok(()),
    };
    match (link, lease) {
        (Err(mut first), Err(other)) => {
            let separator = if first.details.is_empty() { "" } else { "; " };
            first.details = format!("{}{separator}also: {other}", first.details);
            Err(first)
        }
        (link, lease) => link.and(lease),
    }
}

/// Links go with their namespaces; what outlives a container is its address.
pub fn gc(call: &Call<'_>) -> Result<(), Error> {
    call.conf.ipam_type.as_deref().map_or(Ok(()), |ipam| call.delegate_gc(ipam))
}

/// Removes the links of these names and this kind. One of another kind is not ours: an ADD that was refused because the name is
/// taken is followed by a DEL, too.
pub fn remove(ns: &NetNs, names: &[&str], kind: &str) -> Result<(), Error> {
    let mut net = Netlink::open_in(ns).map_err(|e| kernel_error("cannot open netlink", &e))?;
    for name in names {
        let failed = |e| kernel_error(&format!("cannot remove {name:?}"), &e);
        let Some(link) = net.link(name).map_err(failed)? else { continue };
        if link.kind.as_deref() != Some(kind) {
            continue;
        }
        match net.delete_link(link.index) {
            Err(error) if !error.is_not_found() => return Err(failed(error)),
            _ => {}
        }
    }
    Ok(())
}
