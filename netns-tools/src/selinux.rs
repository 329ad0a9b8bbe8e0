//! `SELinux` contexts of programs to be started (selinux(8), proc(5): `/proc/[pid]/attr/exec`).
//!
//! A tap device gets the context of the process that makes it: the kernel (security/selinux/hooks.c) takes the process' own one in
//! `selinux_tun_dev_alloc_security`, and says in `selinux_tun_dev_create` that `attr/sockcreate` does not count. A process gets another context
//! by starting a program, which is why there is nothing here for sockets.

use std::fs;
use std::io::{self, Write};

/// What a process is started with, of the calling thread.
const EXEC: &str = "/proc/thread-self/attr/exec";
/// What the calling thread has.
const CURRENT: &str = "/proc/thread-self/attr/current";

/// A context that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelinuxError {
    /// No `SELinux` in this kernel, or it is switched off.
    #[error("this kernel runs without SELinux")]
    Absent,
    /// The kernel does not take the context.
    #[error(
        "cannot use the SELinux context `{context}` (is it in the loaded policy, and are we allowed to change to it?)"
    )]
    Refused {
        /// The context as given.
        context: String,
        /// Why.
        source: io::Error,
    },
}

/// Whether processes have contexts.
///
/// `attr/current` also belongs to other security modules; only `SELinux` contexts have three parts at least.
pub fn is_enabled() -> bool {
    fs::read_to_string(CURRENT).is_ok_and(|own| own.matches(':').count() >= 2)
}

/// The next program that the calling thread starts runs in `context`.
pub fn set_exec_context(context: &str) -> Result<(), SelinuxError> {
    if !is_enabled() {
        return Err(SelinuxError::Absent);
    }
    let refused = |source| SelinuxError::Refused { context: context.into(), source };
    // One write: the kernel takes each for a whole context.
    let mut file = fs::OpenOptions::new().write(true).open(EXEC).map_err(refused)?;
    file.write_all(context.as_bytes()).map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_selinux_every_context_is_refused() {
        if is_enabled() {
            println!("not proven on this kernel: a context is refused where there is no SELinux");
            return;
        }
        let refused = set_exec_context("system_u:system_r:container_t:s0").unwrap_err();
        assert!(matches!(refused, SelinuxError::Absent), "{refused}");
        println!("not proven on this kernel: a context is accepted (it runs without SELinux)");
    }
}
