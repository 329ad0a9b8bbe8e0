//! Who has which lease.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cni::{Error, ErrorCode};

use super::handle::{Handle, Over, Status};
use super::log;
use super::store::Record;
use super::worker::Context;
use crate::code;
use crate::dhcp::lease::Lease;
use crate::dhcp::rpc::{Allocate, Attachment};

/// How long DEL waits for a lease to be given back: a message is sent, and nobody answers it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Every lease of this daemon.
pub struct Table {
    context: Arc<Context>,
    leases: Mutex<HashMap<Attachment, Arc<Handle>>>,
}

impl Table {
    /// A table without leases.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context, leases: Mutex::default() }
    }

    /// Goes on with a lease of before.
    pub fn resume(&self, record: Record) {
        let attachment = record.allocate.attachment.clone();
        match Handle::resume(record, Arc::clone(&self.context)) {
            Ok(handle) => drop(self.lock().insert(attachment, handle)),
            Err(error) => log(&format!("{attachment}: {error}")),
        }
    }

    /// A lease for an attachment: the one that it has, or a new one. Whoever asks meanwhile waits for the same.
    pub fn allocate(&self, allocate: &Allocate) -> Result<Lease, Error> {
        let handle = self.current(allocate)?;
        match handle.wait_while_looking() {
            Status::Held(lease) => Ok(lease),
            Status::Over(Over::Failed(error)) => Err(error),
            _ => {
                let msg = "the lease ended at once";
                Err(Error::new(ErrorCode::TryAgainLater, msg)
                    .with_details("the DHCP daemon's log says why"))
            }
        }
    }

    fn current(&self, allocate: &Allocate) -> Result<Arc<Handle>, Error> {
        let attachment = &allocate.attachment;
        let existing = self.lock().get(attachment).cloned();
        if let Some(handle) = existing {
            if handle.is_usable_for(allocate) {
                return Ok(handle);
            }
            // A container that was started again without DEL, or whose lease was lost.
            self.drop_handle(attachment, &handle);
        }
        let mut leases = self.lock();
        leases.retain(|_, handle| !handle.is_over());
        if let Some(handle) = leases.get(attachment) {
            return Ok(Arc::clone(handle));
        }
        let handle = Handle::acquire(allocate.clone(), Arc::clone(&self.context))?;
        leases.insert(attachment.clone(), Arc::clone(&handle));
        Ok(handle)
    }

    /// The lease of an attachment.
    pub fn check(&self, attachment: &Attachment) -> Result<Lease, Error> {
        let handle = self.lock().get(attachment).cloned();
        let why = match handle.map(|handle| handle.status()) {
            Some(Status::Held(lease)) => return Ok(lease),
            Some(Status::Over(Over::Lost(reason))) => format!("it was lost: {reason}"),
            Some(Status::Looking) => "an address is being looked for".to_owned(),
            Some(Status::Over(_)) | None => "the DHCP daemon does not know of one".to_owned(),
        };
        let msg = format!("dhcp: there is no lease for {attachment}");
        Err(Error::new(code::NO_LEASE, msg).with_details(why))
    }

    /// Gives a lease back, if there is one.
    pub fn release(&self, attachment: &Attachment) -> usize {
        let handle = self.lock().get(attachment).cloned();
        handle.map_or(0, |handle| {
            self.drop_handle(attachment, &handle);
            1
        })
    }

    /// Gives back every lease of a network that is not valid.
    pub fn collect(&self, network: &str, valid: &[Attachment]) -> usize {
        let stale: Vec<_> = {
            let leases = self.lock();
            let of_network = leases.iter().filter(|(attachment, _)| {
                attachment.network == network && !valid.contains(attachment)
            });
            of_network
                .map(|(attachment, handle)| (attachment.clone(), Arc::clone(handle)))
                .collect()
        };
        for (attachment, handle) in &stale {
            self.drop_handle(attachment, handle);
        }
        stale.len()
    }

    /// How many leases there are.
    pub fn count(&self) -> usize {
        let mut leases = self.lock();
        leases.retain(|_, handle| !handle.is_over());
        leases.len()
    }

    /// It stays in the table until it is given back, so that nobody gets a new one in between.
    fn drop_handle(&self, attachment: &Attachment, handle: &Arc<Handle>) {
        handle.release(PATIENCE);
        let mut leases = self.lock();
        if leases.get(attachment).is_some_and(|current| Arc::ptr_eq(current, handle)) {
            leases.remove(attachment);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Attachment, Arc<Handle>>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
