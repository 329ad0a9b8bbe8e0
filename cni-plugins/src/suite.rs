//! Which plugins this program has.

use cni::plugin::{Plugin, Suite};

use crate::bridge::Bridge;
use crate::firewall::Firewall;
use crate::host_local::HostLocal;
use crate::loopback::Loopback;
use crate::portmap::Portmap;
use crate::ptp::Ptp;

/// Every plugin, in the order of `heddle-cni list`.
pub static PLUGINS: &[&dyn Plugin] = &[&Bridge, &Ptp, &Loopback, &HostLocal, &Portmap, &Firewall];

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
