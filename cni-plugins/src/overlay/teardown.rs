//! DEL and GC of `overlay`: neither needs a lease, and neither fails for what is not remembered.

use cni::Error;
use cni::plugin::Call;
use conf::lease::Lease;
use serde_json::{Map, Value};

use super::conf::Conf;
use super::record::{Records, Remembered};
use super::{flows, plan};
use crate::collect::first_with_others;
use crate::host_local;
use crate::step::step;

/// DEL: of what was delegated, else of what would be now.
pub fn del(call: &Call<'_>) -> Result<(), Error> {
    let conf = Conf::for_teardown(call);
    let records = Records::new(&conf.data_dir);
    let inner = remembered(call, &records).map_or_else(|| planned(call, &conf), Ok)?;
    // afterwards nobody knows them
    let addresses = flows::addresses(call, &inner);
    let gone = step("delegate", || inner.delegate_del(&inner.conf.plugin_type));
    let forgotten = step("forget its connections", || {
        flows::forget(&addresses);
        Ok(())
    });
    // the next DEL needs it
    let file = match &gone {
        Ok(()) => step("forget what was delegated", || records.remove(call)),
        Err(_) => Ok(()),
    };
    first_with_others([gone, forgotten, file])
}

fn remembered<'a>(call: &'a Call<'_>, records: &Records) -> Option<Call<'a>> {
    let mut delegate = match records.find(call) {
        Remembered::Delegate(delegate) => delegate,
        Remembered::Nothing => return None,
        Remembered::Unreadable(why) => {
            eprintln!("what was delegated is not known, the configuration counts: {why}");
            return None;
        }
    };
    plan::pass_on(&call.conf.raw, &mut delegate);
    call.with_configuration(delegate).ok()
}

/// What is there goes by the names of network, container and interface, whichever delegate made it.
fn planned<'a>(call: &'a Call<'_>, conf: &Conf) -> Result<Call<'a>, Error> {
    let lease = Lease::read(&conf.subnet_file).ok();
    call.with_configuration(plan::delegate(&call.conf.raw, conf, lease.as_ref()))
}

/// GC: the configured delegate's, and that of whatever else was delegated to attachments that are not valid any more.
pub fn gc(call: &Call<'_>) -> Result<(), Error> {
    let conf = Conf::for_teardown(call);
    let records = Records::new(&conf.data_dir);
    let configured = planned(call, &conf)?;
    let (kinds, listed) = match records.stale(&call.conf.name, &call.valid_attachments) {
        Ok(kinds) => (kinds, Ok(())),
        Err(error) => (Vec::new(), Err(error)),
    };
    let own = plan::without_passing(configured.conf.raw.clone());
    let mut results = vec![listed, step("collect garbage", || collect(&configured))];
    for kind in kinds.into_iter().filter(|kind| *kind != own) {
        results.push(collect_kind(call, kind));
    }
    // what a failed delegate needs at the next GC stays
    if results.iter().all(Result::is_ok) {
        results.push(step("forget what was delegated", || {
            records.collect_garbage(&call.conf.name, &call.valid_attachments)
        }));
    }
    first_with_others(results)
}

fn collect_kind(call: &Call<'_>, mut delegate: Map<String, Value>) -> Result<(), Error> {
    plan::pass_on(&call.conf.raw, &mut delegate);
    let inner = call.with_configuration(delegate)?;
    step("collect garbage of another delegate", || collect(&inner))
}

/// What is free afterwards, and was not before, was somebody's whose DEL never came. Of another IPAM plugin than `host-local` nothing
/// is known.
fn collect(inner: &Call<'_>) -> Result<(), Error> {
    let before = host_local::leased(inner);
    let outcome = inner.delegate_gc(&inner.conf.plugin_type);
    let after = host_local::leased(inner);
    let freed: Vec<_> = before.difference(&after).copied().collect();
    flows::forget(&freed);
    outcome
}
