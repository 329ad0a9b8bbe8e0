//! `ptp`: a veth pair between container and host, with an address from an IPAM plugin; every packet goes through the host.
//!
//! The container's address has the prefix length of its network, yet nobody of that network is on the link but the gateway, which
//! is the host's end: so the route that the kernel makes for the network is replaced by one through the gateway.
//!
//! | file | what |
//! | --- | --- |
//! | `conf` | what the configuration may say |
//! | `plan` | pure decisions: which addresses and routes either end gets |
//! | `apply` | ADD, with an undo stack |
//! | `check` | CHECK: what ADD said against what the kernel says |

mod apply;
mod check;
mod conf;
mod plan;

use cni::plugin::{Call, Plugin};
use cni::{CniResult, Error};

use crate::{readiness, teardown};

/// The `ptp` plugin.
pub struct Ptp;

impl Plugin for Ptp {
    fn name(&self) -> &'static str {
        "ptp"
    }

    fn about(&self) -> String {
        "a veth pair between container and host, through which every packet goes".to_owned()
    }

    fn add(&self, call: &Call<'_>) -> Result<CniResult, Error> {
        apply::add(call)
    }

    fn check(&self, call: &Call<'_>) -> Result<(), Error> {
        check::check(call)
    }

    fn del(&self, call: &Call<'_>) -> Result<(), Error> {
        teardown::del(call, may_masquerade(call), |_| Ok(None))
    }

    fn gc(&self, call: &Call<'_>) -> Result<(), Error> {
        teardown::gc(call, may_masquerade(call))
    }

    fn status(&self, call: &Call<'_>) -> Result<(), Error> {
        let conf = conf::Conf::parse(call)?;
        if let Some(backend) = conf.masquerade {
            readiness::check_masquerading(backend)?;
        }
        call.delegate_status(&conf.ipam)
    }
}

/// A key that cannot be read is no reason to leave rules behind.
fn may_masquerade(call: &Call<'_>) -> bool {
    call.conf.is_on("ipMasq").unwrap_or(true)
}
