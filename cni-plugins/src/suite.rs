//! Which plugins this program has.

use cni::plugin::{Plugin, Suite};

use crate::bandwidth::Bandwidth;
use crate::bridge::Bridge;
use crate::dhcp::Dhcp;
use crate::firewall::Firewall;
use crate::host_device::HostDevice;
use crate::host_local::HostLocal;
use crate::loopback::Loopback;
use crate::overlay::Overlay;
use crate::portmap::Portmap;
use crate::ptp::Ptp;
use crate::sbr::Sbr;
use crate::static_ipam::Static;
use crate::tap::Tap;
use crate::tuning::Tuning;
use crate::vrf::Vrf;
use crate::{dummy, ipvlan, macvlan, vlan};

/// Every plugin, in the order of `heddle-cni list`: those that make interfaces, those that give addresses, those that add to
/// what others made.
pub static PLUGINS: &[&dyn Plugin] = &[
    &Bridge,
    &Ptp,
    &Overlay,
    &macvlan::PLUGIN,
    &ipvlan::PLUGIN,
    &vlan::PLUGIN,
    &HostDevice,
    &Tap,
    &dummy::PLUGIN,
    &Loopback,
    &HostLocal,
    &Static,
    &Dhcp,
    &Portmap,
    &Firewall,
    &Tuning,
    &Bandwidth,
    &Sbr,
    &Vrf,
];

/// The plugin of a type name.
pub fn find(plugin_type: &str) -> Option<&'static dyn Plugin> {
    PLUGINS.iter().find(|plugin| plugin.name() == plugin_type).map(|plugin| *plugin as &dyn Plugin)
}

/// The plugins of this program, to be called without starting it again.
pub struct Plugins;

impl Suite for Plugins {
    fn find(&self, plugin_type: &str) -> Option<&dyn Plugin> {
        find(plugin_type)
    }
}
