//! The link that another is made on.

use cni::{Error, ErrorCode};
use netns_tools::{Link, Netlink};

use super::{Kind, Master, Sublink, invalid, plan};
use crate::code;
use crate::interface::kernel_error;

/// The namespaces that a parent may be in, by name.
const HOST: &str = "on the host";
const CONTAINER: &str = "in the container's network namespace";

/// Finds the parent through a socket in its namespace, and sees whether it will do. `None`: the kind has none.
pub fn find(wanted: &Sublink, net: &mut Netlink) -> Result<Option<Link>, Error> {
    let name = match &wanted.master {
        Master::None | Master::Chain => return Ok(None),
        Master::Named(name) => name.clone(),
        Master::DefaultRoute => default_route(wanted, net)?,
    };
    let place = place(wanted);
    let Some(link) = look_up(net, &name)? else {
        let msg = format!("failed to lookup master {name:?}: Link not found");
        let details = format!("there is no such interface {place}; \"master\" names it");
        return Err(Error::new(code::CONFLICT, msg).with_details(details));
    };
    refuse_unfit(wanted.kind, &link)?;
    Ok(Some(link))
}

/// The link of that name.
pub fn look_up(net: &mut Netlink, name: &str) -> Result<Option<Link>, Error> {
    net.link(name).map_err(|e| kernel_error(&format!("cannot look up master {name:?}"), &e))
}

/// Where the master of a configuration is.
pub fn place(wanted: &Sublink) -> &'static str {
    if wanted.in_container { CONTAINER } else { HOST }
}

fn default_route(wanted: &Sublink, net: &mut Netlink) -> Result<String, Error> {
    let failed = |e| kernel_error("cannot find the default route's interface", &e);
    let found = match plan::default_route(&net.routes().map_err(failed)?) {
        Some(index) => net.link_by_index(index).map_err(failed)?,
        None => None,
    };
    found.map(|link| link.name).ok_or_else(|| {
        let details = format!(
            "there is no default route {}: name the interface as \"master\"",
            place(wanted)
        );
        Error::new(code::CONFLICT, "no default route interface found").with_details(details)
    })
}

fn refuse_unfit(kind: Kind, link: &Link) -> Result<(), Error> {
    let refuse = |why: &str, remedy: &str| {
        let msg = format!("master {:?} cannot carry {} interfaces: {why}", link.name, kind.name());
        Err(Error::new(ErrorCode::InvalidConfig, msg).with_details(remedy))
    };
    if link.loopback {
        return refuse("it is a loopback interface", "name a network interface as \"master\"");
    }
    if kind.needs_master_up() && !link.up {
        return refuse("it is down", "set it up first: ip link set dev MASTER up");
    }
    Ok(())
}

/// Checks an MTU against the parent's; `None` leaves it to the kernel.
pub fn mtu(wanted: &Sublink, parent: Option<&Link>) -> Result<Option<u32>, Error> {
    if wanted.mtu == 0 {
        return Ok(None);
    }
    let limits = wanted.kind.mtu_limits();
    let limited = parent.filter(|_| wanted.kind.is_limited_by_master());
    match (u32::try_from(wanted.mtu), limited) {
        (Ok(mtu), Some(parent)) if limits.contains(&mtu) && mtu <= parent.mtu => Ok(Some(mtu)),
        (Ok(mtu), None) if limits.contains(&mtu) => Ok(Some(mtu)),
        (_, Some(parent)) => {
            let msg =
                format!("invalid MTU {}, must be [0, master MTU({})]", wanted.mtu, parent.mtu);
            let details = format!(
                "0 is the MTU of master {:?}, the smallest other one is {}",
                parent.name,
                limits.start()
            );
            Err(invalid(&msg).with_details(details))
        }
        (_, None) => {
            let (least, most) = (limits.start(), limits.end());
            Err(invalid(&format!("invalid MTU {}, must be 0 or [{least}, {most}]", wanted.mtu)))
        }
    }
}

/// Whether `link` is on `master`; `netns` is the number by which the link's namespace knows the master's, `None` if it is the
/// same.
pub fn carries(master: &Link, netns: Option<i32>, link: &Link) -> bool {
    let directly = link.peer_index == Some(master.index) && link.peer_netns_id == netns;
    // The kernel makes a macvlan on a macvlan that one's sibling, and ipvlans likewise. Where the sibling's parent is in a third
    // namespace, the two know that by numbers that cannot be compared.
    let same_place = match (netns, master.peer_netns_id) {
        (None, third) => link.peer_netns_id == third,
        (Some(_), None) => link.peer_netns_id == netns,
        (Some(_), Some(_)) => true,
    };
    let sibling = master.kind == link.kind
        && master.kind.as_deref() != Some("vlan")
        && master.peer_index.is_some()
        && link.peer_index == master.peer_index;
    directly || (sibling && same_place)
}

#[cfg(test)]
mod tests;
