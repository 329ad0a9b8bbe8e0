//! The underlay of this node: which link and addresses the overlay travels over, and how large its packets may be.
//!
//! The choice is a pure function of what the kernel lists and of the configuration, by family: `overlay.interface`, else the link that
//! has the Node's `InternalIP`, else that of the default route. Links of pods and of the overlay itself are never taken.

mod candidate;
mod mtu;

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netns_tools::netlink::{Netlink, NetlinkError};
use netns_tools::route::{RouteKind, TABLE_MAIN};
use netns_tools::{Address, Link, Route};

pub use self::candidate::{Candidate, Refusal};
use self::candidate::{refusal, usable};
pub use self::mtu::{Towards, mtu_towards};

/// What the kernel lists of this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// All links.
    pub links: Vec<Link>,
    /// All addresses, in the kernel's order: the first of a link is the primary one.
    pub addresses: Vec<Address>,
    /// The routes of all tables.
    pub routes: Vec<Route>,
}

impl Host {
    /// Lists the namespace that `netlink` is in.
    pub fn read(netlink: &mut Netlink) -> Result<Self, UnderlayError> {
        let mut read = || {
            Ok(Self {
                links: netlink.links()?,
                addresses: netlink.addresses(None)?,
                routes: netlink.routes()?,
            })
        };
        read().map_err(UnderlayError::Read)
    }

    fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }
}

/// By what the underlay is chosen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// `overlay.interface`: the name of a link, an address of one, or nothing.
    pub interface: &'a str,
    /// The Node's addresses of type `InternalIP`.
    pub internal_ips: &'a [IpAddr],
    /// The ranges that pods have their addresses from: what has one of those is a link of pods.
    pub pods: &'a [IpNetwork],
}

/// The underlay of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Underlay {
    /// The link's index.
    pub link: u32,
    /// The link's name.
    pub name: String,
    /// This node's address, with the prefix length of its network: nodes in it are on the same link.
    pub address: IpNetwork,
    /// The link's MTU, in bytes. Routes may have a smaller one: see [`mtu_towards`].
    pub mtu: u32,
    /// How often the link's carrier came or went: after a change another wire may be plugged in.
    pub carrier_changes: u32,
    /// By what this host's packets to everywhere else leave, on whichever link: pods must not have its address.
    pub gateway: Option<IpAddr>,
    /// Why this one.
    pub reason: Reason,
}

/// Why a link was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `overlay.interface` says so.
    Configured,
    /// It has the Node's `InternalIP`.
    InternalIp,
    /// The default route leaves by it.
    DefaultRoute,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configured => "overlay.interface names it",
            Self::InternalIp => "it has the Node's InternalIP",
            Self::DefaultRoute => "the default route leaves by it",
        })
    }
}

impl fmt::Display for Underlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, address, mtu, reason, .. } = self;
        write!(f, "{} on {name} (MTU {mtu}; {reason})", address.ip())
    }
}

/// The underlay of both families; at least one of them is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Underlays {
    /// IPv4.
    pub v4: Option<Underlay>,
    /// IPv6.
    pub v6: Option<Underlay>,
}

impl Underlays {
    /// That of the family of `address`.
    pub fn towards(&self, address: IpAddr) -> Option<&Underlay> {
        if address.is_ipv4() { self.v4.as_ref() } else { self.v6.as_ref() }
    }

    /// Both, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = &Underlay> {
        self.v4.iter().chain(&self.v6)
    }
}

/// No underlay. The messages list every link, and why it was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnderlayError {
    /// The kernel's lists cannot be had.
    #[error("this host's links, addresses and routes cannot be listed")]
    Read(#[source] NetlinkError),
    /// The configured one cannot be used.
    #[error(
        "overlay.interface = \"{wanted}\": {why}; give the name or an address of a link that leads to the other nodes ({})",
        list(candidates)
    )]
    Configured {
        /// As configured.
        wanted: String,
        /// What is wrong with it.
        why: String,
        /// All links.
        candidates: Vec<Candidate>,
    },
    /// There is nothing to choose.
    #[error(
        "no link leads to the other nodes ({}); set overlay.interface, or wait for the address or the default route",
        list(candidates)
    )]
    Nothing {
        /// All links.
        candidates: Vec<Candidate>,
    },
}

fn list(candidates: &[Candidate]) -> String {
    if candidates.is_empty() {
        return "there are no links".to_owned();
    }
    candidates.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Chooses the underlay. A family that this host does not have is `None`.
pub fn choose(host: &Host, wanted: &Wanted<'_>) -> Result<Underlays, UnderlayError> {
    let choice = Choice { host, wanted };
    if !wanted.interface.is_empty() {
        return choice.configured();
    }
    let one = |v6| choice.by_internal_ip(v6).or_else(|| choice.by_default_route(v6));
    match (one(false), one(true)) {
        (None, None) => Err(UnderlayError::Nothing { candidates: choice.candidates() }),
        (v4, v6) => Ok(Underlays { v4, v6 }),
    }
}

#[derive(Clone, Copy)]
struct Choice<'a> {
    host: &'a Host,
    wanted: &'a Wanted<'a>,
}

