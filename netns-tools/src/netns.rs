//! Network namespaces: make, pin, open, enter, list and delete.
//!
//! A namespace is pinned by a bind mount of its `nsfs` file at `/run/netns/NAME`, exactly as `ip netns add` does
//! (ip-netns(8)), so that both see and remove each other's. The directory is made a shared mount first: a namespace made
//! in one mount namespace is then visible, and can be removed, in the others.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};
use serde::Serialize;

/// Where named namespaces are pinned; the same directory that `ip netns` uses.
pub const NETNS_DIR: &str = "/run/netns";

/// The longest namespace name: it is a file name (`NAME_MAX` in `limits.h`).
pub const NAME_MAX: usize = 255;

/// The calling thread's own namespace. (`/proc/self/ns/net` would be the main thread's.)
const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// A leftover with more mounts than this stacked on it is not something `ip netns` or we have made.
const MOST_STACKED_MOUNTS: usize = 1024;

/// What can go wrong with a namespace. `Display` names the operation and the object; the cause is the `source`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetnsError {
    /// There is nothing at this path.
    #[error("there is no network namespace {}", path.display())]
    NotFound {
        /// The path looked at.
        path: PathBuf,
    },
    /// There is something at this path, but not a network namespace: a plain file left behind by a crash, or another
    /// kind of namespace.
    #[error(
        "{} is not a network namespace (a file left behind? `netns del` removes one from {NETNS_DIR})",
        path.display()
    )]
    NotANamespace {
        /// The path looked at.
        path: PathBuf,
    },
    /// `create` found the name taken, by a namespace or by a leftover file.
    #[error("{} exists already; use another name or delete it first (`netns del`)", path.display())]
    Exists {
        /// The path of the name.
        path: PathBuf,
    },
    /// The name cannot be a file name in [`NETNS_DIR`].
    #[error("`{name}` cannot name a network namespace: {reason}")]
    InvalidName {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A system call failed.
    #[error("cannot {operation} {}{}", path.display(), hint(source))]
    System {
        /// What was being done.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl NetnsError {
    /// Whether the namespace is simply not there. A teardown counts this as success.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    fn system(
        operation: &'static str,
        path: impl Into<PathBuf>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::System { operation, path: path.into(), source: source.into() }
    }
}

/// What to do about it, where that is obvious.
fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => " (this needs root: CAP_SYS_ADMIN)",
        _ => "",
    }
}

/// Results of this module.
pub type Result<T> = std::result::Result<T, NetnsError>;

/// What tells one namespace from another: device and inode number of its `nsfs` file (namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct NetnsId {
    /// Device number of the `nsfs` file system.
    pub dev: u64,
    /// Inode number; the one shown by `readlink /proc/PID/ns/net` and `lsns`.
    pub ino: u64,
}

impl NetnsId {
    /// The namespace at `path` (following symbolic links), without opening it: cheap enough for every process in `/proc`.
    ///
    /// The caller vouches for `path` being a namespace; only [`NetNs::open`] checks that.
    pub fn of_path(path: impl AsRef<Path>) -> io::Result<Self> {
        let meta = std::fs::metadata(path)?;
        Ok(Self { dev: meta.dev(), ino: meta.ino() })
    }

    /// The namespace that the calling thread is in.
    pub fn current() -> Result<Self> {
        Self::of_path(OWN_NAMESPACE).map_err(|e| {
            NetnsError::system("find the current network namespace in", OWN_NAMESPACE, e)
        })
    }
}

impl fmt::Display for NetnsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.ino)
    }
}

/// An open network namespace. It lives at least as long as this value, whatever happens to its name.
#[derive(Debug)]
pub struct NetNs {
    file: File,
    path: PathBuf,
    id: NetnsId,
}

