//! What a device had on the host and loses by being moved: for an ADD that fails.

use cni::Error;
use netns_tools::route::{SCOPE_GLOBAL, TABLE_LOCAL};
use netns_tools::{Address, Link, Netlink, Route};

use crate::interface::kernel_error;

/// `RTPROT_KERNEL`, `RTPROT_RA` (`linux/rtnetlink.h`): routes that the kernel makes again by itself.
const MADE_BY_THE_KERNEL: [u8; 2] = [2, 9];

/// A device's past.
#[derive(Clone, Debug)]
pub struct Past {
    /// The link as it was.
    pub link: Link,
    addresses: Vec<Address>,
    routes: Vec<Route>,
}

impl Past {
    /// Looks before the device is touched.
    pub fn look(host: &mut Netlink, link: Link) -> Result<Self, Error> {
        let failed = |e| kernel_error(&format!("cannot look at {:?}", link.name), &e);
        let mut addresses = host.addresses(Some(link.index)).map_err(failed)?;
        addresses.retain(is_ours_to_restore);
        let mut routes = host.routes().map_err(failed)?;
        routes.retain(|route| is_route_of(route, link.index));
        // The way to a gateway comes before the routes through it.
        routes.sort_by_key(|route| route.gateway.is_some());
        Ok(Self { link, addresses, routes })
    }

    /// Gives everything back to the device, which is on the host again under the index `index`. Keeps going; tells what could
    /// not be restored.
    pub fn restore(&self, host: &mut Netlink, index: u32) -> Result<(), Error> {
        let mut lost = Vec::new();
        let mut note = |what: String, done: netns_tools::netlink::Result<()>| match done {
            Err(error) if !error.is_exists() => lost.push(format!("{what}: {error}")),
            _ => {}
        };
        note("alias".into(), host.set_alias(index, self.link.alias.as_deref().unwrap_or_default()));
        if self.link.master.is_some() {
            note("master".into(), host.set_master(index, self.link.master));
        }
        for address in &self.addresses {
            note(address.net.to_string(), host.add_address_without_dad(index, address.net));
        }
        if self.link.up {
            note("set up".into(), host.set_up(index));
        }
        for route in &self.routes {
            let route = Route { oif: Some(index), ..route.clone() };
            note(route.to_string(), host.append_route(&route));
        }
        if lost.is_empty() {
            return Ok(());
        }
        let msg = format!("{:?} is back on the host without all that it had", self.link.name);
        Err(Error::new(crate::code::KERNEL, msg).with_details(lost.join("; ")))
    }
}

/// Link-local IPv6 addresses, and those of router advertisements, the kernel makes again.
fn is_ours_to_restore(address: &Address) -> bool {
    address.net.is_ipv4() || (address.scope == SCOPE_GLOBAL && address.is_permanent())
}

fn is_route_of(route: &Route, index: u32) -> bool {
    let by_the_kernel = route.protocol.is_some_and(|p| MADE_BY_THE_KERNEL.contains(&p));
    route.oif == Some(index) && route.table != Some(TABLE_LOCAL) && !by_the_kernel
}
