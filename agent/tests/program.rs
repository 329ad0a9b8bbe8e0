//! The program as a user meets it: its command line, its exit codes, its refusals.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
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

/// The head and body of an answer from a namespace, as soon as somebody answers there.
fn fetch(ns: &TestNetns, address: &str, path: &str) -> String {
    let begun = Instant::now();
    loop {
        let connected = ns.run(|| TcpStream::connect(address));
        if let Ok(mut stream) = connected {
            write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            return answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "nobody answers at {address}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A node of its own: with `lo`, and an agent that writes rules there.
fn on_a_node(folder: &Path, arguments: &[&str]) -> (TestNetns, Child) {
    let ns = TestNetns::new("agent");
    ns.configure("lo", &["10.9.0.1/32", "fd00::1/128"]);
    let child = agent_on(&ns, folder, arguments);
    (ns, child)
}

fn agent_on(ns: &TestNetns, folder: &Path, arguments: &[&str]) -> Child {
    let mut command = ns.command(PROGRAM);
    with_arguments(&mut command, folder).args(arguments).spawn().unwrap()
}

#[test]
fn the_agents_proxy_answers_at_kube_proxys_ports() {
    let folder = tempfile::tempdir().unwrap();
    let (ns, child) = on_a_node(folder.path(), &["--proxy-mode", "nftables"]);
    let _agent = Waiting(child);
    let metrics = |path: &str| fetch(&ns, "127.0.0.1:10249", path);
    assert!(metrics("/proxyMode").ends_with("\r\n\r\nnftables"));
    assert!(metrics("/healthz").ends_with("\r\n\r\nok"));
    let configuration = metrics("/configz");
    for part in
        ["\"mode\":\"nftables\"", "\"clusterCIDR\":\"10.244.0.0/16\"", "\"syncPeriod\":\"1m0s\""]
    {
        assert!(configuration.contains(part), "{part} is not in {configuration}");
    }
    let numbers = metrics("/metrics");
    assert!(
        numbers.contains("\nkubeproxy_sync_proxy_rules_service_changes_pending 0\n"),
        "{numbers}"
    );
    for address in ["10.9.0.1:10256", "[fd00::1]:10256"] {
        for path in ["/healthz", "/livez"] {
            let answer = fetch(&ns, address, path);
            assert!(
                answer.starts_with("HTTP/1.0 200") && answer.contains("\"healthy\":true"),
                "{answer}"
            );
        }
    }
    assert!(ns.run(|| TcpStream::connect("10.9.0.1:10249")).is_err(), "metrics are for this host");
}

/// As beside a kube-proxy, or another agent of the same network namespace.
#[test]
fn ports_that_are_taken_are_told_and_those_that_are_empty_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let ns = TestNetns::new("agent");
    ns.configure("lo", &[]);
    let taken = ns.run(|| TcpListener::bind("127.0.0.1:10249").unwrap());
    let hard = ["--proxy-bind-address-hard-fail", "true"];
    let refused = agent_on(&ns, folder.path(), &hard).wait_with_output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    let want = "the metrics server cannot listen at 127.0.0.1:10249; free the port (`ss -ltnp sport = :10249`; kube-proxy has the same \
                one), set proxy.metrics_bind_address, or set proxy.bind_address_hard_fail to false";
    assert!(said.contains(want), "{said}");

    let soft = Waiting(agent_on(&ns, folder.path(), &["--proxy-healthz-bind-address", ""]));
    let told = status(&folder.path().join("agent.sock"));
    let want =
        "problem: the metrics server cannot listen at 127.0.0.1:10249: Address already in use";
    assert!(told.contains(want), "{told}");
    assert!(ns.run(|| TcpStream::connect("127.0.0.1:10256")).is_err());
    drop(taken);
    assert!(fetch(&ns, "127.0.0.1:10249", "/proxyMode").ends_with("iptables"));
    drop(soft);
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
