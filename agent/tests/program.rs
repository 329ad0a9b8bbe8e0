//! The program as a user meets it: its command line, its exit codes, its refusals.

use std::fs;
use std::io::{BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use netns_tools::testing::TestNetns;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PROGRAM: &str = env!("CARGO_BIN_EXE_heddle-agent");

fn agent(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).output().unwrap()
}

#[track_caller]
fn expect(args: &[&str], code: i32, said: &[&str]) {
    let output = agent(args);
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    for words in said {
        assert!(text.contains(words), "{args:?}: {words}\n---\n{text}");
    }
}

#[test]
fn exit_codes() {
    expect(&["--version"], 0, &["heddle-agent "]);
    expect(&["--help"], 0, &["Exit codes: 0 done; 1 failed; 2 "]);
    expect(&["run", "--help"], 0, &["--paths-manifests", "Flags win over the configuration file"]);
    expect(&[], 2, &["Usage:"]);
    expect(&["dance"], 2, &["dance"]);
    expect(&["run", "--no-such-flag"], 2, &["--no-such-flag"]);
    expect(&["run", "--config", "/nowhere.toml"], 2, &["cannot read /nowhere.toml: No such file"]);
    expect(&["status", "--socket", "/nowhere.sock"], 1, &["is heddle-agent running"]);
    expect(&["container-log"], 2, &[]);
    expect(
        &["run", "--log-level", "loud", "--network-pod-cidr", "10.96.0.0/16", "--paths-state", "x"],
        2,
        &["--log-level: ", "--paths-state: ", "overlaps network.pod_cidr"],
    );
}

#[test]
fn mistakes_of_file_and_manifests_are_told_with_their_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("agent.toml"), "node_name = \"n\"\n[path]\nstate = \"/x\"\n").unwrap();
    let config = path("agent.toml");
    expect(&["check-config", "--config", &config], 2, &["agent.toml:2: unknown key path"]);
    fs::create_dir(path("m")).unwrap();
    fs::write(path("m/a.yaml"), "---\n---\nkind: Pod\napiVersion: v1\nmetadata: {name: A}\n")
        .unwrap();
    let manifests = path("m");
    let said = ["m/a.yaml:3: Pod default/A: metadata.name: \"A\"", "spec: is needed"];
    expect(&["check-config", "--paths-manifests", &manifests, "--node-name", "n"], 2, &said);
}

/// An agent that waits for a containerd that never comes, ended when this goes out of scope.
struct Waiting(Child);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    with_arguments(&mut command, folder).args(["--proxy-enabled", "false"]);
    command
}

fn with_arguments<'a>(command: &'a mut Command, folder: &Path) -> &'a mut Command {
    let at = |name: &str| folder.join(name).display().to_string();
    command
        .args(["run", "--node-name", "n", "--health-address", ""])
        .args([
            "--paths-state",
            &at("state"),
            "--paths-manifests",
            &at("m"),
            "--paths-logs",
            &at("logs"),
        ])
        .args(["--paths-socket", &at("agent.sock"), "--containerd-socket", &at("none.sock")])
        .args(["--cni-conf-dir", &at("net.d"), "--cni-cache-dir", &at("cache")])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
}

/// Waits until an agent answers; what it says.
fn status(socket: &Path) -> String {
    let begun = Instant::now();
    loop {
        let answer = agent(&["status", "--socket", socket.to_str().unwrap()]);
        if answer.status.code() == Some(0) {
            return String::from_utf8(answer.stdout).unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "the agent does not answer");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Two would each remove the other's rules.
#[test]
fn a_second_proxy_of_a_network_namespace_is_refused() {
    let ns = TestNetns::new("proxies");
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let spawn = |folder: &Path, mode: &str| {
        let mut command = ns.command(PROGRAM);
        with_arguments(&mut command, folder).args(["--proxy-mode", mode]).spawn().unwrap()
    };
    let first = Waiting(spawn(one.path(), "nftables"));
    let said = status(&one.path().join("agent.sock"));
    assert!(said.contains("proxy nftables, last sync never"), "containerd is not there: {said}");
    let second = spawn(other.path(), "iptables").wait_with_output().unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{said}");
    let pid = first.0.id();
    assert!(said.contains(&format!("(pid {pid}) runs in this network namespace")), "{said}");
}

fn start(folder: &Path) -> Child {
    command(folder).spawn().unwrap()
}

#[test]
fn a_second_agent_is_refused_and_a_first_one_ends_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    let mut first = Waiting(start(folder.path()));
    status(&socket);
    let second = start(folder.path()).wait_with_output().unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("another agent (pid {})", first.0.id())), "{said}");
    // it waits for containerd, which must not keep it from ending
    kill(Pid::from_raw(first.0.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(first.0.wait().unwrap().code(), Some(0));
    assert!(!socket.exists());
}

/// What systemd, or whoever supervises the agent, sees of it: readiness, the watchdog, SIGHUP, the end.
#[test]
fn a_supervisor_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let notices = UnixDatagram::bind(folder.path().join("notify.sock")).unwrap();
    notices.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let receive = || {
        let mut buffer = [0; 4096];
        let count = notices.recv(&mut buffer).expect("the agent says something");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    let mut command = command(folder.path());
    command.env("NOTIFY_SOCKET", folder.path().join("notify.sock"));
    command.env("WATCHDOG_USEC", "400000");
    let mut agent = Waiting(command.spawn().unwrap());
    let mut log = BufReader::new(agent.0.stderr.take().unwrap());
    let ready = receive();
    assert!(ready.contains("READY=1") && ready.contains("STATUS="), "{ready}");
    assert!(receive().contains("WATCHDOG=1"));
    let pid = Pid::from_raw(agent.0.id().cast_signed());
    // it still waits for containerd; a signal that came too early would be kept for later
    kill(pid, Signal::SIGHUP).unwrap();
    kill(pid, Signal::SIGTERM).unwrap();
    let mut notice = receive();
    while notice.contains("WATCHDOG=1") {
        notice = receive();
    }
    assert!(notice.contains("STOPPING=1"), "{notice}");
    assert_eq!(agent.0.wait().unwrap().code(), Some(0), "SIGHUP does not end it");
    let mut said = String::new();
    log.read_to_string(&mut said).unwrap();
    assert!(!said.contains("panicked"), "{said}");
}
