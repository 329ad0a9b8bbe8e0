//! A device's way into the container and back.
//!
//! On the way its alias is its name on the host, from before it leaves until after it is back: wherever a killed process leaves it,
//! the next DEL knows it by that, and so does the reference's. Moving and renaming are one request to the kernel, so the reference's
//! temporary namespace is not needed.

use cni::Error;
use netns_tools::{Link, NetNs, Netlink};

use crate::code;
use crate::interface::kernel_error;

/// The way back: from the container to the host, under the name `name`, with nothing noted on it any more.
pub fn take_out(ns: &NetNs, link: &Link, name: &str) -> Result<Link, Error> {
    let failed = |e| kernel_error(&format!("failed to move {:?} to host netns", link.name), &e);
    let mut host = Netlink::open().map_err(failed)?;
    if host.link(name).map_err(failed)?.is_some() {
        let msg = format!("failed to restore {:?} to original name {name:?}", link.name);
        let details = format!(
            "the host has another interface {name:?} by now: rename that one, then call DEL again"
        );
        return Err(Error::new(code::CONFLICT, msg).with_details(details));
    }
    let home =
        NetNs::current().map_err(|e| kernel_error("cannot open the host's namespace", &e))?;
    let mut inside = Netlink::open_in(ns).map_err(failed)?;
    inside.move_as(link.index, &home, name).map_err(failed)?;
    forget_alias(&mut host, name)
}

/// Takes the note off a device that is on the host under its own name.
pub fn forget_alias(host: &mut Netlink, name: &str) -> Result<Link, Error> {
    let failed = |e| kernel_error(&format!("failed to unset alias of {name:?}"), &e);
    let link = host.link(name).map_err(failed)?.ok_or_else(|| {
        Error::new(code::CONFLICT, format!("{name:?} disappeared on its way to the host"))
    })?;
    host.set_alias(link.index, "").map_err(failed)?;
    Ok(link)
}

/// A device that came to the host under a wrong name: the kernel moves what is left in a namespace that ends.
pub fn restore_name(host: &mut Netlink, link: &Link, name: &str) -> Result<(), Error> {
    let failed =
        |e| kernel_error(&format!("failed to rename device {:?} to {name:?}", link.name), &e);
    // As in DEL: its former state is not known. Older kernels rename nothing that is up.
    host.set_down(link.index).map_err(failed)?;
    host.rename(link.index, name).map_err(failed)?;
    forget_alias(host, name).map(drop)
}
