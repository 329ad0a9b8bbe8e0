//! `static`: addresses that the configuration or the runtime names one by one.
//!
//! It keeps nothing: ADD repeats what it is told, DEL has nothing to give back. That nobody else has an address is up to
//! whoever wrote it down.

mod check;
mod conf;

use cni::plugin::{Call, Plugin};
use cni::{CniResult, Error};

use self::conf::Conf;

/// The `static` plugin.
pub struct Static;

impl Plugin for Static {
    fn name(&self) -> &'static str {
        "static"
    }

    fn about(&self) -> String {
        "IPAM: addresses named one by one".to_owned()
    }

    fn add(&self, call: &Call<'_>) -> Result<CniResult, Error> {
        Conf::parse(call).map(Conf::into_result)
    }

    fn check(&self, call: &Call<'_>) -> Result<(), Error> {
        let conf = Conf::parse(call)?;
        check::check(&conf, call.conf.prev_result.as_ref(), &call.ifname)
    }

    /// Whatever the configuration says: there is nothing to give back.
    fn del(&self, _: &Call<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn status(&self, call: &Call<'_>) -> Result<(), Error> {
        Conf::parse(call).map(drop)
    }
}
