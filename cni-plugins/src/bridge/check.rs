//! CHECK of `bridge`: what ADD answered against what the kernel says now.

#[cfg(test)]
mod tests;

use cni::plugin::Call;
use cni::{CniResult, Error, ErrorCode, Interface};
use netns_tools::{Link, Netlink};

use super::conf::Conf;
use super::port::find_bridge;
use crate::interface::{Observed, kernel_error};
use crate::{code, sandbox};

/// Compares everything and reports every difference at once.
pub fn check(call: &Call<'_>) -> Result<(), Error> {
    let conf = Conf::parse(call)?;
    if let Some(ipam) = &conf.ipam {
        call.delegate_check(ipam)?;
    }
    let prev = call.conf.prev_result.as_ref().ok_or_else(|| {
        Error::new(ErrorCode::InvalidConfig, "Required prevResult missing").with_details(
            "CHECK compares with the result of ADD: the runtime must pass it as prevResult",
        )
    })?;
    let ns = sandbox::open(call)?;
    let open = |net: Result<_, _>| net.map_err(|e| kernel_error("cannot open netlink", &e));
    let mut host = open(Netlink::open())?;
    let mut inside = open(Netlink::open_in(&ns))?;
    let seen = Seen {
        bridge: find_bridge(&mut host, &conf.bridge)?,
        host: host.links().map_err(|e| kernel_error("cannot list links", &e))?,
        inside: Observed::look(&mut inside, &call.ifname)?,
    };
    let sandbox = ns.path().display().to_string();
    let differences = differences(&conf, prev, &seen, &call.ifname, &sandbox);
    if differences.is_empty() {
        return Ok(());
    }
    let msg = format!("interface {:?} is not as ADD left it", call.ifname);
    Err(Error::new(code::DRIFT, msg).with_details(differences.join("; ")))
}

/// What the kernel says.
struct Seen {
    bridge: Option<Link>,
    host: Vec<Link>,
    inside: Observed,
}

fn differences(
    conf: &Conf,
    prev: &CniResult,
    seen: &Seen,
    ifname: &str,
    sandbox: &str,
) -> Vec<String> {
    let mut found = Vec::new();
    let on_host = |interface: &&Interface| interface.sandbox.is_empty();
    let promised_bridge = prev.interfaces.iter().filter(on_host).find(|i| i.name == conf.bridge);
    check_bridge(conf, promised_bridge, seen, &mut found);

    let inside = prev.interfaces.iter().find(|i| i.name == ifname && !i.sandbox.is_empty());
    match (inside, &seen.inside.link) {
        (None, _) => found.push(format!("prevResult has no interface {ifname:?} in a sandbox")),
        (Some(promised), _) if promised.sandbox != sandbox => found.push(format!(
            "Sandbox in prevResult {} doesn't match configured netns: {sandbox}",
            promised.sandbox
        )),
        (Some(_), None) => found.push(format!("{ifname:?} is missing in the container")),
        (Some(promised), Some(link)) => {
            check_kind(link, "veth", &mut found);
            check_mac(promised, link, &mut found);
            check_host_end(conf, prev, seen, link, &mut found);
            found.extend(seen.inside.differences(&prev.ips, &prev.routes));
        }
    }
    found
}

fn check_bridge(conf: &Conf, promised: Option<&Interface>, seen: &Seen, found: &mut Vec<String>) {
    match (promised, &seen.bridge) {
        (None, _) => found.push(format!("prevResult has no bridge {:?}", conf.bridge)),
        (_, None) => found.push(format!("bridge {:?} is missing", conf.bridge)),
        (Some(promised), Some(link)) => {
            check_mac(promised, link, found);
            if conf.promiscuous && !link.promisc {
                found.push(format!("bridge {:?} is not in promiscuous mode", conf.bridge));
            }
        }
    }
}

/// The container's peer must be a promised interface of the host, and a port of the bridge.
fn check_host_end(
    conf: &Conf,
    prev: &CniResult,
    seen: &Seen,
    container: &Link,
    found: &mut Vec<String>,
) {
    let peer = seen.host.iter().find(|link| {
        Some(link.index) == container.peer_index && link.peer_index == Some(container.index)
    });
    let Some(peer) = peer else {
        found.push(format!("the peer of {:?} is not in the host's namespace", container.name));
        return;
    };
    let promised = prev.interfaces.iter().find(|i| i.sandbox.is_empty() && i.name == peer.name);
    match promised {
        None => found.push(format!("prevResult does not name the host's end {:?}", peer.name)),
        Some(promised) => check_mac(promised, peer, found),
    }
    check_kind(peer, "veth", found);
    if peer.master.is_none() || peer.master != seen.bridge.as_ref().map(|bridge| bridge.index) {
        found.push(format!("{:?} is not a port of bridge {:?}", peer.name, conf.bridge));
    }
}

fn check_kind(link: &Link, kind: &str, found: &mut Vec<String>) {
    if link.kind.as_deref() != Some(kind) {
        found.push(format!("{:?} is not a {kind}", link.name));
    }
}

/// Without a MAC address in the result there is nothing to compare.
fn check_mac(promised: &Interface, link: &Link, found: &mut Vec<String>) {
    let mac = link.mac.map_or(String::new(), |mac| mac.to_string());
    if !promised.mac.is_empty() && !promised.mac.eq_ignore_ascii_case(&mac) {
        found.push(format!("{:?} has MAC address {mac}, not {}", link.name, promised.mac));
    }
}
