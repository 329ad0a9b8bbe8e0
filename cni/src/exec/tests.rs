use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

const PLENTY: Option<Duration> = Some(Duration::from_mins(1));

/// Runs a script; the directory is there for what it writes.
struct Script {
    directory: tempfile::TempDir,
}

impl Script {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("plugin");
        fs::write(&file, format!("#!/bin/sh\ncd {}\n{text}\n", directory.path().display()))
            .unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        Self { directory }
    }

    fn run(&self, stdin: &[u8], timeout: Option<Duration>) -> Result<Output, ExecError> {
        let variables = [("CNI_COMMAND".to_owned(), "ADD".to_owned())];
        run(&self.directory.path().join("plugin"), &variables, stdin, timeout)
    }

    fn pid(&self, file: &str) -> i32 {
        fs::read_to_string(self.directory.path().join(file)).unwrap().trim().parse().unwrap()
    }
}

fn shell(text: &str, stdin: &[u8], timeout: Option<Duration>) -> Result<Output, ExecError> {
    Script::new(text).run(stdin, timeout)
}

/// Whether a process is there and not merely waiting to be collected.
fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Killing is not instantaneous.
fn ends(pid: i32) -> bool {
    for _ in 0..500 {
        if !runs(pid) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

#[test]
fn large_input_and_output_do_not_lock_up() {
    let input = vec![b'x'; 2 << 20];
    for timeout in [PLENTY, None] {
        let output = shell("cat; echo $CNI_COMMAND >&2", &input, timeout).unwrap();
        assert_eq!(output.stdout.len(), input.len());
        assert_eq!(output.stderr, b"ADD\n");
    }
}

#[test]
fn a_program_that_reads_nothing_is_fine() {
    let output = shell("exit 3", &vec![b'x'; 1 << 20], None).unwrap();
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn a_hanging_program_is_killed_with_its_children() {
    let limit = Some(Duration::from_millis(300));
    let script = Script::new(
        "echo waiting for a server >&2; sleep 600 & echo $! >child; echo $$ >own; sleep 600",
    );
    let error = script.run(b"", limit).unwrap_err();
    assert_eq!(
        error.to_string(),
        "it did not end within 300ms and was killed; standard error: waiting for a server"
    );
    assert!(ends(script.pid("own")) && ends(script.pid("child")));
    assert!(matches!(
        shell("exec >&- 2>&-; sleep 600", b"", limit),
        Err(ExecError::TimedOut { .. })
    ));
}

#[test]
fn what_a_program_leaves_running_is_not_waited_for() {
    for timeout in [PLENTY, None] {
        let script = Script::new("sleep 600 & echo $! >child; echo answer");
        let before = Instant::now();
        let output = script.run(b"", timeout).unwrap();
        let child = script.pid("child");
        assert!(runs(child), "it is the plugin's own affair");
        nix::sys::signal::kill(Pid::from_raw(child), Signal::SIGKILL).unwrap();
        assert_eq!(output.stdout, b"answer\n");
        assert!(before.elapsed() < Duration::from_secs(30));
    }
}

#[test]
fn a_chatty_rest_is_not_waited_for_either() {
    let script = Script::new(
        "(echo $$; while :; do echo x; sleep 0.01; done) >&2 & echo $! >child; echo answer",
    );
    let output = script.run(b"", PLENTY).unwrap();
    nix::sys::signal::kill(Pid::from_raw(script.pid("child")), Signal::SIGKILL).unwrap();
    assert_eq!(output.stdout, b"answer\n");
}

#[test]
fn endless_output_is_cut() {
    for timeout in [PLENTY, None] {
        let error = shell("echo so much >&2; exec yes", b"", timeout).unwrap_err();
        assert!(
            matches!(&error, ExecError::TooMuchOutput { stderr } if stderr == "so much"),
            "{error}"
        );
    }
}

#[test]
fn standard_error_is_bounded_and_its_beginning_kept() {
    let output =
        shell("echo first >&2; head -c 10000000 /dev/zero >&2; echo out", b"", PLENTY).unwrap();
    assert_eq!(
        (output.stderr.len(), &output.stderr[..6], output.stdout.as_slice()),
        (MAX_STDERR, &b"first\n"[..], &b"out\n"[..])
    );
}

#[test]
fn a_file_that_is_being_written_is_tried_again() {
    let script = Script::new("echo ok");
    let writing =
        fs::OpenOptions::new().append(true).open(script.directory.path().join("plugin")).unwrap();
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        drop(writing);
    });
    assert_eq!(script.run(b"", PLENTY).unwrap().stdout, b"ok\n");
    writer.join().unwrap();
}

#[test]
fn a_program_that_cannot_be_started_says_why() {
    let error = run(Path::new("/nowhere/plugin"), &[], b"", None).unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("No such file"));
    let nul = [("CNI_ARGS".to_owned(), "a\0b".to_owned())];
    assert!(matches!(run(Path::new("/bin/true"), &nul, b"", None), Err(ExecError::Io(_))));
}
