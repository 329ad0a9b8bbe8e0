//! Pure decisions of `bridge`: from the configuration and the IPAM plugin's answer to what must hold.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cni::{CniResult, Dns, Error, Interface, IpConfig, Route};
use ipnetwork::IpNetwork;

use super::conf::Conf;
use crate::{code, lease};

/// The container's interface is the third one of the result, after the bridge and the host's end.
pub const CONTAINER: usize = 2;

/// What the IPAM plugin's answer means for this bridge.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Layer3 {
    /// The container's addresses, each with its gateway.
    pub ips: Vec<IpConfig>,
    /// The container's routes.
    pub routes: Vec<Route>,
    /// What the bridge must have as addresses; empty unless it is the gateway.
    pub gateways: Vec<IpNetwork>,
    /// Name servers.
    pub dns: Dns,
}

/// Completes the IPAM plugin's answer: gateways that it left out, and the default routes.
pub fn layer3(conf: &Conf, lease: CniResult) -> Result<Layer3, Error> {
    lease::refuse_empty(conf.ipam.as_deref().unwrap_or_default(), &lease)?;
    let mut plan = Layer3 { routes: lease.routes, dns: lease.dns, ..Layer3::default() };
    for mut ip in lease.ips {
        ip.interface = Some(CONTAINER);
        if conf.gateway {
            let gateway = *ip.gateway.get_or_insert_with(|| first_address(ip.address));
            plan.gateways.push(same_prefix(gateway, ip.address));
        }
        if conf.default_gateway {
            add_default_route(&mut plan.routes, &ip);
        }
        plan.ips.push(ip);
    }
    Ok(plan)
}

/// A default route per family, unless there is one with a gateway already.
fn add_default_route(routes: &mut Vec<Route>, ip: &IpConfig) {
    let dst = default_net(ip.address.is_ipv4());
    if !routes.iter().any(|route| route.dst == dst && route.gw.is_some()) {
        routes.push(Route::new(dst, ip.gateway));
    }
}

fn default_net(v4: bool) -> IpNetwork {
    let any =
        if v4 { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    IpNetwork::new(any, 0).expect("zero is a prefix length of both families")
}

/// The address after the network's own.
fn first_address(net: IpNetwork) -> IpAddr {
    match net.network() {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from(u32::from(ip).wrapping_add(1))),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(u128::from(ip).wrapping_add(1))),
    }
}

fn same_prefix(ip: IpAddr, net: IpNetwork) -> IpNetwork {
    // A gateway of the other family has no such prefix length; it stands alone then.
    IpNetwork::new(ip, net.prefix()).unwrap_or_else(|_| IpNetwork::from(ip))
}

/// What to do with the addresses of the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressChange {
    /// Take it away: it is in the way and `forceAddress` is set.
    Remove(IpNetwork),
    /// Give it to the bridge.
    Add(IpNetwork),
}

/// How the gateway `device` (the bridge, or the interface of its VLAN) with the addresses `present` comes to have `wanted`.
///
/// IPv4: one address, so any other is in the way. IPv6: any number, as long as their subnets do not overlap.
pub fn bridge_address(
    conf: &Conf,
    device: &str,
    present: &[IpNetwork],
    wanted: IpNetwork,
) -> Result<Vec<AddressChange>, Error> {
    if present.contains(&wanted) {
        return Ok(Vec::new());
    }
    let in_the_way = |net: &&IpNetwork| match (net, wanted) {
        (IpNetwork::V4(_), IpNetwork::V4(_)) => true,
        (IpNetwork::V6(net), IpNetwork::V6(wanted)) => {
            net.contains(wanted.ip()) || wanted.contains(net.ip())
        }
        _ => false,
    };
    let mut changes: Vec<_> =
        present.iter().filter(in_the_way).map(|net| AddressChange::Remove(*net)).collect();
    if let (Some(AddressChange::Remove(other)), false) = (changes.first(), conf.force_address) {
        let msg = format!("{device:?} already has an IP address different from {wanted}");
        let details =
            format!("it has {other}; set forceAddress to replace it, or use another bridge name");
        return Err(Error::new(code::CONFLICT, msg).with_details(details));
    }
    changes.push(AddressChange::Add(wanted));
    Ok(changes)
}

/// The answer to ADD.
pub fn result(interfaces: Vec<Interface>, plan: Layer3, own_dns: &Dns) -> CniResult {
    let dns = lease::name_servers(own_dns, plan.dns);
    CniResult { interfaces, ips: plan.ips, routes: plan.routes, dns }
}
