//! The host's end of the container's veth pair.

use cni::{CniResult, Error};
use netns_tools::{Link, NetNs, Netlink};

use crate::code;
use crate::interface::kernel_error;

/// The host's end, which must be one of the interfaces of the chain's result.
pub fn find(
    host: &mut Netlink,
    ns: &NetNs,
    ifname: &str,
    result: &CniResult,
) -> Result<Link, Error> {
    let refuse = |msg: String| {
        let details = "bandwidth shapes veth pairs: it comes after the plugin that made one (bridge, ptp), whose result it gets as prevResult";
        Err(Error::new(code::CONFLICT, msg).with_details(details))
    };
    if result.interfaces.is_empty() {
        return refuse("no interfaces provided".into());
    }
    let index = match peer_of(ns, ifname)? {
        Ok(index) => index,
        Err(why) => return refuse(format!("container interface {ifname} has no veth peer: {why}")),
    };
    let Some(link) = look_up(host, index)? else {
        return refuse(format!("veth peer with index {index} is not in host ns"));
    };
    let named = result.interfaces.iter().any(|i| i.sandbox.is_empty() && i.name == link.name);
    if !named {
        return refuse("no veth peer of container interface found in host ns".into());
    }
    Ok(link)
}

/// The host's end for a teardown; `None`: it is gone, or cannot be told.
pub fn find_any(host: &mut Netlink, ns: &NetNs, ifname: &str) -> Result<Option<Link>, Error> {
    peer_of(ns, ifname)?.map_or(Ok(None), |index| look_up(host, index))
}

/// The index of the other end; or why there is none.
fn peer_of(ns: &NetNs, ifname: &str) -> Result<Result<u32, &'static str>, Error> {
    let failed = |e| kernel_error(&format!("cannot look up {ifname:?} in the container"), &e);
    let link = Netlink::open_in(ns).and_then(|mut net| net.link(ifname)).map_err(failed)?;
    Ok(match link {
        None => Err("it is not there"),
        Some(link) if link.kind.as_deref() != Some("veth") => Err("it is not a veth"),
        Some(Link { peer_index: Some(index), peer_netns_id: Some(_), .. }) => Ok(index),
        Some(_) => Err("both ends are in the container"),
    })
}

/// The number may be that of a link in a third namespace: a veth here that leads elsewhere is what it must be.
fn look_up(host: &mut Netlink, index: u32) -> Result<Option<Link>, Error> {
    let link = host.link_by_index(index);
    let link = link.map_err(|e| kernel_error(&format!("cannot look up link {index}"), &e))?;
    Ok(link.filter(|link| link.kind.as_deref() == Some("veth") && link.peer_netns_id.is_some()))
}
