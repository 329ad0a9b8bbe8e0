//! `loopback`: sets a container's `lo` up.

mod apply;
mod plan;

use cni::plugin::{Call, Plugin};
use cni::{CniResult, Error};

/// The `loopback` plugin. It has no configuration of its own and ignores `CNI_IFNAME`.
pub struct Loopback;

impl Plugin for Loopback {
    fn name(&self) -> &'static str {
        "loopback"
    }

    fn about(&self) -> String {
        "sets the container's lo up".to_owned()
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
}