impl<'a> Choice<'a> {
    fn configured(self) -> Result<Underlays, UnderlayError> {
        let wanted = self.wanted.interface;
        let failed = |why: String| UnderlayError::Configured {
            wanted: wanted.to_owned(),
            why,
            candidates: self.candidates(),
        };
        let address: Option<IpAddr> = wanted.parse().ok();
        let link = match address {
            Some(address) => {
                self.holder(address).ok_or_else(|| failed("no link has this address".to_owned()))?
            }
            None => self
                .host
                .links
                .iter()
                .find(|link| link.name == wanted)
                .ok_or_else(|| failed("there is no link of this name".to_owned()))?,
        };
        if let Some(refusal) = refusal(self.host, self.wanted, link) {
            return Err(failed(format!("{} cannot be used: {refusal}", link.name)));
        }
        let best = |v6| match address {
            Some(ip) if ip.is_ipv6() == v6 => self.on(link).find(|known| known.net.ip() == ip),
            _ => self.best(link, v6, None),
        };
        let made = |v6| best(v6).map(|address| self.made(link, address.net, Reason::Configured));
        Ok(Underlays { v4: made(false), v6: made(true) })
    }

    fn by_internal_ip(self, v6: bool) -> Option<Underlay> {
        let ips = self.wanted.internal_ips.iter().filter(|ip| ip.is_ipv6() == v6);
        ips.copied().find_map(|ip| self.holding(ip))
    }

    fn holding(self, ip: IpAddr) -> Option<Underlay> {
        let link = self.holder(ip)?;
        if link.loopback && !ip.is_loopback() {
            // A host that announces an address of its own to its routers has it there, and sends by any of its links.
            let by = self.default_link(ip.is_ipv6())?.0;
            return Some(self.made(by, IpNetwork::from(ip), Reason::InternalIp));
        }
        let address = self.on(link).find(|address| address.net.ip() == ip)?;
        let is_fit = refusal(self.host, self.wanted, link).is_none();
        is_fit.then(|| self.made(link, address.net, Reason::InternalIp))
    }

    fn by_default_route(self, v6: bool) -> Option<Underlay> {
        let (link, source) = self.default_link(v6)?;
        let address = self.best(link, v6, source)?;
        Some(self.made(link, address.net, Reason::DefaultRoute))
    }

    fn made(self, link: &Link, address: IpNetwork, reason: Reason) -> Underlay {
        Underlay {
            link: link.index,
            name: link.name.clone(),
            address,
            mtu: link.mtu,
            carrier_changes: link.carrier_changes,
            gateway: self.gateway(address.is_ipv6()),
            reason,
        }
    }

    /// Of the default route that counts.
    fn gateway(self, v6: bool) -> Option<IpAddr> {
        let routes = self.host.routes.iter().filter(|route| is_default(route, v6));
        routes.min_by_key(|route| route.priority.unwrap_or(0))?.gateway
    }

    /// The link of the default route, and the source address that the route gives. One whose cable is out comes last.
    fn default_link(self, v6: bool) -> Option<(&'a Link, Option<IpAddr>)> {
        let routes = self.host.routes.iter().filter(|route| is_default(route, v6));
        let fit = routes.filter_map(|route| {
            let link = self.host.link(route.oif?)?;
            refusal(self.host, self.wanted, link).is_none().then_some((link, route))
        });
        let best = fit.min_by_key(|(link, route)| (!link.carrier, route.priority.unwrap_or(0)));
        best.map(|(link, route)| (link, route.source))
    }

    /// The link that has this address, and may use it.
    fn holder(self, ip: IpAddr) -> Option<&'a Link> {
        let known = self.host.addresses.iter().find(|known| known.net.ip() == ip)?;
        self.host.link(known.index)
    }

    fn on(self, link: &'a Link) -> impl Iterator<Item = &'a Address> {
        self.host
            .addresses
            .iter()
            .filter(move |address| address.index == link.index)
            .filter(move |address| usable(address, self.wanted.pods))
    }

    /// The address to speak from: what the Node says, what the route says, then what is meant to last.
    fn best(self, link: &'a Link, v6: bool, source: Option<IpAddr>) -> Option<&'a Address> {
        let family = self.on(link).filter(|address| address.net.is_ipv6() == v6);
        family.min_by_key(|address| {
            let ip = address.net.ip();
            let full = if v6 { 128 } else { 32 };
            (
                !self.wanted.internal_ips.contains(&ip),
                source != Some(ip),
                candidate::is_passing(address),
                // such as an address that moves between hosts
                address.net.prefix() == full,
            )
        })
    }

    fn candidates(self) -> Vec<Candidate> {
        let of = |link: &Link| Candidate {
            link: link.name.clone(),
            refusal: refusal(self.host, self.wanted, link).unwrap_or(Refusal::NotNamed),
        };
        self.host.links.iter().map(of).collect()
    }
}

fn is_default(route: &Route, v6: bool) -> bool {
    route.dst.prefix() == 0
        && route.dst.is_ipv6() == v6
        && route.table == Some(TABLE_MAIN)
        && route.kind == RouteKind::Unicast
}

#[cfg(test)]
mod tests;
