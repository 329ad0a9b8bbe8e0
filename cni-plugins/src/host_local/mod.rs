//! `host-local`: addresses from ranges, kept in files of this host.
//!
//! A thin user of the `ipam` crate: the configuration says which ranges and which directory, the result
//! says which addresses, routes and name servers.

mod apply;
mod conf;
mod plan;
mod resolv;

pub use self::apply::{leased, leased_to};
use cni::plugin::{Call, Plugin};
use cni::{CniResult, Error};

/// The `host-local` plugin.
pub struct HostLocal;

impl Plugin for HostLocal {
    fn name(&self) -> &'static str {
        "host-local"
    }

    fn about(&self) -> String {
        "IPAM: addresses from ranges, kept in files of this host".to_owned()
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

    fn gc(&self, call: &Call<'_>) -> Result<(), Error> {
        apply::gc(call)
    }

    fn status(&self, call: &Call<'_>) -> Result<(), Error> {
        apply::status(call)
    }
}
