//! Pure decisions of `vrf`: which VRF, which table, and what the interface must get back.
//!
//! The kernel sets an interface that becomes a port of a VRF down and up again (`cycle_netdev` in drivers/net/vrf.c): its IPv6
//! addresses go, unless `keep_addr_on_down` is set, and its routes. Those to its own networks it makes again by itself, in the
//! VRF's table.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use cni::Error;
use netns_tools::link::vrf::KIND;
use netns_tools::route::{SCOPE_GLOBAL, TABLE_MAIN};
use netns_tools::{Address, Link, Route, RouteKind};

use super::conf::Conf;
use crate::code;

/// `RTPROT_KERNEL`, `RTPROT_RA` (`linux/rtnetlink.h`): routes that the kernel makes again by itself.
const MADE_BY_THE_KERNEL: [u8; 2] = [2, 9];
/// `RT_TABLE_DEFAULT`, `RT_TABLE_MAIN`, `RT_TABLE_LOCAL`: every namespace's own.
const OWN_TABLES: std::ops::RangeInclusive<u32> = 253..=255;

/// The VRF that an interface goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// It is there.
    Present {
        /// Its index.
        index: u32,
        /// Its routing table.
        table: u32,
    },
    /// It must be made.
    New {
        /// With this routing table.
        table: u32,
    },
}

impl Target {
    /// Its routing table.
    pub fn table(self) -> u32 {
        match self {
            Self::Present { table, .. } | Self::New { table } => table,
        }
    }
}

/// The VRF of a configuration among the links of a namespace.
pub fn target(conf: &Conf, links: &[Link], routes: &[Route]) -> Result<Target, Error> {
    match find(&conf.name, links)? {
        Some((index, table)) => match conf.table {
            Some(wanted) if wanted != table => {
                let name = &conf.name;
                let msg = format!("VRF {name} already exist with different routing table {table}");
                let details = format!(
                    "the configuration says table {wanted}; leave it out to use the VRF as it is"
                );
                Err(Error::new(code::CONFLICT, msg).with_details(details))
            }
            _ => Ok(Target::Present { index, table }),
        },
        None => Ok(Target::New { table: conf.table.unwrap_or_else(|| free_table(links, routes)) }),
    }
}

/// Index and table of the VRF named `name`; an error if the name is something else's.
pub fn find(name: &str, links: &[Link]) -> Result<Option<(u32, u32)>, Error> {
    let Some(link) = links.iter().find(|link| link.name == name) else { return Ok(None) };
    match link.vrf_table {
        Some(table) if link.kind.as_deref() == Some(KIND) => Ok(Some((link.index, table))),
        _ => Err(Error::new(code::CONFLICT, format!("Netlink {name} is not a VRF"))
            .with_details("give another name as \"vrfname\"")),
    }
}

/// The lowest table from 1 that is no VRF's and has no route. The reference looks at VRFs only.
fn free_table(links: &[Link], routes: &[Route]) -> u32 {
    let of_vrfs = links.iter().filter_map(|link| link.vrf_table);
    let taken: BTreeSet<u32> =
        of_vrfs.chain(routes.iter().filter_map(|route| route.table)).chain(OWN_TABLES).collect();
    // There are fewer routes than tables, so one is free.
    (1..=u32::MAX).find(|table| !taken.contains(table)).unwrap_or(u32::MAX)
}

/// Refuses an interface that is a port already.
pub fn refuse_master(link: &Link, links: &[Link]) -> Result<(), Error> {
    let Some(master) = link.master else { return Ok(()) };
    let name = links.iter().find(|other| other.index == master).map_or("?", |other| &other.name);
    let msg = format!("interface {} has already a master set: {name}", link.name);
    Err(Error::new(code::CONFLICT, msg)
        .with_details("an interface can be in one VRF, or be a port of one bridge"))
}

/// Whether nothing is in the VRF with index `vrf` any more.
pub fn is_empty(vrf: u32, links: &[Link]) -> bool {
    !links.iter().any(|link| link.master == Some(vrf))
}

/// What an interface has: its addresses, and the routes by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer3 {
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// Routes of the whole namespace, or of the interface.
    pub routes: Vec<Route>,
}

/// What is missing `now` of what was `before`, the routes in `table` instead of the one that they were in.
///
/// `from` is the table whose routes move: the main one on the way into a VRF.
pub fn missing(before: &Layer3, now: &Layer3, index: u32, from: u32, table: u32) -> Layer3 {
    let there = |net| now.addresses.iter().any(|address| address.net == net);
    let is_global = |address: &&Address| address.net.is_ipv4() || address.scope == SCOPE_GLOBAL;
    let addresses = before.addresses.iter().filter(is_global);
    let addresses = addresses.filter(|address| !there(address.net)).cloned().collect();

    let moves = |route: &&Route| is_moved(route, index, from);
    let mut routes: Vec<_> = before
        .routes
        .iter()
        .filter(moves)
        .map(|route| Route { table: Some(table), ..route.clone() })
        .filter(|route| !now.routes.contains(route))
        .collect();
    // The way to a gateway comes before the routes through it.
    routes.sort_by_key(|route| route.gateway.is_some());
    Layer3 { addresses, routes }
}

fn is_moved(route: &Route, index: u32, from: u32) -> bool {
    let by_the_kernel = route.protocol.is_some_and(|p| MADE_BY_THE_KERNEL.contains(&p));
    route.oif == Some(index)
        && route.table.unwrap_or(TABLE_MAIN) == from
        && route.kind == RouteKind::Unicast
        && !by_the_kernel
}
