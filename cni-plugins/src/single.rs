//! What plugins share whose result has one interface, the container's: getting an address for it, and comparing it with what ADD
//! promised.

use cni::plugin::Call;
use cni::{CniResult, Error, Interface};
use netns_tools::{Link, Netlink};

use crate::interface::{Observed, kernel_error};
use crate::undo::Undo;
use crate::{code, lease};

/// The IPAM plugin's answer, every address of it on the first interface.
pub fn lease<'a>(
    call: &'a Call<'a>,
    ipam: &'a str,
    undo: &mut Undo<'a>,
) -> Result<CniResult, Error> {
    let mut lease = lease::get(call, ipam, undo)?;
    lease::refuse_empty(ipam, &lease)?;
    lease.ips.iter_mut().for_each(|ip| ip.interface = Some(0));
    Ok(lease)
}

/// The answer to ADD.
pub fn result(
    call: &Call<'_>,
    interface: Interface,
    lease: Option<CniResult>,
) -> Result<CniResult, Error> {
    let mut result = lease.unwrap_or_default();
    result.interfaces = vec![interface];
    result.dns = lease::name_servers(&call.conf.dns, result.dns);
    // A result that this version cannot express is an error now, not after everything is done.
    result.to_json(call.conf.cni_version)?;
    Ok(result)
}

/// What differs from the result of ADD: the interface, its place, MAC address, addresses and routes. `more` compares what only the
/// plugin knows.
pub fn differences(
    prev: &CniResult,
    ifname: &str,
    sandbox: &str,
    seen: &Observed,
    more: impl FnOnce(&Link, &mut Vec<String>),
) -> Vec<String> {
    let mut found = Vec::new();
    let inside = prev.interfaces.iter().find(|i| i.name == ifname && !i.sandbox.is_empty());
    match (inside, &seen.link) {
        (None, _) => found.push(format!("prevResult has no interface {ifname:?} in a sandbox")),
        (Some(promised), _) if promised.sandbox != sandbox => found.push(format!(
            "Sandbox in prevResult {} doesn't match configured netns: {sandbox}",
            promised.sandbox
        )),
        (Some(_), None) => found.push(format!("{ifname:?} is missing in the container")),
        (Some(promised), Some(link)) => {
            check_mac(promised, link, &mut found);
            if !link.up {
                found.push(format!("{ifname:?} is down"));
            }
            more(link, &mut found);
            found.extend(seen.differences(&prev.ips, &prev.routes));
        }
    }
    found
}

fn check_mac(promised: &Interface, link: &Link, found: &mut Vec<String>) {
    let mac = link.mac.map_or(String::new(), |mac| mac.to_string());
    if !promised.mac.is_empty() && !promised.mac.eq_ignore_ascii_case(&mac) {
        found.push(format!(
            "Interface {} Mac {} doesn't match container Mac: {mac}",
            promised.name, promised.mac
        ));
    }
}

/// Refuses a name that is taken in the container, before anything is done.
pub fn refuse_existing(inside: &mut Netlink, ifname: &str) -> Result<(), Error> {
    let link = inside.link(ifname);
    if link.map_err(|e| kernel_error(&format!("cannot look up {ifname:?}"), &e))?.is_none() {
        return Ok(());
    }
    let msg = format!("interface {ifname:?} already exists in the container");
    let details = "call DEL for it first, or attach under another name";
    Err(Error::new(code::CONFLICT, msg).with_details(details))
}
