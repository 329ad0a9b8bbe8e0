//! `dhcp`: an address from the DHCP server of the network that the container's interface is on.
//!
//! The plugin asks the daemon (`heddle-cni dhcp-daemon`), which gets the lease, looks after it as long as the container runs,
//! and gives it back. What runs where:
//!
//! | file | what |
//! | --- | --- |
//! | `conf` | what the configuration may say |
//! | `plan` | what a lease means for the result |
//! | `apply` | the commands of the plugin |
//! | `rpc` | what plugin and daemon say to each other |
//! | `message`, `datagram` | DHCP on the wire |
//! | `lease`, `machine` | the client as a pure state machine |
//! | `daemon` | what keeps leases: a thread each, files, the socket |

mod apply;
mod conf;
pub mod daemon;
mod datagram;
mod lease;
mod machine;
mod message;
mod plan;
mod rpc;

use cni::plugin::{Call, Plugin};
use cni::{CniResult, Error};

/// The `dhcp` plugin.
pub struct Dhcp;

impl Plugin for Dhcp {
    fn name(&self) -> &'static str {
        "dhcp"
    }

    fn about(&self) -> String {
        "IPAM: an address from the network's DHCP server, by way of heddle-cni dhcp-daemon"
            .to_owned()
    }

    fn add(&self, call: &Call<'_>) -> Result<CniResult, Error> {
        apply::add(call)
    }

    fn check(&self, call: &Call<'_>) -> Result<(), Error> {
        apply::check(call)
    }

    fn del(&self, call: &Call<'_>) -> Result<(), Error> {
        apply::del(call)
    }

    fn gc(&self, call: &Call<'_>) -> Result<(), Error> {
        apply::gc(call)
    }

    fn status(&self, call: &Call<'_>) -> Result<(), Error> {
        apply::status(call)
    }
}
