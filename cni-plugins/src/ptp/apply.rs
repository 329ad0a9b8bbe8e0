//! ADD of `ptp`: nothing is left when a step fails, but that the host forwards.

use cni::plugin::Call;
use cni::{CniResult, Error};
use ipnetwork::IpNetwork;
use netns_tools::{NetNs, Netlink, NetlinkError, Route, sysctl};

use super::conf::Conf;
use super::plan::{Path, Plan};
use crate::interface::{Inside, in_result, kernel_error};
use crate::masquerade::{Backend, Masquerade};
use crate::step::step;
use crate::undo::Undo;
use crate::veth::{self, Pair};
use crate::{forwarding, lease, sandbox, tag};

/// Connects the container to the host.
pub fn add(call: &Call<'_>) -> Result<CniResult, Error> {
    let conf = Conf::parse(call)?;
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
    /// A socket in the host's namespace.
    host: Netlink,
    /// A socket in the container's.
    inside: Netlink,
}

impl<'a> Add<'a> {
    fn new(call: &'a Call<'a>, conf: &'a Conf, ns: &'a NetNs) -> Result<Self, Error> {
        let open = |net: Result<_, _>| net.map_err(|e| kernel_error("cannot open netlink", &e));
        let mut inside = open(Netlink::open_in(ns))?;
        veth::refuse_existing(&mut inside, &call.ifname, "")?;
        Ok(Self { call, conf, ns, host: open(Netlink::open())?, inside })
    }

    fn run(&mut self, undo: &mut Undo<'a>) -> Result<CniResult, Error> {
        let (call, conf) = (self.call, self.conf);
        let lease = lease::get(call, &conf.ipam, undo)?;
        let plan = Plan::new(&conf.ipam, lease)?;
        let pair = step("make the veth pair", || self.connect(&plan, undo))?;
        step("give the container its addresses and routes", || {
            self.configure_inside(&pair, &plan)
        })?;
        step("make the host's end the gateway", || self.configure_host(&pair, &plan.paths))?;
        if let Some(backend) = conf.masquerade {
            self.masquerade(backend, &plan, undo)?;
        }
        let sandbox = self.ns.path().display().to_string();
        let ends = [in_result(&pair.host, String::new()), in_result(&pair.container, sandbox)];
        let result = plan.result(ends, &call.conf.dns);
        // A result that this version cannot express is an error now, not after everything is done.
        result.to_json(call.conf.cni_version)?;
        Ok(result)
    }

    fn connect(&mut self, plan: &Plan, undo: &mut Undo<'a>) -> Result<Pair, Error> {
        let ifname = &self.call.ifname;
        let wanted = veth::Wanted { ns: self.ns, ifname, mtu: self.conf.mtu, mac: None };
        let pair = wanted.make(&mut self.host, &mut self.inside)?;
        let index = pair.host.index;
        undo.push("the veth pair", move || veth::remove(index));
        tag::put(&mut self.host, self.call, &pair.host)?;
        if plan.ips.iter().any(|ip| ip.address.is_ipv6()) {
            // As long as its link-local address is tentative, the host cannot ask who has the container's (`ndisc_send_ns` in
            // net/ipv6/ndisc.c), and what others send there waits for a second or two. Fails only without IPv6.
            let _ = sysctl::ensure(&format!("net/ipv6/conf/{}/accept_dad", pair.host.name), "0");
        }
        veth::set_up(&mut self.host, &pair.host)?;
        Ok(pair)
    }

    fn configure_inside(&mut self, pair: &Pair, plan: &Plan) -> Result<(), Error> {
        self.skip_dad()?;
        let index = pair.container.index;
        let ifname = &self.call.ifname;
        Inside { ns: self.ns, net: &mut self.inside, ifname, index }
            .configure(&plan.ips, &plan.routes)?;
        for path in &plan.paths {
            self.replace_connected(path, index)?;
        }
        Ok(())
    }

    /// The link has two ends, so detection of duplicate IPv6 addresses only costs its second.
    fn skip_dad(&self) -> Result<(), Error> {
        let key = format!("net/ipv6/conf/{}/accept_dad", self.call.ifname);
        // Fails only on a kernel without IPv6, which then detects nothing.
        let written = self.ns.visit(|| sysctl::ensure(&key, "0").is_ok());
        written
            .map(drop)
            .map_err(|e| kernel_error("cannot enter the container's network namespace", &e))
    }

    /// Whatever is not the gateway is behind it.
    fn replace_connected(&mut self, path: &Path, index: u32) -> Result<(), Error> {
        let through = |route: &Route| Route { oif: Some(index), ..route.clone() };
        let connected = through(&path.connected);
        match self.inside.delete_route(&connected) {
            // Two addresses of one network share it.
            Err(error) if !error.is_not_found() => {
                let what = format!("failed to delete route {}", path.connected.dst);
                return Err(kernel_error(&what, &error));
            }
            _ => {}
        }
        for route in &path.instead {
            let done = self.inside.add_route(&through(route));
            unless_there(done, &format!("failed to add route {route}"))?;
        }
        Ok(())
    }

    fn configure_host(&mut self, pair: &Pair, paths: &[Path]) -> Result<(), Error> {
        for path in paths {
            // A tentative gateway would not answer the container for its first second or two.
            let done = self.host.add_address_without_dad(pair.host.index, path.gateway);
            unless_there(done, &format!("failed to add IP addr {} to veth", path.gateway))?;
            let route = Route { oif: Some(pair.host.index), ..path.to_container.clone() };
            let done = self.host.add_route(&route);
            unless_there(done, &format!("failed to add route {} on host", path.to_container))?;
            forwarding::enable(path.address)?;
        }
        Ok(())
    }

    fn masquerade(&self, backend: Backend, plan: &Plan, undo: &mut Undo<'a>) -> Result<(), Error> {
        let rules = || Masquerade::of(self.call);
        let addresses: Vec<IpNetwork> = plan.ips.iter().map(|ip| ip.address).collect();
        step("masquerade what leaves", || {
            // Before it is done: one family may succeed and the other fail.
            let (own, of) = (rules(), addresses.clone());
            undo.push("the masquerading rules", move || own.tear_down(&of));
            rules().set_up(backend, &addresses)
        })
    }
}

/// Two addresses may share a gateway and a network.
fn unless_there(done: Result<(), NetlinkError>, what: &str) -> Result<(), Error> {
    match done {
        Err(error) if !error.is_exists() => Err(kernel_error(what, &error)),
        _ => Ok(()),
    }
}
