//! The commands of `host-local` on the store.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use cni::plugin::Call;
use cni::{CniResult, Dns, Error, ErrorCode};
use ipam::{AllocateError, Allocation, DiskStore, Lease, Owner, Store, StoreError};

use super::conf::{Conf, Place};
use super::{plan, resolv};
use crate::code;
use crate::step::step;
use crate::undo::Undo;

pub fn add(call: &Call<'_>) -> Result<CniResult, Error> {
    let conf = Conf::parse(call)?;
    // Read before anything is taken: a missing file must not cost an address.
    let dns = conf.name_servers.as_deref().map_or(Ok(Dns::default()), read_resolv_conf)?;
    let mut store = step("lock the leases", || {
        DiskStore::lock(&conf.place.data_dir, &conf.place.network).map_err(|e| store_error(&e))
    })?;
    let owner = owner(call);
    let mut taken = Vec::new();
    let outcome = step("take a free address", || {
        taken = ipam::allocate(&mut store, &conf.sets, &owner, &conf.requested)
            .map_err(|error| allocate_error(&error, &conf.place))?;
        Ok(())
    });
    let mut undo = Undo::default();
    undo.push("the address allocation", || give_back(&mut store, &taken));
    undo.settle(outcome)?;
    Ok(plan::result(&taken, conf.routes, dns))
}

fn give_back(store: &mut DiskStore, taken: &[Allocation]) -> Result<(), Error> {
    taken.iter().try_for_each(|allocation| {
        store.release(allocation.address.ip()).map(drop).map_err(|e| store_error(&e))
    })
}

pub fn check(call: &Call<'_>) -> Result<(), Error> {
    let conf = Conf::parse(call)?;
    let owner = owner(call);
    let leases = peek(&conf.place)?;
    if leases.iter().any(|lease| lease.belongs_to(&owner)) {
        return Ok(());
    }
    let msg =
        format!("host-local: Failed to find address added by container {}", owner.container_id);
    let details = format!(
        "no file in {} names interface {} of this container",
        conf.place.data_dir.join(&conf.place.network).display(),
        owner.ifname
    );
    Err(Error::new(code::NO_LEASE, msg).with_details(details))
}

pub fn del(call: &Call<'_>) -> Result<(), Error> {
    with_store(&Place::parse(call)?, |store| ipam::release(store, &owner(call)))
}

pub fn gc(call: &Call<'_>) -> Result<(), Error> {
    let valid: Vec<_> = call
        .valid_attachments
        .iter()
        .map(|attachment| Owner::new(&attachment.container_id, &attachment.ifname))
        .collect();
    with_store(&Place::parse(call)?, |store| ipam::collect_garbage(store, &valid))
}

pub fn status(call: &Call<'_>) -> Result<(), Error> {
    let conf = Conf::parse(call)?;
    let leases = peek(&conf.place)?;
    let Some((index, set)) = ipam::exhausted_set(&conf.sets, &leases) else { return Ok(()) };
    let msg = format!("no IP addresses available in range set: {set}");
    let details = format!(
        "range set {index} of network {} has {} addresses and all are taken; {}",
        conf.place.network,
        set.capacity(),
        remedy(&conf.place)
    );
    Err(Error::new(ErrorCode::NotAvailable, msg).with_details(details))
}

/// The addresses that a call's network has given out; none if that cannot be read.
pub fn leased(call: &Call<'_>) -> BTreeSet<IpAddr> {
    let leases = Place::parse(call).and_then(|place| peek(&place));
    leases.unwrap_or_default().into_iter().map(|lease| lease.address).collect()
}

/// The addresses that a call's attachment has; none if that cannot be read.
pub fn leased_to(call: &Call<'_>) -> Vec<IpAddr> {
    let leases = Place::parse(call).and_then(|place| peek(&place)).unwrap_or_default();
    let owner = owner(call);
    leases.iter().filter(|lease| lease.belongs_to(&owner)).map(|lease| lease.address).collect()
}

/// A network without a directory has no leases, and is not given one.
fn with_store<T>(
    place: &Place,
    work: impl FnOnce(&mut DiskStore) -> Result<T, StoreError>,
) -> Result<(), Error> {
    let store = DiskStore::lock_existing(&place.data_dir, &place.network);
    let Some(mut store) = store.map_err(|e| store_error(&e))? else { return Ok(()) };
    work(&mut store).map(drop).map_err(|e| store_error(&e))
}

fn peek(place: &Place) -> Result<Vec<Lease>, Error> {
    DiskStore::peek(&place.data_dir, &place.network).map_err(|e| store_error(&e))
}

fn owner(call: &Call<'_>) -> Owner {
    Owner::new(&call.container_id, &call.ifname)
}

fn read_resolv_conf(path: &Path) -> Result<Dns, Error> {
    let text = fs::read_to_string(path).map_err(|error| {
        let msg = format!("cannot read resolvConf {}", path.display());
        Error::new(ErrorCode::Io, msg).with_details(error.to_string())
    })?;
    Ok(resolv::parse(&text))
}

fn store_error(error: &StoreError) -> Error {
    let code = match error {
        StoreError::NetworkName(_) => ErrorCode::InvalidConfig,
        StoreError::Io { .. } => ErrorCode::Io,
    };
    Error::from_source(code, error)
}

fn allocate_error(error: &AllocateError, place: &Place) -> Error {
    let (code, details) = match error {
        AllocateError::Store(error) => return store_error(error),
        AllocateError::Exhausted { .. } => (code::EXHAUSTED, remedy(place)),
        AllocateError::Unavailable { .. } => (
            code::ADDRESS_REFUSED,
            format!(
                "its holder is named in the file of that name in {}",
                place.data_dir.join(&place.network).display()
            ),
        ),
        AllocateError::Gateway { .. } => {
            (code::ADDRESS_REFUSED, "ask for another address, or configure another gateway".into())
        }
        AllocateError::Unmatched(_) => (
            code::ADDRESS_REFUSED,
            "each range set gives one address: these are in no set, or in one that gave another"
                .into(),
        ),
        AllocateError::Duplicate { .. } => {
            (code::DUPLICATE, "call DEL for this interface before another ADD".into())
        }
    };
    Error::new(code, error.to_string()).with_details(details)
}

fn remedy(place: &Place) -> String {
    format!(
        "call GC or DEL for containers that are gone (see {}), or configure a larger range",
        place.data_dir.join(&place.network).display()
    )
}
