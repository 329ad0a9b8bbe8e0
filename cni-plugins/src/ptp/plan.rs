//! Pure decisions of `ptp`: from the IPAM plugin's answer to what either end of the pair gets.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use cni::{CniResult, Dns, Error, Interface, IpConfig};
use ipnetwork::IpNetwork;
use netns_tools::Route;
use netns_tools::route::{SCOPE_HOST, SCOPE_LINK};

use crate::{code, lease};

/// The container's interface is the second one of the result, after the host's end.
const CONTAINER: usize = 1;
/// `RTPROT_KERNEL` (`linux/rtnetlink.h`): made by the kernel itself.
const BY_KERNEL: u8 = 2;

/// What the IPAM plugin's answer means.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// The container's addresses, each with its gateway.
    pub ips: Vec<IpConfig>,
    /// The container's routes that the IPAM plugin asks for.
    pub routes: Vec<cni::Route>,
    /// Name servers.
    pub dns: Dns,
    /// What must be done for each address.
    pub paths: Vec<Path>,
}

/// How packets go between host and container for one address. The routes lack the interface to leave by, which is not known
/// yet.
#[derive(Debug, PartialEq, Eq)]
pub struct Path {
    /// The container's address.
    pub address: IpAddr,
    /// What the host's end has.
    pub gateway: IpNetwork,
    /// The host's route to the container.
    pub to_container: Route,
    /// The container's route that the kernel made, though nobody of the network is on the link.
    pub connected: Route,
    /// The container's routes instead: to the gateway on the link, and to the network through the gateway.
    pub instead: [Route; 2],
}

impl Plan {
    /// Every address needs a gateway: it is the host's end.
    pub fn new(ipam: &str, lease: CniResult) -> Result<Self, Error> {
        lease::refuse_empty(ipam, &lease)?;
        let paths = lease.ips.iter().map(|ip| Path::new(ipam, ip)).collect::<Result<_, _>>()?;
        let ips = lease.ips.into_iter().map(|ip| IpConfig { interface: Some(CONTAINER), ..ip });
        Ok(Self { ips: ips.collect(), routes: lease.routes, dns: lease.dns, paths })
    }

    /// The answer to ADD: host's end, container's end.
    pub fn result(self, interfaces: [Interface; 2], own_dns: &Dns) -> CniResult {
        let dns = lease::name_servers(own_dns, self.dns);
        CniResult { interfaces: interfaces.into(), ips: self.ips, routes: self.routes, dns }
    }
}

impl Path {
    fn new(ipam: &str, ip: &IpConfig) -> Result<Self, Error> {
        let address = ip.address.ip();
        let gateway = ip.gateway.filter(|gateway| gateway.is_ipv4() == address.is_ipv4());
        let gateway = gateway.ok_or_else(|| {
            Error::new(code::CONFLICT, format!("IPAM plugin returned {address} without a gateway"))
                .with_details(format!("the host's end of the pair gets the gateway's address; {ipam} must name one of the same family"))
        })?;
        let network =
            IpNetwork::new(ip.address.network(), ip.address.prefix()).unwrap_or(ip.address);
        Ok(Self {
            address,
            gateway: gateway.into(),
            to_container: Route {
                dst: address.into(),
                scope: v4_scope(address, SCOPE_HOST),
                ..Route::default()
            },
            connected: Route { dst: network, protocol: Some(BY_KERNEL), ..Route::default() },
            instead: [
                Route {
                    dst: gateway.into(),
                    source: Some(address),
                    scope: v4_scope(address, SCOPE_LINK),
                    ..Route::default()
                },
                Route {
                    dst: network,
                    gateway: Some(gateway),
                    source: Some(address),
                    ..Route::default()
                },
            ],
        })
    }
}

/// IPv6 routes have no scope.
fn v4_scope(address: IpAddr, scope: u8) -> Option<u8> {
    address.is_ipv4().then_some(scope)
}
