//! ADD of `bandwidth`.

use cni::plugin::Call;
use cni::{CniResult, Error, ErrorCode, Interface};
use netns_tools::link::ifb::Ifb;
use netns_tools::qdisc::Clock;
use netns_tools::{Link, Netlink, NetlinkError};

use super::conf::{Conf, Limit};
use super::device::Device;
use super::host_end;
use crate::interface::{in_result, kernel_error};
use crate::step::step;
use crate::undo::Undo;
use crate::{code, sandbox, tag};

/// Limits what the container receives and sends. Without limits the result is passed on.
pub fn add(call: &Call<'_>) -> Result<CniResult, Error> {
    let conf = Conf::parse(&call.conf)?;
    let prev = call.conf.prev_result.clone();
    if conf.is_empty() {
        return Ok(prev.unwrap_or_default());
    }
    let mut result = prev.ok_or_else(|| {
        Error::new(ErrorCode::InvalidConfig, "must be called as chained plugin").with_details(
            "bandwidth limits an interface that a plugin before it in the list has made; there is no prevResult",
        )
    })?;
    let ns = sandbox::open(call)?;
    let mut host = open()?;
    let end = host_end::find(&mut host, &ns, &call.ifname, &result)?;
    let device = Device::of(call);
    if conf.egress.is_some() {
        refuse_existing(&mut host, &device)?;
    }
    let mut undo = Undo::default();
    let mut add = Add { call, host, end, clock: clock()?, device };
    let outcome = add.run(conf, &mut undo);
    let ifb = undo.settle(outcome)?;
    result.interfaces.extend(ifb);
    Ok(result)
}

/// The packet scheduler's clock.
pub fn clock() -> Result<Clock, Error> {
    Clock::read().map_err(|e| Error::from_source(code::KERNEL, &e))
}

/// A socket in the host's namespace.
pub fn open() -> Result<Netlink, Error> {
    Netlink::open().map_err(|e| kernel_error("cannot open netlink", &e))
}

/// One ADD under way.
struct Add<'a> {
    call: &'a Call<'a>,
    host: Netlink,
    /// The host's end of the veth pair.
    end: Link,
    clock: Clock,
    device: Device,
}

impl Add<'_> {
    /// The ifb, if one is needed, for the result.
    fn run(&mut self, conf: Conf, undo: &mut Undo<'_>) -> Result<Option<Interface>, Error> {
        if let Some(limit) = conf.ingress {
            step("limit what the container receives", || self.limit_ingress(limit, undo))?;
        }
        let Some(limit) = conf.egress else { return Ok(None) };
        let ifb = step("make the ifb device", || self.make_ifb(undo))?;
        step("limit what the ifb device sends", || self.limit(&ifb, limit))?;
        step("redirect what the container sends", || self.redirect(&ifb, undo))?;
        Ok(Some(in_result(&ifb, String::new())))
    }

    fn limit_ingress(&mut self, limit: Limit, undo: &mut Undo<'_>) -> Result<(), Error> {
        let end = self.end.clone();
        self.limit(&end, limit)?;
        undo.push("the limit of what the container receives", move || {
            gone_or(open()?.delete_root_qdisc(end.index), "remove the limit of", &end.name)
        });
        Ok(())
    }

    fn limit(&mut self, link: &Link, limit: Limit) -> Result<(), Error> {
        let done = self.host.add_tbf(link.index, &limit.filter(self.clock));
        done.map_err(|error| {
            let mut failed = kernel_error(&format!("cannot limit the rate of {:?}", link.name), &error);
            if error.is_exists() {
                failed.code = code::CONFLICT;
                let remedy = "something has set its queueing discipline already: call DEL first, or \"tc qdisc del dev … root\"";
                failed.details = format!("{}; {remedy}", failed.details);
            }
            failed
        })
    }

    fn make_ifb(&mut self, undo: &mut Undo<'_>) -> Result<Link, Error> {
        let name = self.device.name.clone();
        let failed = |e| kernel_error(&format!("cannot make the ifb device {name:?}"), &e);
        let ifb = Ifb { name: &name, mtu: self.end.mtu, queue_length: 0 };
        self.host.add_ifb(&ifb).map_err(failed)?;
        let undone = name.clone();
        undo.push("the ifb device", move || {
            let mut host = open()?;
            let failed = |e| kernel_error(&format!("cannot look up {undone:?}"), &e);
            let Some(link) = host.link(&undone).map_err(failed)? else { return Ok(()) };
            gone_or(host.delete_link(link.index), "remove", &undone)
        });
        let made = self.host.ifb(&name).map_err(failed)?;
        let made = made.ok_or_else(|| {
            Error::new(code::KERNEL, format!("{name:?} is gone right after its making"))
        })?;
        tag::put(&mut self.host, self.call, &made)?;
        self.host.set_up(made.index).map_err(failed)?;
        Ok(made)
    }

    fn redirect(&mut self, ifb: &Link, undo: &mut Undo<'_>) -> Result<(), Error> {
        let end = self.end.clone();
        let what = format!("cannot redirect what {:?} gets from the container", end.name);
        self.host.add_ingress(end.index).map_err(|error| {
            let mut failed = kernel_error(&what, &error);
            if error.is_exists() {
                failed.code = code::CONFLICT;
            }
            failed
        })?;
        let undone = end.clone();
        undo.push("the redirection", move || {
            gone_or(open()?.delete_ingress(undone.index), "stop the redirection of", &undone.name)
        });
        self.host.redirect_ingress(end.index, ifb.index).map_err(|e| kernel_error(&what, &e))
    }
}

/// What is gone needs no removal.
pub fn gone_or(done: Result<(), NetlinkError>, what: &str, name: &str) -> Result<(), Error> {
    match done {
        Err(error) if !error.is_not_found() => {
            Err(kernel_error(&format!("cannot {what} {name:?}"), &error))
        }
        _ => Ok(()),
    }
}

fn refuse_existing(host: &mut Netlink, device: &Device) -> Result<(), Error> {
    let name = &device.name;
    let failed = |e| kernel_error(&format!("cannot look up {name:?}"), &e);
    if host.link(name).map_err(failed)?.is_none() {
        return Ok(());
    }
    let alias = host.ifb(name).map_err(failed)?.and_then(|ifb| ifb.alias);
    let whose = alias.map_or("somebody's (it has no alias)".into(), |alias| format!("{alias:?}"));
    let details = format!(
        "it is {whose}; call DEL for that attachment first. A container can have one limited interface in a network, because the device's name is a hash of both"
    );
    Err(Error::new(code::CONFLICT, format!("the ifb device {name:?} exists already"))
        .with_details(details))
}
