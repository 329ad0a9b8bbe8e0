//! What allocations mean for the result.

use cni::{CniResult, Dns, IpConfig, Route};
use ipam::Allocation;

/// The result of an ADD. IPAM plugins name no interfaces.
pub fn result(allocations: &[Allocation], routes: Vec<Route>, dns: Dns) -> CniResult {
    let ip = |allocation: &Allocation| IpConfig {
        interface: None,
        address: allocation.address,
        gateway: Some(allocation.gateway),
    };
    CniResult { ips: allocations.iter().map(ip).collect(), routes, dns, ..CniResult::default() }
}
