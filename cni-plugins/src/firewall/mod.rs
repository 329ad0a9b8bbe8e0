//! `firewall`: lets a container's packets through the host's firewall, and keeps networks apart.
//!
//! | Module | |
//! |---|---|
//! | `conf` | what the configuration says, checked |
//! | `chains` | iptables: the rules, as a pure function of what is wanted and what is there |
//! | `firewalld` | firewalld, over D-Bus |
//! | `records` | which addresses are whose: neither backend says it |
//! | `apply` | ADD, with an undo stack |
//! | `check` | CHECK |
//! | `teardown` | DEL and GC |

mod apply;
mod chains;
mod check;
mod conf;
mod firewalld;
mod records;
mod teardown;

use cni::plugin::{Call, Plugin};
use cni::{CniResult, Error, ErrorCode, Version};

/// The `firewall` plugin.
pub struct Firewall;

/// As the reference: results of older versions have no interfaces to speak of.
const VERSIONS: [Version; 3] = [Version::V0_4_0, Version::V1_0_0, Version::V1_1_0];

impl Plugin for Firewall {
    fn name(&self) -> &'static str {
        "firewall"
    }

    fn about(&self) -> String {
        "a way through the host's firewall for a container, and isolation of networks".to_owned()
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
        apply::ready(&conf, &crate::rules::FAMILIES[..1]).map(drop).map_err(|error| {
            let details = format!("{}; {}", error.msg, error.details);
            Error::new(ErrorCode::NotAvailable, "firewall cannot let containers through now")
                .with_details(details)
        })
    }

    fn versions(&self) -> &[Version] {
        &VERSIONS
    }
}
