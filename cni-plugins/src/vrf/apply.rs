//! ADD of `vrf`: the interface is in the VRF with all that it had, or where it was.

#[cfg(test)]
mod tests;

use cni::plugin::Call;
use cni::{CniResult, Error};
use netns_tools::route::TABLE_MAIN;
use netns_tools::{Link, NetNs, Netlink, Vrf};

use super::conf::{self, Conf};
use super::plan::{self, Layer3, Target};
use crate::interface::kernel_error;
use crate::step::step;
use crate::undo::Undo;
use crate::{code, sandbox};

/// Puts the interface into the VRF, and answers with what the chain made before.
pub fn add(call: &Call<'_>) -> Result<CniResult, Error> {
    let conf = Conf::parse(call)?;
    let prev = conf::promised(call)?;
    let ns = sandbox::open(call)?;
    let mut undo = Undo::default();
    let outcome = Add::new(call, &conf, &ns).and_then(|mut add| add.run(&mut undo));
    undo.settle(outcome)?;
    Ok(prev.clone())
}

/// One ADD under way.
struct Add<'a> {
    conf: &'a Conf,
    ns: &'a NetNs,
    inside: Netlink,
    /// The interface.
    link: Link,
    target: Target,
    /// What the interface has before.
    before: Layer3,
}

impl<'a> Add<'a> {
    fn new(call: &Call<'_>, conf: &'a Conf, ns: &'a NetNs) -> Result<Self, Error> {
        let failed = |e| kernel_error("cannot look at the container's links", &e);
        let mut inside = Netlink::open_in(ns).map_err(failed)?;
        let links = inside.links().map_err(failed)?;
        let routes = inside.routes().map_err(failed)?;
        let target = plan::target(conf, &links, &routes)?;
        let link =
            links.iter().find(|link| link.name == call.ifname).cloned().ok_or_else(|| {
                Error::new(code::CONFLICT, format!("could not get link by name {}", call.ifname))
                    .with_details(
                        "an earlier plugin of the chain must have made it in the container",
                    )
            })?;
        plan::refuse_master(&link, &links)?;
        let before = look(&mut inside, link.index)?;
        Ok(Self { conf, ns, inside, link, target, before })
    }

    fn run(&mut self, undo: &mut Undo<'a>) -> Result<(), Error> {
        let vrf = match self.target {
            Target::Present { index, .. } => index,
            Target::New { table } => self.make(table, undo)?,
        };
        let (link, table) = (self.link.clone(), self.target.table());
        step("put the interface into the VRF", || {
            self.inside.set_master(link.index, Some(vrf)).map_err(|e| {
                let name = &self.conf.name;
                kernel_error(&format!("could not set vrf {name} as master of {}", link.name), &e)
            })?;
            let (ns, before, index) = (self.ns, self.before.clone(), link.index);
            undo.push("the interface's place in the VRF", move || take_out(ns, index, &before));
            Ok(())
        })?;
        step("give it back its addresses and routes", || {
            restore(&mut self.inside, link.index, &self.before, table)
        })
    }

    fn make(&mut self, table: u32, undo: &mut Undo<'a>) -> Result<u32, Error> {
        let name = self.conf.name.as_str();
        step("make the VRF", || {
            let vrf = Vrf { name, table };
            let made = self.inside.add_vrf(&vrf);
            made.map_err(|e| kernel_error(&format!("could not add VRF {name}"), &e))?;
            let ns = self.ns;
            undo.push("the VRF", move || remove_if_empty(ns, name));
            let failed = |e| kernel_error(&format!("could not set link up for VRF {name}"), &e);
            let link = self.inside.link(name).map_err(failed)?.ok_or_else(|| {
                Error::new(code::CONFLICT, format!("VRF {name} disappeared while it was set up"))
            })?;
            self.inside.set_up(link.index).map_err(failed)?;
            Ok(link.index)
        })
    }
}

/// What the interface with this index has.
pub fn look(inside: &mut Netlink, index: u32) -> Result<Layer3, Error> {
    let failed = |e| kernel_error("cannot list the interface's addresses and routes", &e);
    Ok(Layer3 {
        addresses: inside.addresses(Some(index)).map_err(failed)?,
        routes: inside.routes().map_err(failed)?,
    })
}

/// Gives the interface what it had and has no more, the routes in `table`.
fn restore(inside: &mut Netlink, index: u32, before: &Layer3, table: u32) -> Result<(), Error> {
    let now = look(inside, index)?;
    let back = plan::missing(before, &now, index, TABLE_MAIN, table);
    for address in back.addresses {
        // It was found to be unique before, and the routes need it now.
        let added = inside.add_address_without_dad(index, address.net);
        added
            .or_else(|error| if error.is_exists() { Ok(()) } else { Err(error) })
            .map_err(|e| kernel_error(&format!("could not restore address {}", address.net), &e))?;
    }
    for route in back.routes {
        let added = inside.append_route(&route);
        added.or_else(|error| if error.is_exists() { Ok(()) } else { Err(error) }).map_err(
            |e| {
                kernel_error(&format!("could not restore route {} in table {table}", route.dst), &e)
            },
        )?;
    }
    Ok(())
}

/// Takes the interface out of its VRF again.
fn take_out(ns: &NetNs, index: u32, before: &Layer3) -> Result<(), Error> {
    let failed = |e| kernel_error("cannot take the interface out of the VRF", &e);
    let mut inside = Netlink::open_in(ns).map_err(failed)?;
    inside.set_master(index, None).map_err(failed)?;
    restore(&mut inside, index, before, TABLE_MAIN)
}

/// Removes the VRF if it is one and nothing is in it.
pub fn remove_if_empty(ns: &NetNs, name: &str) -> Result<(), Error> {
    let failed = |e| kernel_error(&format!("cannot remove VRF {name}"), &e);
    let mut inside = Netlink::open_in(ns).map_err(failed)?;
    let links = inside.links().map_err(failed)?;
    let Some((index, _)) = plan::find(name, &links)? else { return Ok(()) };
    if !plan::is_empty(index, &links) {
        return Ok(());
    }
    match inside.delete_link(index) {
        Err(error) if !error.is_not_found() => Err(failed(error)),
        _ => Ok(()),
    }
}
