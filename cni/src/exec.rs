//! Running another plugin's file: input and output at once, bounded in size and in time.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::quote::excerpt;

/// The most that is kept of a plugin's standard output, in bytes; more is an error.
pub const MAX_STDOUT: usize = 4 << 20;
/// The most that is kept of its standard error, in bytes; the rest is dropped.
pub const MAX_STDERR: usize = 16 << 10;

/// How long output is still awaited of a program that has ended: something that it left running holds its pipes open.
const LINGER: Duration = Duration::from_millis(100);
/// How often a file is tried that is being written at this moment (`ETXTBSY`): an installation that is under way.
const BUSY_TRIES: u32 = 6;
/// The first pause between such tries; it doubles each time.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Why a program gave no output.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It could not be started or talked to.
    #[error("cannot run the program")]
    Io(#[from] io::Error),
    /// It ran too long and was killed.
    #[error("it did not end within {limit:?} and was killed{}", said(stderr))]
    TimedOut {
        /// How long it was given.
        limit: Duration,
        /// The beginning of what it wrote to standard error.
        stderr: String,
    },
    /// It wrote too much and was killed.
    #[error(
        "it wrote more than {MAX_STDOUT} bytes to standard output and was killed{}",
        said(stderr)
    )]
    TooMuchOutput {
        /// The beginning of what it wrote to standard error.
        stderr: String,
    },
}

fn said(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!("; standard error: {stderr}") }
}

/// Runs `program` with exactly these `CNI_…` variables on top of the inherited environment. `timeout: None` waits for ever:
/// for a plugin whose own caller bounds it.
pub fn run(
    program: &Path,
    variables: &[(String, String)],
    stdin: &[u8],
    timeout: Option<Duration>,
) -> Result<Output, ExecError> {
    let mut command = Command::new(program);
    let inherited = std::env::vars_os().map(|(key, _)| key);
    for key in inherited.filter(|key| key.as_encoded_bytes().starts_with(b"CNI_")) {
        command.env_remove(key);
    }
    command.envs(variables.iter().map(|(key, value)| (key, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if timeout.is_some() {
        // A group of its own, so that what the plugin started is killed with it.
        command.process_group(0);
    }
    let deadline = timeout.map(|limit| Deadline { at: Instant::now() + limit, limit });
    let mut conversation = Conversation::new(spawn(&mut command)?, stdin);
    match conversation.hold(deadline) {
        Ok(()) => Ok(Output {
            status: conversation.child.wait()?,
            stdout: conversation.out,
            stderr: conversation.err,
        }),
        Err(end) => {
            conversation.kill(timeout.is_some());
            let stderr = excerpt(&conversation.err);
            Err(match end {
                Cut::Io(error) => ExecError::Io(error),
                Cut::TooLate(limit) => ExecError::TimedOut { limit, stderr },
                Cut::TooMuch => ExecError::TooMuchOutput { stderr },
            })
        }
    }
}

fn spawn(command: &mut Command) -> io::Result<Child> {
    let mut pause = BUSY_PAUSE;
    for _ in 1..BUSY_TRIES {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(pause);
                pause *= 2;
            }
            outcome => return outcome,
        }
    }
    command.spawn()
}

#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    limit: Duration,
}

/// Why a conversation was broken off.
enum Cut {
    Io(io::Error),
    TooLate(Duration),
    TooMuch,
}

impl From<io::Error> for Cut {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A running program, what it has still to read, and what it has written.
struct Conversation<'a> {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    rest: &'a [u8],
    out: Vec<u8>,
    err: Vec<u8>,
}

impl<'a> Conversation<'a> {
    fn new(mut child: Child, rest: &'a [u8]) -> Self {
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        Self { child, stdin, stdout, stderr, rest, out: Vec::new(), err: Vec::new() }
    }

    /// Feeds standard input and drains both outputs by one poll loop, until the program has ended: neither side can wait for
    /// the other.
    fn hold(&mut self, deadline: Option<Deadline>) -> Result<(), Cut> {
        let mut ended = None;
        while self.stdout.is_some() || self.stderr.is_some() {
            let quiet = self.exchange(pause(deadline)?)?;
            if self.out.len() > MAX_STDOUT {
                return Err(Cut::TooMuch);
            }
            if ended.is_none() && self.child.try_wait()?.is_some() {
                ended = Some(Instant::now());
            }
            // Whatever it left running may keep the pipes open, and is not waited for.
            if ended.is_some_and(|at: Instant| quiet || at.elapsed() > LINGER) {
                break;
            }
        }
        self.stdin = None;
        self.wait_for_end(deadline)
    }

