//! Making the device in an `SELinux` context.
//!
//! The kernel gives a tap device the context of the process that makes it (see [`netns_tools::selinux`]), and a process gets a
//! context by starting a program. The reference starts `ip`; we start ourselves, so that nothing needs to be installed, under the
//! command of `heddle-cni` that [`run_here`] is.

use std::os::unix::process::CommandExt;
use std::process::Command;

use cni::Error;
use netns_tools::{NetNs, Tap, selinux};

use crate::code;
use crate::interface::kernel_error;
use crate::program;

/// The hidden command of `heddle-cni`.
pub const COMMAND: &str = "make-tap";

/// Makes `tap` in `ns`, by a process of its own in `context`.
pub fn make(tap: &Tap<'_>, ns: &NetNs, context: &str) -> Result<(), Error> {
    let started = ns.run(|| {
        // Of this thread only, which ends with the closure.
        selinux::set_exec_context(context)
            .map_err(|e| kernel_error("failed set socket label", &e))?;
        command(tap).output().map_err(|e| kernel_error("cannot start ourselves in a context", &e))
    });
    let output = started
        .map_err(|e| kernel_error("cannot enter the container's network namespace", &e))??;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let msg = format!("failed to create tap {:?} in SELinux context {context:?}", tap.name);
    Err(Error::new(code::KERNEL, msg).with_details(format!("{} ({said})", output.status)))
}

fn command(tap: &Tap<'_>) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(program::NAME).args([COMMAND, tap.name]);
    if tap.multi_queue {
        command.arg("--multi-queue");
    }
    for (option, id) in [("--owner", tap.owner), ("--group", tap.group)] {
        if let Some(id) = id {
            command.args([option, &id.to_string()]);
        }
    }
    command
}

/// The other side: makes the device here and now.
pub fn run_here(tap: &Tap<'_>) -> Result<(), String> {
    tap.create().map_err(|error| kernel_error("cannot make it", &error).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_says_everything() {
        let tap = Tap {
            name: "tap0",
            multi_queue: true,
            owner: Some(0),
            group: Some(107),
            ..Tap::default()
        };
        let command = command(&tap);
        let words: Vec<_> = command.get_args().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(words, ["make-tap", "tap0", "--multi-queue", "--owner", "0", "--group", "107"]);
    }
}
