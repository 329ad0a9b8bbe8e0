//! `vrf`: puts an interface that an earlier plugin made into a VRF of the container, a routing table of its own.
//!
//! | file | what |
//! | --- | --- |
//! | `conf` | what the configuration may say |
//! | `plan` | pure decisions: the table, which addresses and routes move |
//! | `apply` | ADD, with an undo stack |
//! | `check` | CHECK |
//! | `teardown` | DEL |

mod apply;
mod check;
mod conf;
mod plan;
mod teardown;

use cni::plugin::{Call, Plugin};
use cni::{CniResult, Error, Version};
use netns_tools::Netlink;
use netns_tools::link::vrf::KIND;

use crate::interface::kernel_error;
use crate::readiness::not_available;

/// The versions since there are chains of plugins.
static VERSIONS: [Version; 4] =
    [Version::V0_3_1, Version::V0_4_0, Version::V1_0_0, Version::V1_1_0];

/// The `vrf` plugin.
pub struct Vrf;

impl Plugin for Vrf {
    fn name(&self) -> &'static str {
        "vrf"
    }

    fn about(&self) -> String {
        "puts an interface into a VRF of the container".to_owned()
    }

    fn versions(&self) -> &[Version] {
        &VERSIONS
    }

    fn add(&self, call: &Call<'_>) -> Result<CniResult, Error> {
        apply::add(call)
    }

    fn check(&self, call: &Call<'_>) -> Result<(), Error> {
        check::check(call)
    }

    fn del(&self, call: &Call<'_>) -> Result<(), Error> {
        teardown::del(call)
    }

    // Nothing of it outlives the container's namespace, so there is nothing for GC.

    fn status(&self, call: &Call<'_>) -> Result<(), Error> {
        conf::Conf::parse(call)?;
        let asked = Netlink::open().and_then(|mut host| host.has_link_kind(KIND));
        if asked.map_err(|e| kernel_error("cannot ask the kernel for VRFs", &e))? {
            return Ok(());
        }
        let details = "it needs CONFIG_NET_VRF: load the kernel module vrf (modprobe vrf)";
        Err(not_available("this kernel has no VRFs", details))
    }
}
