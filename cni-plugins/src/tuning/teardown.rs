//! DEL and GC of `tuning`: the interface gets back what it had, and the file goes.

use cni::Error;
use cni::plugin::{Call, ValidAttachment};
use netns_tools::{NetNs, Netlink};

use super::backup::{Backup, BackupFile};
use super::conf::data_dir;
use crate::collect::first_with_others;
use crate::interface::kernel_error;
use crate::sandbox::{self, Sandbox};
use crate::step::step;

/// Restores what can be restored. Never fails, as in the reference: the interface is about to go in nearly every case, and a DEL
/// that fails for it keeps the container from ending. What went wrong is told on standard error.
pub fn del(call: &Call<'_>) {
    let file = BackupFile::new(&data_dir(&call.conf), &call.container_id, &call.ifname);
    let done = step("restore the interface", || {
        if let Some(backup) = file.read()?
            && let Sandbox::Present(ns) = sandbox::find(call)?
        {
            restore(&ns, &call.ifname, &backup)?;
        }
        // Without the namespace the interface is gone, and the values are of no use to any other.
        file.remove()
    });
    if let Err(error) = done {
        eprintln!("tuning: {error}");
    }
}

/// Restores and forgets the interfaces of this network's attachments that are not valid.
pub fn gc(call: &Call<'_>) -> Result<(), Error> {
    let files = BackupFile::all(&data_dir(&call.conf))?;
    let stale = |file: BackupFile| match file.read() {
        Ok(Some(backup)) if is_stale(&backup, call) => Some((file, backup)),
        _ => None,
    };
    first_with_others(files.into_iter().filter_map(stale).map(|(file, backup)| {
        if let Some(owner) = &backup.of
            && let Ok(ns) = NetNs::open(&owner.sandbox)
        {
            restore(&ns, &owner.ifname, &backup)?;
        }
        file.remove()
    }))
}

/// A file of the reference does not say of which network it is: it stays.
fn is_stale(backup: &Backup, call: &Call<'_>) -> bool {
    let Some(owner) = &backup.of else { return false };
    let is_owner = |valid: &ValidAttachment| {
        valid.container_id == owner.container_id && valid.ifname == owner.ifname
    };
    owner.network == call.conf.name && !call.valid_attachments.iter().any(is_owner)
}

/// Sets back every property that can be, if the interface is still the same.
fn restore(ns: &NetNs, ifname: &str, backup: &Backup) -> Result<(), Error> {
    let failed = |e| kernel_error(&format!("cannot look at {ifname:?}"), &e);
    let mut inside = Netlink::open_in(ns).map_err(failed)?;
    let Some(link) = inside.link(ifname).map_err(failed)? else { return Ok(()) };
    if backup.of.as_ref().is_some_and(|owner| !owner.is(ns, &link)) {
        return Ok(());
    }
    first_with_others(backup.changes().into_iter().map(|old| old.make(&mut inside, &link)))
}
