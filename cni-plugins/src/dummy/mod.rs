//! `dummy`: an interface without anything behind it.
//!
//! What it shares with its like is in [`crate::sublink`]; here is what its configuration may say.

mod conf;

use cni::plugin::{Call, Plugin};
use cni::{CniResult, Error};

use crate::sublink;

/// The `dummy` plugin.
pub struct Dummy;

impl Plugin for Dummy {
    fn name(&self) -> &'static str {
        "dummy"
    }

    fn about(&self) -> String {
        "an interface without anything behind it".to_owned()
    }

    fn add(&self, call: &Call<'_>) -> Result<CniResult, Error> {
        sublink::add(call, &conf::parse(call)?)
    }

    fn check(&self, call: &Call<'_>) -> Result<(), Error> {
        sublink::check(call, &conf::parse(call)?)
    }

    fn del(&self, call: &Call<'_>) -> Result<(), Error> {
        sublink::del(call, self.name())
    }

    fn gc(&self, call: &Call<'_>) -> Result<(), Error> {
        sublink::gc(call)
    }

    fn status(&self, call: &Call<'_>) -> Result<(), Error> {
        sublink::status(call, &conf::parse(call)?)
    }
}
