//! A kernel that refuses what the kernel refuses, and watches that no change leads packets nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netns_tools::fdb::FdbEntry;
use netns_tools::link::vxlan::{Changes, Details};
use netns_tools::netlink::batch::{Change, Object, Outcome, Refused, Verb};
use netns_tools::netlink::{Action, Result};
use netns_tools::route::{SCOPE_GLOBAL, TABLE_MAIN};
use netns_tools::{Address, Link, MacAddr, Neighbour, NetlinkError, Route};
use nix::libc::{EADDRNOTAVAIL, EEXIST, EINVAL, ENETDOWN, ENETUNREACH, ENODEV, ENOENT, ESRCH};

use super::PROTOCOL;
use super::entries::metric;
use super::host::Host;
use crate::overlay::desired::Device;

/// One namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct Fake {
    pub links: Vec<Link>,
    pub addresses: BTreeSet<(u32, IpNetwork)>,
    pub routes: Vec<Route>,
    pub neighbours: BTreeMap<(u32, IpAddr), MacAddr>,
    pub fdb: Vec<FdbEntry>,
    /// How many changes were asked for.
    pub asked: usize,
    next: u32,
}

fn refused<T>(errno: i32) -> Result<T> {
    let action = Action { operation: "change".into(), object: "the fake".into() };
    Err(NetlinkError::Refused { action, errno, text: None })
}

impl Fake {
    /// With eth0, which is link 2 and has 192.0.2.1/24.
    pub(super) fn new() -> Self {
        let eth0 = Link { index: 2, name: "eth0".into(), up: true, mtu: 1500, ..Link::default() };
        let address = (2, "192.0.2.1/24".parse().unwrap());
        Self { links: vec![eth0], addresses: [address].into(), next: 3, ..Self::default() }
    }

    fn link_mut(&mut self, index: u32) -> Result<&mut Link> {
        match self.links.iter_mut().find(|link| link.index == index) {
            Some(link) => Ok(link),
            None => refused(ENODEV),
        }
    }

    pub(super) fn index(&self, name: &str) -> u32 {
        self.links.iter().find(|link| link.name == name).unwrap().index
    }

    pub(super) fn set_down(&mut self, index: u32) {
        self.link_mut(index).unwrap().up = false;
        self.routes.retain(|route| route.oif != Some(index));
        self.neighbours.retain(|(link, _), _| *link != index);
        self.addresses.retain(|(link, net)| *link != index || net.is_ipv4());
    }

    /// Tunnelled destinations for which something is missing.
    fn holes(&self) -> BTreeSet<IpNetwork> {
        let vxlan =
            |index| self.links.iter().any(|link| link.index == index && link.vxlan.is_some());
        let hole = |route: &&Route| {
            let (Some(link), Some(gateway)) = (route.oif, route.gateway) else { return false };
            let mac = self.neighbours.get(&(link, gateway));
            let leads = |mac: &MacAddr| {
                self.fdb.iter().any(|entry| entry.link == link && entry.mac == *mac)
            };
            vxlan(link) && !mac.is_some_and(leads)
        };
        self.routes.iter().filter(hole).map(|route| route.dst).collect()
    }

    fn change(&mut self, change: &Change) -> Result<()> {
        match (&change.object, change.verb) {
            (Object::Route(route), Verb::Delete) => self.delete_route(route),
            (Object::Route(route), verb) => self.put_route(route, verb),
            (Object::Neighbour(neighbour), Verb::Delete) => {
                let gone = self.neighbours.remove(&(neighbour.link, neighbour.address));
                if gone.is_some() { Ok(()) } else { refused(ENOENT) }
            }
            (Object::Neighbour(neighbour), _) => {
                let up = self.link_mut(neighbour.link)?.up;
                if !up {
                    return refused(ENETDOWN);
                }
                self.neighbours.insert((neighbour.link, neighbour.address), neighbour.mac);
                Ok(())
            }
            (Object::Fdb(entry), Verb::Delete) => self.delete_fdb(entry),
            (Object::Fdb(entry), _) => self.replace_fdb(entry),
            other => panic!("never asked for: {other:?}"),
        }
    }

