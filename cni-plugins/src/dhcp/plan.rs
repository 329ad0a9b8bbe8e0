//! What a lease means for the result.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};

use cni::{CniResult, IpConfig, Route};
use ipnetwork::{IpNetwork, Ipv4Network};

use super::lease::Lease;
use super::message::{Options, address, code, quad};

/// `RT_SCOPE_LINK`: the destination is on the link itself.
const SCOPE_LINK: u32 = 253;

/// The result of an ADD. IPAM plugins name no interfaces. `None`: the lease has no usable subnet mask.
pub fn result(lease: &Lease, priority: Option<u32>) -> Option<CniResult> {
    let net = Ipv4Network::new(lease.address, lease.prefix()?).ok()?;
    let gateway = address(&lease.options, code::ROUTERS).map(IpAddr::V4);
    let ip = IpConfig { interface: None, address: IpNetwork::V4(net), gateway };
    let routes = routes(&lease.options).into_iter();
    let routes = routes.map(|route| Route { priority, ..route }).collect();
    Some(CniResult { ips: vec![ip], routes, ..CniResult::default() })
}

/// Classless routes take the place of all others (RFC 3442). Without them: the static ones, and a default route through the
/// first router.
fn routes(options: &Options) -> Vec<Route> {
    let classless = options.get(&code::CLASSLESS_ROUTES).and_then(|bytes| classless(bytes));
    if let Some(routes) = classless.filter(|routes| !routes.is_empty()) {
        return routes;
    }
    let mut routes: Vec<_> = options
        .get(&code::STATIC_ROUTES)
        .map_or(&[][..], Vec::as_slice)
        .chunks_exact(8)
        .filter_map(|pair| Some((quad(&pair[..4])?, quad(&pair[4..])?)))
        .filter_map(|(dst, gateway)| route(dst, classful_prefix(dst)?, gateway))
        .collect();
    let gateway = address(options, code::ROUTERS);
    routes.extend(gateway.and_then(|gateway| route(Ipv4Addr::UNSPECIFIED, 0, gateway)));
    routes
}

/// Option 121: the length of a prefix, as many bytes of it as count, a router. `None`: it is damaged, and half of it would be
/// worse than nothing.
fn classless(mut bytes: &[u8]) -> Option<Vec<Route>> {
    let mut routes = Vec::new();
    while let Some((&prefix, rest)) = bytes.split_first() {
        let (significant, rest) = rest.split_at_checked(usize::from(prefix.div_ceil(8)))?;
        let (gateway, rest) = rest.split_at_checked(4)?;
        let mut dst = [0; 4];
        dst.get_mut(..significant.len())?.copy_from_slice(significant);
        routes.push(route(dst.into(), prefix, quad(gateway)?)?);
        bytes = rest;
    }
    Some(routes)
}

/// A gateway of 0.0.0.0 says that the destination is on the link.
fn route(dst: Ipv4Addr, prefix: u8, gateway: Ipv4Addr) -> Option<Route> {
    let net = Ipv4Network::new(dst, prefix).ok()?;
    let dst = Ipv4Network::new(net.network(), prefix).ok()?;
    let scope = gateway.is_unspecified().then_some(SCOPE_LINK);
    Some(Route { scope, ..Route::new(IpNetwork::V4(dst), Some(IpAddr::V4(gateway))) })
}

/// The prefix that an address had before there were prefixes; option 33 has nothing else. 0.0.0.0 is not allowed there.
fn classful_prefix(dst: Ipv4Addr) -> Option<u8> {
    match dst.octets()[0] {
        _ if dst.is_unspecified() => None,
        0..=127 => Some(8),
        128..=191 => Some(16),
        192..=223 => Some(24),
        _ => None,
    }
}
