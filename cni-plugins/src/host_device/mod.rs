//! `host-device`: moves a device of the host into the container, and back.
//!
//! | file | what |
//! | --- | --- |
//! | `conf` | what the configuration may say |
//! | `select` | which device is meant |
//! | `apply` | ADD, with an undo stack |
//! | `moving` | a device's way into the container and back |
//! | `past` | what a device had on the host, for an ADD that fails |
//! | `check` | CHECK: what ADD said against what the kernel says |
//! | `teardown` | DEL, wherever an ADD that was killed has left the device |

mod apply;
mod check;
mod conf;
mod moving;
mod past;
mod select;
mod teardown;

use std::path::Path;

use cni::plugin::{Call, Plugin};
use cni::{CniResult, Error};

use crate::code;

/// Where the kernel shows devices.
const SYS: &str = "/sys";

/// The `host-device` plugin.
pub struct HostDevice;

impl Plugin for HostDevice {
    fn name(&self) -> &'static str {
        "host-device"
    }

    fn about(&self) -> String {
        "moves a device of the host into the container".to_owned()
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
        // A device goes back with DEL, or to the first namespace when the kernel ends the container's: no third place is left to
        // look in. What outlives a container is its address.
        call.conf.ipam_type.as_deref().map_or(Ok(()), |ipam| call.delegate_gc(ipam))
    }

    fn status(&self, call: &Call<'_>) -> Result<(), Error> {
        // That the device is away is no fault: a container has it.
        match conf::Conf::parse(call, Path::new(SYS)) {
            Err(error) if error.code != code::NO_DEVICE => return Err(error),
            _ => {}
        }
        call.conf.ipam_type.as_deref().map_or(Ok(()), |ipam| call.delegate_status(ipam))
    }
}
