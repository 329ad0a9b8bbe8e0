//! DEL of `tap`: whatever is there goes, and what fails does not keep the rest.

use cni::Error;
use cni::plugin::Call;

use super::apply;
use crate::collect::first_with_others;
use crate::sandbox::{self, Sandbox};
use crate::step::step;

/// Removes the device and gives back the address. Of the configuration only the IPAM plugin's name counts.
pub fn del(call: &Call<'_>) -> Result<(), Error> {
    let device = step("remove the tap device", || match sandbox::find(call)? {
        Sandbox::Present(ns) => apply::remove(&ns, &call.ifname),
        Sandbox::Gone => Ok(()),
    });
    let lease = match call.conf.ipam_type.as_deref() {
        Some(ipam) => step("give the address back", || call.delegate_del(ipam)),
        None => Ok(()),
    };
    first_with_others([device, lease])
}
