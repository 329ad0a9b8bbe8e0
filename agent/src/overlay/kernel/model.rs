//! What was made, so that a change need not read the kernel again.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netns_tools::MacAddr;

use super::entries::{Devices, Found, Wanted};
use crate::overlay::desired::{Change, Route, Way};

/// Something that several routes may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shared {
    Neighbour(u32, IpAddr),
    Fdb(u32, MacAddr),
}

/// What was made.
#[derive(Debug, Default)]
pub(super) struct Model {
    devices: Devices,
    routes: BTreeMap<IpNetwork, Route>,
    /// By how many routes each is needed.
    users: BTreeMap<Shared, u32>,
}

/// Routes whose device is not there, by destination.
type Waiting = Vec<(IpNetwork, String)>;

impl Model {
    pub(super) fn new(devices: Devices, routes: impl Iterator<Item = Route>) -> Self {
        let mut model = Self { devices, ..Self::default() };
        let usable =
            |route: &Route| model_device(route).is_none_or(|name| model.devices.contains_key(name));
        // at once: maps that grow one by one take twice as much
        let routes: BTreeMap<_, _> =
            routes.filter(usable).map(|route| (route.destination, route)).collect();
        let mut users: Vec<_> = routes.values().flat_map(|route| model.shared(route)).collect();
        users.sort_unstable();
        let counted = users.chunk_by(PartialEq::eq);
        model.users = counted
            .filter_map(|same| Some((*same.first()?, u32::try_from(same.len()).ok()?)))
            .collect();
        model.routes = routes;
        model
    }

    fn put(&mut self, route: Route) {
        for shared in self.shared(&route) {
            *self.users.entry(shared).or_default() += 1;
        }
        self.routes.insert(route.destination, route);
    }

    /// The route to `destination` is not there after all.
    pub(super) fn forget(&mut self, destination: IpNetwork) -> Option<Route> {
        let route = self.routes.remove(&destination)?;
        for shared in self.shared(&route) {
            if let Some(count) = self.users.get_mut(&shared) {
                *count -= 1;
                if *count == 0 {
                    self.users.remove(&shared);
                }
            }
        }
        Some(route)
    }

    /// What a route needs.
    fn shared(&self, route: &Route) -> Vec<Shared> {
        let Way::Tunnel { device, gateway, mac, .. } = &route.way else { return Vec::new() };
        let Some(link) = self.devices.get(&**device) else { return Vec::new() };
        vec![Shared::Neighbour(*link, *gateway), Shared::Fdb(*link, *mac)]
    }

    /// Takes in `changes`. Returns what was there of all that they touch, and what is to be there.
    pub(super) fn step(&mut self, changes: &[Change]) -> (Found, Wanted, Waiting) {
        // the last one counts
        let latest: BTreeMap<_, _> =
            changes.iter().map(|change| (change.destination(), change)).collect();
        let old: Vec<_> =
            latest.keys().filter_map(|destination| self.forget(*destination)).collect();
        let (mut new, mut waiting) = (Vec::new(), Waiting::new());
        for change in latest.into_values() {
            let Change::Put(route) = change else { continue };
            match model_device(route).filter(|name| !self.devices.contains_key(*name)) {
                Some(device) => waiting.push((route.destination, device.into())),
                None => new.push(route.clone()),
            }
        }
        for route in &new {
            self.put(route.clone());
        }
        let before = Wanted::of(old.iter(), &self.devices);
        let mut wanted = Wanted::of(new.iter(), &self.devices);
        self.keep_used(&before, &mut wanted);
        (before.into(), wanted, waiting)
    }

    /// What routes still need that do not change, stays.
    fn keep_used(&self, before: &Wanted, wanted: &mut Wanted) {
        let used = |shared| self.users.contains_key(&shared);
        for (key, mac) in &before.neighbours {
            if used(Shared::Neighbour(key.0, key.1)) {
                wanted.neighbours.entry(*key).or_insert(*mac);
            }
        }
        for (key, remote) in &before.fdb {
            if used(Shared::Fdb(key.0, key.1)) {
                wanted.fdb.entry(*key).or_insert(*remote);
            }
        }
    }
}

fn model_device(route: &Route) -> Option<&str> {
    match &route.way {
        Way::Tunnel { device, .. } => Some(device),
        Way::Direct { .. } => None,
    }
}
