//! Routes (rtnetlink(7), `Documentation/netlink/specs/rt-route.yaml`).

mod write;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network};
use netlink_packet_core::{
    NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, parse_ip, parse_u16, parse_u32,
};
use netlink_packet_route::route::{RouteAttribute, RouteFlags, RouteHeader, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::netlink::raw::{RawMessage, family};
use crate::netlink::reply::{Malformed, attributes};
use crate::netlink::{Netlink, NetlinkError, Result, body};

/// `RT_TABLE_MAIN`: the table that `ip route` shows.
pub const TABLE_MAIN: u32 = 254;
/// `RT_TABLE_LOCAL`: the kernel's own, with the host's addresses.
pub const TABLE_LOCAL: u32 = 255;
/// `RT_SCOPE_UNIVERSE`: anywhere.
pub const SCOPE_GLOBAL: u8 = 0;
/// `RT_SCOPE_LINK`: on the link itself.
pub const SCOPE_LINK: u8 = 253;
/// `RT_SCOPE_HOST`: the host itself.
pub const SCOPE_HOST: u8 = 254;

/// `sizeof(struct rtmsg)`.
const HEADER_LEN: usize = 12;
/// `RTA_NH_ID` (`linux/rtnetlink.h`).
const RTA_NH_ID: u16 = 30;
/// `RTAX_MTU`, `RTAX_ADVMSS` (`linux/rtnetlink.h`).
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;

/// What a route does with a packet (`RTN_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RouteKind {
    /// Sends it on.
    #[default]
    Unicast,
    /// Delivers it here.
    Local,
    /// Delivers it here, and to everybody on the link.
    Broadcast,
    /// Drops it silently.
    Blackhole,
    /// Refuses it: host unreachable.
    Unreachable,
    /// Refuses it: prohibited.
    Prohibit,
    /// Goes on with the next routing rule.
    Throw,
    /// Another `RTN_*`.
    Other(u8),
}

impl From<u8> for RouteKind {
    fn from(kind: u8) -> Self {
        match kind {
            libc::RTN_UNICAST => Self::Unicast,
            libc::RTN_LOCAL => Self::Local,
            libc::RTN_BROADCAST => Self::Broadcast,
            libc::RTN_BLACKHOLE => Self::Blackhole,
            libc::RTN_UNREACHABLE => Self::Unreachable,
            libc::RTN_PROHIBIT => Self::Prohibit,
            libc::RTN_THROW => Self::Throw,
            other => Self::Other(other),
        }
    }
}

impl From<RouteKind> for u8 {
    fn from(kind: RouteKind) -> Self {
        match kind {
            RouteKind::Unicast => libc::RTN_UNICAST,
            RouteKind::Local => libc::RTN_LOCAL,
            RouteKind::Broadcast => libc::RTN_BROADCAST,
            RouteKind::Blackhole => libc::RTN_BLACKHOLE,
            RouteKind::Unreachable => libc::RTN_UNREACHABLE,
            RouteKind::Prohibit => libc::RTN_PROHIBIT,
            RouteKind::Throw => libc::RTN_THROW,
            RouteKind::Other(other) => other,
        }
    }
}

/// A route. For one to be made, `None` leaves the choice to the kernel; its `Default` is `0.0.0.0/0` without anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to; prefix length 0 is the default route of that family.
    pub dst: IpNetwork,
    /// The next hop. May be IPv6 for an IPv4 destination (RFC 5549).
    pub gateway: Option<IpAddr>,
    /// The link to leave by, by index.
    pub oif: Option<u32>,
    /// The source address that packets of this host get.
    pub source: Option<IpAddr>,
    /// The metric; the lowest wins.
    pub priority: Option<u32>,
    /// The table. Made in [`TABLE_MAIN`] when `None`; always there when listed.
    pub table: Option<u32>,
    /// `RT_SCOPE_*`. When made with `None`: as `ip route add` chooses. Always there when listed.
    pub scope: Option<u8>,
    /// The gateway is on the link, whatever the addresses say.
    pub onlink: bool,
    /// Maximum transmission unit towards the destination, in bytes.
    pub mtu: Option<u32>,
    /// Maximum segment size to announce in TCP, in bytes.
    pub advmss: Option<u32>,
    /// Who made it (`RTPROT_*`): 2 kernel, 3 boot, 4 static. Made as 3 when `None`; always there when listed.
    pub protocol: Option<u8>,
    /// The nexthop object that says where to, instead of `gateway`, `oif` and `onlink` ([`crate::Nexthop`]). The kernel lists these
    /// too then, unless `net.ipv4.nexthop_compat_mode` is 0.
    pub nexthop: Option<u32>,
    /// What it does with a packet.
    pub kind: RouteKind,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            dst: default_destination(),
            gateway: None,
            oif: None,
            source: None,
            priority: None,
            table: None,
            scope: None,
            onlink: false,
            mtu: None,
            advmss: None,
            protocol: None,
            nexthop: None,
            kind: RouteKind::Unicast,
        }
    }
}

