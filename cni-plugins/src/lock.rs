//! A lock that plugins of this host share for the time of a change.

use std::fs::File;

use cni::{Error, ErrorCode};
use nix::fcntl::{Flock, FlockArg};

/// Keeps changes apart that begin with a look at what is there.
///
/// It is a lock on the network namespace that the plugin runs in, so it needs no file anywhere and ends with the process.
pub struct NetnsLock(#[expect(dead_code, reason = "held, not read: unlocks on drop")] Flock<File>);

impl NetnsLock {
    /// For one at a time. Waits.
    pub fn exclusive() -> Result<Self, Error> {
        const PATH: &str = "/proc/thread-self/ns/net";
        let failed = |error: &dyn std::error::Error| {
            Error::new(ErrorCode::Io, format!("cannot lock the network namespace ({PATH})"))
                .with_details(error.to_string())
        };
        let mut file = File::open(PATH).map_err(|e| failed(&e))?;
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusive) {
                Ok(lock) => return Ok(Self(lock)),
                Err((file, nix::Error::EINTR)) => file,
                Err((_, errno)) => return Err(failed(&errno)),
            }
        }
    }
}
