//! What is to be changed, in an order in which no packet is lost: what a route needs is there before it, and goes after it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netns_tools::fdb::FdbEntry;
use netns_tools::neighbour::PermanentNeighbour;
use netns_tools::netlink::batch::{Change, Object};
use netns_tools::{MacAddr, Route};

use super::Failed;
use super::entries::{Found, Wanted, metric, usual_metric};

/// The difference of what is wanted and what is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// In this order.
    pub changes: Vec<Change>,
    /// Destinations that others' routes have, or win.
    pub foreign: Vec<Foreign>,
}

/// Somebody else's route to one of our destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Foreign {
    pub route: Route,
    /// It has our place. Otherwise ours is beside it, and loses by its metric.
    pub blocks: bool,
}

impl Foreign {
    /// In words, with the name of the link.
    pub(super) fn describe(&self, link: Option<&str>) -> Failed {
        let owner = owner(self.route.protocol.unwrap_or_default());
        let mut how = String::new();
        if let Some(gateway) = self.route.gateway {
            let _ = write!(how, " via {gateway}");
        }
        if let Some(link) = link {
            let _ = write!(how, " on {link}");
        }
        let what = if self.blocks { "there is one of" } else { "packets take one of" };
        Failed {
            object: format!("route {}", self.route.dst),
            reason: format!(
                "{what} {owner} already{how}; it is left alone: delete it, or give one of the two another range"
            ),
        }
    }
}

/// Who made a route (`/etc/iproute2/rt_protos`).
fn owner(protocol: u8) -> String {
    let name = match protocol {
        2 => "the kernel itself (protocol kernel)",
        3 => "somebody's `ip route` (protocol boot)",
        4 => "an administrator (protocol static)",
        9 => "a router's announcements (protocol ra)",
        12 => "BIRD (protocol bird)",
        16 => "DHCP (protocol dhcp)",
        186 => "a BGP daemon (protocol bgp)",
        188 => "an OSPF daemon (protocol ospf)",
        other => return format!("protocol {other}"),
    };
    name.into()
}

/// Compares. `stale`: devices whose forwarding entries still remember a former local address, so that all are to be written again.
pub(super) fn difference(found: &Found, wanted: &Wanted, stale: &BTreeSet<u32>) -> Difference {
    let mut changes = Vec::new();
    put_fdb(found, wanted, stale, &mut changes);
    put_neighbours(found, wanted, &mut changes);
    let foreign = put_routes(found, wanted, &mut changes);
    drop_routes(found, wanted, &mut changes);
    drop_neighbours(found, wanted, &mut changes);
    drop_fdb(found, wanted, &mut changes);
    Difference { changes, foreign }
}

fn put_fdb(found: &Found, wanted: &Wanted, stale: &BTreeSet<u32>, changes: &mut Vec<Change>) {
    for ((link, mac), remote) in &wanted.fdb {
        let entry = FdbEntry::new(*link, *mac, *remote);
        let there = found.fdb.get(&(*link, *mac)).map_or(&[][..], Vec::as_slice);
        // frames go to all of them, and a replacement would change the first only; over IPv6 a replacement keeps the old local address
        if there.len() > 1 || (stale.contains(link) && remote.is_ipv6() && !there.is_empty()) {
            changes.push(delete_fdb(*link, *mac, None));
        }
        if there != [entry] || stale.contains(link) {
            changes.push(Change::replace(Object::Fdb(entry)));
        }
    }
}

fn delete_fdb(link: u32, mac: MacAddr, remote: Option<IpAddr>) -> Change {
    let any = IpAddr::from([0; 4]);
    Change::delete(Object::Fdb(FdbEntry { remote, ..FdbEntry::new(link, mac, any) }))
}

fn put_neighbours(found: &Found, wanted: &Wanted, changes: &mut Vec<Change>) {
    for (key, mac) in &wanted.neighbours {
        if found.neighbours.get(key) != Some(mac) {
            changes.push(Change::replace(Object::Neighbour(neighbour(*key, *mac))));
        }
    }
}

fn neighbour((link, address): (u32, IpAddr), mac: MacAddr) -> PermanentNeighbour {
    PermanentNeighbour { link, address, mac }
}

