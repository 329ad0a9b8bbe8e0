//! `tap`: a tap device in the container, for a program (usually a virtual machine) to be its other end.
//!
//! | file | what |
//! | --- | --- |
//! | `conf` | what the configuration may say |
//! | `apply` | ADD, with an undo stack |
//! | `labelled` | making the device in an `SELinux` context |
//! | `check` | CHECK: what ADD said against what the kernel says |
//! | `teardown` | DEL |

mod apply;
mod check;
mod conf;
pub mod labelled;
mod teardown;

use cni::plugin::{Call, Plugin};
use cni::{CniResult, Error, ErrorCode};
use netns_tools::link::tap::DEVICE;

/// The `tap` plugin.
pub struct Tap;

impl Plugin for Tap {
    fn name(&self) -> &'static str {
        "tap"
    }

    fn about(&self) -> String {
        "a tap device in the container".to_owned()
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
        // Devices go with their namespaces; what outlives a container is its address.
        call.conf.ipam_type.as_deref().map_or(Ok(()), |ipam| call.delegate_gc(ipam))
    }

    fn status(&self, call: &Call<'_>) -> Result<(), Error> {
        let conf = conf::Conf::parse(call)?;
        conf.refuse_missing_selinux(ErrorCode::NotAvailable)?;
        std::fs::File::open(DEVICE).map_err(|error| {
            Error::new(ErrorCode::NotAvailable, format!("cannot open {DEVICE}: {error}"))
                .with_details("load the kernel module tun (modprobe tun)")
        })?;
        call.conf.ipam_type.as_deref().map_or(Ok(()), |ipam| call.delegate_status(ipam))
    }
}
