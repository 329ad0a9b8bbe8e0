//! ADD: make the link, put it into the container, name it, address it; and nothing left when a step fails.

use std::cell::RefCell;

use cni::plugin::Call;
use cni::{CniResult, Error};
use netns_tools::{Link, NetNs, Netlink, NewLink};

use super::{Addresses, Sublink, parent, plan, teardown};
use crate::interface::{Inside, in_result, kernel_error};
use crate::step::step;
use crate::undo::Undo;
use crate::{code, lease, sandbox};

/// Adds an interface to the container.
pub fn add(call: &Call<'_>, wanted: &Sublink) -> Result<CniResult, Error> {
    if wanted.addresses == Addresses::None {
        // A result that this version cannot express is an error now, not after everything is done.
        CniResult::default().to_json(call.conf.cni_version)?;
    }
    let ns = sandbox::open(call)?;
    let name = RefCell::new(String::new());
    let mut undo = Undo::default();
    let outcome = Add::new(call, wanted, &ns).and_then(|mut add| add.run(&name, &mut undo));
    undo.settle(outcome)
}

/// One ADD under way.
struct Add<'a> {
    call: &'a Call<'a>,
    wanted: &'a Sublink,
    ns: &'a NetNs,
    /// A socket in the host's namespace.
    host: Netlink,
    /// A socket in the container's.
    inside: Netlink,
    /// The index of what it is made on.
    parent: Option<u32>,
    mtu: Option<u32>,
}

impl<'a> Add<'a> {
    /// Looks at everything before anything is done.
    fn new(call: &'a Call<'a>, wanted: &'a Sublink, ns: &'a NetNs) -> Result<Self, Error> {
        let open = |net: Result<_, _>| net.map_err(|e| kernel_error("cannot open netlink", &e));
        let (mut host, mut inside) = (open(Netlink::open())?, open(Netlink::open_in(ns))?);
        let parent =
            parent::find(wanted, if wanted.in_container { &mut inside } else { &mut host })?;
        let mtu = parent::mtu(wanted, parent.as_ref())?;
        refuse_existing(&mut inside, &call.ifname)?;
        let parent = parent.map(|link| link.index);
        Ok(Self { call, wanted, ns, host, inside, parent, mtu })
    }

    /// `name` is what the link is called at the moment, for its removal.
    fn run(&mut self, name: &'a RefCell<String>, undo: &mut Undo<'a>) -> Result<CniResult, Error> {
        let link = self.make(name, undo)?;
        let lease = self.lease(undo)?;
        let sandbox = self.ns.path().display().to_string();
        let interface = in_result(&link, sandbox);
        let result = plan::result(interface, lease, &self.call.conf.dns);
        result.to_json(self.call.conf.cni_version)?;
        step("set the interface up", || self.configure(&link, &result))?;
        Ok(result)
    }

    fn make(&mut self, name: &'a RefCell<String>, undo: &mut Undo<'a>) -> Result<Link, Error> {
        let (wanted, ns, ifname) = (self.wanted, self.ns, &self.call.ifname);
        let from_host = self.parent.is_some() && !wanted.in_container;
        let temporary = plan::temporary_name(&self.call.container_id, ifname);
        if from_host && self.look_up(&temporary)?.is_some() {
            step("remove what a killed ADD left", || {
                teardown::remove(ns, &[&temporary], wanted.kind.name())
            })?;
        }
        let first = if from_host { &temporary } else { ifname };
        let made = step("make the interface", || {
            self.create(first, from_host)?;
            name.borrow_mut().clone_from(first);
            let kind = wanted.kind.name();
            undo.push("the interface", move || teardown::remove(ns, &[&name.borrow()], kind));
            self.present(first)
        })?;
        if from_host {
            step("name the interface", || {
                self.rename(&made)?;
                name.borrow_mut().clone_from(ifname);
                Ok(())
            })?;
        }
        self.ensure_mac(&made)?;
        self.present(ifname)
    }

    fn create(&mut self, name: &str, from_host: bool) -> Result<(), Error> {
        let Sublink { kind, mac, .. } = *self.wanted;
        let ns = from_host.then_some(self.ns);
        let link = NewLink { name, ns, mtu: self.mtu, mac };
        let net = if from_host { &mut self.host } else { &mut self.inside };
        kind.make(net, &link, self.parent)
            .map_err(|e| kernel_error(&format!("failed to create {}", kind.name()), &e))
    }

    fn rename(&mut self, link: &Link) -> Result<(), Error> {
        let ifname = &self.call.ifname;
        self.inside.rename(link.index, ifname).map_err(|error| {
            let what = format!("failed to rename {} to {ifname:?}", self.wanted.kind.name());
            kernel_error(&what, &error)
        })
    }

    /// In passthru mode a macvlan begins with its parent's address, whatever was asked for.
    fn ensure_mac(&mut self, link: &Link) -> Result<(), Error> {
        let Some(mac) = self.wanted.mac.filter(|mac| link.mac != Some(*mac)) else {
            return Ok(());
        };
        step("set the MAC address", || {
            let what = format!("cannot set MAC address {mac} on {:?}", self.call.ifname);
            self.inside.set_mac(link.index, mac).map_err(|e| kernel_error(&what, &e))
        })
    }

    fn look_up(&mut self, name: &str) -> Result<Option<Link>, Error> {
        self.inside.link(name).map_err(|e| kernel_error(&format!("cannot look up {name:?}"), &e))
    }

    fn present(&mut self, name: &str) -> Result<Link, Error> {
        self.look_up(name)?.ok_or_else(|| {
            let msg = format!("{name:?} disappeared while it was set up");
            Error::new(code::CONFLICT, msg)
                .with_details("an interface goes with its master: was that removed?")
        })
    }

    fn lease(&self, undo: &mut Undo<'a>) -> Result<CniResult, Error> {
        let (call, wanted) = (self.call, self.wanted);
        match &wanted.addresses {
            Addresses::None => Ok(CniResult::default()),
            Addresses::Given(result) => Ok(CniResult::clone(result)),
            Addresses::Ipam(ipam) => {
                let lease = lease::get(call, ipam, undo)?;
                lease::refuse_empty(ipam, &lease).map(|()| lease)
            }
        }
    }

    fn configure(&mut self, link: &Link, result: &CniResult) -> Result<(), Error> {
        let (ns, ifname) = (self.ns, self.call.ifname.as_str());
        let mut interface = Inside { ns, net: &mut self.inside, ifname, index: link.index };
        if self.wanted.addresses == Addresses::None {
            return interface.set_up();
        }
        self.wanted.kind.announce(ns, ifname);
        interface.configure(&result.ips, &result.routes)
    }
}

fn refuse_existing(inside: &mut Netlink, ifname: &str) -> Result<(), Error> {
    let found = inside.link(ifname);
    if found.map_err(|e| kernel_error(&format!("cannot look up {ifname:?}"), &e))?.is_none() {
        return Ok(());
    }
    let msg = format!("container interface name ({ifname:?}) already exists");
    let details = "the container has an interface of this name: call DEL for it first, or attach under another name";
    Err(Error::new(code::CONFLICT, msg).with_details(details))
}
