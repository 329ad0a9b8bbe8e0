//! CHECK of `ptp`: what ADD answered against what the kernel says now.

#[cfg(test)]
mod tests;

use cni::Error;
use cni::plugin::Call;
use ipnetwork::IpNetwork;
use netns_tools::{Link, Netlink, Route};

use super::conf::Conf;
use crate::drift::{self, Attachment};
use crate::interface::{Observed, kernel_error};
use crate::masquerade::Masquerade;
use crate::sandbox;

/// Compares everything and reports every difference at once.
pub fn check(call: &Call<'_>) -> Result<(), Error> {
    let conf = Conf::parse(call)?;
    call.delegate_check(&conf.ipam)?;
    let prev = drift::promised(call)?;
    let ns = sandbox::open(call)?;
    let failed = |e| kernel_error("cannot look at the container's link", &e);
    let mut inside = Netlink::open_in(&ns).map_err(failed)?;
    let mut host = Netlink::open().map_err(failed)?;
    let seen = Seen {
        inside: Observed::look(&mut inside, &call.ifname)?,
        host: host.links().map_err(failed)?,
        addresses: host
            .addresses(None)
            .map_err(failed)?
            .into_iter()
            .map(|a| (a.index, a.net))
            .collect(),
        routes: host.routes().map_err(failed)?,
    };
    let sandbox = ns.path().display().to_string();
    let attachment = Attachment { prev, ifname: &call.ifname, sandbox: &sandbox };
    let mut found = differences(&conf, &attachment, &seen);
    found.extend(Masquerade::check(call, conf.masquerade, prev)?);
    drift::answer(&call.ifname, &found)
}

/// What the kernel says.
struct Seen {
    inside: Observed,
    host: Vec<Link>,
    /// The host's addresses, each with the index of its link.
    addresses: Vec<(u32, IpNetwork)>,
    routes: Vec<Route>,
}

fn differences(conf: &Conf, attachment: &Attachment<'_>, seen: &Seen) -> Vec<String> {
    let mut found = Vec::new();
    let Some(link) = attachment.container_end(&seen.inside, &mut found) else { return found };
    drift::mtu(conf.mtu, link, &mut found);
    if let Some(end) = attachment.host_end(&seen.host, link, &mut found) {
        check_host_end(attachment, seen, end, &mut found);
    }
    found.extend(seen.inside.differences(&attachment.prev.ips, &attachment.prev.routes));
    found
}

fn check_host_end(attachment: &Attachment<'_>, seen: &Seen, end: &Link, found: &mut Vec<String>) {
    for ip in &attachment.prev.ips {
        let to_container = IpNetwork::from(ip.address.ip());
        let leads = |route: &Route| route.dst == to_container && route.oif == Some(end.index);
        if !seen.routes.iter().any(leads) {
            found.push(format!("the host has no route {to_container} dev {}", end.name));
        }
        let Some(gateway) = ip.gateway.map(IpNetwork::from) else { continue };
        if !seen.addresses.contains(&(end.index, gateway)) {
            found.push(format!("{:?} does not have the gateway's address {gateway}", end.name));
        }
        if !seen.inside.routes.iter().any(|route| route.dst == gateway) {
            found.push(format!("the route to the gateway {gateway} is missing"));
        }
    }
}
