//! ADD of `bridge`: the order of the reference, and nothing left when a step fails.

use std::cell::RefCell;

use cni::plugin::Call;
use cni::{CniResult, Error, Interface};
use ipnetwork::IpNetwork;
use netns_tools::cause::one_line;
use netns_tools::{Link, NetNs, Netlink, announce, sysctl};

use super::conf::Conf;
use super::plan::{self, AddressChange, Layer3};
use super::port::{self, BridgeChanges};
use super::spoof::SpoofCheck;
use crate::interface::{Inside, in_result, kernel_error};
use crate::lock::NetnsLock;
use crate::masquerade::Masquerade;
use crate::step::step;
use crate::undo::Undo;
use crate::veth::{self, Pair};
use crate::{code, forwarding, lease, sandbox, tag};

/// Adds the container to the bridge.
///
/// Not undone after a failure, because others may rely on it by then: that the host forwards, and that a
/// bridge that was there before is up or promiscuous.
pub fn add(call: &Call<'_>) -> Result<CniResult, Error> {
    let conf = Conf::parse(call)?;
    let ns = sandbox::open(call)?;
    let changes = RefCell::new(BridgeChanges::default());
    let mut undo = Undo::default();
    let outcome = Add::new(call, &conf, &ns).and_then(|mut add| add.run(&changes, &mut undo));
    undo.settle(outcome)
}

/// One ADD under way.
struct Add<'a> {
    call: &'a Call<'a>,
    conf: &'a Conf,
    ns: &'a NetNs,
    /// A socket in the host's namespace.
    host: Netlink,
    /// A socket in the container's.
    inside: Netlink,
    /// The interface of a VLAN's gateway.
    vlan_gateway: Option<Link>,
}

impl<'a> Add<'a> {
    fn new(call: &'a Call<'a>, conf: &'a Conf, ns: &'a NetNs) -> Result<Self, Error> {
        let open = |net: Result<_, _>| net.map_err(|e| kernel_error("cannot open netlink", &e));
        let mut inside = open(Netlink::open_in(ns))?;
        veth::refuse_existing(&mut inside, &call.ifname, "")?;
        Ok(Self { call, conf, ns, host: open(Netlink::open())?, inside, vlan_gateway: None })
    }

    fn run(
        &mut self,
        changes: &'a RefCell<BridgeChanges>,
        undo: &mut Undo<'a>,
    ) -> Result<CniResult, Error> {
        let (bridge, pair) = self.connect(changes, undo)?;
        let plan = match &self.conf.ipam {
            Some(ipam) => self.layer3(ipam, &bridge, &pair, changes, undo)?,
            None => self.layer2(&pair)?,
        };
        let result = plan::result(self.interfaces(&bridge, &pair)?, plan, &self.call.conf.dns);
        // A result that this version cannot express is an error now, not after everything is done.
        result.to_json(self.call.conf.cni_version)?;
        Ok(result)
    }

    /// The bridge, the veth pair, and the one on the other.
    fn connect(
        &mut self,
        changes: &'a RefCell<BridgeChanges>,
        undo: &mut Undo<'a>,
    ) -> Result<(Link, Pair), Error> {
        let conf = self.conf;
        // From here until the bridge has our port, nobody takes it away for being empty.
        let _lock = NetnsLock::shared()?;
        undo.push("the changes to the bridge", || port::undo_bridge(&conf.bridge, changes));
        let bridge =
            step("make sure of the bridge", || port::ensure_bridge(&mut self.host, conf, changes))?;
        let pair = step("make the veth pair", || {
            let ifname = &self.call.ifname;
            let wanted = veth::Wanted { ns: self.ns, ifname, mtu: conf.mtu, mac: conf.mac };
            let pair = wanted.make(&mut self.host, &mut self.inside)?;
            let index = pair.host.index;
            undo.push("the veth pair", move || veth::remove(index));
            tag::put(&mut self.host, self.call, &pair.host)?;
            Ok(pair)
        })?;
        if conf.spoof_check {
            self.check_mac(&pair, undo)?;
        }
        step("connect it to the bridge", || {
            port::attach(&mut self.host, conf, &bridge, &pair.host)
        })?;
        Ok((bridge, pair))
    }

