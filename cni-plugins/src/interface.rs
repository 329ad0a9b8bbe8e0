//! A container's interface: giving it addresses and routes, and comparing it with what was promised.
//!
//! Shared by every plugin that makes an interface.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use cni::{Error, Interface, IpConfig};
use ipnetwork::IpNetwork;
use netns_tools::{Address, Link, NetNs, Netlink, NetlinkError, OperState, Route, sysctl};

use crate::code;

/// How long duplicate address detection may take before an ADD gives up waiting.
const SETTLE: Duration = Duration::from_secs(5);

/// An interface in a container's namespace, about to be used.
pub struct Inside<'a> {
    /// The namespace.
    pub ns: &'a NetNs,
    /// A socket in that namespace.
    pub net: &'a mut Netlink,
    /// The interface's name there.
    pub ifname: &'a str,
    /// The interface's index there.
    pub index: u32,
}

impl Inside<'_> {
    /// Gives the interface its addresses, sets it up, waits for IPv6 addresses to be usable if there is a gateway
    /// to be reached from them, and adds the routes.
    pub fn configure(&mut self, ips: &[IpConfig], routes: &[cni::Route]) -> Result<(), Error> {
        if ips.iter().any(|ip| ip.address.is_ipv6()) {
            self.enable_ipv6()?;
        }
        for ip in ips {
            self.net.add_address(self.index, ip.address).map_err(|error| {
                let what = format!("cannot add IP address {} to {:?}", ip.address, self.ifname);
                kernel_error(&what, &error)
            })?;
        }
        self.set_up()?;
        let gateways = Gateways::of(ips);
        if gateways.v6.is_some() {
            self.settle()?;
        }
        for route in routes {
            self.net.append_route(&kernel_route(route, self.index, gateways)).map_err(|error| {
                let via = route.gw.or(gateways.for_family(route.dst));
                let via = via.map_or(String::new(), |gw| format!(" via {gw}"));
                let what = format!("cannot add route {}{via} dev {}", route.dst, self.ifname);
                kernel_error(&what, &error)
            })?;
        }
        Ok(())
    }

    /// Sets the interface up.
    pub fn set_up(&mut self) -> Result<(), Error> {
        self.net
            .set_up(self.index)
            .map_err(|error| kernel_error(&format!("cannot set {:?} up", self.ifname), &error))
    }

    /// IPv6 may be off in a new namespace; and an interface that goes down shall keep its addresses.
    fn enable_ipv6(&self) -> Result<(), Error> {
        let own = format!("net/ipv6/conf/{}", self.ifname);
        let keys = [
            ("net/ipv6/conf/lo/disable_ipv6".to_owned(), "0"),
            (format!("{own}/disable_ipv6"), "0"),
            (format!("{own}/keep_addr_on_down"), "1"),
        ];
        let written = self.ns.visit(|| {
            keys.iter().try_for_each(|(key, value)| sysctl::ensure(key, value).map(drop))
        });
        written.map_err(|e| Error::from_source(code::KERNEL, &e))?.map_err(|e| {
            let error = Error::from_source(code::KERNEL, &e);
            let hint =
                "the configuration gives the container an IPv6 address: is IPv6 in the kernel?";
            Error::new(error.code, error.msg).with_details(format!("{}; {hint}", error.details))
        })
    }

    /// Waits until no address is tentative. One that somebody else has is an error, and so is one that is
    /// still not usable after [`SETTLE`] on an interface that is up.
    fn settle(&mut self) -> Result<(), Error> {
        if self.waits_for_a_program()? {
            return Ok(());
        }
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            let list = self.net.addresses(Some(self.index));
            let list = list.map_err(|e| kernel_error("cannot list addresses", &e))?;
            if let Some(address) = list.iter().find(|address| address.is_duplicate()) {
                let msg =
                    format!("IPv6 address {} on {:?} is a duplicate", address.net, self.ifname);
                return Err(Error::new(code::CONFLICT, msg)
                    .with_details("another machine on this network answered for it (DADFAILED)"));
            }
            let Some(address) = list.iter().find(|address| address.is_tentative()) else {
                return Ok(());
            };
            if start.elapsed() >= SETTLE {
                return self.unsettled(address);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// A tap device has no carrier until a program opens it, and that is not before ADD ends.
    fn waits_for_a_program(&mut self) -> Result<bool, Error> {
        let link = self.net.link_by_index(self.index);
        let link = link.map_err(|e| kernel_error("cannot look up the interface", &e))?;
        Ok(link.is_some_and(|link| link.tun.is_some() && link.oper_state != OperState::Up))
    }

    fn unsettled(&mut self, address: &Address) -> Result<(), Error> {
        let link = self.net.link_by_index(self.index);
        let link = link.map_err(|e| kernel_error("cannot look up the interface", &e))?;
        if link.is_none_or(|link| link.oper_state != OperState::Up) {
            return Ok(());
        }
        let msg = format!(
            "IPv6 address {} on {:?} is still tentative after {} s",
            address.net,
            self.ifname,
            SETTLE.as_secs()
        );
        Err(Error::new(code::KERNEL, msg).with_details(
            "duplicate address detection does not end; \"enabledad\": false turns it off",
        ))
    }
}

/// The first gateway of each family.
#[derive(Clone, Copy, Default)]
struct Gateways {
    v4: Option<IpAddr>,
    v6: Option<IpAddr>,
}

impl Gateways {
    fn of(ips: &[IpConfig]) -> Self {
        let mut gateways = ips.iter().filter_map(|ip| ip.gateway);
        Self { v4: gateways.clone().find(IpAddr::is_ipv4), v6: gateways.find(IpAddr::is_ipv6) }
    }

    fn for_family(self, dst: IpNetwork) -> Option<IpAddr> {
        if dst.is_ipv4() { self.v4 } else { self.v6 }
    }
}

/// A route of a result as the kernel takes it. Without a gateway of its own it takes the family's first one.
fn kernel_route(route: &cni::Route, oif: u32, gateways: Gateways) -> Route {
    Route {
        dst: route.dst,
        gateway: route.gw.or(gateways.for_family(route.dst)),
        oif: Some(oif),
        priority: route.priority,
        table: route.table,
        scope: route.scope.and_then(|scope| u8::try_from(scope).ok()),
        ..Route::default()
    }
}

/// The addresses of the link with this index.
pub fn addresses(net: &mut Netlink, index: u32) -> Result<Vec<IpNetwork>, Error> {
    let found =
        net.addresses(Some(index)).map_err(|e| kernel_error("cannot list addresses", &e))?;
    Ok(found.into_iter().map(|address| address.net).collect())
}

/// What CHECK finds on an interface.
pub struct Observed {
    /// The interface; `None`: it is not there.
    pub link: Option<Link>,
    /// Its addresses.
    pub addresses: Vec<IpNetwork>,
    /// The namespace's routes, those of every interface.
    pub routes: Vec<Route>,
}

impl Observed {
    /// Looks at `ifname` through a socket in its namespace.
    pub fn look(net: &mut Netlink, ifname: &str) -> Result<Self, Error> {
        let failed = |e: NetlinkError| kernel_error(&format!("cannot look at {ifname:?}"), &e);
        let Some(link) = net.link(ifname).map_err(failed)? else {
            return Ok(Self { link: None, addresses: Vec::new(), routes: Vec::new() });
        };
        let addresses = net.addresses(Some(link.index)).map_err(failed)?;
        let addresses = addresses.into_iter().map(|address| address.net).collect();
        Ok(Self { link: Some(link), addresses, routes: net.routes().map_err(failed)? })
    }

    /// Every difference from what ADD promised: addresses, the routes to their networks, and routes.
    pub fn differences(&self, ips: &[IpConfig], routes: &[cni::Route]) -> Vec<String> {
        let mut found = Vec::new();
        for ip in ips {
            if !self.addresses.contains(&ip.address) {
                found.push(format!("address {} is missing", ip.address));
            }
            let net =
                IpNetwork::new(ip.address.network(), ip.address.prefix()).unwrap_or(ip.address);
            if !self.routes.iter().any(|route| route.dst == net) {
                found.push(format!("the route to {net} is missing"));
            }
        }
        for wanted in routes {
            let is_default = wanted.dst.prefix() == 0;
            let same = |route: &Route| {
                route.dst == wanted.dst
                    && (is_default || wanted.gw.is_none() || route.gateway == wanted.gw)
            };
            if !self.routes.iter().any(same) {
                let via = wanted.gw.map_or(String::new(), |gw| format!(" via {gw}"));
                found.push(format!("the route {}{via} is missing", wanted.dst));
            }
        }
        found
    }
}

/// A link as it stands in a result; `sandbox` is empty on the host.
pub fn in_result(link: &Link, sandbox: String) -> Interface {
    let mac = link.mac.map_or(String::new(), |mac| mac.to_string());
    Interface { name: link.name.clone(), mac, sandbox, ..Interface::default() }
}

/// A failed kernel operation: what the plugin wanted, then the kernel's answer as details.
pub fn kernel_error(what: &str, error: &dyn std::error::Error) -> Error {
    let cause = Error::from_source(code::KERNEL, error);
    let details = if cause.details.is_empty() {
        cause.msg
    } else {
        format!("{}: {}", cause.msg, cause.details)
    };
    Error::new(code::KERNEL, what).with_details(details)
}
