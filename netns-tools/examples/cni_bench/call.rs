//! One call of a program: in a namespace, timed; and the most memory that it used.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use netns_tools::NetNs;

use crate::Outcome;

/// A program to be called.
#[derive(Clone)]
pub struct Call {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment: nothing else is in it.
    pub env: Vec<(String, String)>,
    /// The file that it reads.
    pub stdin: Option<PathBuf>,
    /// The file that it writes.
    pub stdout: Option<PathBuf>,
}

impl Call {
    fn command(&self) -> io::Result<Command> {
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        command.stdin(match &self.stdin {
            Some(path) => File::open(path)?.into(),
            None => Stdio::null(),
        });
        command.stdout(match &self.stdout {
            Some(path) => File::create(path)?.into(),
            None => Stdio::null(),
        });
        Ok(command)
    }

    /// Calls it in a namespace. It must succeed.
    pub fn run(&self, ns: &NetNs) -> Outcome<Duration> {
        // A child is in the namespace of the thread that starts it.
        ns.run(|| self.run_here())?
    }

    /// Calls it in the namespace that this thread is in.
    pub fn run_here(&self) -> Outcome<Duration> {
        let mut command = self.command()?;
        let start = Instant::now();
        let status = command.spawn()?.wait()?;
        let time = start.elapsed();
        if status.success() { Ok(time) } else { Err(self.failure(&status.to_string())) }
    }

    fn failure(&self, how: &str) -> Box<dyn std::error::Error + Send + Sync> {
        let said = self.stdout.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        format!("{} {:?}: {how}; {}", self.program.display(), self.env, said.unwrap_or_default())
            .into()
    }

    /// Calls it in a namespace; the most memory that it had, in KiB.
    ///
    /// What wait4(2) tells also covers the moment between fork and exec, when the child still has this program's memory. So the
    /// program is stopped right before it ends (`PTRACE_O_TRACEEXIT`), and `/proc` read.
    pub fn peak_memory(&self, ns: &NetNs) -> Outcome<u64> {
        // Whoever starts a traced program must be the thread that waits for it.
        ns.run(|| self.traced())?
    }

    fn traced(&self) -> Outcome<u64> {
        let mut command = self.command()?;
        // SAFETY: between fork and exec only the system call ptrace() is made, which is async-signal-safe.
        unsafe {
            command.pre_exec(|| ptrace(libc::PTRACE_TRACEME, 0, 0));
        }
        let child = command.spawn()?;
        let pid = child.id().cast_signed();
        let mut peak = 0;
        loop {
            let status = wait(pid)?;
            if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 {
                return if peak > 0 { Ok(peak) } else { Err(self.failure("not seen to end")) };
            }
            if !libc::WIFSTOPPED(status) {
                return Err(self.failure(&format!("wait status {status}")));
            }
            let event = status >> 16;
            let signal = match libc::WSTOPSIG(status) {
                libc::SIGTRAP if event == libc::PTRACE_EVENT_EXIT => {
                    peak = memory(pid).unwrap_or(peak);
                    0
                }
                libc::SIGTRAP => {
                    ptrace(libc::PTRACE_SETOPTIONS, pid, libc::PTRACE_O_TRACEEXIT)?;
                    0
                }
                // A signal of its own (Go sends itself some): passed on.
                signal => signal,
            };
            ptrace(libc::PTRACE_CONT, pid, signal)?;
        }
    }
}

/// `VmHWM` of a process, in KiB.
fn memory(pid: libc::pid_t) -> Option<u64> {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"));
    let line = status.ok()?.lines().find_map(|line| line.strip_prefix("VmHWM:").map(str::to_owned));
    line?.trim().trim_end_matches(" kB").parse().ok()
}

fn ptrace(request: libc::c_uint, pid: libc::pid_t, data: i32) -> io::Result<()> {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: the requests made here take numbers only, and none of them writes to this program's memory.
    let result = unsafe { libc::ptrace(request, pid, none, libc::c_long::from(data)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn wait(pid: libc::pid_t) -> io::Result<i32> {
    let mut status = 0;
    // SAFETY: `status` lives and is writable; `pid` is our child, not yet waited for.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    if waited < 0 { Err(io::Error::last_os_error()) } else { Ok(status) }
}
