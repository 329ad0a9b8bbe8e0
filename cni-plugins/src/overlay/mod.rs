//! `overlay`: the pods of this node, as the node's lease says: a bridge or routed links, with addresses of the node's pod CIDR, the
//! overlay's MTU and the routes to the pods of all nodes.
//!
//! It makes no interface itself. It reads the lease, writes the configuration of `bridge` or `ptp`, and delegates to it. What was
//! delegated is remembered, so that DEL undoes just that, whatever has become of the lease. How packets get to the other nodes
//! is not its affair: that is `heddle-agent`'s, or flannel's, or whoever wrote the lease.
//!
//! | file | what |
//! | --- | --- |
//! | `conf` | what the configuration may say, and reading the lease |
//! | `plan` | pure decisions: the delegate's configuration |
//! | `record` | what was delegated, one file for each attachment |
//! | `apply` | ADD, with an undo stack |
//! | `mtu` | the links of attachments follow the lease's MTU |
//! | `flows` | connections of whoever had an address before |
//! | `check` | CHECK and STATUS |
//! | `teardown` | DEL and GC |
//! | `cli` | `heddle-cni overlay`, for people and for the agent |

mod apply;
mod check;
pub mod cli;
mod conf;
mod flows;
mod mtu;
mod plan;
mod record;
mod teardown;

use cni::plugin::{Call, Plugin};
use cni::{CniResult, Error};

/// The plugin's name.
pub const NAME: &str = "overlay";

/// The `overlay` plugin.
pub struct Overlay;

impl Plugin for Overlay {
    fn name(&self) -> &'static str {
        NAME
    }

    fn about(&self) -> String {
        "bridge or ptp, with the addresses and the MTU of the node's overlay lease".to_owned()
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
        check::status(call)
    }
}
