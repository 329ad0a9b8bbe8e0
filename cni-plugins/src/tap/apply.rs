//! ADD of `tap`: nothing left when a step fails.

use cni::plugin::Call;
use cni::{CniResult, Error};
use netns_tools::{Link, NetNs, Netlink, sysctl};

use super::conf::Conf;
use super::labelled;
use crate::interface::{Inside, in_result, kernel_error};
use crate::step::step;
use crate::undo::Undo;
use crate::{code, sandbox, single};

/// Makes the device and gives it its addresses.
pub fn add(call: &Call<'_>) -> Result<CniResult, Error> {
    let conf = Conf::parse(call)?;
    conf.refuse_missing_selinux(code::KERNEL)?;
    let ns = sandbox::open(call)?;
    let mut undo = Undo::default();
    let outcome = Add::new(call, &conf, &ns).and_then(|mut add| add.run(&mut undo));
    undo.settle(outcome)
}

/// One ADD under way.
struct Add<'a> {
    call: &'a Call<'a>,
    conf: &'a Conf,
    ns: &'a NetNs,
    /// A socket in the container's namespace.
    inside: Netlink,
    /// The bridge's index.
    bridge: Option<u32>,
}

impl<'a> Add<'a> {
    fn new(call: &'a Call<'a>, conf: &'a Conf, ns: &'a NetNs) -> Result<Self, Error> {
        let inside = Netlink::open_in(ns);
        let mut inside = inside.map_err(|e| kernel_error("cannot open netlink", &e))?;
        single::refuse_existing(&mut inside, &call.ifname)?;
        let bridge =
            conf.bridge.as_deref().map(|name| find_bridge(&mut inside, name)).transpose()?;
        Ok(Self { call, conf, ns, inside, bridge })
    }

    fn run(&mut self, undo: &mut Undo<'a>) -> Result<CniResult, Error> {
        let link = self.make(undo)?;
        step("set up its properties", || self.set_properties(&link))?;
        let lease = if let Some(ipam) = &self.conf.ipam {
            Some(self.layer3(ipam, &link, undo)?)
        } else {
            step("set it up", || self.inside_interface(&link).set_up())?;
            None
        };
        let interface = in_result(&self.find()?, self.ns.path().display().to_string());
        single::result(self.call, interface, lease)
    }

    fn make(&mut self, undo: &mut Undo<'a>) -> Result<Link, Error> {
        let (ns, name) = (self.ns, self.call.ifname.as_str());
        step("make the tap device", || {
            let tap = self.conf.device(name);
            match &self.conf.selinux_context {
                Some(context) => labelled::make(&tap, ns, context)?,
                None => make(&tap, ns)?,
            }
            undo.push("the tap device", move || remove(ns, name));
            self.find()
        })
    }

    fn set_properties(&mut self, link: &Link) -> Result<(), Error> {
        let name = &link.name;
        if let Some(mtu) = self.conf.mtu {
            let set = self.inside.set_mtu(link.index, mtu);
            set.map_err(|e| kernel_error(&format!("cannot set the MTU of {name:?}"), &e))?;
        }
        if let Some(mac) = self.conf.mac {
            let set = self.inside.set_mac(link.index, mac);
            set.map_err(|e| kernel_error(&format!("cannot set the MAC address of {name:?}"), &e))?;
        }
        if let Some(bridge) = self.bridge {
            self.inside.set_master(link.index, Some(bridge)).map_err(|e| {
                let bridge = self.conf.bridge.as_deref().unwrap_or_default();
                kernel_error(&format!("failed to set tap {name} as a port of bridge {bridge}"), &e)
            })?;
        }
        Ok(())
    }

    fn layer3(
        &mut self,
        ipam: &'a str,
        link: &Link,
        undo: &mut Undo<'a>,
    ) -> Result<CniResult, Error> {
        let lease = single::lease(self.call, ipam, undo)?;
        step("give it its addresses and routes", || {
            let key = format!("net/ipv4/conf/{}/arp_notify", link.name);
            // Fails only on a kernel without IPv4.
            let entered = self.ns.visit(|| drop(sysctl::ensure(&key, "1")));
            entered
                .map_err(|e| kernel_error("cannot enter the container's network namespace", &e))?;
            self.inside_interface(link).configure(&lease.ips, &lease.routes)
        })?;
        Ok(lease)
    }

    fn inside_interface(&mut self, link: &Link) -> Inside<'_> {
        Inside { ns: self.ns, net: &mut self.inside, ifname: &self.call.ifname, index: link.index }
    }

    fn find(&mut self) -> Result<Link, Error> {
        let name = &self.call.ifname;
        let link = self.inside.link(name);
        let link = link.map_err(|e| kernel_error(&format!("cannot look up {name:?}"), &e))?;
        link.ok_or_else(|| Error::new(code::CONFLICT, format!("tap {name:?} disappeared")))
    }
}

fn make(tap: &netns_tools::Tap<'_>, ns: &NetNs) -> Result<(), Error> {
    let made = ns.visit(|| tap.create());
    made.map_err(|e| kernel_error("cannot enter the container's network namespace", &e))?
        .map_err(|e| kernel_error(&format!("failed to create tap {:?}", tap.name), &e))
}

fn find_bridge(inside: &mut Netlink, name: &str) -> Result<u32, Error> {
    let link = inside.link(name);
    let msg = format!("failed to get bridge {name}");
    match link.map_err(|e| kernel_error(&msg, &e))? {
        Some(link) if link.kind.as_deref() == Some("bridge") => Ok(link.index),
        Some(_) => Err(Error::new(code::CONFLICT, format!("{msg}: it is not a bridge"))),
        None => Err(Error::new(code::CONFLICT, format!("{msg}: there is none")).with_details(
            "the bridge must be in the container's network namespace before the tap device",
        )),
    }
}

/// Removes the device if it is one.
pub fn remove(ns: &NetNs, name: &str) -> Result<(), Error> {
    let failed = |e| kernel_error(&format!("cannot remove {name:?}"), &e);
    let mut inside = Netlink::open_in(ns).map_err(failed)?;
    let Some(link) = inside.link(name).map_err(failed)? else { return Ok(()) };
    // ADD fails where the name is another link's, and that one must survive the DEL that follows.
    if link.tun.is_none_or(|details| !details.tap) {
        return Ok(());
    }
    match inside.delete_link(link.index) {
        Err(error) if !error.is_not_found() => Err(failed(error)),
        _ => Ok(()),
    }
}
