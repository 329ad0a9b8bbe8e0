//! `tuning`: kernel parameters of a container's namespace, and properties of an interface that an earlier plugin made.
//!
//! | file | what |
//! | --- | --- |
//! | `conf` | what the configuration may say |
//! | `sysctls` | the kernel parameters of a configuration, as they are written |
//! | `allowlist` | which parameters an administrator allows |
//! | `change` | one property of an interface, to be set, compared or restored |
//! | `backup` | what an interface had before, in a file |
//! | `apply` | ADD, with an undo stack |
//! | `check` | CHECK |
//! | `teardown` | DEL and GC |

mod allowlist;
mod apply;
mod backup;
mod change;
mod check;
mod conf;
mod sysctls;
mod teardown;

use cni::plugin::{Call, Plugin};
use cni::{CniResult, Error};

use crate::readiness;

/// The `tuning` plugin.
pub struct Tuning;

impl Plugin for Tuning {
    fn name(&self) -> &'static str {
        "tuning"
    }

    fn about(&self) -> String {
        "kernel parameters and properties of an interface that is there already".to_owned()
    }

    fn add(&self, call: &Call<'_>) -> Result<CniResult, Error> {
        apply::add(call)
    }

    fn check(&self, call: &Call<'_>) -> Result<(), Error> {
        check::check(call)
    }

    fn del(&self, call: &Call<'_>) -> Result<(), Error> {
        teardown::del(call);
        Ok(())
    }

    fn gc(&self, call: &Call<'_>) -> Result<(), Error> {
        teardown::gc(call)
    }

    fn status(&self, call: &Call<'_>) -> Result<(), Error> {
        let conf = conf::Conf::parse(call)?;
        allowlist::check(&conf.sysctls).map_err(readiness::unavailable)
    }
}
