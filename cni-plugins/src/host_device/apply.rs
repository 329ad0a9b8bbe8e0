//! ADD of `host-device`: a device that cannot be used in the container is on the host again, with all that it had.

use std::path::Path;

use cni::plugin::Call;
use cni::{CniResult, Error, Interface};
use netns_tools::{Link, NetNs, Netlink};

use super::SYS;
use super::conf::Conf;
use super::moving;
use super::past::Past;
use crate::interface::{Inside, in_result, kernel_error};
use crate::step::step;
use crate::undo::Undo;
use crate::{code, sandbox, single};

/// Moves the device and gives it its addresses.
pub fn add(call: &Call<'_>) -> Result<CniResult, Error> {
    let conf = Conf::parse(call, Path::new(SYS))?;
    let ns = sandbox::open(call)?;
    let mut undo = Undo::default();
    let outcome = if conf.userspace {
        without_link(call, &ns, &mut undo)
    } else {
        Add::new(call, &conf, &ns).and_then(|mut add| add.run(&mut undo))
    };
    undo.settle(outcome)
}

/// A program drives the device: there is only an address to be got.
fn without_link<'a>(
    call: &'a Call<'a>,
    ns: &NetNs,
    undo: &mut Undo<'a>,
) -> Result<CniResult, Error> {
    let ipam = call.conf.ipam_type.as_deref();
    let lease = ipam.map(|ipam| single::lease(call, ipam, undo)).transpose()?;
    let sandbox = ns.path().display().to_string();
    let interface = Interface { name: call.ifname.clone(), sandbox, ..Interface::default() };
    single::result(call, interface, lease)
}

/// One ADD under way.
struct Add<'a> {
    call: &'a Call<'a>,
    ns: &'a NetNs,
    /// A socket in the host's namespace.
    host: Netlink,
    /// A socket in the container's.
    inside: Netlink,
    past: Past,
}

impl<'a> Add<'a> {
    fn new(call: &'a Call<'a>, conf: &Conf, ns: &'a NetNs) -> Result<Self, Error> {
        let open = |net: Result<_, _>| net.map_err(|e| kernel_error("cannot open netlink", &e));
        let (mut host, mut inside) = (open(Netlink::open())?, open(Netlink::open_in(ns))?);
        let link = conf.selector.require(&mut host, Path::new(SYS))?;
        single::refuse_existing(&mut inside, &call.ifname)?;
        let past = Past::look(&mut host, link)?;
        Ok(Self { call, ns, host, inside, past })
    }

    fn run(&mut self, undo: &mut Undo<'a>) -> Result<CniResult, Error> {
        let link = self.past.link.clone();
        step("note the device's name on it", || {
            let noted = self.host.set_alias(link.index, &link.name);
            noted.map_err(|e| {
                kernel_error(&format!("failed to set alias to {:?}", link.name), &e)
            })?;
            let past = self.past.clone();
            undo.push("the device's alias", move || forget(&past));
            Ok(())
        })?;
        let moved = step("move it into the container", || {
            // Pushed before: in one case the kernel moves a device and refuses its new name.
            let (past, ns, ifname) = (self.past.clone(), self.ns, self.call.ifname.as_str());
            undo.push("the move", move || take_back(&past, ns, ifname));
            self.move_in(&link)
        })?;
        let lease = if let Some(ipam) = self.call.conf.ipam_type.as_deref() {
            let lease = single::lease(self.call, ipam, undo)?;
            step("give it its addresses and routes", || {
                self.inside_interface(&moved).configure(&lease.ips, &lease.routes)
            })?;
            Some(lease)
        } else {
            step("set it up", || self.inside_interface(&moved).set_up())?;
            None
        };
        let sandbox = self.ns.path().display().to_string();
        single::result(self.call, in_result(&moved, sandbox), lease)
    }

    fn move_in(&mut self, link: &Link) -> Result<Link, Error> {
        let ifname = &self.call.ifname;
        self.host.move_as(link.index, self.ns, ifname).map_err(|e| {
            kernel_error(&format!("failed to move link {:?} into the container", link.name), &e)
        })?;
        let moved = self.inside.link(ifname);
        let moved = moved.map_err(|e| kernel_error(&format!("cannot look up {ifname:?}"), &e))?;
        moved.ok_or_else(|| {
            Error::new(code::CONFLICT, format!("{ifname:?} disappeared while it was set up"))
        })
    }

    fn inside_interface(&mut self, link: &Link) -> Inside<'_> {
        Inside { ns: self.ns, net: &mut self.inside, ifname: &self.call.ifname, index: link.index }
    }
}

/// Sets back the alias, if the device is where it was.
fn forget(past: &Past) -> Result<(), Error> {
    let failed = |e| kernel_error(&format!("failed to unset alias of {:?}", past.link.name), &e);
    let mut host = Netlink::open().map_err(failed)?;
    let Some(link) = host.link(&past.link.name).map_err(failed)? else { return Ok(()) };
    let alias = past.link.alias.as_deref().unwrap_or_default();
    host.set_alias(link.index, alias).map_err(failed)
}

/// Moves the device back, if it is in the container: under either name, known by what is noted on it.
fn take_back(past: &Past, ns: &NetNs, ifname: &str) -> Result<(), Error> {
    let name = &past.link.name;
    let failed = |e| kernel_error(&format!("failed to move {name:?} to host netns"), &e);
    let mut inside = Netlink::open_in(ns).map_err(failed)?;
    for wanted in [ifname, name] {
        let Some(link) = inside.link(wanted).map_err(failed)? else { continue };
        if link.alias.as_ref() == Some(name) && link.mac == past.link.mac {
            let back = moving::take_out(ns, &link, name)?;
            return past.restore(&mut Netlink::open().map_err(failed)?, back.index);
        }
    }
    Ok(())
}
