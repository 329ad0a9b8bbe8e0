//! `sbr`: source-based routing. What a container sends from an interface's address leaves by that interface, by its gateway.
//!
//! It is called in a chain, once for each interface that shall have it (usually all but the first), after the plugin that made
//! the interface. Each address gets a routing table of its own and a rule that leads there; the interface's routes move from the
//! main table to these.
//!
//! | file | what |
//! | --- | --- |
//! | `conf` | what the configuration may say |
//! | `plan` | pure decisions: tables, rules, routes |
//! | `apply` | ADD, with an undo stack |
//! | `check` | CHECK: what ADD did against what the kernel says |
//! | `teardown` | DEL |
//!
//! Everything is in the container's namespace and ends with it: there is nothing for GC.

mod apply;
mod check;
mod conf;
mod plan;
mod teardown;

use cni::plugin::{Call, Plugin};
use cni::{CniResult, Error};

use crate::interface::kernel_error;
use crate::readiness::{not_available, unavailable};

/// The `sbr` plugin.
pub struct Sbr;

impl Plugin for Sbr {
    fn name(&self) -> &'static str {
        "sbr"
    }

    fn about(&self) -> String {
        "source-based routing: what is sent from an interface's address leaves by it".to_owned()
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

    fn status(&self, call: &Call<'_>) -> Result<(), Error> {
        conf::Conf::parse(&call.conf)?;
        let rules = netns_tools::Netlink::open().and_then(|mut net| net.rules());
        let rules =
            rules.map_err(|e| unavailable(kernel_error("sbr cannot list policy rules", &e)))?;
        // A kernel that knows them has its own three.
        if rules.iter().any(|rule| rule.v4) {
            return Ok(());
        }
        let msg = "sbr cannot route by source: the kernel has no policy rules";
        let details = "it needs CONFIG_IP_MULTIPLE_TABLES and CONFIG_IPV6_MULTIPLE_TABLES";
        Err(not_available(msg, details))
    }
}