    /// Waits for any of the pipes and serves those that are ready. `true`: none was for some time.
    fn exchange(&mut self, time: PollTimeout) -> Result<bool, Cut> {
        let mut fds = Vec::with_capacity(3);
        if let Some(pipe) = &self.stdout {
            fds.push(PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
        }
        if let Some(pipe) = &self.stderr {
            fds.push(PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
        }
        if let Some(pipe) = &self.stdin {
            fds.push(PollFd::new(pipe.as_fd(), PollFlags::POLLOUT));
        }
        match poll(&mut fds, time) {
            Ok(0) => return Ok(true),
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => return Ok(false),
            Err(error) => return Err(Cut::Io(error.into())),
        }
        let ready: Vec<_> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        let mut ready = ready.into_iter();
        // in the order in which they were pushed
        let mut turn = |open: bool| open && ready.next().unwrap_or(false);
        let (out, err) = (turn(self.stdout.is_some()), turn(self.stderr.is_some()));
        let input = turn(self.stdin.is_some());
        if out && !drain(self.stdout.as_mut(), &mut self.out, MAX_STDOUT + 1)? {
            self.stdout = None;
        }
        if err && !drain(self.stderr.as_mut(), &mut self.err, MAX_STDERR)? {
            self.stderr = None;
        }
        if input && !feed(self.stdin.as_mut(), &mut self.rest)? {
            self.stdin = None;
        }
        Ok(false)
    }

    /// A program may close its outputs and yet not end.
    fn wait_for_end(&mut self, deadline: Option<Deadline>) -> Result<(), Cut> {
        let Some(Deadline { at, limit }) = deadline else { return Ok(()) };
        let mut pause = Duration::from_micros(50);
        while self.child.try_wait()?.is_none() {
            if Instant::now() >= at {
                return Err(Cut::TooLate(limit));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        Ok(())
    }

    fn kill(&mut self, own_group: bool) {
        // Once it is waited for, its number may be another process'.
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        if own_group && let Ok(pid) = i32::try_from(self.child.id()) {
            killpg(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// How long one poll may wait: to the deadline, but not so long that the end of the program goes unnoticed.
fn pause(deadline: Option<Deadline>) -> Result<PollTimeout, Cut> {
    let Some(Deadline { at, limit }) = deadline else {
        return Ok(PollTimeout::try_from(LINGER).unwrap_or(PollTimeout::MAX));
    };
    let left = at.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Cut::TooLate(limit));
    }
    // rounded up: a poll of 0 ms would spin
    let slice = (left + Duration::from_millis(1)).min(LINGER);
    Ok(PollTimeout::try_from(slice).unwrap_or(PollTimeout::MAX))
}

/// Reads once; `false` at the end. What exceeds `keep` is dropped.
fn drain(pipe: Option<&mut impl Read>, into: &mut Vec<u8>, keep: usize) -> io::Result<bool> {
    let Some(pipe) = pipe else { return Ok(false) };
    let mut chunk = [0; 16 << 10];
    let count = match pipe.read(&mut chunk) {
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
        Err(error) => return Err(error),
    };
    let room = keep.saturating_sub(into.len()).min(count);
    into.extend_from_slice(&chunk[..room]);
    Ok(count > 0)
}

/// Writes once; `false` when all is written or nobody reads any more, which is the program's good right. A pipe that is
/// ready takes at least `PIPE_BUF` bytes without blocking (pipe(7)), so no more than that is offered.
fn feed(pipe: Option<&mut impl Write>, rest: &mut &[u8]) -> io::Result<bool> {
    let Some(pipe) = pipe else { return Ok(false) };
    let count = match pipe.write(&rest[..rest.len().min(4096)]) {
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(false),
        Err(error) => return Err(error),
    };
    *rest = &rest[count..];
    Ok(!rest.is_empty())
}

#[cfg(test)]
#[path = "exec/tests.rs"]
mod tests;
