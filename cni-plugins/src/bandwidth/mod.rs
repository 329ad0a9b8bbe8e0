//! `bandwidth`: limits the rate at which a container receives and sends.
//!
//! It is called in a chain, after the plugin that made the container's interface as one end of a veth pair, and works on the
//! other end, which is the host's. What goes *to* the container leaves the host by that end and is shaped there. What comes *from*
//! the container comes in by it, where nothing can be queued: it is redirected to an ifb device and shaped there.
//!
//! | file | what |
//! | --- | --- |
//! | `conf` | what the configuration may say |
//! | `device` | the ifb: its name, and whose it is |
//! | `host_end` | the host's end of the veth pair |
//! | `apply` | ADD, with an undo stack |
//! | `check` | CHECK: what ADD did against what the kernel says |
//! | `teardown` | DEL and GC |
//! | `status` | STATUS: whether the kernel can shape traffic |

mod apply;
mod check;
mod conf;
mod device;
mod host_end;
mod status;
mod teardown;

use cni::plugin::{Call, Plugin};
use cni::{CniResult, Error, Version};

/// The `bandwidth` plugin.
pub struct Bandwidth;

impl Plugin for Bandwidth {
    fn name(&self) -> &'static str {
        "bandwidth"
    }

    fn about(&self) -> String {
        "limits the rate at which a container receives and sends".to_owned()
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

    fn gc(&self, call: &Call<'_>) -> Result<(), Error> {
        teardown::gc(call)
    }

    fn status(&self, _: &Call<'_>) -> Result<(), Error> {
        status::status()
    }

    /// Results before 0.3.0 have no interfaces, without which the host's end cannot be found.
    fn versions(&self) -> &[Version] {
        &[Version::V0_3_0, Version::V0_3_1, Version::V0_4_0, Version::V1_0_0, Version::V1_1_0]
    }
}
