//! Running another plugin's file: input and output at once, bounded in size and in time.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// The most that is kept of a plugin's standard output, in bytes; more is an error.
pub const MAX_STDOUT: usize = 4 << 20;
/// The most that is kept of its standard error, in bytes; the rest is dropped.
pub const MAX_STDERR: usize = 16 << 10;

/// Why a program gave no output.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It could not be started or talked to.
    #[error("cannot run the program")]
    Io(#[from] io::Error),
    /// It ran too long and was killed.
    #[error("it did not end within {0:?} and was killed")]
    TimedOut(Duration),
    /// It wrote too much and was killed.
    #[error("it wrote more than {MAX_STDOUT} bytes to standard output and was killed")]
    TooMuchOutput,
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
    for (key, _) in
        std::env::vars_os().filter(|(key, _)| key.as_encoded_bytes().starts_with(b"CNI_"))
    {
        command.env_remove(key);
    }
    command.envs(variables.iter().map(|(key, value)| (key, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if timeout.is_some() {
        // A group of its own, so that what the plugin started is killed with it.
        command.process_group(0);
    }
    let mut child = command.spawn()?;
    let outcome = converse(&mut child, stdin, timeout);
    if outcome.is_err() {
        kill(&mut child, timeout.is_some());
    }
    let (stdout, stderr) = outcome?;
    Ok(Output { status: child.wait()?, stdout, stderr })
}

fn kill(child: &mut Child, own_group: bool) {
    if own_group && let Ok(pid) = i32::try_from(child.id()) {
        killpg(Pid::from_raw(pid), Signal::SIGKILL).ok();
    }
    child.kill().ok();
    child.wait().ok();
}

/// Feeds standard input and drains both outputs by one poll loop: neither side can wait for the other.
fn converse(
    child: &mut Child,
    input: &[u8],
    timeout: Option<Duration>,
) -> Result<(Vec<u8>, Vec<u8>), ExecError> {
    let deadline = timeout.map(|limit| (Instant::now() + limit, limit));
    let mut stdin = child.stdin.take();
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let (mut rest, mut out, mut err) = (input, Vec::new(), Vec::new());
    while stdout.is_some() || stderr.is_some() {
        let mut fds = Vec::with_capacity(3);
        if let Some(pipe) = &stdout {
            fds.push(PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
        }
        if let Some(pipe) = &stderr {
            fds.push(PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
        }
        if let Some(pipe) = &stdin {
            fds.push(PollFd::new(pipe.as_fd(), PollFlags::POLLOUT));
        }
        wait(&mut fds, deadline)?;
        let mut ready =
            fds.iter().map(|fd| fd.any().unwrap_or(false)).collect::<Vec<_>>().into_iter();
        let mut turn = |open: bool| open && ready.next().unwrap_or(false);
        let (out_ready, err_ready, in_ready) =
            (turn(stdout.is_some()), turn(stderr.is_some()), turn(stdin.is_some()));
        if out_ready && !drain(stdout.as_mut(), &mut out, MAX_STDOUT + 1)? {
            stdout = None;
        }
        if err_ready && !drain(stderr.as_mut(), &mut err, MAX_STDERR)? {
            stderr = None;
        }
        if in_ready && !feed(stdin.as_mut(), &mut rest)? {
            stdin = None;
        }
        if out.len() > MAX_STDOUT {
            return Err(ExecError::TooMuchOutput);
        }
    }
    drop(stdin);
    wait_for_end(child, deadline)?;
    Ok((out, err))
}

fn wait(fds: &mut [PollFd<'_>], deadline: Option<(Instant, Duration)>) -> Result<(), ExecError> {
    let time = match deadline {
        None => PollTimeout::NONE,
        Some((at, limit)) => {
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ExecError::TimedOut(limit));
            }
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        }
    };
    match poll(fds, time) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(ExecError::Io(error.into())),
    }
}

/// A program may close its outputs and yet not end.
fn wait_for_end(child: &mut Child, deadline: Option<(Instant, Duration)>) -> Result<(), ExecError> {
    let Some((at, limit)) = deadline else { return Ok(()) };
    let mut pause = Duration::from_micros(50);
    while child.try_wait()?.is_none() {
        if Instant::now() >= at {
            return Err(ExecError::TimedOut(limit));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    Ok(())
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
/// ready takes at least `PIPE_BUF` bytes without blocking, so no more than that is offered.
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
mod tests {
    use super::*;

    fn shell(script: &str, stdin: &[u8], timeout: Option<Duration>) -> Result<Output, ExecError> {
        let file = tempfile::Builder::new().suffix(".sh").tempfile().unwrap();
        std::fs::write(file.path(), format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        // closed before it is run: a file that is open for writing cannot be executed
        run(&file.into_temp_path(), &[("CNI_COMMAND".into(), "ADD".into())], stdin, timeout)
    }

    #[test]
    fn large_input_and_output_do_not_lock_up() {
        let input = vec![b'x'; 1 << 20];
        let output =
            shell("cat; echo $CNI_COMMAND >&2", &input, Some(Duration::from_mins(1))).unwrap();
        assert_eq!(
            (output.stdout.len(), output.stderr.as_slice()),
            (input.len(), b"ADD\n".as_slice())
        );
    }

    #[test]
    fn a_program_that_reads_nothing_is_fine() {
        let output = shell("exit 3", &vec![b'x'; 1 << 20], None).unwrap();
        assert_eq!(output.status.code(), Some(3));
    }

    #[test]
    fn a_hanging_program_is_killed_with_its_children() {
        let limit = Some(Duration::from_millis(300));
        assert!(matches!(shell("sleep 600 & sleep 600", b"", limit), Err(ExecError::TimedOut(_))));
        assert!(matches!(
            shell("exec >&- 2>&-; sleep 600", b"", limit),
            Err(ExecError::TimedOut(_))
        ));
    }

    #[test]
    fn endless_output_is_cut() {
        let limit = Some(Duration::from_mins(1));
        assert!(matches!(shell("yes", b"", limit), Err(ExecError::TooMuchOutput)));
    }
}