/// `0.0.0.0/0`.
fn default_destination() -> IpNetwork {
    let net = Ipv4Network::new(Ipv4Addr::UNSPECIFIED, 0);
    IpNetwork::V4(net.expect("a prefix length of 0 is never too long"))
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dst)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(oif) = self.oif {
            write!(f, " on link {oif}")?;
        }
        if let Some(nexthop) = self.nexthop {
            write!(f, " by nexthop {nexthop}")?;
        }
        if let Some(source) = self.source {
            write!(f, " from {source}")?;
        }
        if let Some(priority) = self.priority {
            write!(f, " metric {priority}")?;
        }
        match self.table {
            Some(table) if table != TABLE_MAIN => write!(f, " in table {table}"),
            _ => Ok(()),
        }
    }
}

impl Route {
    /// Reads what follows the netlink header of an `RTM_NEWROUTE`: one route per next hop. Empty for routes that are not
    /// IP's, and for what the kernel has merely cached.
    fn read(bytes: &[u8]) -> std::result::Result<Vec<Self>, Malformed> {
        let header = RouteHeader::parse(bytes).map_err(|e| Malformed(e.to_string()))?;
        if header.flags.contains(RouteFlags::Cloned) {
            return Ok(Vec::new());
        }
        Self::read_any(bytes, &header)
    }

    /// The same, also of what the kernel has merely cached.
    fn read_any(bytes: &[u8], header: &RouteHeader) -> std::result::Result<Vec<Self>, Malformed> {
        let any = match header.address_family {
            AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return Ok(Vec::new()),
        };
        let (mut dst, mut hops) = (any, Vec::new());
        let mut route = Self {
            table: Some(header.table.into()),
            scope: Some(header.scope.into()),
            onlink: header.flags.contains(RouteFlags::Onlink),
            protocol: Some(header.protocol.into()),
            kind: u8::from(header.kind).into(),
            ..Self::default()
        };
        for (kind, value) in attributes(body(bytes, HEADER_LEN)?) {
            match kind {
                libc::RTA_DST => dst = parse_ip(value).unwrap_or(dst),
                libc::RTA_MULTIPATH => hops = next_hops(value),
                _ => route.read_attribute(kind, value),
            }
        }
        route.dst = IpNetwork::new(dst, header.destination_prefix_length)
            .map_err(|e| Malformed(e.to_string()))?;
        if hops.is_empty() {
            return Ok(vec![route]);
        }
        Ok(hops.into_iter().map(|hop| hop.of(&route)).collect())
    }

