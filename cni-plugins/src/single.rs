//! What plugins share whose result has one interface, the container's: getting an address for it, and comparing it with what ADD
//! promised.

use cni::plugin::Call;
use cni::{CniResult, Error, ErrorCode, Interface};
use netns_tools::{Link, Netlink};

use crate::code;
use crate::interface::{Observed, kernel_error};
use crate::step::step;
use crate::undo::Undo;

/// The IPAM plugin's answer, every address of it on the first interface.
pub fn lease<'a>(
    call: &'a Call<'a>,
    ipam: &'a str,
    undo: &mut Undo<'a>,
) -> Result<CniResult, Error> {
    let mut lease = step("get an address", || {
        let lease = call.delegate_add(ipam)?;
        undo.push("the address allocation", move || call.delegate_del(ipam));
        Ok(lease)
    })?;
    if lease.ips.is_empty() {
        return Err(Error::new(code::CONFLICT, "IPAM plugin returned missing IP config")
            .with_details(format!("{ipam} answered ADD without an address")));
    }
    lease.ips.iter_mut().for_each(|ip| ip.interface = Some(0));
    Ok(lease)
}

/// The answer to ADD. The network's own name servers replace the IPAM plugin's as soon as one field is set.
pub fn result(
    call: &Call<'_>,
    interface: Interface,
    lease: Option<CniResult>,
) -> Result<CniResult, Error> {
    let mut result = lease.unwrap_or_default();
    result.interfaces = vec![interface];
    if !call.conf.dns.is_empty() {
        result.dns.clone_from(&call.conf.dns);
    }
    // A result that this version cannot express is an error now, not after everything is done.
    result.to_json(call.conf.cni_version)?;
    Ok(result)
}

/// A link as an interface of a result.
pub fn interface(link: &Link, sandbox: String) -> Interface {
    let mac = link.mac.map_or(String::new(), |mac| mac.to_string());
    Interface { name: link.name.clone(), mac, sandbox, ..Interface::default() }
}

/// The result of ADD, which CHECK needs.
pub fn promised<'a>(call: &'a Call<'_>) -> Result<&'a CniResult, Error> {
    call.conf.prev_result.as_ref().ok_or_else(|| {
        Error::new(ErrorCode::InvalidConfig, "Required prevResult missing").with_details(
            "CHECK compares with the result of ADD: the runtime must pass it as prevResult",
        )
    })
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

/// CHECK's verdict.
pub fn verdict(ifname: &str, differences: &[String]) -> Result<(), Error> {
    if differences.is_empty() {
        return Ok(());
    }
    let msg = format!("interface {ifname:?} is not as ADD left it");
    Err(Error::new(code::DRIFT, msg).with_details(differences.join("; ")))
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
