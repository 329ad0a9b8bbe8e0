//! CHECK of `bandwidth`: what ADD did against what the kernel says now.

use cni::plugin::Call;
use cni::{CniResult, Error, ErrorCode};
use netns_tools::qdisc::{Clock, Qdisc};
use netns_tools::{Link, Netlink, NetlinkError};

use super::apply::{clock, open};
use super::conf::{Conf, Limit};
use super::device::Device;
use super::host_end;
use crate::interface::kernel_error;
use crate::{code, drift, sandbox};

/// Compares everything and reports every difference at once.
pub fn check(call: &Call<'_>) -> Result<(), Error> {
    let conf = Conf::parse(&call.conf)?;
    let prev = call.conf.prev_result.as_ref().ok_or_else(|| {
        Error::new(ErrorCode::InvalidConfig, "must be called as a chained plugin").with_details(
            "CHECK compares with the result of ADD: the runtime must pass it as prevResult",
        )
    })?;
    if conf.is_empty() {
        return Ok(());
    }
    let ns = sandbox::open(call)?;
    let mut host = open()?;
    let end = host_end::find(&mut host, &ns, &call.ifname, prev)?;
    let device = Device::of(call);
    let seen = Seen::look(&mut host, end, &device)
        .map_err(|e| kernel_error("cannot look at the limits", &e))?;
    let found = seen.differences(conf, prev, &device, clock()?);
    if found.is_empty() {
        return Ok(());
    }
    let msg = format!("the limits of interface {:?} are not as ADD left them", call.ifname);
    Err(Error::new(code::DRIFT, msg).with_details(found.join("; ")))
}

/// What the kernel says.
struct Seen {
    end: Link,
    end_qdiscs: Vec<Qdisc>,
    redirects: Vec<u32>,
    ifb: Option<Link>,
    ifb_qdiscs: Vec<Qdisc>,
}

impl Seen {
    fn look(host: &mut Netlink, end: Link, device: &Device) -> Result<Self, NetlinkError> {
        let ifb = host.ifb(&device.name)?;
        let ifb_qdiscs = match &ifb {
            Some(ifb) => host.qdiscs(ifb.index)?,
            None => Vec::new(),
        };
        Ok(Self {
            end_qdiscs: host.qdiscs(end.index)?,
            redirects: host.ingress_redirects(end.index)?,
            end,
            ifb,
            ifb_qdiscs,
        })
    }

    fn differences(
        &self,
        conf: Conf,
        prev: &CniResult,
        device: &Device,
        clock: Clock,
    ) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(limit) = conf.ingress {
            check_limit(&self.end.name, &self.end_qdiscs, limit, clock, &mut found);
        }
        if let Some(limit) = conf.egress {
            match &self.ifb {
                None => found.push(format!("the ifb device {:?} is missing", device.name)),
                Some(ifb) => {
                    check_limit(&ifb.name, &self.ifb_qdiscs, limit, clock, &mut found);
                    self.check_ifb(ifb, prev, device, &mut found);
                }
            }
        }
        found
    }

    fn check_ifb(&self, ifb: &Link, prev: &CniResult, device: &Device, found: &mut Vec<String>) {
        let (name, end) = (&ifb.name, &self.end);
        if !ifb.up {
            found.push(format!("{name:?} is down"));
        }
        if ifb.mtu != end.mtu {
            found.push(format!("{name:?} has MTU {}, {:?} has {}", ifb.mtu, end.name, end.mtu));
        }
        if !device.is(ifb) {
            found.push(format!("{name:?} is another attachment's: {:?}", ifb.alias));
        }
        if !self.redirects.contains(&ifb.index) {
            found.push(format!("what comes in by {:?} is not redirected to {name:?}", end.name));
        }
        match prev.interfaces.iter().find(|i| i.sandbox.is_empty() && i.name == *name) {
            None => found.push(format!("prevResult does not name {name:?}")),
            Some(promised) => {
                drift::mac(promised, ifb, found);
            }
        }
    }
}

fn check_limit(name: &str, qdiscs: &[Qdisc], limit: Limit, clock: Clock, found: &mut Vec<String>) {
    let wanted = limit.filter(clock);
    match qdiscs.iter().find(|qdisc| qdisc.root).map(|qdisc| (&qdisc.kind, qdisc.tbf)) {
        Some((_, Some(tbf))) if tbf.is(&wanted) => {}
        Some((_, Some(tbf))) => found.push(format!(
            "{name:?} is limited to rate {} B/s, limit {} B, buffer {} ticks, not rate {} B/s, limit {} B, buffer {} ticks",
            tbf.rate, tbf.limit, tbf.buffer, wanted.rate, wanted.limit, wanted.buffer
        )),
        Some((kind, None)) => found.push(format!("{name:?} is not limited: its queue is {kind}")),
        None => found.push(format!("{name:?} is not limited")),
    }
}
