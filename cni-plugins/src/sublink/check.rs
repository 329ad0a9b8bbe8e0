//! CHECK: what ADD answered and the configuration against what the kernel says now.

#[cfg(test)]
mod tests;

use cni::plugin::Call;
use cni::{CniResult, Error, Interface};
use netns_tools::{Link, NetNs, Netlink};

use super::{Addresses, Master, Sublink, parent, plan};
use crate::interface::{Observed, kernel_error};
use crate::{drift, sandbox};

/// Compares everything and reports every difference at once.
pub fn check(call: &Call<'_>, wanted: &Sublink) -> Result<(), Error> {
    if let Addresses::Ipam(ipam) = &wanted.addresses {
        call.delegate_check(ipam)?;
    }
    let prev = drift::promised(call)?;
    let ns = sandbox::open(call)?;
    let seen = Seen::look(wanted, &ns, &call.ifname)?;
    let sandbox = ns.path().display().to_string();
    let differences = differences(wanted, prev, &seen, &call.ifname, &sandbox);
    drift::answer(&call.ifname, &differences)
}

/// What the kernel says.
struct Seen {
    inside: Observed,
    /// Differences in what only links of this kind have.
    settings: Vec<String>,
    master: SeenMaster,
}

/// The master. One that the configuration does not name is not compared: ADD's result does not say which it was, and the default
/// route may leave by another link by now.
enum SeenMaster {
    Unnamed,
    Missing,
    /// And the number by which the container's namespace knows the one that it is in.
    Present(Box<Link>, Option<i32>),
}

impl Seen {
    fn look(wanted: &Sublink, ns: &NetNs, ifname: &str) -> Result<Self, Error> {
        let open = |net: Result<_, _>| net.map_err(|e| kernel_error("cannot open netlink", &e));
        let mut net = open(Netlink::open_in(ns))?;
        let inside = Observed::look(&mut net, ifname)?;
        let settings = match &inside.link {
            Some(link) => wanted
                .kind
                .differences(&mut net, link.index)
                .map_err(|e| kernel_error(&format!("cannot look at {ifname:?}"), &e))?,
            None => Vec::new(),
        };
        let master = match &wanted.master {
            Master::Named(name) if wanted.in_container => {
                SeenMaster::of(parent::look_up(&mut net, name)?, None)
            }
            Master::Named(name) => {
                let netns = host_netns(&mut net, ns)?;
                SeenMaster::of(parent::look_up(&mut open(Netlink::open())?, name)?, netns)
            }
            _ => SeenMaster::Unnamed,
        };
        Ok(Self { inside, settings, master })
    }
}

impl SeenMaster {
    fn of(link: Option<Link>, netns: Option<i32>) -> Self {
        link.map_or(Self::Missing, |link| Self::Present(Box::new(link), netns))
    }
}

/// The number by which the container's namespace knows ours; `None` if it is ours.
fn host_netns(inside: &mut Netlink, ns: &NetNs) -> Result<Option<i32>, Error> {
    let failed = |e: &dyn std::error::Error| {
        kernel_error("cannot tell the host's network namespace from others", e)
    };
    let host = NetNs::current().map_err(|e| failed(&e))?;
    if host.id() == ns.id() {
        return Ok(None);
    }
    inside.netns_id(&host).map_err(|e| failed(&e))
}

fn differences(
    wanted: &Sublink,
    prev: &CniResult,
    seen: &Seen,
    ifname: &str,
    sandbox: &str,
) -> Vec<String> {
    let inside = |interface: &Interface| interface.name == ifname && !interface.sandbox.is_empty();
    let Some(number) = prev.interfaces.iter().position(inside) else {
        return vec![format!("prevResult has no interface {ifname:?} in a sandbox")];
    };
    let promised = &prev.interfaces[number];
    if promised.sandbox != sandbox {
        return vec![format!(
            "Sandbox in prevResult {} doesn't match configured netns: {sandbox}",
            promised.sandbox
        )];
    }
    let mut found = Vec::new();
    match &seen.inside.link {
        None => found.push(format!("{ifname:?} is missing in the container")),
        Some(link) => {
            compare_link(wanted, promised, link, &mut found);
            found.extend(seen.settings.iter().map(|text| format!("{ifname:?}: {text}")));
            let addresses = plan::addresses_of(prev, number);
            found.extend(seen.inside.differences(&addresses, &prev.routes));
        }
    }
    compare_master(wanted, seen, &mut found);
    found
}

fn compare_link(wanted: &Sublink, promised: &Interface, link: &Link, found: &mut Vec<String>) {
    let name = &link.name;
    drift::kind(link, wanted.kind.name(), found);
    if !link.up {
        found.push(format!("{name:?} is down"));
    }
    drift::mac(promised, link, found);
    if wanted.mtu != 0 && i64::from(link.mtu) != wanted.mtu {
        found.push(format!("{name:?} has MTU {}, not {}", link.mtu, wanted.mtu));
    }
}

fn compare_master(wanted: &Sublink, seen: &Seen, found: &mut Vec<String>) {
    let Master::Named(name) = &wanted.master else { return };
    match &seen.master {
        SeenMaster::Unnamed => {}
        SeenMaster::Missing => {
            found.push(format!("master {name:?} is missing {}", parent::place(wanted)));
        }
        SeenMaster::Present(master, netns) => {
            if let Some(link) = &seen.inside.link
                && !parent::carries(master, *netns, link)
            {
                found.push(format!("{:?} is not on master {name:?}", link.name));
            }
        }
    }
}
