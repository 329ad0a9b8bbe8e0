//! STATUS of `bridge`: whether an ADD would succeed on this host.

use cni::Error;
use cni::plugin::Call;
use netns_tools::Netlink;
use netns_tools::link::port_vlan;

use super::conf::Conf;
use super::{port, spoof};
use crate::interface::kernel_error;
use crate::readiness::{check_bridged_services, check_masquerading, not_available, unavailable};

/// What keeps every ADD from succeeding comes first, then what only limits containers.
pub fn status(call: &Call<'_>) -> Result<(), Error> {
    let conf = Conf::parse(call)?;
    let mut net = Netlink::open().map_err(|e| kernel_error("cannot open netlink", &e))?;
    let bridge = port::find_bridge(&mut net, &conf.bridge).and_then(|bridge| {
        bridge.map_or(Ok(None), |link| port::check_vlan_filtering(&conf, &link).map(Some))
    });
    let bridge = bridge.map_err(unavailable)?;
    if bridge.is_none() && conf.vlans.is_some() {
        check_vlans()?;
    }
    if let Some(backend) = conf.masquerade {
        check_masquerading(backend)?;
    }
    if conf.spoof_check {
        spoof::check_supported().map_err(unavailable)?;
    }
    if let Some(ipam) = &conf.ipam {
        call.delegate_status(ipam)?;
    }
    if conf.gateway { check_bridged_services() } else { Ok(()) }
}

fn check_vlans() -> Result<(), Error> {
    let can = port_vlan::is_supported();
    if can.map_err(|e| kernel_error("cannot find out whether bridges filter VLANs", &e))? {
        return Ok(());
    }
    let details =
        "CONFIG_BRIDGE_VLAN_FILTERING is off; use another kernel, or remove vlan and vlanTrunk";
    Err(not_available("this kernel's bridges cannot filter VLANs", details))
}
