//! CHECK of `bridge`: what ADD answered against what the kernel says now.

#[cfg(test)]
mod tests;

use cni::plugin::Call;
use cni::{CniResult, Error, Interface};
use ipnetwork::IpNetwork;
use netns_tools::{Link, Netlink, PortVlan};

use super::conf::Conf;
use super::port::find_bridge;
use super::spoof::SpoofCheck;
use crate::drift::{self, Attachment};
use crate::interface::{Observed, kernel_error};
use crate::masquerade::Masquerade;
use crate::sandbox;

/// Compares everything and reports every difference at once.
pub fn check(call: &Call<'_>) -> Result<(), Error> {
    let conf = Conf::parse(call)?;
    if let Some(ipam) = &conf.ipam {
        call.delegate_check(ipam)?;
    }
    let prev = drift::promised(call)?;
    let ns = sandbox::open(call)?;
    let open = |net: Result<_, _>| net.map_err(|e| kernel_error("cannot open netlink", &e));
    let mut inside = open(Netlink::open_in(&ns))?;
    let inside = Observed::look(&mut inside, &call.ifname)?;
    let seen = Seen::look(&conf, &mut open(Netlink::open())?, inside)?;
    let sandbox = ns.path().display().to_string();
    let attachment = Attachment { prev, ifname: &call.ifname, sandbox: &sandbox };
    let mut found = differences(&conf, &attachment, &seen);
    found.extend(Masquerade::check(call, conf.masquerade, prev)?);
    if conf.spoof_check {
        found.extend(check_spoof(call, &seen)?);
    }
    drift::answer(&call.ifname, &found)
}

/// Without the interface there is nothing to say about its MAC address.
fn check_spoof(call: &Call<'_>, seen: &Seen) -> Result<Option<String>, Error> {
    let Some(link) = &seen.inside.link else { return Ok(None) };
    let peer = seen.host.iter().find(|port| Some(port.index) == link.peer_index);
    let complete = match peer {
        Some(port) => SpoofCheck::of(call).is_complete(&port.name, link.mac)?,
        None => false,
    };
    Ok((!complete).then(|| "the rules about its MAC address are missing".to_owned()))
}

/// What the kernel says.
struct Seen {
    bridge: Option<Link>,
    host: Vec<Link>,
    /// What the gateway has, if the bridge is to be one.
    gateway: Vec<IpNetwork>,
    /// The VLANs of the container's port, if it is to be in any.
    vlans: Vec<PortVlan>,
    inside: Observed,
}

impl Seen {
    fn look(conf: &Conf, net: &mut Netlink, inside: Observed) -> Result<Self, Error> {
        let bridge = find_bridge(net, &conf.bridge)?;
        let host = net.links().map_err(|e| kernel_error("cannot list links", &e))?;
        let device = conf.vlan_gateway().unwrap_or_else(|| conf.bridge.clone());
        let device = host.iter().find(|link| link.name == device).filter(|_| conf.gateway);
        let gateway = match device {
            Some(link) => net.addresses(Some(link.index)),
            None => Ok(Vec::new()),
        };
        let gateway =
            gateway.map_err(|e| kernel_error("cannot list the gateway's addresses", &e))?;
        let port = inside.link.as_ref().and_then(|link| link.peer_index);
        let vlans = match port.filter(|_| conf.vlans.is_some()) {
            Some(port) => net.port_vlans(port),
            None => Ok(Vec::new()),
        };
        let vlans = vlans.map_err(|e| kernel_error("cannot list the port's VLANs", &e))?;
        let gateway = gateway.into_iter().map(|address| address.net).collect();
        Ok(Self { bridge, host, gateway, vlans, inside })
    }
}

fn differences(conf: &Conf, attachment: &Attachment<'_>, seen: &Seen) -> Vec<String> {
    let mut found = Vec::new();
    let prev = attachment.prev;
    let on_host = |interface: &&Interface| interface.sandbox.is_empty();
    let promised_bridge = prev.interfaces.iter().filter(on_host).find(|i| i.name == conf.bridge);
    check_bridge(conf, promised_bridge, seen, &mut found);
    if conf.gateway {
        check_gateway(prev, seen, &mut found);
    }
    let Some(link) = attachment.container_end(&seen.inside, &mut found) else { return found };
    drift::mtu(conf.mtu, link, &mut found);
    if let Some(port) = attachment.host_end(&seen.host, link, &mut found) {
        check_port(conf, port, seen, &mut found);
    }
    found.extend(seen.inside.differences(&prev.ips, &prev.routes));
    found
}

fn check_bridge(conf: &Conf, promised: Option<&Interface>, seen: &Seen, found: &mut Vec<String>) {
    match (promised, &seen.bridge) {
        (None, _) => found.push(format!("prevResult has no bridge {:?}", conf.bridge)),
        (_, None) => found.push(format!("bridge {:?} is missing", conf.bridge)),
        (Some(promised), Some(link)) => {
            drift::mac(promised, link, found);
            if conf.promiscuous && !link.promisc {
                found.push(format!("bridge {:?} is not in promiscuous mode", conf.bridge));
            }
        }
    }
}

fn check_gateway(prev: &CniResult, seen: &Seen, found: &mut Vec<String>) {
    for gateway in prev.ips.iter().filter_map(|ip| ip.gateway) {
        if !seen.gateway.iter().any(|net| net.ip() == gateway) {
            found.push(format!("the bridge does not have the gateway's address {gateway}"));
        }
    }
}

fn check_port(conf: &Conf, port: &Link, seen: &Seen, found: &mut Vec<String>) {
    let name = &port.name;
    if port.master.is_none() || port.master != seen.bridge.as_ref().map(|bridge| bridge.index) {
        found.push(format!("{name:?} is not a port of bridge {:?}", conf.bridge));
        return;
    }
    for (key, wanted, is) in [
        ("hairpinMode", conf.hairpin, port.hairpin),
        ("portIsolation", conf.isolated, port.isolated),
    ] {
        if wanted && is != Some(true) {
            found.push(format!("{name:?} has lost {key}"));
        }
    }
    if let Some(vlans) = &conf.vlans {
        let default = seen.bridge.as_ref().and_then(|bridge| bridge.default_pvid);
        let differences = vlans.differences(default, &seen.vlans).into_iter();
        found.extend(differences.map(|difference| format!("{name:?}: {difference}")));
    }
}
