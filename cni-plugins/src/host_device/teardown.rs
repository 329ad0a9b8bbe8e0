//! DEL of `host-device`: the device goes back to the host under its old name, and is left down, as nobody knows how it was.
//!
//! Where an ADD that was killed, or a namespace that ended, may have left it:
//!
//! | where | name | alias | what DEL does |
//! | --- | --- | --- | --- |
//! | host | its own | its own name | takes the alias off |
//! | container | the container's, or any | its name on the host | moves it back |
//! | container | its own (the kernel moved it and refused the new name) | its own name | moves it back |
//! | host | the container's, or `devN` (moved by the kernel as the namespace ended) | its name on the host | renames it |

use std::path::Path;

use cni::Error;
use cni::plugin::Call;
use netns_tools::{Link, NetNs, Netlink, link};

use super::SYS;
use super::conf::{Conf, Selector};
use super::moving;
use crate::code;
use crate::collect::first_with_others;
use crate::interface::kernel_error;
use crate::sandbox::{self, Sandbox};
use crate::step::step;

/// Gives the device back, and the address.
pub fn del(call: &Call<'_>) -> Result<(), Error> {
    let device = step("give the device back", || give_back(call));
    let lease = match call.conf.ipam_type.as_deref() {
        Some(ipam) => step("give the address back", || call.delegate_del(ipam)),
        None => Ok(()),
    };
    first_with_others([device, lease])
}

fn give_back(call: &Call<'_>) -> Result<(), Error> {
    // A configuration that ADD would refuse by now still has a container to be freed of what it has.
    let conf = Conf::parse(call, Path::new(SYS)).ok();
    if conf.as_ref().is_some_and(|conf| conf.userspace) {
        return Ok(());
    }
    let selector = conf.map(|conf| conf.selector);
    let mut host = Netlink::open().map_err(|e| kernel_error("cannot open netlink", &e))?;
    let at_home = match &selector {
        Some(selector) => selector.find(&mut host, Path::new(SYS))?,
        None => None,
    };
    let sandbox = sandbox::find(call)?;
    if let Some(link) = at_home {
        return tidy(&mut host, &link, call, &sandbox);
    }
    if let Sandbox::Present(ns) = &sandbox
        && let Some((link, name)) = find_inside(ns, call, selector.as_ref())?
    {
        return moving::take_out(ns, &link, &name).map(drop);
    }
    match &selector {
        Some(Selector::Device(name)) => rename_returned(&mut host, name),
        _ => Ok(()),
    }
}

/// The device is on the host, perhaps with a note on it.
fn tidy(host: &mut Netlink, link: &Link, call: &Call<'_>, sandbox: &Sandbox) -> Result<(), Error> {
    let Some(alias) = &link.alias else { return Ok(()) };
    if *alias == link.name {
        return moving::forget_alias(host, &link.name).map(drop);
    }
    // Any other alias is an administrator's, unless all speaks for a device that the kernel moved as its namespace ended.
    let gone = matches!(sandbox, Sandbox::Gone);
    if gone && is_returned(link, &call.ifname) && link::check_name(alias).is_ok() {
        return moving::restore_name(host, link, alias);
    }
    Ok(())
}

/// Whether a link is as the kernel leaves one whose namespace ended: down, and named as it was there, or `devN`
/// (`default_device_exit_net` in net/core/dev.c).
fn is_returned(link: &Link, ifname: &str) -> bool {
    let number = link.name.strip_prefix("dev");
    let fallback = number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    !link.up && (link.name == ifname || fallback)
}

/// No link has the device's name: one that has it noted on it is the device.
fn rename_returned(host: &mut Netlink, name: &str) -> Result<(), Error> {
    let links = host.links().map_err(|e| kernel_error("cannot list links", &e))?;
    match links.iter().find(|link| link.alias.as_deref() == Some(name)) {
        Some(link) => moving::restore_name(host, link, name),
        None => Ok(()),
    }
}

/// The device in the container, and its name on the host. It is known not to be on the host.
fn find_inside(
    ns: &NetNs,
    call: &Call<'_>,
    selector: Option<&Selector>,
) -> Result<Option<(Link, String)>, Error> {
    let failed = |e| kernel_error("cannot look for the device in the container", &e);
    let links = Netlink::open_in(ns).and_then(|mut net| net.links()).map_err(failed)?;
    let noted = |link: &&Link| link.alias.as_deref().is_some_and(|a| link::check_name(a).is_ok());
    let named = links.iter().find(|link| link.name == call.ifname);
    let found = match named.filter(noted) {
        Some(link) => Some(link),
        None => links.iter().filter(noted).find(|link| is_selected(link, selector)),
    };
    if let Some(link) = found {
        return Ok(Some((link.clone(), link.alias.clone().unwrap_or_default())));
    }
    match named {
        None => Ok(None),
        Some(link) => without_alias(call, link, selector).map(Some),
    }
}

/// Whether a link that has a name noted on it is the device, though it does not have the container's name for it.
fn is_selected(link: &Link, selector: Option<&Selector>) -> bool {
    match selector {
        Some(Selector::Device(name)) => link.alias.as_deref() == Some(name),
        Some(Selector::HwAddr(mac)) => link.mac == Some(*mac),
        _ => link.alias.as_ref() == Some(&link.name),
    }
}

/// Somebody took the note off, or it is not the device at all. With ADD's result and a name in the configuration all is clear.
fn without_alias(
    call: &Call<'_>,
    link: &Link,
    selector: Option<&Selector>,
) -> Result<(Link, String), Error> {
    let promised = call.conf.prev_result.iter().flat_map(|result| &result.interfaces);
    let mac = link.mac.map_or(String::new(), |mac| mac.to_string());
    let same = |i: &cni::Interface| i.name == link.name && i.mac.eq_ignore_ascii_case(&mac);
    if let Some(Selector::Device(name)) = selector
        && !mac.is_empty()
        && promised.into_iter().any(same)
    {
        return Ok((link.clone(), name.clone()));
    }
    let msg = format!("failed to find original ifname for {:?} (alias is not set)", link.name);
    let details = "its name on the host is noted as its alias: set it (ip link set alias), then call DEL again";
    Err(Error::new(code::CONFLICT, msg).with_details(details))
}