    /// Before the pair is a port: from its first frame on the container is kept to its MAC address.
    fn check_mac(&self, pair: &Pair, undo: &mut Undo<'a>) -> Result<(), Error> {
        let call = self.call;
        step("keep the container to its MAC address", || {
            let rules = SpoofCheck::of(call);
            rules.set_up(&pair.host.name, pair.container.mac)?;
            undo.push("the rules about its MAC address", move || rules.tear_down());
            Ok(())
        })
    }

    fn layer2(&mut self, pair: &Pair) -> Result<Layer3, Error> {
        if !self.conf.container_down {
            step("set the container's interface up", || self.inside_interface(pair).set_up())?;
            self.wait(pair)?;
        }
        Ok(Layer3::default())
    }

    fn layer3(
        &mut self,
        ipam: &'a str,
        bridge: &Link,
        pair: &Pair,
        changes: &RefCell<BridgeChanges>,
        undo: &mut Undo<'a>,
    ) -> Result<Layer3, Error> {
        let call = self.call;
        let lease = lease::get(call, ipam, undo)?;
        let plan = plan::layer3(self.conf, lease)?;
        step("give the container its addresses and routes", || {
            self.container_sysctls()?;
            self.inside_interface(pair).configure(&plan.ips, &plan.routes)
        })?;
        self.wait(pair)?;
        if !plan.gateways.is_empty() {
            step("make the bridge the gateway", || {
                self.be_gateway(bridge, &plan.gateways, changes)
            })?;
        }
        step("forget who had the address before", || self.forget_neighbours(bridge, &plan))?;
        step("tell the neighbours", || {
            self.announce(pair, &plan);
            Ok(())
        })?;
        if let Some(backend) = self.conf.masquerade {
            let addresses: Vec<IpNetwork> = plan.ips.iter().map(|ip| ip.address).collect();
            let of = addresses.clone();
            undo.push("the masquerading rules", move || Masquerade::of(call).tear_down(&of));
            step("masquerade what leaves", || Masquerade::of(call).set_up(backend, &addresses))?;
        }
        Ok(plan)
    }

    fn wait(&mut self, pair: &Pair) -> Result<(), Error> {
        step("wait for the bridge's port", || port::wait_for_port(&mut self.host, &pair.host))
    }