fn put_routes(found: &Found, wanted: &Wanted, changes: &mut Vec<Change>) -> Vec<Foreign> {
    let mut foreign = Vec::new();
    for (destination, route) in &wanted.routes {
        let ours = found.routes.get(destination).map_or(&[][..], Vec::as_slice);
        let mut ours = ours.iter().filter(|ours| in_our_place(ours));
        let others = found.foreign.get(destination).map_or(&[][..], Vec::as_slice);
        let blocking = others.iter().find(|other| in_our_place(other));
        let winning = others.iter().filter(|other| metric(other) < usual_metric(*destination));
        let winning = winning.min_by_key(|other| metric(other));
        foreign.extend(
            blocking
                .or(winning)
                .map(|other| Foreign { route: other.clone(), blocks: blocking.is_some() }),
        );
        match (ours.next(), ours.next()) {
            (None, _) if blocking.is_some() => {}
            // beside one that wins, so that it is there when that goes; its link may have the gateway
            (None, _) if winning.is_some() && destination.is_ipv6() => {
                changes.extend(replacement(route, None));
            }
            // refused where somebody else has made one meanwhile
            (None, _) => changes.push(Change::add(Object::Route(route.clone()))),
            (Some(only), None) if same(only, route) => {}
            (one, _) => changes.extend(replacement(route, one.and_then(|one| one.oif))),
        }
    }
    foreign
}

/// Changes a route that may go by the link `before` now.
pub(super) fn replacement(route: &Route, before: Option<u32>) -> Vec<Change> {
    let replace = Change::replace(Object::Route(route.clone()));
    let elsewhere = before.is_none() || before != route.oif;
    match stone(route).filter(|_| elsewhere) {
        Some(stone) => {
            let (there, gone) = (Change::add(Object::Route(stone.clone())), delete_route(&stone));
            vec![there, replace, gone]
        }
        None => vec![replace],
    }
}

/// An IPv6 gateway on the link must not be known by another link (`ip6_route_check_nh_onlink` in `net/ipv6/route.c`): not by the route
/// itself as it was, whose range the gateway is of, nor by a wider one of somebody else. A route to the gateway alone, for a moment,
/// makes the kernel see it by the new link. Routes to single hosts are their own gateways; none is made for them.
fn stone(route: &Route) -> Option<Route> {
    let gateway = route.gateway.filter(|gateway| gateway.is_ipv6() && route.onlink)?;
    let (dst, protocol) = (IpNetwork::from(gateway), route.protocol);
    (route.dst.prefix() < 128).then(|| Route { dst, oif: route.oif, protocol, ..Route::default() })
}

/// Whether it has the place that ours have: only one can.
fn in_our_place(route: &Route) -> bool {
    metric(route) == usual_metric(route.dst)
}

/// Whether a listed route does what ours is to do.
fn same(listed: &Route, wanted: &Route) -> bool {
    let what = |route: &Route| {
        (route.gateway, route.oif, route.source, route.onlink, route.mtu, route.kind, route.advmss)
    };
    what(listed) == what(wanted)
}

fn drop_routes(found: &Found, wanted: &Wanted, changes: &mut Vec<Change>) {
    for (destination, routes) in &found.routes {
        if wanted.may_miss(*destination) {
            continue;
        }
        let kept = |route: &&Route| wanted.routes.contains_key(destination) && in_our_place(route);
        for route in routes.iter().filter(|route| !kept(route)) {
            changes.push(delete_route(route));
        }
    }
}

/// Exactly this one: nobody else's to the same destination.
fn delete_route(route: &Route) -> Change {
    Change::delete(Object::Route(Route {
        dst: route.dst,
        gateway: route.gateway,
        oif: route.oif,
        priority: route.priority,
        protocol: route.protocol,
        table: route.table,
        kind: route.kind,
        ..Route::default()
    }))
}

/// Neighbours and forwarding entries do not tell whose they are: with nodes that are not known all of them stay.
fn drop_neighbours(found: &Found, wanted: &Wanted, changes: &mut Vec<Change>) {
    for (key, mac) in &found.neighbours {
        if !wanted.partial && !wanted.neighbours.contains_key(key) {
            changes.push(Change::delete(Object::Neighbour(neighbour(*key, *mac))));
        }
    }
}

fn drop_fdb(found: &Found, wanted: &Wanted, changes: &mut Vec<Change>) {
    for (link, mac) in found.fdb.keys() {
        if !wanted.partial && !wanted.fdb.contains_key(&(*link, *mac)) {
            changes.push(delete_fdb(*link, *mac, None));
        }
    }
}

/// As if `wanted` had just been made: what a change starts from that does not read the kernel.
impl From<Wanted> for Found {
    fn from(wanted: Wanted) -> Self {
        let fdb = wanted.fdb.into_iter();
        let fdb =
            fdb.map(|((link, mac), remote)| ((link, mac), vec![FdbEntry::new(link, mac, remote)]));
        let routes: std::collections::BTreeMap<IpNetwork, _> = wanted
            .routes
            .into_iter()
            .map(|(destination, route)| (destination, vec![route]))
            .collect();
        Self { routes, neighbours: wanted.neighbours, fdb: fdb.collect(), ..Self::default() }
    }
}
