//! The socket that the daemon listens on: systemd's (`sd_listen_fds(3)`), or its own.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use cni::{Error, ErrorCode};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::stat::{Mode, umask};

/// The first descriptor that systemd passes.
const FIRST_PASSED: i32 = 3;

/// A listening socket.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    own: bool,
}

impl Socket {
    /// Takes systemd's socket if there is one, else makes one.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let passed = passed_by_systemd()?;
        let own = passed.is_none();
        let listener = passed.map_or_else(|| listen(path), Ok)?;
        let failed = |error: io::Error| listener_error(path, &error.to_string());
        // A client may have gone away between poll(2) and accept(2).
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), own })
    }

    /// The next connection, if there is one.
    pub fn accept(&self) -> io::Result<Option<UnixStream>> {
        match self.listener.accept() {
            Ok((stream, _)) => stream.set_nonblocking(false).map(|()| Some(stream)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.own {
            // A file that stays behind is replaced by the next daemon.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn passed_by_systemd() -> Result<Option<UnixListener>, Error> {
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if variable("LISTEN_PID") != Some(std::process::id()) {
        return Ok(None);
    }
    match variable("LISTEN_FDS") {
        None | Some(0) => Ok(None),
        Some(1) => take_passed().map(Some),
        Some(count) => {
            let msg = format!("Too many ({count}) FDs passed through socket activation");
            Err(Error::new(ErrorCode::InvalidConfig, msg))
        }
    }
}

fn take_passed() -> Result<UnixListener, Error> {
    // SAFETY: systemd has opened this descriptor for this process, and nobody here has taken it yet: this runs once.
    let fd = unsafe { OwnedFd::from_raw_fd(FIRST_PASSED) };
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|error| {
        let msg = "LISTEN_FDS=1 but no FD found";
        Error::new(ErrorCode::InvalidConfig, msg).with_details(error.to_string())
    })?;
    Ok(UnixListener::from(fd))
}

/// Root only: whoever may ask can have the network of any container reconfigured.
fn listen(path: &Path) -> Result<UnixListener, Error> {
    let failed = |error: io::Error| listener_error(path, &error.to_string());
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    let left_behind = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if left_behind {
        if UnixStream::connect(path).is_ok() {
            return Err(listener_error(
                path,
                "another daemon answers there: stop it, or use another --socketpath",
            ));
        }
        fs::remove_file(path).map_err(failed)?;
    }
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    let listener = listener.map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

fn listener_error(path: &Path, why: &str) -> Error {
    let msg = format!("Error getting listener: cannot listen on {}", path.display());
    Error::new(ErrorCode::Io, msg).with_details(why)
}
