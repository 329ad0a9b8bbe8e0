//! CHECK of `vrf`: the interface is in the VRF, with the addresses and routes that the chain promised.

use cni::Error;
use cni::plugin::Call;
use netns_tools::Netlink;

use super::conf::{self, Conf};
use super::plan;
use crate::interface::{Observed, kernel_error};
use crate::{drift, sandbox};

/// Compares everything and reports every difference at once.
pub fn check(call: &Call<'_>) -> Result<(), Error> {
    let conf = Conf::parse(call)?;
    let prev = conf::promised(call)?;
    let ns = sandbox::open(call)?;
    let failed = |e| kernel_error("cannot look at the container's links", &e);
    let mut inside = Netlink::open_in(&ns).map_err(failed)?;
    let links = inside.links().map_err(failed)?;
    let seen = Observed::look(&mut inside, &call.ifname)?;

    let mut found = Vec::new();
    match plan::find(&conf.name, &links)? {
        None => found.push(format!("VRF {} is missing", conf.name)),
        Some((index, table)) => {
            if conf.table.is_some_and(|wanted| wanted != table) {
                found.push(format!("VRF {} has routing table {table}", conf.name));
            }
            if seen.link.as_ref().is_none_or(|link| link.master != Some(index)) {
                let (ifname, vrf) = (&call.ifname, &conf.name);
                found.push(format!("Failed to find {ifname} associated to vrf {vrf}"));
            }
        }
    }
    // Without its address a route is missing as well; with it, routes are looked for in every table.
    found.extend(seen.differences(&own(call, prev), &prev.routes));
    drift::answer(&call.ifname, &found)
}

/// The addresses of the interface: the chain may have others.
fn own(call: &Call<'_>, prev: &cni::CniResult) -> Vec<cni::IpConfig> {
    let is_own = |ip: &&cni::IpConfig| {
        let interface = ip.interface.and_then(|index| prev.interfaces.get(index));
        interface.is_none_or(|interface| interface.name == call.ifname)
    };
    prev.ips.iter().filter(is_own).cloned().collect()
}
