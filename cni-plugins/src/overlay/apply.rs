//! ADD of `overlay`: what is remembered comes first, so that whatever the delegate leaves behind can be undone by its own DEL.

use cni::plugin::Call;
use cni::{CniResult, Error};
use conf::lease::Lease;
use ipnetwork::IpNetwork;
use netns_tools::{Link, Netlink, NetlinkError};
use serde_json::{Map, Value};

use super::conf::{self as overlay, BRIDGE, Conf};
use super::record::{Record, Records};
use super::{mtu, plan};
use crate::interface::kernel_error;
use crate::step::step;
use crate::undo::Undo;

/// Adds the container to this node's part of the overlay.
pub fn add(call: &Call<'_>) -> Result<CniResult, Error> {
    let conf = Conf::parse(call)?;
    let lease = overlay::lease(&conf.subnet_file)?;
    let mut delegate = plan::delegate(&call.conf.raw, &conf, Some(&lease));
    let may_replace = conf.plugin == BRIDGE && !conf.delegate.contains_key("forceAddress");
    let idle = if may_replace { idle_bridge(&delegate)? } else { None };
    if idle.is_some() {
        delegate.insert("forceAddress".into(), true.into());
    }
    let inner = call.with_configuration(delegate)?;
    let mut undo = Undo::default();
    let outcome = Add { call, conf: &conf, lease: &lease, inner: &inner }.run(idle, &mut undo);
    undo.settle(outcome)
}

/// One ADD under way.
struct Add<'a> {
    call: &'a Call<'a>,
    conf: &'a Conf,
    lease: &'a Lease,
    /// The delegate's call.
    inner: &'a Call<'a>,
}

impl<'a> Add<'a> {
    fn run(&self, idle: Option<Link>, undo: &mut Undo<'a>) -> Result<CniResult, Error> {
        let (call, inner, plugin) = (self.call, self.inner, &self.conf.plugin);
        step("leave the former lease's addresses", || {
            idle.map_or(Ok(()), |bridge| leave_former(&bridge, self.lease))
        })?;
        let result = self.remember(undo).and_then(|()| {
            step("delegate", || {
                let result = inner.delegate_add(plugin)?;
                undo.push("what was delegated", move || inner.delegate_del(plugin));
                Ok(result)
            })
        })?;
        step("give the lease's MTU to the others", || {
            self.others_follow();
            Ok(())
        })?;
        // A result that this version cannot express is an error now, not after everything is done.
        result.to_json(call.conf.cni_version)?;
        Ok(result)
    }

    fn remember(&self, undo: &mut Undo<'a>) -> Result<(), Error> {
        let call = self.call;
        let records = Records::new(&self.conf.data_dir);
        let mut delegate = self.inner.conf.raw.clone();
        // that of DEL is another one
        delegate.remove("prevResult");
        let record = Record::new(call, self.conf.follows_mtu(), delegate);
        step("remember what is delegated", || {
            // an ADD of what is attached already fails, and must not forget it
            let before = records.content(call);
            records.write(&record)?;
            undo.push("what is remembered", move || records.restore(call, before.as_deref()));
            Ok(())
        })
    }

    /// The lease may have changed while we worked: whoever ends last looks at the newest one.
    fn others_follow(&self) {
        if !self.conf.follows_mtu() {
            return;
        }
        let newest = Lease::read(&self.conf.subnet_file);
        let mtu = newest.as_ref().unwrap_or(self.lease).mtu();
        let records = Records::new(&self.conf.data_dir);
        for outcome in mtu::follow(&records, &self.call.conf.name, mtu) {
            eprintln!("{outcome}");
        }
    }
}

/// The bridge, if it is there and nobody is on it: the node may have had another lease before, and the gateway's address of that one must
/// not be in the way for ever.
fn idle_bridge(delegate: &Map<String, Value>) -> Result<Option<Link>, Error> {
    let name = delegate.get("bridge").and_then(Value::as_str).unwrap_or("cni0");
    let mut net = Netlink::open().map_err(|e| cannot_look(name, &e))?;
    // a name that cannot be one is told by the delegate
    let Ok(Some(bridge)) = net.link(name) else { return Ok(None) };
    let links = net.links().map_err(|e| cannot_look(name, &e))?;
    let is_idle = !links.iter().any(|link| link.master == Some(bridge.index));
    Ok(is_idle.then_some(bridge))
}

/// Takes addresses of all pods' network from a bridge that are not this lease's: another node may have that subnet by now, and its pods
/// would be looked for here. (Those of IPv4 the delegate replaces.) Not undone: nobody is on the bridge.
fn leave_former(bridge: &Link, lease: &Lease) -> Result<(), Error> {
    let mut net = Netlink::open().map_err(|e| cannot_look(&bridge.name, &e))?;
    let present = net.addresses(Some(bridge.index)).map_err(|e| cannot_look(&bridge.name, &e))?;
    let is_former = |net: &IpNetwork| {
        net.is_ipv6()
            && lease.networks().iter().any(|all| all.contains(net.ip()))
            && !lease.subnets().contains(net)
    };
    for former in present.into_iter().map(|address| address.net).filter(is_former) {
        match net.delete_address(bridge.index, former) {
            Err(error) if !error.is_not_found() => {
                let what = format!("cannot take {former} of a former lease from {:?}", bridge.name);
                return Err(kernel_error(&what, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn cannot_look(bridge: &str, error: &NetlinkError) -> Error {
    kernel_error(&format!("cannot look at bridge {bridge:?}"), error)
}
