//! How large packets to other nodes may be, as far as this host's links and routes say.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netns_tools::netlink::Netlink;
use netns_tools::route::{RouteKind, TABLE_MAIN};
use netns_tools::{Link, Route};

use super::{Host, UnderlayError};

/// The overlay's own routes (`Route.protocol`), which lead to pods.
const OURS: u8 = 104;
/// More distinct routes than this to other nodes are not confirmed one by one.
const MOST_CONFIRMED: usize = 256;

/// What limits packets to the other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Towards {
    /// In bytes, with the IP header.
    pub mtu: u32,
    /// A node that is reached by the route or link that this is the MTU of.
    pub peer: IpAddr,
}

/// The smallest MTU of the routes to `peers` and of the links that they leave by; `None` without any peer that a route leads to.
///
/// Thousands of peers share few routes: one of each is looked up in the kernel, which also knows of policy routing. What the kernel has
/// merely learned of a path (`ip route get` shows it, with `expires`) is not counted: it passes, and is one peer's.
pub fn mtu_towards(
    netlink: &mut Netlink,
    host: &Host,
    peers: &[IpAddr],
) -> Result<Option<Towards>, UnderlayError> {
    let mut least: Option<Towards> = None;
    for (asked, Shared { peer, hops }) in distinct(host, peers).into_iter().enumerate() {
        let by = if asked < MOST_CONFIRMED {
            netlink.link_towards(peer).map_err(UnderlayError::Read)?
        } else {
            hops.first().and_then(|hop| hop.oif)
        };
        let one = mtu_of(host, &hops, by).map(|mtu| Towards { mtu, peer });
        least = [least, one].into_iter().flatten().min();
    }
    Ok(least)
}

/// The next hops of a route, and the first peer that is reached by it.
#[derive(Clone, Debug)]
pub(super) struct Shared<'a> {
    pub(super) peer: IpAddr,
    pub(super) hops: Vec<&'a Route>,
}

/// The MTU of packets that the kernel sends by the link `by`: that of the worst next hop, since each flow has its own. Policy routing may
/// choose a link that is none of them.
pub(super) fn mtu_of(host: &Host, hops: &[&Route], by: Option<u32>) -> Option<u32> {
    if !hops.iter().any(|hop| hop.oif == by) {
        return host.link(by?).map(|link| link.mtu);
    }
    let of = |hop: &&Route| {
        let link: &Link = host.link(hop.oif?)?;
        Some(hop.mtu.map_or(link.mtu, |metric| metric.min(link.mtu)))
    };
    hops.iter().filter_map(of).min()
}

/// The routes of the main table that lead to `peers`, each once.
pub(super) fn distinct<'a>(host: &'a Host, peers: &[IpAddr]) -> Vec<Shared<'a>> {
    let table = Table::new(&host.routes);
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    for peer in peers {
        let Some((net, hops)) = table.route_to(*peer) else { continue };
        if seen.insert(net) {
            found.push(Shared { peer: *peer, hops: hops.to_vec() });
        }
    }
    found
}

/// Routes by prefix length and network, so that a look-up costs as many steps as there are lengths, however many routes there are.
struct Table<'a>(BTreeMap<u8, HashMap<IpNetwork, Vec<&'a Route>>>);

impl<'a> Table<'a> {
    fn new(routes: &'a [Route]) -> Self {
        let mut table: BTreeMap<u8, HashMap<IpNetwork, Vec<&'a Route>>> = BTreeMap::new();
        let priority = |route: &Route| route.priority.unwrap_or(0);
        for route in routes.iter().filter(|route| leads_to_nodes(route)) {
            let hops = table.entry(route.dst.prefix()).or_default().entry(route.dst).or_default();
            match hops.first().map(|first| priority(first)) {
                Some(best) if best < priority(route) => continue,
                Some(best) if best > priority(route) => hops.clear(),
                _ => {}
            }
            hops.push(route);
        }
        Self(table)
    }

    fn route_to(&self, destination: IpAddr) -> Option<(IpNetwork, &[&'a Route])> {
        self.0.iter().rev().find_map(|(prefix, routes)| {
            let net = IpNetwork::new(destination, *prefix).ok()?;
            let net = IpNetwork::new(net.network(), *prefix).ok()?;
            Some((net, routes.get(&net)?.as_slice()))
        })
    }
}

fn leads_to_nodes(route: &Route) -> bool {
    route.table == Some(TABLE_MAIN)
        && route.kind == RouteKind::Unicast
        && route.protocol != Some(OURS)
}
