//! `bridge`: a veth pair from the container to a bridge of the host, with an address from an IPAM plugin.
//!
//! | file | what |
//! | --- | --- |
//! | `conf` | what the configuration may say |
//! | `plan` | pure decisions: gateways, routes, addresses of the bridge |
//! | `apply` | ADD, with an undo stack |
//! | `vlan` | the VLANs of a port |
//! | `port` | the bridge and its port in the kernel |
//! | `spoof` | `macspoofchk`: rules about the container's MAC address |
//! | `check` | CHECK: what ADD said against what the kernel says |
//! | `status` | STATUS: whether an ADD would succeed |
//! | `teardown` | DEL |

mod apply;
mod check;
mod conf;
mod plan;
mod port;
mod spoof;
mod status;
mod teardown;
mod vlan;

use cni::plugin::{Call, Plugin};
use cni::{CniResult, Error};

/// The `bridge` plugin.
pub struct Bridge;

impl Plugin for Bridge {
    fn name(&self) -> &'static str {
        "bridge"
    }

    fn about(&self) -> String {
        "a veth pair from the container to a bridge of the host".to_owned()
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

    fn status(&self, call: &Call<'_>) -> Result<(), Error> {
        status::status(call)
    }
}
