//! `bridge`: a veth pair from the container to a bridge of the host, with an address from an IPAM plugin.
//!
//! | file | what |
//! | --- | --- |
//! | `conf` | what the configuration may say |
//! | `plan` | pure decisions: gateways, routes, addresses of the bridge |
//! | `apply` | ADD, with an undo stack |
//! | `port` | the bridge and the veth pair in the kernel |
//! | `check` | CHECK: what ADD said against what the kernel says |
//! | `teardown` | DEL |

mod apply;
mod check;
mod conf;
mod plan;
mod port;
mod teardown;

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
        // Links go with their namespaces; what outlives a container is its address.
        call.conf.ipam_type.as_deref().map_or(Ok(()), |ipam| call.delegate_gc(ipam))
    }

    fn status(&self, call: &Call<'_>) -> Result<(), Error> {
        conf::Conf::parse(call)?;
        call.conf.ipam_type.as_deref().map_or(Ok(()), |ipam| call.delegate_status(ipam))
    }
}
