//! CHECK of `sbr`: what ADD did against what the kernel says now. (The reference's looks at nothing.)

use std::net::IpAddr;

use cni::plugin::Call;
use cni::{CniResult, Error, ErrorCode, IpConfig};
use ipnetwork::IpNetwork;
use netns_tools::{Route, Rule};

use super::apply::{interface, missing, open, state};
use super::conf::Conf;
use super::plan::{addresses, default_of, in_main, is_link_local};
use crate::{code, sandbox};

/// Compares everything and reports every difference at once.
pub fn check(call: &Call<'_>) -> Result<(), Error> {
    let conf = Conf::parse(&call.conf)?;
    let prev = call.conf.prev_result.as_ref().ok_or_else(|| {
        Error::new(ErrorCode::InvalidConfig, "This plugin must be called as chained plugin")
            .with_details(
                "CHECK compares with the result of ADD: the runtime must pass it as prevResult",
            )
    })?;
    let ips = addresses(prev, &call.ifname)?;
    let ns = sandbox::open(call)?;
    let mut net = open(&ns)?;
    let oif = interface(&mut net, &call.ifname)?.ok_or_else(|| missing(&call.ifname))?;
    let (routes, rules) = state(&mut net)?;
    let seen = Seen { conf, oif, routes, rules };
    let mut found: Vec<_> = ips.iter().flat_map(|ip| seen.policy(ip, prev)).collect();
    found.extend(seen.main());
    if found.is_empty() {
        return Ok(());
    }
    let msg = format!("the source routing of interface {:?} is not as ADD left it", call.ifname);
    Err(Error::new(code::DRIFT, msg).with_details(found.join("; ")))
}

/// What the kernel says, and what it is compared with.
struct Seen {
    conf: Conf,
    oif: u32,
    routes: Vec<Route>,
    rules: Vec<Rule>,
}

impl Seen {
    /// The differences of an address' rule and table.
    fn policy(&self, ip: &IpConfig, prev: &CniResult) -> Vec<String> {
        let source = IpNetwork::from(ip.address.ip());
        let is_its = |rule: &&Rule| {
            rule.from == Some(source)
                && rule.to.is_none()
                && rule.iif.is_none()
                && self.conf.table.is_none_or(|table| rule.table == table)
        };
        let Some(rule) = self.rules.iter().find(is_its) else {
            let to = self.conf.table.map_or(String::new(), |table| format!(" to table {table}"));
            return vec![format!("the policy rule from {source}{to} is missing")];
        };
        if self.conf.table.is_some() {
            return Vec::new();
        }
        self.table(rule.table, ip, prev)
    }

    fn table(&self, table: u32, ip: &IpConfig, prev: &CniResult) -> Vec<String> {
        let v4 = ip.address.is_ipv4();
        let mut found = Vec::new();
        let mut want = |dst: IpNetwork, gateway: Option<IpAddr>| {
            let same = |route: &Route| {
                route.table == Some(table)
                    && route.oif == Some(self.oif)
                    && route.dst == dst
                    && (gateway == route.gateway || gateway.is_none())
            };
            if !self.routes.iter().any(same) {
                let via = gateway.map_or(String::new(), |gateway| format!(" via {gateway}"));
                found.push(format!("the route {dst}{via} is missing in table {table}"));
            }
        };
        if let Some(subnet) = subnet(ip.address) {
            want(subnet, None);
        }
        let promised_default = prev.routes.iter().find(|route| route.dst == default_of(v4));
        match (self.conf.gateway(v4, None), promised_default) {
            (Some(gateway), _) => want(default_of(v4), Some(gateway)),
            (None, Some(route)) => want(route.dst, route.gw),
            (None, None) if ip.gateway.is_some() => want(default_of(v4), ip.gateway),
            (None, None) => {}
        }
        let own = prev.routes.iter().filter(|route| {
            route.dst.is_ipv4() == v4 && route.dst.prefix() > 0 && route.table.is_none()
        });
        for route in own.filter(|route| route.gw.is_some_and(|gw| ip.address.contains(gw))) {
            want(route.dst, route.gw);
        }
        found
    }

    /// The differences of the main table.
    fn main(&self) -> Vec<String> {
        if self.conf.table.is_some() {
            return Vec::new();
        }
        let left = in_main(&self.routes, self.oif).filter(|route| !is_link_local(route.dst));
        if self.conf.source_hints {
            let plain = left.filter(|route| route.source.is_none());
            return plain.map(|route| format!("the route {route} has no source hint")).collect();
        }
        left.map(|route| format!("the route {route} is in the main table")).collect()
    }
}

/// The network that the kernel makes a route to; `None` for an address that stands alone.
fn subnet(address: IpNetwork) -> Option<IpNetwork> {
    let alone = address.prefix() == if address.is_ipv4() { 32 } else { 128 };
    if alone { None } else { IpNetwork::new(address.network(), address.prefix()).ok() }
}