    fn read_attribute(&mut self, kind: u16, value: &[u8]) {
        match kind {
            libc::RTA_GATEWAY => self.gateway = parse_ip(value).ok(),
            libc::RTA_VIA => self.gateway = via(value),
            libc::RTA_OIF => self.oif = parse_u32(value).ok(),
            libc::RTA_PREFSRC => self.source = parse_ip(value).ok(),
            libc::RTA_PRIORITY => self.priority = parse_u32(value).ok(),
            RTA_NH_ID => self.nexthop = parse_u32(value).ok(),
            libc::RTA_TABLE => self.table = parse_u32(value).ok(),
            libc::RTA_METRICS => {
                for (kind, value) in attributes(value) {
                    match kind {
                        RTAX_MTU => self.mtu = parse_u32(value).ok(),
                        RTAX_ADVMSS => self.advmss = parse_u32(value).ok(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}

/// A metric for a route over a gateway of its own, where a link has thousands of such routes: from 1 to 256, by the destination.
///
/// The kernel keeps the next hops of all IPv4 routes in a hash table, by link, maker, scope, source address and metric, but not by
/// gateway (`fib_info_hashfn_1` in `net/ipv4/fib_semantics.c`). With one metric they share a chain, which is searched whenever a
/// route is made: 10 000 take seconds instead of 0.2. Which metric a route has makes no difference as long as nobody else makes one to
/// the same destination. `None` for IPv6, which has no such table.
pub fn spread_metric(destination: IpNetwork) -> Option<u32> {
    let IpNetwork::V4(net) = destination else { return None };
    // The number of the subnet: neighbouring ones differ.
    let number = net.network().to_bits().checked_shr(32 - u32::from(net.prefix()));
    Some(1 + (number.unwrap_or_default() & 0xff))
}

/// Which routes are listed; what is `None` does not matter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoutesOf {
    /// Who made them (`RTPROT_*`).
    pub protocol: Option<u8>,
    /// The link that they leave by, by index.
    pub oif: Option<u32>,
    /// The table.
    pub table: Option<u32>,
}

impl RoutesOf {
    fn question(self, is_ipv4: bool) -> RawMessage {
        let mut header = [0; HEADER_LEN];
        header[0] = family(is_ipv4);
        // The place of `rtm_protocol`.
        header[5] = self.protocol.unwrap_or_default();
        let mut message = RawMessage::new(libc::RTM_GETROUTE, header);
        message.push_number(libc::RTA_OIF, self.oif);
        message.push_number(libc::RTA_TABLE, self.table);
        message
    }

    fn has(self, route: &Route) -> bool {
        self.protocol.is_none_or(|wanted| route.protocol == Some(wanted))
            && self.oif.is_none_or(|wanted| route.oif == Some(wanted))
            && self.table.is_none_or(|wanted| route.table == Some(wanted))
    }
}

/// The request for the route that a packet to `destination` would take.
fn lookup(destination: IpAddr) -> RouteMessage {
    let net = IpNetwork::from(destination);
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: if net.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 },
        destination_prefix_length: net.prefix(),
        ..RouteHeader::default()
    };
    message.attributes.push(RouteAttribute::Destination(destination.into()));
    message
}

/// There is no route to what was looked up, or one of type unreachable, prohibit, blackhole or throw (`fib_props` in
/// `net/ipv4/fib_semantics.c`).
fn leads_nowhere(error: &NetlinkError) -> bool {
    const NOWHERE: [i32; 5] =
        [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EACCES, libc::EINVAL, libc::EAGAIN];
    error.errno().is_some_and(|errno| NOWHERE.contains(&errno))
}

/// One of several next hops of a route.
#[derive(Debug, PartialEq, Eq)]
struct NextHop {
    oif: u32,
    gateway: Option<IpAddr>,
    onlink: bool,
}

impl NextHop {
    fn of(self, route: &Route) -> Route {
        Route { oif: Some(self.oif), gateway: self.gateway, onlink: self.onlink, ..route.clone() }
    }
}

/// Reads `RTA_MULTIPATH`: a sequence of `struct rtnexthop` (length, flags, weight, link), each with attributes.
fn next_hops(mut bytes: &[u8]) -> Vec<NextHop> {
    /// `RTNH_F_ONLINK` (`linux/rtnetlink.h`).
    const ONLINK: u8 = 4;
    let mut hops = Vec::new();
    while let (Some(length), Some(flags), Some(oif)) = (
        bytes.get(..2).and_then(|b| parse_u16(b).ok()).map(usize::from),
        bytes.get(2),
        bytes.get(4..8).and_then(|b| parse_u32(b).ok()),
    ) {
        let Some(own) = bytes.get(8..length) else { break };
        let mut hop = NextHop { oif, gateway: None, onlink: flags & ONLINK != 0 };
        for (kind, value) in attributes(own) {
            match kind {
                libc::RTA_GATEWAY => hop.gateway = parse_ip(value).ok(),
                libc::RTA_VIA => hop.gateway = via(value),
                _ => {}
            }
        }
        hops.push(hop);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    hops
}

/// Reads `RTA_VIA`: two bytes of address family, then the address.
fn via(value: &[u8]) -> Option<IpAddr> {
    value.get(2..).and_then(|address| parse_ip(address).ok())
}

impl Netlink {
    /// Every route of both families in **every** table, [`TABLE_LOCAL`] included. One with several next hops is listed
    /// once per next hop.
    pub fn routes(&mut self) -> Result<Vec<Route>> {
        let message = RouteNetlinkMessage::GetRoute(RouteMessage::default());
        let routes = self.list("list routes", message, |bytes| Route::read(bytes).map(Some))?;
        Ok(routes.into_iter().flatten().collect())
    }

    /// The routes of both families that agree with `only`, in every table or that one.
    ///
    /// Kernels from 4.20 on tell no others, which is what makes this cheap where there are many.
    pub fn routes_of(&mut self, only: RoutesOf) -> Result<Vec<Route>> {
        let mut all = Vec::new();
        for is_ipv4 in [true, false] {
            let message = only.question(is_ipv4);
            let listed = self.list("list routes", message, |bytes| {
                let mut routes = Route::read(bytes)?;
                routes.retain(|route| route.dst.is_ipv4() == is_ipv4 && only.has(route));
                Ok(Some(routes))
            });
            match listed {
                Ok(routes) => all.extend(routes.into_iter().flatten()),
                // There is no such link, or no such table: no route either.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// The route that a packet of this host to `destination` takes, as the kernel resolves it; `None` if no route leads there, or
    /// one that refuses or drops.
    ///
    /// Its `dst` is the address itself. It has always an `oif`; a `gateway` unless the destination is on the link; the `source`
    /// address that the kernel chooses; `mtu` if the route has one or the path is known to have. [`RouteKind::Local`]: the
    /// address is this host's own.
    pub fn route_to(&mut self, destination: IpAddr) -> Result<Option<Route>> {
        let message = RouteNetlinkMessage::GetRoute(lookup(destination));
        let found = self.one("find the route to", destination, message, |bytes| {
            let header = RouteHeader::parse(bytes).map_err(|e| Malformed(e.to_string()))?;
            Ok(Route::read_any(bytes, &header)?.into_iter().next())
        });
        match found {
            Err(error) if leads_nowhere(&error) => Ok(None),
            // IPv6 answers with the route that refuses.
            found => Ok(found?.flatten().filter(|route| {
                !matches!(
                    route.kind,
                    RouteKind::Unreachable | RouteKind::Prohibit | RouteKind::Blackhole
                )
            })),
        }
    }

    /// The link by which packets leave to `destination`, by index; `None` if no route leads there.
    pub fn link_towards(&mut self, destination: IpAddr) -> Result<Option<u32>> {
        let message = RouteNetlinkMessage::GetRoute(lookup(destination));
        let found = self.one("find the route to", destination, message, |bytes| {
            let oif = attributes(body(bytes, HEADER_LEN)?).find(|(kind, _)| *kind == libc::RTA_OIF);
            Ok(oif.and_then(|(_, value)| parse_u32(value).ok()))
        });
        match found {
            Err(error) if matches!(error.errno(), Some(libc::ENETUNREACH | libc::EHOSTUNREACH)) => {
                Ok(None)
            }
            found => Ok(found?.flatten()),
        }
    }

    /// Whether packets to `destination` end at this host: what iptables' `addrtype --dst-type LOCAL` and nftables' `fib daddr
    /// type local` ask too. Not only assigned addresses do, but also the rest of 127.0.0.0/8 and what a route of type
    /// `local` says.
    pub fn is_local(&mut self, destination: IpAddr) -> Result<bool> {
        /// The place of `rtm_type` in `struct rtmsg`, and `RTN_LOCAL`.
        const TYPE: usize = 7;
        const LOCAL: u8 = 2;
        let message = RouteNetlinkMessage::GetRoute(lookup(destination));
        let found = self.one("find the route to", destination, message, |bytes| {
            Ok(bytes.get(TYPE) == Some(&LOCAL))
        });
        match found {
            Err(error) if leads_nowhere(&error) => Ok(false),
            found => Ok(found?.unwrap_or(false)),
        }
    }

    /// Adds a route. `EEXIST` when there is one to the same destination with the same metric in the same table.
    pub fn add_route(&mut self, route: &Route) -> Result<()> {
        self.new_route("add route", route, NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Adds a route, or replaces the one to the same destination with the same metric in the same table.
    pub fn replace_route(&mut self, route: &Route) -> Result<()> {
        self.new_route("replace route", route, NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Adds a route beside others to the same destination: `NLM_F_CREATE` without `NLM_F_EXCL`, as the reference CNI
    /// plugins do. IPv6 makes it another next hop; IPv4 puts it before the others. `EEXIST` only when all of it is equal.
    pub fn append_route(&mut self, route: &Route) -> Result<()> {
        self.new_route("add route", route, NLM_F_CREATE)
    }

    /// Deletes the first route that agrees with everything given in `route`; what is `None` is not compared.
    pub fn delete_route(&mut self, route: &Route) -> Result<()> {
        let message = RawMessage::written(libc::RTM_DELROUTE, |to| route.write_delete(to));
        self.change("delete route", route, message, 0)
    }

    fn new_route(&mut self, operation: &str, route: &Route, flags: u16) -> Result<()> {
        let message = RawMessage::written(libc::RTM_NEWROUTE, |to| route.write_new(to));
        self.change(operation, route, message, flags)
    }
}

#[cfg(test)]
mod tests;
