//! DEL of `vrf`: the interface leaves the VRF, and the last one takes it along.

use cni::Error;
use cni::plugin::Call;
use netns_tools::{NetNs, Netlink};

use super::{apply, conf, plan};
use crate::collect::first_with_others;
use crate::interface::kernel_error;
use crate::sandbox::{self, Sandbox};
use crate::step::step;

/// Takes out what is in. What is missing, the interface or the VRF, is no error.
pub fn del(call: &Call<'_>) -> Result<(), Error> {
    let name = conf::name(call)?;
    let Sandbox::Present(ns) = sandbox::find(call)? else { return Ok(()) };
    let out = step("take the interface out of the VRF", || take_out(&ns, &name, &call.ifname));
    let gone = step("remove the VRF if it is empty", || apply::remove_if_empty(&ns, &name));
    first_with_others([out, gone])
}

fn take_out(ns: &NetNs, name: &str, ifname: &str) -> Result<(), Error> {
    let failed = |e| kernel_error(&format!("could reset master to {ifname}"), &e);
    let mut inside = Netlink::open_in(ns).map_err(failed)?;
    let links = inside.links().map_err(failed)?;
    let Some((vrf, _)) = plan::find(name, &links)? else { return Ok(()) };
    // Of another master it is none of ours.
    let port = links.iter().find(|link| link.name == ifname && link.master == Some(vrf));
    match port.map(|port| inside.set_master(port.index, None)) {
        Some(Err(error)) if !error.is_not_found() => Err(failed(error)),
        _ => Ok(()),
    }
}
