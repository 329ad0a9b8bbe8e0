//! A container's output, written in the CRI log format by a sub-mode of this program.
//!
//! containerd starts it once per container (`binary://`): it reads the container's output from file descriptors 3 and 4
//! until both end. It lives as long as the container, whatever becomes of the agent and of containerd.

mod format;
mod rotate;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd};
use std::path::Path;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use format::{Formatter, Stream};
use rotate::LogFile;

/// The argument that selects this mode; the log's path follows.
pub const COMMAND: &str = "container-log";

/// Bytes read at once, and the longest piece of a line in one record (the kubelet's readers expect 16 KiB).
const CHUNK: usize = 16 << 10;

/// Writes the output of one container to `path` until it ends.
pub fn writer_main(path: &Path) -> ExitCode {
    // SAFETY: asking for a descriptor's flags changes nothing; one that is not open is answered with an error.
    let is_open = |fd| fcntl(unsafe { BorrowedFd::borrow_raw(fd) }, FcntlArg::F_GETFD).is_ok();
    if !(3..=5).all(is_open) {
        eprintln!(
            "heddle-agent {COMMAND} is started by containerd, with a container's output as descriptors 3 and 4"
        );
        return ExitCode::from(2);
    }
    // SAFETY: containerd opens 3, 4 and 5 for this process alone, and nothing else here has touched them.
    let (stdout, stderr, ready) =
        unsafe { (File::from_raw_fd(3), File::from_raw_fd(4), File::from_raw_fd(5)) };
    // whoever stops a container signals its process group or the shim's; the last words must still be written
    // SAFETY: SIG_IGN installs no handler.
    unsafe {
        nix::sys::signal::signal(
            nix::sys::signal::Signal::SIGTERM,
            nix::sys::signal::SigHandler::SigIgn,
        )
        .ok();
        nix::sys::signal::signal(
            nix::sys::signal::Signal::SIGINT,
            nix::sys::signal::SigHandler::SigIgn,
        )
        .ok();
    }
    let mut log = LogFile::open(path);
    // closing it tells containerd that the container may start
    drop(ready);
    match copy([(stdout, Stream::Stdout), (stderr, Stream::Stderr)], &mut log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Drains both streams to their ends.
fn copy(inputs: [(File, Stream); 2], log: &mut LogFile) -> Result<(), Errno> {
    let mut open: Vec<(File, Formatter)> =
        inputs.into_iter().map(|(file, stream)| (file, Formatter::new(stream))).collect();
    let mut chunk = vec![0; CHUNK];
    while !open.is_empty() {
        let mut fds: Vec<_> =
            open.iter().map(|(file, _)| PollFd::new(file.as_fd(), PollFlags::POLLIN)).collect();
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        drop(fds);
        let mut index = 0;
        open.retain_mut(|(file, formatter)| {
            index += 1;
            if !ready[index - 1] {
                return true;
            }
            let count = match file.read(&mut chunk) {
                Ok(count) => count,
                Err(error)
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) =>
                {
                    return true;
                }
                // a pipe has no other errors; whatever it may be, there is nothing more to come
                Err(_) => 0,
            };
            let time = jiff::Timestamp::now();
            let records = if count == 0 {
                formatter.finish(time)
            } else {
                formatter.push(&chunk[..count], time)
            };
            log.append(&records);
            count > 0
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn both_streams_end_up_in_one_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/0.log");
        let (out_reader, mut out) = std::io::pipe().unwrap();
        let (err_reader, mut err) = std::io::pipe().unwrap();
        let file = |reader: std::io::PipeReader| File::from(std::os::fd::OwnedFd::from(reader));
        let mut log = LogFile::open(&path);
        let writer = std::thread::spawn(move || {
            out.write_all(b"hello\nworld").unwrap();
            err.write_all(b"oh\n").unwrap();
        });
        copy([(file(out_reader), Stream::Stdout), (file(err_reader), Stream::Stderr)], &mut log)
            .unwrap();
        writer.join().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let mut endings: Vec<_> =
            text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        endings.sort_unstable();
        assert_eq!(endings, ["stderr F oh", "stdout F hello", "stdout F world"]);
    }
}
