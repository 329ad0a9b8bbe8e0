//! One lease from outside its thread.

use std::io::{self, PipeReader, PipeWriter, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cni::{Error, ErrorCode};

use super::log;
use super::place::Place;
use super::store::Record;
use super::worker::{Context, Worker, forget};
use crate::dhcp::lease::Lease;
use crate::dhcp::rpc::Allocate;

/// A thread does little and calls nothing deep.
const STACK: usize = 256 << 10;

/// How a lease stands.
#[derive(Clone, Debug)]
pub enum Status {
    /// An address is looked for.
    Looking,
    /// There is a lease.
    Held(Lease),
    /// There is none any more, or never was.
    Over(Over),
}

/// How it ended.
#[derive(Clone, Debug)]
pub enum Over {
    /// It was given back, or its interface is gone.
    Done,
    /// There was no lease to be had.
    Failed(Error),
    /// It was lost, for this reason, and the interface is down.
    Lost(&'static str),
}

/// A lease from outside its thread.
pub struct Handle {
    /// What it is for.
    pub allocate: Allocate,
    status: Mutex<Status>,
    changed: Condvar,
    stop: AtomicBool,
    wake: PipeWriter,
    place: OnceLock<Place>,
}

impl Handle {
    /// Starts to look for a lease.
    pub fn acquire(allocate: Allocate, context: Arc<Context>) -> Result<Arc<Self>, Error> {
        Self::start(allocate, Status::Looking, move |handle, wake| {
            match Worker::acquire(Arc::clone(&handle), wake, context) {
                Ok((worker, actions)) => worker.run(actions),
                Err(error) => handle.set(Status::Over(Over::Failed(error))),
            }
        })
    }

    /// Goes on with a lease of before a restart.
    pub fn resume(record: Record, context: Arc<Context>) -> Result<Arc<Self>, Error> {
        let status = Status::Held(record.lease.clone());
        Self::start(record.allocate.clone(), status, move |handle, wake| {
            let worker = Worker::resume(&record, Arc::clone(&handle), wake, Arc::clone(&context));
            if let Some((worker, actions)) = worker {
                return worker.run(actions);
            }
            let attachment = &record.allocate.attachment;
            log(&format!("{attachment}: its interface is gone"));
            forget(&context.store, attachment);
            handle.set(Status::Over(Over::Done));
        })
    }

    fn start(
        allocate: Allocate,
        status: Status,
        run: impl FnOnce(Arc<Self>, PipeReader) + Send + 'static,
    ) -> Result<Arc<Self>, Error> {
        let failed = |error: io::Error| {
            Error::new(ErrorCode::TryAgainLater, "the DHCP daemon cannot look after another lease")
                .with_details(error.to_string())
        };
        let (reader, wake) = io::pipe().map_err(failed)?;
        let handle = Arc::new(Self {
            allocate,
            status: Mutex::new(status),
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
            wake,
            place: OnceLock::new(),
        });
        let own = Arc::clone(&handle);
        let builder = thread::Builder::new().name("lease".to_owned()).stack_size(STACK);
        builder.spawn(move || run(own, reader)).map_err(failed)?;
        Ok(handle)
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        self.lock().clone()
    }

    /// Whether this is the lease that is asked for: of a container in the same namespace, and not lost.
    pub fn is_usable_for(&self, allocate: &Allocate) -> bool {
        let lost = matches!(*self.lock(), Status::Over(_));
        let stopping = self.stop.load(Ordering::SeqCst);
        !lost
            && !stopping
            && self.allocate.netns == allocate.netns
            && !self.place.get().is_some_and(Place::has_vanished)
    }

    /// Whether nothing is left to be done.
    pub fn is_over(&self) -> bool {
        matches!(*self.lock(), Status::Over(Over::Done | Over::Failed(_)))
    }

    /// Waits until an address was found or not.
    pub fn wait_while_looking(&self) -> Status {
        let mut status = self.lock();
        while matches!(*status, Status::Looking) {
            status = self.changed.wait(status).unwrap_or_else(PoisonError::into_inner);
        }
        status.clone()
    }

    /// Gives the lease back, and waits until that is done, up to a limit.
    pub fn release(&self, patience: Duration) {
        self.stop.store(true, Ordering::SeqCst);
        // The pipe is never full: the thread reads it, or has ended.
        let _ = (&self.wake).write(&[0]);
        let end = Instant::now() + patience;
        let mut status = self.lock();
        while !matches!(*status, Status::Over(Over::Done | Over::Failed(_))) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                log(&format!("{}: is still being given back", self.allocate.attachment));
                return;
            }
            let waited = self.changed.wait_timeout(status, left);
            status = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether it is to be given back.
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Says where the interface was found.
    pub fn set_place(&self, place: Place) {
        // It is new, and only its thread says so.
        let _ = self.place.set(place);
    }

    /// Says how it stands, to whoever waits.
    pub fn set(&self, status: Status) {
        *self.lock() = status;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
