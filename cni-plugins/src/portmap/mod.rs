//! `portmap`: ports of the host that lead to a container.
//!
//! | Module | |
//! |---|---|
//! | `conf` | what the configuration says, checked |
//! | `chains` | iptables: the rules, as a pure function of what is wanted and what is there |
//! | `nftables`, `condition` | the same over netlink |
//! | `apply` | ADD, with an undo stack |
//! | `flows` | UDP flows that go on to where a port no longer leads |
//! | `localnet` | connections from the host's 127.0.0.1 |
//! | `check` | CHECK |
//! | `teardown` | DEL and GC |

mod apply;
mod chains;
mod check;
mod condition;
mod conf;
mod flows;
mod localnet;
mod nftables;
mod teardown;

use cni::plugin::{Call, Plugin};
use cni::{CniResult, Error, ErrorCode};

/// The `portmap` plugin.
pub struct Portmap;

impl Plugin for Portmap {
    fn name(&self) -> &'static str {
        "portmap"
    }

    fn about(&self) -> String {
        "ports of the host that lead to a container".to_owned()
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
        let conf = conf::Conf::parse(call)?;
        conf.choose_backend().map(drop).map_err(|error| {
            let details = format!("{}; {}", error.msg, error.details);
            Error::new(ErrorCode::NotAvailable, "portmap cannot map ports now")
                .with_details(details)
        })
    }
}
