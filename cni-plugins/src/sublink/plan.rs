//! Pure decisions: the temporary name, and what the answers mean for the interface.

use cni::{CniResult, Dns, Interface};
use data_encoding::HEXLOWER;
use netns_tools::route::TABLE_MAIN;
use netns_tools::{Route, RouteKind};
use sha2::{Digest, Sha256};

use crate::lease;

/// The name that the link has until it is in the container and can have its own: older kernels want the name of a new link to
/// be free on the host, too. It is the same each time, so that what an ADD leaves that is killed meanwhile is found again.
pub fn temporary_name(container_id: &str, ifname: &str) -> String {
    let digest = Sha256::digest(format!("{container_id}\0{ifname}"));
    format!("sub{}", HEXLOWER.encode(&digest[..6]))
}

/// The link that the default route leaves by: the one with the lowest metric, IPv4's before IPv6's.
pub fn default_route(routes: &[Route]) -> Option<u32> {
    let is_default = |route: &&Route| {
        route.dst.prefix() == 0
            && route.kind == RouteKind::Unicast
            && route.table == Some(TABLE_MAIN)
            && route.oif.is_some()
    };
    let order = |route: &&Route| (route.dst.is_ipv6(), route.priority.unwrap_or(0));
    routes.iter().filter(is_default).min_by_key(order)?.oif
}

/// The answer to ADD: one interface, which has every address of `lease`.
pub fn result(interface: Interface, mut lease: CniResult, own_dns: &Dns) -> CniResult {
    for ip in &mut lease.ips {
        ip.interface = Some(0);
    }
    let dns = lease::name_servers(own_dns, lease.dns);
    CniResult { interfaces: vec![interface], ips: lease.ips, routes: lease.routes, dns }
}

/// The addresses of a result that are on the interface with this number; one without a number is on it.
pub fn addresses_of(result: &CniResult, number: usize) -> Vec<cni::IpConfig> {
    let own = |ip: &&cni::IpConfig| ip.interface.is_none_or(|interface| interface == number);
    result.ips.iter().filter(own).cloned().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_temporary_name_is_one_and_fits() {
        let name = temporary_name("c1", "eth0");
        assert_eq!(name.len(), netns_tools::link::NAME_MAX);
        assert_eq!(name, temporary_name("c1", "eth0"));
        for other in [("c1", "eth1"), ("c2", "eth0"), ("c1e", "th0")] {
            assert_ne!(name, temporary_name(other.0, other.1));
        }
    }

    fn route(dst: &str, oif: u32) -> Route {
        let dst = dst.parse().unwrap();
        Route { dst, oif: Some(oif), table: Some(TABLE_MAIN), ..Route::default() }
    }

    #[test]
    fn the_default_route() {
        let metric = |priority, route| Route { priority: Some(priority), ..route };
        let mut routes = vec![
            route("10.0.0.0/8", 1),
            Route { table: Some(100), ..route("0.0.0.0/0", 2) },
            Route { kind: RouteKind::Unreachable, ..route("::/0", 3) },
            Route { oif: None, ..route("0.0.0.0/0", 4) },
        ];
        assert_eq!(default_route(&routes), None);
        routes.push(route("::/0", 5));
        assert_eq!(default_route(&routes), Some(5));
        routes.push(metric(200, route("0.0.0.0/0", 6)));
        routes.push(metric(100, route("0.0.0.0/0", 7)));
        assert_eq!(default_route(&routes), Some(7));
    }

    #[test]
    fn a_result_has_one_interface_with_every_address() {
        let lease = json!({
            "ips": [{ "address": "10.1.0.2/24", "interface": 7 }, { "address": "fd00::2/64" }],
            "routes": [{ "dst": "0.0.0.0/0" }],
            "dns": { "domain": "a" },
        });
        let lease = CniResult::from_json(&lease, cni::Version::LATEST).unwrap();
        let eth0 = Interface { name: "eth0".into(), ..Interface::default() };
        let own = Dns { domain: "b".into(), ..Dns::default() };
        let answer = result(eth0.clone(), lease.clone(), &own);
        assert_eq!(answer.interfaces, std::slice::from_ref(&eth0));
        assert!(answer.ips.iter().all(|ip| ip.interface == Some(0)));
        assert_eq!((answer.ips.len(), answer.routes.len(), &*answer.dns.domain), (2, 1, "b"));
        // The reference drops the IPAM plugin's name servers.
        assert_eq!(result(eth0, lease, &Dns::default()).dns.domain, "a");
    }

    #[test]
    fn another_interfaces_addresses_are_its_own() {
        let result = json!({
            "interfaces": [{ "name": "a" }, { "name": "b" }],
            "ips": [
                { "address": "10.1.0.1/24", "interface": 0 },
                { "address": "10.1.0.2/24", "interface": 1 },
                { "address": "10.1.0.3/24" },
            ],
        });
        let result = CniResult::from_json(&result, cni::Version::LATEST).unwrap();
        let of = |number| {
            let found = addresses_of(&result, number);
            found.iter().map(|ip| ip.address.ip().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(of(0), ["10.1.0.1", "10.1.0.3"]);
        assert_eq!(of(1), ["10.1.0.2", "10.1.0.3"]);
    }
}
