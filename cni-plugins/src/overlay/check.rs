//! CHECK and STATUS of `overlay`: the delegate's, with what was, or would be, delegated.

use cni::plugin::Call;
use cni::{Error, ErrorCode};
use conf::lease::Lease;
use netns_tools::Netlink;
use serde_json::{Map, Value};

use super::conf::{self as overlay, Conf};
use super::plan;
use super::record::{Records, Remembered};
use crate::readiness::unavailable;
use crate::sandbox;

/// CHECK: as it was delegated. The links may have followed the lease's MTU since.
pub fn check(call: &Call<'_>) -> Result<(), Error> {
    let conf = Conf::parse(call)?;
    let mut delegate = match Records::new(&conf.data_dir).find(call) {
        Remembered::Delegate(mut delegate) => {
            plan::pass_on(&call.conf.raw, &mut delegate);
            delegate
        }
        Remembered::Nothing | Remembered::Unreadable(_) => {
            plan::delegate(&call.conf.raw, &conf, Some(&overlay::lease(&conf.subnet_file)?))
        }
    };
    if conf.follows_mtu() {
        take_present_mtu(call, &conf, &mut delegate);
    }
    let inner = call.with_configuration(delegate)?;
    inner.delegate_check(&inner.conf.plugin_type)
}

/// Either MTU is right: that of ADD, and the lease's of now.
fn take_present_mtu(call: &Call<'_>, conf: &Conf, delegate: &mut Map<String, Value>) {
    let present = || {
        let mut net = Netlink::open_in(&sandbox::open(call).ok()?).ok()?;
        Some(net.link(&call.ifname).ok()??.mtu)
    };
    let Ok(lease) = Lease::read(&conf.subnet_file) else { return };
    if present() == Some(lease.mtu()) {
        delegate.insert("mtu".into(), lease.mtu().into());
    }
}

/// STATUS: whether there is a lease, and whether the delegate can serve an ADD with it.
pub fn status(call: &Call<'_>) -> Result<(), Error> {
    let conf = Conf::parse(call)?;
    let lease = overlay::lease(&conf.subnet_file).map_err(unavailable)?;
    let delegate = plan::delegate(&call.conf.raw, &conf, Some(&lease));
    let inner = call.with_configuration(delegate)?;
    inner.delegate_status(&conf.plugin).map_err(|error| match error.code {
        ErrorCode::TryAgainLater => unavailable(error),
        _ => error,
    })
}
