//! The plugins that make links on a parent: each is a name and what its configuration means.

use cni::plugin::{Call, Plugin};
use cni::{CniResult, Error};

use super::{Sublink, apply, check, status, teardown};

/// One of them.
pub struct SublinkPlugin {
    /// Its type.
    pub name: &'static str,
    /// What it makes, in one line.
    pub about: &'static str,
    /// Reads and checks its configuration.
    pub parse: fn(&Call<'_>) -> Result<Sublink, Error>,
}

impl Plugin for SublinkPlugin {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> String {
        self.about.to_owned()
    }

    fn add(&self, call: &Call<'_>) -> Result<CniResult, Error> {
        apply::add(call, &(self.parse)(call)?)
    }

    fn check(&self, call: &Call<'_>) -> Result<(), Error> {
        check::check(call, &(self.parse)(call)?)
    }

    fn del(&self, call: &Call<'_>) -> Result<(), Error> {
        teardown::del(call, self.name)
    }

    fn gc(&self, call: &Call<'_>) -> Result<(), Error> {
        teardown::gc(call)
    }

    fn status(&self, call: &Call<'_>) -> Result<(), Error> {
        status::status(call, &(self.parse)(call)?)
    }
}
