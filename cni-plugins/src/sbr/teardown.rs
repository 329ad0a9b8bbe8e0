//! DEL of `sbr`: the interface is as it was before ADD.

use cni::plugin::Call;
use cni::{Error, IpConfig};
use ipnetwork::IpNetwork;
use netns_tools::route::{SCOPE_GLOBAL, TABLE_MAIN};
use netns_tools::{Netlink, Route, RouteKind, Rule};

use super::apply::{interface, open, restore, state, unless_gone};
use super::conf;
use super::plan::{addresses, in_main, is_kernel_s, is_link_local};
use crate::collect::first_with_others;
use crate::interface::kernel_error;
use crate::lock::NetnsLock;
use crate::sandbox::{self, Sandbox};
use crate::step::step;

/// Removes the rules of the interface's addresses, and puts its routes back into the main table. Without the namespace or the
/// interface there is nothing: the kernel has removed the routes. (The rules of an interface that is gone are found by the
/// addresses of prevResult.)
pub fn del(call: &Call<'_>) -> Result<(), Error> {
    let Sandbox::Present(ns) = sandbox::find(call)? else { return Ok(()) };
    let _lock = NetnsLock::of(&ns)?;
    let mut net = open(&ns)?;
    let oif = interface(&mut net, &call.ifname)?;
    let sources = sources(call, &mut net, oif)?;
    let (routes, rules) = state(&mut net)?;
    let is_its = |rule: &&Rule| rule.from.is_some_and(|from| sources.contains(&from));
    let rules: Vec<_> = rules.iter().filter(is_its).collect();
    // A table that the configuration names is not ours to empty. One that cannot be read is none.
    let fixed = conf::table(&call.conf).ok().flatten();
    let back = match oif {
        Some(oif) if fixed.is_none() => step("put the routes back", || {
            let tables: Vec<_> =
                rules.iter().map(|rule| rule.table).filter(|table| !is_kernel_s(*table)).collect();
            put_back(call, &mut net, oif, &tables, &routes)
        }),
        _ => Ok(()),
    };
    // The rules last: DEL finds the tables by them, also the DEL after one that was interrupted.
    let removed = step("remove the policy rules", || {
        first_with_others(rules.iter().map(|rule| {
            unless_gone(net.delete_rule(rule), &format!("cannot delete the policy rule {rule}"))
        }))
    });
    first_with_others([back, removed])
}

/// The addresses whose rules go: those that the interface has, and those that ADD was told of.
fn sources(call: &Call<'_>, net: &mut Netlink, oif: Option<u32>) -> Result<Vec<IpNetwork>, Error> {
    let mut sources: Vec<_> =
        promised(call).iter().map(|ip| IpNetwork::from(ip.address.ip())).collect();
    if let Some(oif) = oif {
        let present = net.addresses(Some(oif));
        let present = present.map_err(|e| kernel_error("cannot list addresses", &e))?;
        let global = present.into_iter().filter(|address| address.scope == SCOPE_GLOBAL);
        sources.extend(global.map(|address| IpNetwork::from(address.net.ip())));
    }
    Ok(sources)
}

fn promised<'a>(call: &'a Call<'_>) -> Vec<&'a IpConfig> {
    let prev = call.conf.prev_result.as_ref();
    prev.and_then(|prev| addresses(prev, &call.ifname).ok()).unwrap_or_default()
}

fn put_back(
    call: &Call<'_>,
    net: &mut Netlink,
    oif: u32,
    tables: &[u32],
    routes: &[Route],
) -> Result<(), Error> {
    let in_tables: Vec<_> = routes
        .iter()
        .filter(|route| route.oif == Some(oif) && route.kind == RouteKind::Unicast)
        .filter(|route| route.table.is_some_and(|table| tables.contains(&table)))
        .collect();
    if in_tables.is_empty() {
        return Ok(());
    }
    let is_own = |route: &&&Route| route.dst.prefix() > 0 && !is_link_local(route.dst);
    let mut wanted: Vec<_> = in_tables.iter().filter(is_own).map(|route| to_main(route)).collect();
    wanted.extend(defaults(call, oif, &in_tables));
    // Those without a gateway first: the others need them.
    wanted.sort_by_key(|route| route.gateway.is_some());
    wanted.dedup();
    let present: Vec<_> = in_main(routes, oif).collect();
    let mut done = Vec::new();
    for route in &wanted {
        // With a source hint it is the same route; without, it is back already.
        for hinted in present.iter().filter(|present| is_hinted(present, route)) {
            let what = format!("cannot take the source hint off {hinted}");
            done.push(unless_gone(net.delete_route(hinted), &what));
        }
        // Somebody may have taken away what it needs. The interface goes next: that is no reason for DEL to fail, for ever.
        if let Err(error) = restore(net, route) {
            eprintln!("{error}");
        }
    }
    for route in in_tables {
        let what = format!("cannot delete the route {route}");
        done.push(unless_gone(net.delete_route(route), &what));
    }
    first_with_others(done)
}

fn to_main(route: &Route) -> Route {
    Route { table: Some(TABLE_MAIN), ..route.clone() }
}

/// The default routes that the main table had: those of prevResult. The one of a table may be of the gateway's making.
fn defaults(call: &Call<'_>, oif: u32, in_tables: &[&Route]) -> Vec<Route> {
    let Some(prev) = &call.conf.prev_result else { return Vec::new() };
    let ips = promised(call);
    let promised =
        prev.routes.iter().filter(|route| route.dst.prefix() == 0 && route.table.is_none());
    let made = promised.filter_map(|route| {
        let of_family = ips.iter().filter(|ip| ip.address.is_ipv4() == route.dst.is_ipv4());
        let gateway = route.gw.or_else(|| of_family.clone().find_map(|ip| ip.gateway));
        // Another interface's route, in a result of several.
        if !gateway.is_none_or(|gateway| of_family.clone().any(|ip| ip.address.contains(gateway))) {
            return None;
        }
        let copy = in_tables.iter().find(|it| it.dst == route.dst && it.gateway == gateway);
        Some(copy.map_or_else(
            || Route {
                dst: route.dst,
                gateway,
                oif: Some(oif),
                priority: route.priority,
                table: Some(TABLE_MAIN),
                ..Route::default()
            },
            |copy| to_main(copy),
        ))
    });
    made.collect()
}

fn is_hinted(present: &Route, wanted: &Route) -> bool {
    present.source.is_some()
        && wanted.source.is_none()
        && (present.dst, present.gateway) == (wanted.dst, wanted.gateway)
        && wanted.priority.is_none_or(|priority| present.priority == Some(priority))
}
