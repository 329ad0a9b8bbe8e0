//! DEL and GC of `bandwidth`.

use cni::Error;
use cni::plugin::Call;
use netns_tools::{Link, Netlink};

use super::apply::{gone_or, open};
use super::conf::Conf;
use super::device::Device;
use super::host_end;
use crate::collect::first_with_others;
use crate::interface::kernel_error;
use crate::sandbox::{self, Sandbox};
use crate::step::step;
use crate::tag;

/// The handle `1:` of our filters.
const HANDLE: u32 = 0x0001_0000;

/// Removes the limits and the ifb, each even if the other fails.
///
/// The reference removes the ifb only, and so what the container still sends is lost until its interface goes, too.
pub fn del(call: &Call<'_>) -> Result<(), Error> {
    let mut host = open()?;
    let device = Device::of(call);
    let ifb = find_ifb(&mut host, &device)?;
    let limits = step("remove the limits of the host's interface", || {
        remove_limits(call, &mut host, ifb.as_ref())
    });
    let removed = step("remove the ifb device", || match &ifb {
        Some(ifb) => gone_or(host.delete_link(ifb.index), "remove", &ifb.name),
        None => Ok(()),
    });
    first_with_others([limits, removed])
}

/// The attachment's ifb. One of this name that says that it is another attachment's is not.
fn find_ifb(host: &mut Netlink, device: &Device) -> Result<Option<Link>, Error> {
    let name = &device.name;
    let ifb = host.ifb(name).map_err(|e| kernel_error(&format!("cannot look up {name:?}"), &e))?;
    Ok(ifb.filter(|ifb| device.is(ifb)))
}

fn remove_limits(call: &Call<'_>, host: &mut Netlink, ifb: Option<&Link>) -> Result<(), Error> {
    // Without the namespace there is no pair: the kernel has removed both ends, and the limits with them.
    let Sandbox::Present(ns) = sandbox::find(call)? else { return Ok(()) };
    let Some(end) = host_end::find_any(host, &ns, &call.ifname)? else { return Ok(()) };
    // A configuration that cannot be read may have had any limit.
    let conf = Conf::parse(&call.conf).ok();
    let ingress = if conf.is_none_or(|conf| conf.ingress.is_some()) {
        remove_root_filter(host, &end)
    } else {
        Ok(())
    };
    let egress = if conf.is_none_or(|conf| conf.egress.is_some()) {
        remove_redirection(host, &end, ifb.map(|ifb| ifb.index))
    } else {
        Ok(())
    };
    first_with_others([ingress, egress])
}

fn remove_root_filter(host: &mut Netlink, end: &Link) -> Result<(), Error> {
    let qdiscs = host.qdiscs(end.index);
    let qdiscs = qdiscs.map_err(|e| kernel_error(&format!("cannot look at {:?}", end.name), &e))?;
    if qdiscs.iter().any(|q| q.root && q.kind == "tbf" && q.handle == HANDLE) {
        return gone_or(host.delete_root_qdisc(end.index), "remove the limit of", &end.name);
    }
    Ok(())
}

/// Removes the ingress hook if it leads to our ifb, or nowhere: ADD was interrupted then. A hook with other filters is somebody
/// else's.
fn remove_redirection(host: &mut Netlink, end: &Link, ifb: Option<u32>) -> Result<(), Error> {
    let failed = |e| kernel_error(&format!("cannot look at {:?}", end.name), &e);
    let qdiscs = host.qdiscs(end.index).map_err(failed)?;
    if !qdiscs.iter().any(|qdisc| qdisc.kind == "ingress") {
        return Ok(());
    }
    let redirects = host.ingress_redirects(end.index).map_err(failed)?;
    let ours = ifb.is_some_and(|ifb| redirects.contains(&ifb));
    if ours || !host.has_ingress_filters(end.index).map_err(failed)? {
        return gone_or(host.delete_ingress(end.index), "stop the redirection of", &end.name);
    }
    Ok(())
}

/// Removes the ifbs of attachments of this network that are not valid any more: those whose alias says so.
///
/// An ifb without our alias (the reference's, or of an ADD that was killed right after making it) stays: its name does not tell
/// which network it is of. DEL of its attachment removes it.
pub fn gc(call: &Call<'_>) -> Result<(), Error> {
    let mut host = open()?;
    let ifbs = host.ifbs().map_err(|e| kernel_error("cannot list ifb devices", &e))?;
    let stale: Vec<_> = ifbs.into_iter().filter(|ifb| tag::is_garbage(call, ifb)).collect();
    first_with_others(stale.iter().map(|ifb| collect(&mut host, ifb)))
}

/// A container that is not known any more may still run: it shall not lose what it sends.
fn collect(host: &mut Netlink, ifb: &Link) -> Result<(), Error> {
    let failed = |e| kernel_error(&format!("cannot find who uses {:?}", ifb.name), &e);
    for link in host.links().map_err(failed)? {
        let is_veth = link.kind.as_deref() == Some("veth");
        if is_veth && host.ingress_redirects(link.index).map_err(failed)?.contains(&ifb.index) {
            gone_or(host.delete_ingress(link.index), "stop the redirection of", &link.name)?;
        }
    }
    gone_or(host.delete_link(ifb.index), "remove", &ifb.name)
}
