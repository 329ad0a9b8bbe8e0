//! Routes, neighbours and forwarding entries: those that are wanted, and those that are there.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netns_tools::fdb::FdbEntry;
use netns_tools::netlink::Result;
use netns_tools::route::{TABLE_MAIN, spread_metric};
use netns_tools::{MacAddr, Route as KernelRoute};

use super::PROTOCOL;
use super::host::Host;
use crate::overlay::desired::{Route, Way};
use crate::overlay::node::overlaps;

/// Our devices' indexes, by name.
pub(super) type Devices = BTreeMap<String, u32>;

/// Those that are wanted. Links are numbers here, as the kernel has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub routes: BTreeMap<IpNetwork, KernelRoute>,
    pub neighbours: BTreeMap<(u32, IpAddr), MacAddr>,
    pub fdb: BTreeMap<(u32, MacAddr), IpAddr>,
    /// See [`crate::overlay::desired::Desired::partial`].
    pub partial: bool,
}

impl Wanted {
    /// Of what is desired. Routes by a device that is not there are left out.
    pub(super) fn of<'a>(routes: impl Iterator<Item = &'a Route>, devices: &Devices) -> Self {
        let mut wanted = Self::default();
        for route in routes {
            wanted.add(route, devices);
        }
        wanted
    }

    /// Whether a route that is there may be somebody's who is not known yet. One that overlaps what is known is in its way: it was another
    /// node's, or a step between two routes at which a former process died.
    pub(super) fn may_miss(&self, destination: IpNetwork) -> bool {
        if !self.partial {
            return false;
        }
        // those that are wanted do not overlap each other: only the two beside it can
        let overlaps = |known: &IpNetwork| overlaps(*known, destination);
        let before = self.routes.range(..=destination).next_back();
        let behind = self.routes.range(destination..).next();
        !before.into_iter().chain(behind).any(|(known, _)| overlaps(known))
    }

    fn add(&mut self, route: &Route, devices: &Devices) {
        let Some(written) = kernel_route(route, devices) else { return };
        if let (Way::Tunnel { gateway, mac, remote, .. }, Some(link)) = (&route.way, written.oif) {
            self.neighbours.insert((link, *gateway), *mac);
            self.fdb.insert((link, *mac), *remote);
        }
        self.routes.insert(route.destination, written);
    }
}

/// As the kernel takes it; `None`: without its device.
fn kernel_route(route: &Route, devices: &Devices) -> Option<KernelRoute> {
    let (gateway, link, source, onlink) = match &route.way {
        Way::Tunnel { device, gateway, .. } => (*gateway, *devices.get(&**device)?, None, true),
        Way::Direct { gateway, link, source } => (*gateway, *link, Some(*source), false),
    };
    Some(KernelRoute {
        dst: route.destination,
        gateway: Some(gateway),
        oif: Some(link),
        source,
        onlink,
        // many next hops of one metric are one chain in the kernel's hash table
        priority: spread_metric(route.destination),
        mtu: route.mtu,
        protocol: Some(PROTOCOL),
        ..KernelRoute::default()
    })
}

/// The metric of our routes; the lowest wins.
pub(super) fn usual_metric(destination: IpNetwork) -> u32 {
    spread_metric(destination).unwrap_or(untold_metric(destination))
}

/// The metric that the kernel means where it tells none, or is told none (`IP6_RT_PRIO_USER` in `linux/ipv6_route.h`).
fn untold_metric(destination: IpNetwork) -> u32 {
    if destination.is_ipv4() { 0 } else { 1024 }
}

/// A route's metric.
pub(super) fn metric(route: &KernelRoute) -> u32 {
    route.priority.unwrap_or(untold_metric(route.dst))
}

/// Those that are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Ours, by destination: one, where nobody interfered.
    pub routes: BTreeMap<IpNetwork, Vec<KernelRoute>>,
    /// Others' to the same destinations.
    pub foreign: BTreeMap<IpNetwork, Vec<KernelRoute>>,
    pub neighbours: BTreeMap<(u32, IpAddr), MacAddr>,
    pub fdb: BTreeMap<(u32, MacAddr), Vec<FdbEntry>>,
}

impl Found {
    /// Reads what concerns us: our routes, those to the wanted destinations, and all that our devices know.
    pub(super) fn read(host: &mut impl Host, devices: &Devices, wanted: &Wanted) -> Result<Self> {
        let mut found = Self::default();
        for route in host.routes()? {
            found.add_route(route, wanted);
        }
        for link in devices.values().copied() {
            let neighbours = host.neighbours(link)?.into_iter();
            // what the kernel has asked for by itself is not ours
            let set = neighbours.filter(|(_, neighbour)| neighbour.permanent);
            found
                .neighbours
                .extend(set.filter_map(|(ip, neighbour)| Some(((link, ip), neighbour.mac?))));
            for entry in host.fdb(link)? {
                found.fdb.entry((link, entry.mac)).or_default().push(entry);
            }
        }
        Ok(found)
    }

    fn add_route(&mut self, route: KernelRoute, wanted: &Wanted) {
        if route.table != Some(TABLE_MAIN) {
            return;
        }
        let ours = route.protocol == Some(PROTOCOL);
        if ours {
            self.routes.entry(route.dst).or_default().push(route);
        } else if wanted.routes.contains_key(&route.dst) {
            self.foreign.entry(route.dst).or_default().push(route);
        }
    }
}
