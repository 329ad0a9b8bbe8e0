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
use netns_tools::Netlink;

use crate::interface::kernel_error;
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
        let masquerade = call.conf.is_on("ipMasq")?;
        teardown::del(call, masquerade, remove_host_end)
    }

    fn gc(&self, call: &Call<'_>) -> Result<(), Error> {
        teardown::gc(call, call.conf.is_on("ipMasq")?)
    }

    fn status(&self, call: &Call<'_>) -> Result<(), Error> {
        let conf = conf::Conf::parse(call)?;
        if let Some(backend) = conf.masquerade {
            readiness::check_masquerading(backend)?;
        }
        call.delegate_status(&conf.ipam)
    }
}

/// A pair that the reference made has no tag; ADD's result names the end on the host.
fn remove_host_end(result: &CniResult) -> Result<(), Error> {
    let failed = |e| kernel_error("cannot remove the host's end of the veth pair", &e);
    let mut net = Netlink::open().map_err(failed)?;
    for end in result.interfaces.iter().filter(|interface| interface.sandbox.is_empty()) {
        let Some(link) = net.link(&end.name).map_err(failed)? else { continue };
        // Only what is still what ADD made: the name may be another's by now.
        let same_mac = link.mac.is_some_and(|mac| mac.to_string().eq_ignore_ascii_case(&end.mac));
        if link.kind.as_deref() != Some("veth") || link.master.is_some() || !same_mac {
            continue;
        }
        match net.delete_link(link.index) {
            Err(error) if !error.is_not_found() => return Err(failed(error)),
            _ => {}
        }
    }
    Ok(())
}
