//! `heddle-cni dhcp-daemon`: keeps the leases of the containers of this node.
//!
//! One thread for each lease runs the state machine; while a lease is held, it has nothing open in the container's namespace,
//! so that the namespace ends when its container does. Leases are written to files before anybody is told of them; a daemon that
//! starts again asks the servers to confirm them (INIT-REBOOT) and goes on.
//!
//! | file | what |
//! | --- | --- |
//! | `flags` | the command line |
//! | `listener` | the socket, our own or systemd's |
//! | `server` | questions and answers |
//! | `table` | who has which lease |
//! | `handle` | one lease, from outside its thread |
//! | `worker` | its thread: the machine's events and actions |
//! | `place` | the container's interface |
//! | `store` | the files |

mod clock;
mod flags;
mod handle;
mod listener;
mod place;
mod server;
mod store;
mod table;
mod worker;

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cni::{Error, ErrorCode};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;

use self::listener::Socket;
use self::store::Store;
use self::table::Table;
use self::worker::Context;
use super::machine::Timing;
pub use flags::{Flags, go_style};

/// Serves until it is told to end by SIGTERM or SIGINT. Leases are kept for the next daemon.
pub fn run(flags: &Flags) -> Result<(), Error> {
    let signals = end_signals()?;
    let socket = Socket::open(&flags.at(&flags.socketpath))?;
    let store = Store::open(&flags.at(&flags.statedir))?;
    let _pidfile = Pidfile::write(flags.pidfile.as_deref())?;
    let records = store.load();
    let context = Context {
        store,
        broadcast: flags.broadcast,
        prefix: flags.hostprefix.clone(),
        timing: Timing {
            timeout: clock::millis(flags.timeout),
            resend_max: clock::millis(flags.resendmax),
            resend_timeout: clock::millis(flags.resendtimeout),
        },
    };
    let table = Arc::new(Table::new(Arc::new(context)));
    for record in records {
        table.resume(record);
    }
    log(&format!("serving on {}, {} leases of before", socket.path().display(), table.count()));
    accept_until_told(&socket, &signals, &table)
}

fn accept_until_told(socket: &Socket, signals: &SignalFd, table: &Arc<Table>) -> Result<(), Error> {
    loop {
        let mut fds = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(socket.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(failed("wait for questions", &error)),
        }
        if fds[0].any().unwrap_or_default() {
            log("told to end; the leases are kept");
            return Ok(());
        }
        if fds[1].any().unwrap_or_default() {
            server::accept(socket, table);
        }
    }
}

/// Threads that are started later have them blocked, too.
fn end_signals() -> Result<SignalFd, Error> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.thread_block().map_err(|error| failed("block signals", &error))?;
    SignalFd::new(&set).map_err(|error| failed("wait for signals", &error))
}

/// The file with the process' number, which goes with the process.
struct Pidfile(Option<PathBuf>);

impl Pidfile {
    fn write(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else {
            return Ok(Self(None));
        };
        let msg =
            |why: &str| format!("Error writing pidfile {:?}: {why}", path.display().to_string());
        if !path.is_absolute() {
            return Err(Error::new(ErrorCode::InvalidConfig, msg("path not absolute")));
        }
        fs::write(path, std::process::id().to_string())
            .map_err(|error| Error::new(ErrorCode::Io, msg(&error.to_string())))?;
        Ok(Self(Some(path.to_owned())))
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Nothing depends on it any more.
            let _ = fs::remove_file(path);
        }
    }
}

/// A line on standard error, which systemd keeps.
fn log(text: &str) {
    eprintln!("dhcp-daemon: {text}");
}

fn failed(what: &str, error: &dyn std::error::Error) -> Error {
    Error::new(ErrorCode::Io, format!("cannot {what}")).with_details(error.to_string())
}
