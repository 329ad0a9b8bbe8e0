//! One proxy per network namespace: two would each remove the other's rules and then repair their own.
//!
//! The lock is a listening socket of an abstract name (unix(7)): such names belong to the network namespace, need no file system,
//! and go with the process however it ends.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

const NAME: &str = "heddle-service-proxy";

/// Why the lock cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another proxy has it.
    #[error("another service proxy of Heddle{} runs in this network namespace; stop it first", by(*.pid))]
    Held {
        /// Its process id, if it can be seen from here.
        pid: Option<i32>,
    },
    /// A system call failed.
    #[error("cannot make sure that no other service proxy runs here")]
    Io(#[source] io::Error),
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
    pub fn take() -> Result<Self, LockError> {
        let address = SocketAddr::from_abstract_name(NAME).map_err(LockError::Io)?;
        match UnixListener::bind_addr(&address) {
            Ok(listener) => Ok(Self { _listener: listener }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(LockError::Held { pid: holder(&address) })
            }
            Err(error) => Err(LockError::Io(error)),
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
        let first = one.run(|| Lock::take().unwrap());
        let _elsewhere = other.run(|| Lock::take().unwrap());
        let error = one.run(|| Lock::take().unwrap_err().to_string());
        let pid = std::process::id();
        assert!(error.contains(&format!("(pid {pid}) runs in this network namespace")), "{error}");
        drop(first);
        one.run(|| Lock::take().unwrap());
    }
}
