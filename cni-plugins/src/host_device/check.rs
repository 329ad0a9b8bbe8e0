//! CHECK of `host-device`: what ADD answered against what the kernel says now.

use std::path::Path;

use cni::Error;
use cni::plugin::Call;
use netns_tools::Netlink;

use super::SYS;
use super::conf::Conf;
use crate::interface::{Observed, kernel_error};
use crate::{drift, sandbox, single};

/// Compares everything and reports every difference at once.
pub fn check(call: &Call<'_>) -> Result<(), Error> {
    let conf = Conf::parse(call, Path::new(SYS))?;
    if let Some(ipam) = call.conf.ipam_type.as_deref() {
        call.delegate_check(ipam)?;
    }
    let prev = drift::promised(call)?;
    let ns = sandbox::open(call)?;
    if conf.userspace {
        return Ok(());
    }
    let mut inside = Netlink::open_in(&ns).map_err(|e| kernel_error("cannot open netlink", &e))?;
    let seen = Observed::look(&mut inside, &call.ifname)?;
    let sandbox = ns.path().display().to_string();
    let found = single::differences(prev, &call.ifname, &sandbox, &seen, |link, found| {
        if link.alias.is_none() {
            let lost = "has lost its alias: DEL would not know its name on the host";
            found.push(format!("{:?} {lost}", link.name));
        }
    });
    drift::answer(&call.ifname, &found)
}