    fn put_route(&mut self, route: &Route, verb: Verb) -> Result<()> {
        let index = route.oif.unwrap();
        if !self.link_mut(index)?.up {
            return refused(ENETDOWN);
        }
        assert_eq!(route.dst.ip(), route.dst.network(), "the kernel refuses host bits");
        if let Some(gateway) = route.gateway {
            self.check_gateway(route, index, gateway)?;
        }
        if route
            .source
            .is_some_and(|source| !self.addresses.iter().any(|(_, net)| net.ip() == source))
        {
            return refused(EINVAL);
        }
        let place = |other: &Route| other.dst == route.dst && metric(other) == metric(route);
        if let Some(there) = self.routes.iter().find(|other| place(other)) {
            if verb == Verb::Add {
                return refused(EEXIST);
            }
            assert_eq!(
                there.protocol,
                Some(PROTOCOL),
                "somebody else's {there} would be overwritten"
            );
        }
        self.routes.retain(|other| !place(other));
        let priority = route.priority.or(route.dst.is_ipv6().then_some(1024));
        let (table, scope) = (Some(TABLE_MAIN), Some(SCOPE_GLOBAL));
        self.routes.push(Route { priority, table, scope, ..route.clone() });
        Ok(())
    }

    fn check_gateway(&self, route: &Route, index: u32, gateway: IpAddr) -> Result<()> {
        let connected = |(link, net): &(u32, IpNetwork)| *link == index && net.contains(gateway);
        if !route.onlink && !self.addresses.iter().any(connected) {
            return refused(ENETUNREACH);
        }
        // ip6_route_check_nh_onlink
        let known = self.routes.iter().filter(|other| other.dst.contains(gateway));
        let by = known.max_by_key(|other| other.dst.prefix()).and_then(|other| other.oif);
        if gateway.is_ipv6() && by.is_some_and(|by| by != index) { refused(EINVAL) } else { Ok(()) }
    }

    fn delete_route(&mut self, route: &Route) -> Result<()> {
        let is = |other: &Route| {
            other.dst == route.dst
                && other.protocol == route.protocol
                && metric(other) == metric(route)
                && route.oif.is_none_or(|oif| other.oif == Some(oif))
        };
        let before = self.routes.len();
        self.routes.retain(|other| !is(other));
        if self.routes.len() < before { Ok(()) } else { refused(ESRCH) }
    }

    fn replace_fdb(&mut self, entry: &FdbEntry) -> Result<()> {
        let details = self.link_mut(entry.link)?.vxlan;
        let family = |ip: Option<IpAddr>| ip.map(|ip| ip.is_ipv4());
        if details.is_none_or(|details| family(details.local) != family(entry.remote)) {
            return refused(EINVAL);
        }
        match self.fdb.iter_mut().find(|other| (other.link, other.mac) == (entry.link, entry.mac)) {
            Some(there) => *there = *entry,
            None => self.fdb.push(*entry),
        }
        Ok(())
    }

    fn delete_fdb(&mut self, entry: &FdbEntry) -> Result<()> {
        let before = self.fdb.len();
        self.fdb.retain(|other| {
            (other.link, other.mac) != (entry.link, entry.mac)
                || entry.remote.is_some_and(|remote| other.remote != Some(remote))
        });
        if self.fdb.len() < before { Ok(()) } else { refused(ENOENT) }
    }

    /// All of it, for people.
    pub(super) fn show(&self) -> String {
        let mut text = String::new();
        for link in &self.links {
            let _ =
                writeln!(text, "{} mtu {} up {} {:?}", link.name, link.mtu, link.up, link.vxlan);
        }
        let mut rest: Vec<_> =
            self.routes.iter().map(|route| format!("{route} mtu {:?}", route.mtu)).collect();
        rest.extend(self.fdb.iter().map(ToString::to_string));
        rest.sort();
        text.extend(rest.into_iter().map(|line| line + "\n"));
        let _ = writeln!(text, "{:?}\n{:?}", self.addresses, self.neighbours);
        text
    }
}

impl Host for Fake {
    fn links(&mut self) -> Result<Vec<Link>> {
        Ok(self.links.clone())
    }

    fn addresses(&mut self, link: u32) -> Result<Vec<Address>> {
        let nets = self.addresses.iter().filter(|(index, _)| *index == link);
        Ok(nets
            .map(|(index, net)| Address {
                index: *index,
                net: *net,
                peer: None,
                scope: 0,
                flags: 0x80,
            })
            .collect())
    }

