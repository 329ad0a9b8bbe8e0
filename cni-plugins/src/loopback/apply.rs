//! The commands of `loopback` in the kernel.

use cni::plugin::Call;
use cni::{CniResult, Error};
use netns_tools::{Link, NetNs, Netlink};

use super::plan;
use crate::interface::kernel_error;
use crate::sandbox::{self, Sandbox};
use crate::step::step;
use crate::{code, interface};

pub fn add(call: &Call<'_>) -> Result<CniResult, Error> {
    let ns = sandbox::open(call)?;
    let (mut net, lo) = open(&ns)?;
    let result = step("set lo up", || {
        net.set_up(lo.index).map_err(|e| kernel_error("cannot set \"lo\" up", &e))
    })
    .and_then(|()| interface::addresses(&mut net, lo.index))
    .and_then(|addresses| {
        let sandbox = ns.path().display().to_string();
        plan::result(call.conf.prev_result.clone(), &addresses, sandbox)
    });
    if result.is_err() && !lo.up {
        net.set_down(lo.index).map_err(|e| kernel_error("cannot set \"lo\" down again", &e))?;
    }
    result
}

pub fn check(call: &Call<'_>) -> Result<(), Error> {
    let (_, lo) = open(&sandbox::open(call)?)?;
    if lo.up {
        return Ok(());
    }
    Err(Error::new(code::DRIFT, "loopback interface is down")
        .with_details("something in the container set lo down; another ADD sets it up"))
}

pub fn del(call: &Call<'_>) -> Result<(), Error> {
    let Sandbox::Present(ns) = sandbox::find(call)? else { return Ok(()) };
    let (mut net, lo) = open(&ns)?;
    net.set_down(lo.index).map_err(|e| kernel_error("cannot set \"lo\" down", &e))
}

fn open(ns: &NetNs) -> Result<(Netlink, Link), Error> {
    let mut net = Netlink::open_in(ns).map_err(|e| kernel_error("cannot open netlink", &e))?;
    let lo = net.link("lo").map_err(|e| kernel_error("cannot look up \"lo\"", &e))?;
    let lo = lo.ok_or_else(|| Error::new(code::KERNEL, "the container has no interface \"lo\""))?;
    Ok((net, lo))
}
