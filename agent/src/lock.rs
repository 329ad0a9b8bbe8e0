//! One proxy and one overlay per network namespace: two would each remove what the other wrote and then repair their own.
//!
//! The lock is a listening socket of an abstract name (unix(7)): such names belong to the network namespace, need no file system,
//! and go with the process however it ends.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

/// Of what there may be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What writes rules for services.
    ServiceProxy,
    /// What connects pods of different nodes.
    Overlay,
}

impl Role {
    /// The socket's name.
    const fn socket(self) -> &'static str {
        match self {
            Self::ServiceProxy => "heddle-service-proxy",
            Self::Overlay => "heddle-overlay",
        }
    }

    /// For messages.
    const fn words(self) -> &'static str {
        match self {
            Self::ServiceProxy => "service proxy",
            Self::Overlay => "overlay controller",
        }
    }
}

/// Why the lock cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another one has it.
    #[error("another {} of Heddle{} runs in this network namespace; stop it first", role.words(), by(*.pid))]
    Held {
        /// What it is.
        role: Role,
        /// Its process id, if it can be seen from here.
        pid: Option<i32>,
    },
    /// A system call failed.
    #[error("cannot make sure that no other {} runs here", role.words())]
    Io {
        /// What it is.
        role: Role,
        /// Why.
        source: io::Error,
    },
}

fn by(pid: Option<i32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

/// Held as long as it lives.
#[derive(Debug)]
pub struct Lock {
    // connections are never accepted: whoever connects only asks who listens
    _listener: UnixListener,
}

impl Lock {
    /// Takes the lock of the calling thread's network namespace.
    pub fn take(role: Role) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { role, source };
        let address = SocketAddr::from_abstract_name(role.socket()).map_err(failed)?;
        match UnixListener::bind_addr(&address) {
            Ok(listener) => Ok(Self { _listener: listener }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(LockError::Held { role, pid: holder(&address) })
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// As [`Lock::take`], but waits a while for another to end: one that was just killed may not be gone yet. Blocks.
    pub fn take_patiently(role: Role, patience: Duration) -> Result<Self, LockError> {
        let start = Instant::now();
        loop {
            match Self::take(role) {
                Err(LockError::Held { .. }) if start.elapsed() < patience => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                taken => return taken,
            }
        }
    }
}

/// Who listens (`SO_PEERCRED`). A process of another pid namespace has no number here.
fn holder(address: &SocketAddr) -> Option<i32> {
    let stream = UnixStream::connect_addr(address).ok()?;
    let credentials = getsockopt(&stream, PeerCredentials).ok()?;
    Some(credentials.pid()).filter(|pid| *pid > 0)
}

#[cfg(test)]
mod tests {
    use netns_tools::testing::TestNetns;

    use super::*;

    #[test]
    fn the_second_of_a_namespace_is_refused_and_told_the_first() {
        let (one, other) = (TestNetns::new("lock"), TestNetns::new("lock"));
        let first = one.run(|| Lock::take(Role::ServiceProxy).unwrap());
        let _elsewhere = other.run(|| Lock::take(Role::ServiceProxy).unwrap());
        let error = one.run(|| Lock::take(Role::ServiceProxy).unwrap_err().to_string());
        let pid = std::process::id();
        assert!(error.contains(&format!("(pid {pid}) runs in this network namespace")), "{error}");
        one.run(|| Lock::take(Role::Overlay).unwrap());
        let waited = one.run(|| {
            Lock::take_patiently(Role::ServiceProxy, Duration::from_millis(60)).unwrap_err()
        });
        assert!(matches!(waited, LockError::Held { .. }));
        drop(first);
        one.run(|| Lock::take(Role::ServiceProxy).unwrap());
    }
}