    fn inside_interface(&mut self, pair: &Pair) -> Inside<'_> {
        let index = pair.container.index;
        Inside { ns: self.ns, net: &mut self.inside, ifname: &self.call.ifname, index }
    }

    /// Before the interface goes up: detection of duplicate IPv6 addresses takes a second and more, and IPAM
    /// answers for there being none; neighbours shall learn of a new MAC address at once.
    fn container_sysctls(&self) -> Result<(), Error> {
        let (v6, dad) = (format!("net/ipv6/conf/{}", self.call.ifname), self.conf.dad);
        let arp = format!("net/ipv4/conf/{}/arp_notify", self.call.ifname);
        let written = self.ns.visit(|| {
            // They fail only on a kernel without the protocol, which then has no need for them.
            if dad {
                let _ = sysctl::ensure(&format!("{v6}/enhanced_dad"), "1");
            }
            let _ = sysctl::ensure(&format!("{v6}/accept_dad"), if dad { "1" } else { "0" });
            let _ = sysctl::ensure(&arp, "1");
        });
        written.map_err(|e| kernel_error("cannot enter the container's network namespace", &e))
    }

    /// Whoever had the address before had another MAC address, which the host may still know. Nobody tells it that this one is
    /// new until the container sends something.
    fn forget_neighbours(&mut self, bridge: &Link, plan: &Layer3) -> Result<(), Error> {
        let gateway = self.vlan_gateway.as_ref().unwrap_or(bridge);
        for ip in &plan.ips {
            let address = ip.address.ip();
            let failed = |e| {
                kernel_error(&format!("cannot forget who had {address} on {:?}", gateway.name), &e)
            };
            let known = self.host.neighbour(gateway.index, address).map_err(failed)?;
            // One that somebody set is meant for this container.
            if known.is_some_and(|neighbour| !neighbour.permanent) {
                match self.host.delete_neighbour(gateway.index, address) {
                    Err(error) if !error.is_not_found() => return Err(failed(error)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Other containers may know the address at the Ethernet address of who had it before. (`arp_notify` makes the kernel say so too
    /// early, before the bridge's port forwards, and only of IPv4.) That it failed is no reason to refuse the container: the
    /// others find out by themselves, later.
    fn announce(&self, pair: &Pair, plan: &Layer3) {
        let Some(mac) = pair.container.mac else { return };
        let addresses: Vec<_> = plan.ips.iter().map(|ip| ip.address.ip()).collect();
        if let Err(error) = announce::announce(self.ns, pair.container.index, mac, &addresses) {
            eprintln!("the neighbours were not told of the addresses: {}", one_line(&error));
        }
    }

    /// Gives the bridge, or the interface of its VLAN, the gateways' addresses, and turns on forwarding.
    fn be_gateway(
        &mut self,
        bridge: &Link,
        gateways: &[IpNetwork],
        changes: &RefCell<BridgeChanges>,
    ) -> Result<(), Error> {
        let failed = |what: String| move |e| kernel_error(&what, &e);
        let device = self.gateway_device(bridge, changes)?;
        for wanted in gateways {
            let present = self.host.addresses(Some(device.index));
            let present =
                present.map_err(failed(format!("cannot list addresses of {:?}", device.name)))?;
            let present: Vec<_> = present.into_iter().map(|address| address.net).collect();
            let planned = plan::bridge_address(self.conf, &device.name, &present, *wanted)?;
            for change in &planned {
                self.change_address(&device, *change)?;
                changes.borrow_mut().addresses.push((device.index, *change));
            }
            if !planned.is_empty() && !changes.borrow().created && device.index == bridge.index {
                self.pin_mac(bridge)?;
            }
            forwarding::enable(wanted.ip())?;
        }
        Ok(())
    }

    fn gateway_device(
        &mut self,
        bridge: &Link,
        changes: &RefCell<BridgeChanges>,
    ) -> Result<Link, Error> {
        let Some(name) = self.conf.vlan_gateway() else { return Ok(bridge.clone()) };
        let link = port::ensure_vlan_gateway(&mut self.host, self.conf, bridge, &name, changes)?;
        self.vlan_gateway = Some(link.clone());
        Ok(link)
    }

    fn change_address(&mut self, bridge: &Link, change: AddressChange) -> Result<(), Error> {
        let (done, what) = match change {
            AddressChange::Add(net) if self.conf.dad => {
                (self.host.add_address(bridge.index, net), ("add", net))
            }
            // A tentative gateway would not answer the container for its first second or two.
            AddressChange::Add(net) => {
                (self.host.add_address_without_dad(bridge.index, net), ("add", net))
            }
            AddressChange::Remove(net) => {
                (self.host.delete_address(bridge.index, net), ("remove", net))
            }
        };
        match done {
            // Another ADD was faster.
            Err(error) if error.is_exists() && what.0 == "add" => Ok(()),
            done => done.map_err(|error| {
                let what = format!(
                    "failed to set bridge addr: cannot {} {} on {:?}",
                    what.0, what.1, bridge.name
                );
                kernel_error(&what, &error)
            }),
        }
    }

    /// Setting the MAC address that it has keeps a bridge from taking over its ports'.
    fn pin_mac(&mut self, bridge: &Link) -> Result<(), Error> {
        let what = format!("cannot pin the MAC address of bridge {:?}", bridge.name);
        let link = self.host.link_by_index(bridge.index).map_err(|e| kernel_error(&what, &e))?;
        let Some(mac) = link.and_then(|link| link.mac) else { return Ok(()) };
        self.host.set_mac(bridge.index, mac).map_err(|e| kernel_error(&what, &e))
    }

    /// Bridge, host's end, container's end, and the VLAN's gateway if there is one: the order that other plugins and runtimes
    /// expect.
    fn interfaces(&mut self, bridge: &Link, pair: &Pair) -> Result<Vec<Interface>, Error> {
        // A bridge of somebody else's may have changed its MAC address with its new port.
        let now = self.host.link_by_index(bridge.index);
        let now =
            now.map_err(|e| kernel_error(&format!("cannot look up {:?}", bridge.name), &e))?;
        let gone = || Error::new(code::CONFLICT, format!("bridge {:?} disappeared", bridge.name));
        let sandbox = self.ns.path().display().to_string();
        let mut interfaces = vec![
            in_result(&now.ok_or_else(gone)?, String::new()),
            in_result(&pair.host, String::new()),
            in_result(&pair.container, sandbox),
        ];
        interfaces.extend(self.vlan_gateway.iter().map(|link| in_result(link, String::new())));
        Ok(interfaces)
    }
}
