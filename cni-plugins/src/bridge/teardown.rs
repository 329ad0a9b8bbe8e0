//! DEL of `bridge`, where it differs from other plugins that make veth pairs.

use cni::Error;
use cni::plugin::Call;
use netns_tools::Netlink;

use super::conf::Teardown;
use super::spoof::{self, SpoofCheck};
use crate::collect::first_with_others;
use crate::interface::kernel_error;
use crate::step::step;
use crate::teardown;

/// Removes the interface, gives back the address, removes the rules: each even if another fails.
pub fn del(call: &Call<'_>) -> Result<(), Error> {
    let conf = Teardown::parse(call);
    let done = teardown::del(call, conf.masquerade, |net| master(net, &conf.bridge));
    let spoof = if conf.spoof_check {
        step("remove the rules about its MAC address", || SpoofCheck::of(call).tear_down())
    } else {
        Ok(())
    };
    first_with_others([done, spoof])
}

/// GC: as other plugins that make veth pairs, and the rules about MAC addresses of interfaces that are gone.
pub fn gc(call: &Call<'_>) -> Result<(), Error> {
    let conf = Teardown::parse(call);
    let done = teardown::gc(call, conf.masquerade);
    let spoof = if conf.spoof_check {
        step("remove stale rules about MAC addresses", spoof::collect_garbage)
    } else {
        Ok(())
    };
    first_with_others([done, spoof])
}

/// The bridge whose port the host's end is, by its index.
fn master(net: &mut Netlink, bridge: &str) -> Result<Option<u32>, Error> {
    // A name that cannot be one has no ports.
    let Ok(()) = netns_tools::link::check_name(bridge) else { return Ok(None) };
    let link = net.link(bridge);
    let link = link.map_err(|e| kernel_error(&format!("cannot look up {bridge:?}"), &e))?;
    Ok(link.map(|link| link.index))
}
