//! CHECK of `tuning`: everything that is configured against what the kernel says.

use cni::Error;
use cni::plugin::Call;
use netns_tools::{NetNs, Netlink};

use super::apply::{current, find, promised};
use super::change::Change;
use super::conf::Conf;
use super::sysctls::Sysctl;
use crate::interface::kernel_error;
use crate::{drift, sandbox};

/// Compares everything and reports every difference at once.
pub fn check(call: &Call<'_>) -> Result<(), Error> {
    let conf = Conf::parse(call)?;
    promised(call)?;
    let ns = sandbox::open(call)?;
    let mut inside = Netlink::open_in(&ns).map_err(|e| kernel_error("cannot open netlink", &e))?;
    let mut found = Vec::new();
    for sysctl in &conf.sysctls {
        found.extend(difference(&ns, sysctl, &call.ifname)?);
    }
    let link = find(&mut inside, &call.ifname)?;
    let mut wanted = conf.changes;
    // As the reference has it, an interface that nobody wants promiscuous must not be.
    if !wanted.contains(&Change::Promisc(true)) {
        wanted.push(Change::Promisc(false));
    }
    found.extend(wanted.iter().filter_map(|change| change.difference(&link)));
    drift::answer(&call.ifname, &found)
}

fn difference(ns: &NetNs, sysctl: &Sysctl, ifname: &str) -> Result<Option<String>, Error> {
    let (place, now) = current(ns, sysctl, ifname)?;
    // The kernel puts tabs between several values; the reference takes that for a difference.
    if now.split_whitespace().eq(sysctl.value.split_whitespace()) {
        return Ok(None);
    }
    let wanted = &sysctl.value;
    Ok(Some(format!(
        "Error: Tuning configured value of {place} is {wanted}, current value is {now}"
    )))
}
