//! CHECK and STATUS of `overlay`: the delegate's, with what was, or would be, delegated.

use cni::plugin::Call;
use cni::{Error, ErrorCode};
use netns_tools::Netlink;
use serde_json::{Map, Value};

use super::conf::{self as overlay, Conf};
use super::plan;
use super::record::{Records, Remembered};
use crate::readiness::unavailable;
use crate::{sandbox, tag};

/// CHECK: as it was delegated. The links may have followed the lease's MTU since, and need no lease now.
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
        take_present_mtu(call, &mut delegate);
    }
    let inner = call.with_configuration(delegate)?;
    inner.delegate_check(&inner.conf.plugin_type)
}

/// Whatever MTU both ends have is right: it is only we who change both.
fn take_present_mtu(call: &Call<'_>, delegate: &mut Map<String, Value>) {
    let present = || {
        let inside =
            Netlink::open_in(&sandbox::open(call).ok()?).ok()?.link(&call.ifname).ok()??;
        let host = Netlink::open().ok()?.link_by_index(inside.peer_index?).ok()??;
        let is_pair = host.alias == Some(tag::of_call(call)) && host.mtu == inside.mtu;
        is_pair.then_some(host.mtu)
    };
    if let Some(mtu) = present() {
        delegate.insert("mtu".into(), mtu.into());
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
