//! Becoming a command in a namespace.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use netns_tools::{NetNs, NetnsError};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::Outcome;

const SYS: &str = "/sys";

/// A step of `--sysfs` that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}; try without --sysfs")]
struct SysfsError {
    step: &'static str,
    source: Errno,
}

/// Enters `ns` and becomes `command`. Returns only when that fails.
pub fn exec(ns: &NetNs, sysfs: bool, command: &[OsString]) -> Outcome {
    let Some((program, args)) = command.split_first() else {
        return Err("there is no command to run".into());
    };
    enter(ns)?;
    if sysfs {
        private_sysfs()?;
    }
    let error = Command::new(program).args(args).exec();
    eprintln!("netns: cannot run {}: {error}", program.display());
    // As shells do (POSIX 2.8.2).
    let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    Ok(ExitCode::from(code))
}

/// This program has one thread, so that entering is for the process.
fn enter(ns: &NetNs) -> Result<(), NetnsError> {
    ns.enter()
}

/// Replaces /sys, for this process alone, by one that shows the links of the process's own namespace: a sysfs keeps
/// showing the namespace that it was mounted in.
fn private_sysfs() -> Result<(), SysfsError> {
    let failed = |step| move |source| SysfsError { step, source };
    let flags = statvfs(Path::new(SYS)).map_or(FsFlags::empty(), |fs| fs.flags());
    unshare(CloneFlags::CLONE_NEWNS).map_err(failed("make a private mount namespace"))?;
    // Mounts made here must not appear outside; those made outside should still appear here.
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_SLAVE | MsFlags::MS_REC, none)
        .map_err(failed("make the mounts private"))?;
    match umount2(SYS, MntFlags::MNT_DETACH) {
        // EINVAL: nothing is mounted there.
        Ok(()) | Err(Errno::EINVAL) => {}
        Err(e) => return Err(failed("unmount /sys")(e)),
    }
    // A container's read-only /sys stays read-only.
    let read_only = MsFlags::from_bits_truncate(flags.bits()) & MsFlags::MS_RDONLY;
    mount(Some("sysfs"), SYS, Some("sysfs"), read_only, none).map_err(failed("mount a new /sys"))
}
