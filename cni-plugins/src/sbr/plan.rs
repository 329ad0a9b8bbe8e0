//! Pure decisions of `sbr`: which table, which rules, which routes.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv6Addr};

use cni::{CniResult, Error, ErrorCode, IpConfig};
use ipnetwork::IpNetwork;
use netns_tools::route::TABLE_MAIN;
use netns_tools::{Route, RouteKind, Rule};

use super::conf::Conf;

/// The tables below are left to administrators.
const FIRST_TABLE: u32 = 100;
/// `fe80::/10`, which the kernel needs in the main table for its own purposes.
const LINK_LOCAL: u16 = 0xfe80;

/// What an address gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The rule that leads what is sent from the address to its table.
    pub rule: Rule,
    /// The table's routes, in an order in which the kernel accepts them.
    pub routes: Vec<Route>,
}

/// What ADD does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// One for each address.
    pub policies: Vec<Policy>,
    /// Routes to take out of the main table, in an order in which each can come back before those that need it.
    pub moved: Vec<Route>,
    /// Routes of the main table that get the interface's address as a hint: as they are, and as they shall be.
    pub hinted: Vec<(Route, Route)>,
}

/// The addresses of an interface in a result. One that names no interface is taken for its.
pub fn addresses<'a>(result: &'a CniResult, ifname: &str) -> Result<Vec<&'a IpConfig>, Error> {
    let is_its = |ip: &&IpConfig| {
        let interface = ip.interface.and_then(|index| result.interfaces.get(index));
        interface.is_none_or(|interface| interface.name == ifname)
    };
    let found: Vec<_> = result.ips.iter().filter(is_its).collect();
    if found.is_empty() {
        let msg = format!("No IP addresses supplied on interface: {ifname}");
        return Err(Error::new(ErrorCode::InvalidConfig, msg).with_details(
            "the plugins before sbr gave it none, so there is no source to route by",
        ));
    }
    Ok(found)
}

/// Decides everything. `routes` and `rules` are all that the namespace has; `oif` is the interface.
pub fn plan(conf: &Conf, ips: &[&IpConfig], oif: u32, routes: &[Route], rules: &[Rule]) -> Plan {
    if let Some(table) = conf.table {
        let only_rule = |ip: &&IpConfig| Policy { rule: rule(ip, table), routes: Vec::new() };
        return Plan { policies: ips.iter().map(only_rule).collect(), ..Plan::default() };
    }
    let present: Vec<_> = in_main(routes, oif).cloned().collect();
    let mut plan = Plan::default();
    let mut next = FIRST_TABLE;
    for ip in ips {
        let table = free_table(routes, rules, next);
        next = table + 1;
        let routes = table_routes(conf, ip, oif, table, &present);
        plan.policies.push(Policy { rule: rule(ip, table), routes });
    }
    if conf.source_hints {
        plan.hinted = present.iter().filter_map(|route| hint(route, ips)).collect();
    } else {
        plan.moved = present.into_iter().filter(|route| !is_link_local(route.dst)).collect();
        sort_for_deletion(&mut plan.moved);
    }
    plan
}

/// The routes of a link in the main table that are a node's to move: not what the kernel answers by itself.
pub fn in_main(routes: &[Route], oif: u32) -> impl Iterator<Item = &Route> {
    routes.iter().filter(move |route| {
        route.oif == Some(oif)
            && route.table == Some(TABLE_MAIN)
            && route.kind == RouteKind::Unicast
            && !is_multicast(route.dst)
    })
}

/// The rule for an address: it alone, not its network.
pub fn rule(ip: &IpConfig, table: u32) -> Rule {
    Rule::from(IpNetwork::from(ip.address.ip()), table)
}

/// The first table from `from` on that no rule leads to and that has no route.
fn free_table(routes: &[Route], rules: &[Rule], from: u32) -> u32 {
    let taken = |table: u32| {
        is_kernel_s(table)
            || rules.iter().any(|rule| rule.table == table)
            || routes.iter().any(|route| route.table == Some(table))
    };
    (from..=u32::MAX).find(|table| !taken(*table)).unwrap_or(from)
}

/// Whether a table is one that the kernel has a name for: default, main and local.
pub fn is_kernel_s(table: u32) -> bool {
    matches!(table, 253..=255)
}

/// A default route by the gateway, and those of the interface's routes that are about this address.
fn table_routes(conf: &Conf, ip: &IpConfig, oif: u32, table: u32, present: &[Route]) -> Vec<Route> {
    let v4 = ip.address.is_ipv4();
    let of_family = present.iter().filter(|route| route.dst.is_ipv4() == v4);
    let mut routes: Vec<_> = of_family
        .filter(|route| is_about(route, ip.address))
        .map(|route| Route { table: Some(table), ..route.clone() })
        .collect();
    // The interface's own default route counts more than the address' gateway, and a configured gateway more than both.
    let has_default = routes.iter().any(|route| route.dst.prefix() == 0);
    let gateway = match conf.gateway(v4, None) {
        None if has_default => None,
        None => ip.gateway,
        configured => configured,
    };
    if let Some(gateway) = gateway {
        routes.retain(|route| route.dst.prefix() > 0);
        routes.push(Route {
            dst: default_of(v4),
            gateway: Some(gateway),
            oif: Some(oif),
            table: Some(table),
            ..Route::default()
        });
    }
    routes.sort_by_key(needs);
    routes
}

/// Whether a route is about an address: its source or its gateway is in the address' network, or it has neither.
fn is_about(route: &Route, address: IpNetwork) -> bool {
    match (route.source, route.gateway) {
        (None, None) => true,
        (source, gateway) => source.into_iter().chain(gateway).any(|ip| address.contains(ip)),
    }
}

fn hint(route: &Route, ips: &[&IpConfig]) -> Option<(Route, Route)> {
    if route.source.is_some() || is_link_local(route.dst) {
        return None;
    }
    let of_family = || ips.iter().filter(|ip| ip.address.is_ipv4() == route.dst.is_ipv4());
    let about =
        of_family().find(|ip| is_about(route, ip.address)).or_else(|| of_family().next())?;
    Some((route.clone(), Route { source: Some(about.address.ip()), ..route.clone() }))
}

/// A gateway must be reachable by then: routes without one come first, and of these the narrow ones.
fn needs(route: &Route) -> (bool, std::cmp::Reverse<u8>) {
    (route.gateway.is_some(), std::cmp::Reverse(route.dst.prefix()))
}

/// The last to be deleted is the first to come back.
fn sort_for_deletion(routes: &mut [Route]) {
    routes.sort_by_key(|route| std::cmp::Reverse(needs(route)));
}

/// `0.0.0.0/0` or `::/0`.
pub fn default_of(v4: bool) -> IpNetwork {
    let any = if v4 { Route::default().dst.ip() } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    IpNetwork::new(any, 0).unwrap_or(Route::default().dst)
}

/// Whether a destination is `fe80::/10`.
pub fn is_link_local(dst: IpNetwork) -> bool {
    matches!(dst.ip(), IpAddr::V6(ip) if ip.segments()[0] & 0xffc0 == LINK_LOCAL)
}

fn is_multicast(dst: IpNetwork) -> bool {
    dst.prefix() > 0 && dst.ip().is_multicast()
}
