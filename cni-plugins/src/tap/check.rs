//! CHECK of `tap`: what ADD answered and was asked for, against what the kernel says now.

use cni::Error;
use cni::plugin::Call;
use netns_tools::{Link, Netlink};

use super::conf::Conf;
use crate::interface::{Observed, kernel_error};
use crate::{drift, sandbox, single};

/// Compares everything and reports every difference at once.
pub fn check(call: &Call<'_>) -> Result<(), Error> {
    let conf = Conf::parse(call)?;
    if let Some(ipam) = &conf.ipam {
        call.delegate_check(ipam)?;
    }
    let prev = drift::promised(call)?;
    let ns = sandbox::open(call)?;
    let mut inside = Netlink::open_in(&ns).map_err(|e| kernel_error("cannot open netlink", &e))?;
    let seen = Observed::look(&mut inside, &call.ifname)?;
    let bridge = match conf.bridge.as_deref() {
        Some(name) => {
            inside.link(name).map_err(|e| kernel_error("cannot look up the bridge", &e))?
        }
        None => None,
    };
    let sandbox = ns.path().display().to_string();
    let found = single::differences(prev, &call.ifname, &sandbox, &seen, |link, found| {
        compare(&conf, link, bridge.as_ref(), found);
    });
    drift::answer(&call.ifname, &found)
}

fn compare(conf: &Conf, link: &Link, bridge: Option<&Link>, found: &mut Vec<String>) {
    let name = &link.name;
    let Some(tun) = link.tun.filter(|details| details.tap) else {
        found.push(format!("{name:?} is not a tap device"));
        return;
    };
    if (tun.owner, tun.group) != (conf.owner, conf.group) {
        found.push(format!("{name:?} has another owner or group"));
    }
    if tun.multi_queue != conf.multi_queue {
        found.push(format!("{name:?} has another multiQueue setting"));
    }
    if let Some(mtu) = conf.mtu.filter(|mtu| *mtu != link.mtu) {
        found.push(format!("the MTU of {name:?} is {} instead of {mtu}", link.mtu));
    }
    if let Some(mac) = conf.mac.filter(|mac| Some(*mac) != link.mac) {
        found.push(format!("the MAC address of {name:?} is not {mac}"));
    }
    if let Some(wanted) = &conf.bridge
        && bridge.is_none_or(|bridge| link.master != Some(bridge.index))
    {
        found.push(format!("{name:?} is not a port of bridge {wanted:?}"));
    }
}
