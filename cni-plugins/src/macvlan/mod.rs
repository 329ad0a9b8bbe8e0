//! `macvlan`: a further MAC address on an interface of the host, in the container.
//!
//! What it shares with its like is in [`crate::sublink`]; here is what its configuration may say.

mod conf;

use cni::plugin::{Call, Plugin};
use cni::{CniResult, Error};

use crate::sublink;

/// The `macvlan` plugin.
pub struct Macvlan;

impl Plugin for Macvlan {
    fn name(&self) -> &'static str {
        "macvlan"
    }

    fn about(&self) -> String {
        "a further MAC address on an interface of the host, in the container".to_owned()
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