impl NetNs {
    /// Opens the namespace at `path`, for example `/run/netns/NAME` or `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// [`NetnsError::NotFound`] when nothing is there, [`NetnsError::NotANamespace`] when something else is.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        // A path given by a user may be a FIFO: opening one blocks unless O_NONBLOCK is set.
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let file = match opened {
            Ok(file) => file,
            // A plain file left behind by `ip netns add` has mode 0, which only root can open; ENXIO is a socket.
            Err(e) => {
                return Err(match e.raw_os_error() {
                    Some(libc::ENOENT | libc::ENOTDIR) => {
                        NetnsError::NotFound { path: path.into() }
                    }
                    Some(libc::ENXIO) => NetnsError::NotANamespace { path: path.into() },
                    _ => NetnsError::system("open network namespace", path, e),
                });
            }
        };
        if !is_network_namespace(&file) {
            return Err(NetnsError::NotANamespace { path: path.into() });
        }
        Self::from_file(file, path)
    }

    /// Opens the namespace pinned at `/run/netns/NAME`.
    pub fn named(name: &str) -> Result<Self> {
        Self::open(named_path(name)?)
    }

    /// Opens the namespace that the calling thread is in. Its path is the thread's entry in `/proc`, which lasts as long
    /// as the thread stays.
    pub fn current() -> Result<Self> {
        Self::open(format!("/proc/{}/task/{}/ns/net", nix::unistd::getpid(), nix::unistd::gettid()))
    }

    /// Makes a new namespace and pins it at `/run/netns/NAME`. Its only link is `lo`, which is down.
    ///
    /// The namespace is made on a thread of its own; the caller's does not change. Of several creators of one name,
    /// `ip netns add` included, exactly one succeeds. A step that fails leaves nothing behind.
    ///
    /// # Errors
    /// [`NetnsError::Exists`] when the name is taken, also by a leftover plain file: whether its maker is still at work
    /// cannot be known, so it is never taken over.
    pub fn create(name: &str) -> Result<Self> {
        let path = named_path(name)?;
        if std::fs::symlink_metadata(&path).is_ok() {
            return Err(NetnsError::Exists { path });
        }
        on_own_thread(&path, || {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|e| NetnsError::system("make a network namespace for", &path, e))?;
            // Made before the lock is taken, because this is the slow part and needs no lock.
            let file = File::open(OWN_NAMESPACE)
                .map_err(|e| NetnsError::system("open the new network namespace for", &path, e))?;
            let dir = Directory::prepare()?;
            dir.pin(&path)?;
            Self::from_file(file, &path)
        })?
    }

    /// Runs `f` in a new namespace without a name, which ends with it: for trying out what the kernel can do. The calling
    /// thread stays where it is.
    pub fn scratch<T: Send>(f: impl FnOnce() -> T + Send) -> Result<T> {
        let path = Path::new(OWN_NAMESPACE);
        on_own_thread(path, || {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|e| NetnsError::system("make a network namespace beside", path, e))?;
            Ok(f())
        })?
    }

    /// Removes the pin at `/run/netns/NAME`; the namespace ends with its last process, socket or open file.
    ///
    /// Idempotent: `Ok(false)` says that nothing was there. Also removes a plain file that a crash has left behind,
    /// several mounts stacked on one another, and a pin that is in use (it is detached).
    pub fn delete(name: &str) -> Result<bool> {
        let path = named_path(name)?;
        match Directory::lock(Path::new(NETNS_DIR)) {
            Ok(dir) => dir.unpin(&path),
            Err(NetnsError::System { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    /// Runs `f` inside the namespace, on a thread that ends with it, and returns its result. The calling thread stays
    /// where it is, so this is safe from a thread that others share. A panic in `f` continues in the caller.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        on_own_thread(&self.path, || {
            self.enter()?;
            Ok(f())
        })?
    }

    /// Runs `f` inside the namespace on the calling thread, which is back in its own when this returns, also when `f` panics.
    ///
    /// For short work between two system calls, such as opening a socket or writing a kernel parameter: without the thread that
    /// [`Self::run`] starts, which costs more than such work (about 0.1 ms, most of it page faults). Never around an `await` or
    /// anything else that lets other work take the thread: that work would find itself in the wrong namespace.
    ///
    /// A caller that may not enter its own namespace again, such as root of a user namespace in the host's network namespace,
    /// is served by [`Self::run`].
    pub fn visit<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        let home = File::open(OWN_NAMESPACE).map_err(|e| {
            NetnsError::system("open the current network namespace in", OWN_NAMESPACE, e)
        })?;
        // Changes nothing; the kernel answers as it will on the way back.
        if setns(&home, CloneFlags::CLONE_NEWNET).is_err() {
            return self.run(f);
        }
        self.enter()?;
        let _home = Home(home);
        Ok(f())
    }

    /// Moves the calling thread into the namespace for good: for a program about to `exec`. Otherwise use [`Self::run`] or
    /// [`Self::visit`].
    pub fn enter(&self) -> Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET)
            .map_err(|e| NetnsError::system("enter network namespace", &self.path, e))
    }

    /// What tells this namespace from others.
    pub fn id(&self) -> NetnsId {
        self.id
    }

    /// The path it was opened by or pinned at. The namespace may no longer be there.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the calling thread is in this namespace.
    pub fn is_current(&self) -> Result<bool> {
        Ok(NetnsId::current()? == self.id)
    }

    fn from_file(file: File, path: &Path) -> Result<Self> {
        let meta =
            file.metadata().map_err(|e| NetnsError::system("read the identity of", path, e))?;
        Ok(Self { file, path: path.into(), id: NetnsId { dev: meta.dev(), ino: meta.ino() } })
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A namespace pinned in [`NETNS_DIR`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedNetns {
    /// Its file name.
    pub name: String,
    /// Its full path.
    pub path: PathBuf,
    /// Its identity; two names may pin the same namespace.
    pub id: NetnsId,
}

/// The namespaces pinned in [`NETNS_DIR`], ordered by name. Files there that are not namespaces are passed over, and so
/// is a namespace that is deleted meanwhile.
pub fn list() -> Result<Vec<NamedNetns>> {
    let entries = match std::fs::read_dir(NETNS_DIR) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(NetnsError::system("list network namespaces in", NETNS_DIR, e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry =
            entry.map_err(|e| NetnsError::system("list network namespaces in", NETNS_DIR, e))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        match NetNs::open(entry.path()) {
            Ok(ns) => found.push(NamedNetns { name, path: ns.path, id: ns.id }),
            Err(NetnsError::NotFound { .. } | NetnsError::NotANamespace { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Checks a namespace's name and returns its path.
fn named_path(name: &str) -> Result<PathBuf> {
    let reason = match name {
        "" => "it is empty",
        "." | ".." => "it names a directory",
        _ if name.len() > NAME_MAX => "it is longer than 255 bytes",
        _ if name.contains('/') => "it contains `/`",
        _ if name.contains('\0') => "it contains a zero byte",
        _ => return Ok(Path::new(NETNS_DIR).join(name)),
    };
    Err(NetnsError::InvalidName { name: name.into(), reason })
}

/// Whether `file` is of `nsfs`, and of the network kind (`ioctl_ns(2)`).
fn is_network_namespace(file: &File) -> bool {
    // NS_GET_NSTYPE is _IO(0xb7, 3).
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    if !fstatfs(file).is_ok_and(|fs| fs.filesystem_type() == NSFS_MAGIC) {
        return false;
    }
    // SAFETY: the descriptor is open and the request takes no argument.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
    kind == libc::CLONE_NEWNET
}

/// The namespace that a thread goes back to when this is dropped.
struct Home(File);

impl Drop for Home {
    fn drop(&mut self) {
        if setns(&self.0, CloneFlags::CLONE_NEWNET).is_err() {
            // Whatever the thread did next, it would do to the container instead of the host.
            std::process::abort();
        }
    }
}

/// Runs `f` on a thread that ends with it, so that whatever `f` does to its thread's namespaces ends with it too.
fn on_own_thread<T: Send>(path: &Path, f: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        let worker = thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, f)
            .map_err(|e| NetnsError::system("start a thread for", path, e))?;
        Ok(worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// [`NETNS_DIR`], locked: its lock is the one `ip netns add` takes while it prepares the directory. We also hold it while
/// a name comes or goes, so that our own creators and deleters never see half a name.
struct Directory {
    _lock: Flock<File>,
}

impl Directory {
    fn lock(dir: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY)
            .open(dir)
            .map_err(|e| NetnsError::system("open", dir, e))?;
        let mut file = file;
        loop {
            match Flock::lock(file, FlockArg::LockExclusive) {
                Ok(lock) => return Ok(Self { _lock: lock }),
                Err((again, Errno::EINTR)) => file = again,
                Err((_, e)) => return Err(NetnsError::system("lock", dir, e)),
            }
        }
    }

    /// Makes the directory if need be, and makes it a shared mount.
    fn prepare() -> Result<Self> {
        let dir = Path::new(NETNS_DIR);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(dir)
            .map_err(|e| NetnsError::system("make directory", dir, e))?;
        let locked = Self::lock(dir)?;
        match share(dir) {
            // EINVAL: not a mount point yet.
            Err(Errno::EINVAL) => {
                bind(dir, dir, MsFlags::MS_REC)
                    .map_err(|e| NetnsError::system("bind mount onto itself", dir, e))?;
                share(dir)
            }
            other => other,
        }
        .map_err(|e| NetnsError::system("make a shared mount of", dir, e))?;
        Ok(locked)
    }

    /// Mounts the calling thread's namespace at `path`, which must not exist.
    #[expect(clippy::unused_self, reason = "that the directory is locked is what makes this safe")]
    fn pin(&self, path: &Path) -> Result<()> {
        let made =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o000).open(path);
        match made {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(NetnsError::Exists { path: path.into() });
            }
            Err(e) => return Err(NetnsError::system("make file", path, e)),
        }
        bind(Path::new(OWN_NAMESPACE), path, MsFlags::empty()).map_err(|e| {
            // The mount's failure is what the caller must hear of; that the file stays behind would follow from the same
            // trouble, and `delete` removes it.
            let _ = std::fs::remove_file(path);
            NetnsError::system("pin a network namespace at", path, e)
        })
    }

    /// Takes everything mounted at `path` off and removes the file. `Ok(false)`: nothing was there.
    #[expect(clippy::unused_self, reason = "that the directory is locked is what makes this safe")]
    fn unpin(&self, path: &Path) -> Result<bool> {
        let mut mounted = false;
        for _ in 0..MOST_STACKED_MOUNTS {
            match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
                Ok(()) => mounted = true,
                // EINVAL: nothing (more) is mounted here; ENOENT: there is no such file.
                Err(Errno::EINVAL | Errno::ENOENT) => break,
                Err(e) => return Err(NetnsError::system("unmount", path, e)),
            }
        }
        match std::fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(mounted),
            Err(e) => Err(NetnsError::system("remove", path, e)),
        }
    }
}

fn share(dir: &Path) -> nix::Result<()> {
    mount(None::<&str>, dir, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>)
}

fn bind(from: &Path, to: &Path, more: MsFlags) -> nix::Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | more, None::<&str>)
}

#[cfg(test)]
mod tests;