    fn routes(&mut self) -> Result<Vec<Route>> {
        Ok(self.routes.clone())
    }

    fn neighbours(&mut self, link: u32) -> Result<Vec<(IpAddr, Neighbour)>> {
        let known = self.neighbours.iter().filter(|((index, _), _)| *index == link);
        Ok(known
            .map(|((_, ip), mac)| (*ip, Neighbour { mac: Some(*mac), permanent: true }))
            .collect())
    }

    fn fdb(&mut self, link: u32) -> Result<Vec<FdbEntry>> {
        Ok(self.fdb.iter().filter(|entry| entry.link == link).copied().collect())
    }

    fn add_device(&mut self, device: &Device) -> Result<()> {
        let same = |details: &Details| {
            (details.vni, details.port, details.local.map(|ip| ip.is_ipv4()))
                == (device.vni, device.port, Some(device.local.is_ipv4()))
        };
        let taken = |link: &Link| link.name == device.name || link.vxlan.as_ref().is_some_and(same);
        if self.links.iter().any(taken) {
            return refused(EEXIST);
        }
        let underlay = self.link_mut(device.underlay)?.mtu;
        if device.mtu > underlay - 50 {
            return refused(EINVAL);
        }
        let vxlan = Details {
            vni: device.vni,
            port: device.port,
            local: Some(device.local),
            underlay: Some(device.underlay),
            ..Details::default()
        };
        self.links.push(Link {
            index: self.next,
            name: device.name.clone(),
            kind: Some("vxlan".into()),
            mac: Some(device.mac),
            mtu: device.mtu,
            vxlan: Some(vxlan),
            ..Link::default()
        });
        self.next += 1;
        Ok(())
    }

    fn delete_link(&mut self, index: u32) -> Result<()> {
        self.link_mut(index)?;
        self.set_down(index);
        self.links.retain(|link| link.index != index);
        self.fdb.retain(|entry| entry.link != index);
        self.addresses.retain(|(link, _)| *link != index);
        Ok(())
    }

    fn set_mac(&mut self, link: u32, mac: MacAddr) -> Result<()> {
        self.link_mut(link)?.mac = Some(mac);
        // neigh_changeaddr
        self.neighbours.retain(|(index, _), _| *index != link);
        Ok(())
    }

    fn set_mtu(&mut self, link: u32, mtu: u32) -> Result<()> {
        self.link_mut(link)?.mtu = mtu;
        Ok(())
    }

    fn change_vxlan(&mut self, link: u32, changes: &Changes) -> Result<()> {
        let Some(details) = &mut self.link_mut(link)?.vxlan else { return refused(EINVAL) };
        details.local = changes.local.or(details.local);
        details.underlay = changes.underlay.or(details.underlay);
        details.learning = changes.learning.unwrap_or(details.learning);
        Ok(())
    }

    fn set_up(&mut self, link: u32) -> Result<()> {
        self.link_mut(link)?.up = true;
        Ok(())
    }

    fn add_address(&mut self, link: u32, address: IpNetwork) -> Result<()> {
        self.link_mut(link)?;
        if self.addresses.insert((link, address)) { Ok(()) } else { refused(EEXIST) }
    }

    fn delete_address(&mut self, link: u32, address: IpNetwork) -> Result<()> {
        if !self.addresses.remove(&(link, address)) {
            return refused(EADDRNOTAVAIL);
        }
        let left = self
            .addresses
            .iter()
            .any(|(index, net)| *index == link && net.is_ipv4() == address.is_ipv4());
        if !left && address.is_ipv4() {
            // fib_disable_ip
            self.routes.retain(|route| route.oif != Some(link) || route.dst.is_ipv6());
        }
        Ok(())
    }

    fn apply(&mut self, changes: &[Change]) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let allowed = self.holes();
        for (position, change) in changes.iter().enumerate() {
            self.asked += 1;
            match self.change(change) {
                Ok(()) => outcome.made += 1,
                Err(error) => outcome.refused.push(Refused { position, error }),
            }
            let new: Vec<_> = self.holes().difference(&allowed).copied().collect();
            assert!(
                new.is_empty(),
                "after {change:?} packets to {new:?} are lost\n{}",
                self.show()
            );
        }
        Ok(outcome)
    }
}
