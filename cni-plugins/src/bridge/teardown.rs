//! DEL of `bridge`, where it differs from other plugins that make veth pairs.

use cni::plugin::Call;
use cni::{CniResult, Error};
use netns_tools::Netlink;

use super::conf::Teardown;
use super::spoof::{self, SpoofCheck};
use crate::interface::kernel_error;
use crate::step::step;
use crate::teardown;

/// Removes the interface, gives back the address, removes the rules: each even if another fails.
pub fn del(call: &Call<'_>) -> Result<(), Error> {
    let conf = Teardown::parse(call)?;
    let done = teardown::del(call, conf.masquerade, |result| remove_host_end(&conf, result));
    let spoof = if conf.spoof_check {
        step("remove the rules about its MAC address", || SpoofCheck::of(call).tear_down())
    } else {
        Ok(())
    };
    teardown::first_with_others([done, spoof])
}

/// GC: as other plugins that make veth pairs, and the rules about MAC addresses of interfaces that are gone.
pub fn gc(call: &Call<'_>) -> Result<(), Error> {
    let conf = Teardown::parse(call)?;
    let done = teardown::gc(call, conf.masquerade);
    let spoof = if conf.spoof_check {
        step("remove stale rules about MAC addresses", spoof::collect_garbage)
    } else {
        Ok(())
    };
    teardown::first_with_others([done, spoof])
}

/// A pair that the reference made has no tag; ADD's result names the end on the host.
fn remove_host_end(conf: &Teardown, result: &CniResult) -> Result<(), Error> {
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
