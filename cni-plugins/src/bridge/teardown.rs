//! DEL of `bridge`, where it differs from other plugins that make veth pairs.

use cni::Error;
use cni::plugin::Call;
use netns_tools::Netlink;

use super::conf::Teardown;
use crate::interface::kernel_error;
use crate::teardown;

/// Removes the interface, gives back the address, removes the rules: each even if another fails.
pub fn del(call: &Call<'_>) -> Result<(), Error> {
    let conf = Teardown::parse(call);
    teardown::del(call, conf.masquerade, |net| master(net, &conf.bridge))
}

/// The bridge whose port the host's end is, by its index.
fn master(net: &mut Netlink, bridge: &str) -> Result<Option<u32>, Error> {
    // A name that cannot be one has no ports.
    let Ok(()) = netns_tools::link::check_name(bridge) else { return Ok(None) };
    let link = net.link(bridge);
    let link = link.map_err(|e| kernel_error(&format!("cannot look up {bridge:?}"), &e))?;
    Ok(link.map(|link| link.index))
}
