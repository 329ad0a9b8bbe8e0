//! Locks that plugins share for the time of a change.
//!
//! A lock is held on the file of a network namespace: on the host's, which no plugin needs to make, or on the container's. It ends
//! with the process.

use std::fs::File;
use std::path::Path;

use cni::{Error, ErrorCode};
use netns_tools::NetNs;
use nix::fcntl::{Flock, FlockArg};

/// The namespace that the plugin runs in.
const OWN: &str = "/proc/thread-self/ns/net";

/// Keeps changes apart that begin with a look at what is there.
///
/// The host's is one lock for all: whoever holds it asks for it no second time.
pub struct NetnsLock(#[expect(dead_code, reason = "held, not read: unlocks on drop")] Flock<File>);

impl NetnsLock {
    /// On the host's namespace, for one at a time. Waits.
    pub fn exclusive() -> Result<Self, Error> {
        Self::lock(Path::new(OWN), FlockArg::LockExclusive, "the network namespace")
    }

    /// On the host's namespace, for any number that exclude only the exclusive one. Waits.
    pub fn shared() -> Result<Self, Error> {
        Self::lock(Path::new(OWN), FlockArg::LockShared, "the network namespace")
    }

    /// On a container's namespace, for one at a time. Waits.
    pub fn of(ns: &NetNs) -> Result<Self, Error> {
        Self::lock(ns.path(), FlockArg::LockExclusive, "the container's network namespace")
    }

    fn lock(path: &Path, how: FlockArg, what: &str) -> Result<Self, Error> {
        let failed = |error: &dyn std::error::Error| {
            Error::new(ErrorCode::Io, format!("cannot lock {what} ({})", path.display()))
                .with_details(error.to_string())
        };
        let mut file = File::open(path).map_err(|e| failed(&e))?;
        loop {
            file = match Flock::lock(file, how) {
                Ok(lock) => return Ok(Self(lock)),
                Err((file, nix::Error::EINTR)) => file,
                Err((_, errno)) => return Err(failed(&errno)),
            }
        }
    }
}
