//! Tests of every layer together: real kernel, containerd, packets.
//!
//! What is here is the harness: it starts the demo with the scripts that a user runs, asks the agent, sends requests from
//! inside of namespaces, and takes everything down again.

pub mod api_server;
pub mod cluster;
pub mod containerd;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use netns_tools::NetNs;
use serde_json::Value;

/// Where the demo keeps everything.
pub const DEMO: &str = "/var/lib/heddle-demo";
/// The demo agent's socket.
pub const SOCKET: &str = "/run/heddle-demo/agent.sock";
/// The namespace that is the demo's node.
pub const NODE: &str = "heddle-node";
/// The node's address on its link to the host.
pub const NODE_ADDRESS: &str = "198.18.77.2";
/// How long anything may take on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The project's folder.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The folder of the programs as they are shipped.
pub fn bin_dir() -> PathBuf {
    std::env::var_os("HEDDLE_BIN_DIR").map_or_else(|| project().join("target/dist"), PathBuf::from)
}

/// Runs a command and returns its standard output.
///
/// # Panics
/// When it fails, with all that it said.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = output(command);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?} failed ({})\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Runs a command to its end.
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"))
}

/// Tries until there is an answer.
///
/// # Panics
/// When there is none in time.
#[track_caller]
pub fn wait_until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = attempt() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The demo, running. Only one exists on a machine at a time; others wait for it.
#[derive(Debug)]
pub struct Demo {
    /// The namespace that takes the host's place, for a demo with `--host`.
    host: Option<PathBuf>,
    _alone: Alone,
}

/// While it lives, no other test of this machine uses the demo, or a containerd at the usual place.
#[derive(Debug)]
pub struct Alone(#[expect(dead_code, reason = "held, not read: unlocks on drop")] File);

impl Alone {
    /// Waits until nobody else has it.
    #[track_caller]
    pub fn wait() -> Self {
        let lock = std::env::temp_dir().join("heddle-demo.lock");
        let alone = File::create(&lock)
            .unwrap_or_else(|error| panic!("cannot open {}: {error}", lock.display()));
        alone.lock().unwrap_or_else(|error| panic!("cannot lock {}: {error}", lock.display()));
        Self(alone)
    }
}

impl Demo {
    /// Starts the demo with `ci/up`.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn up() -> Self {
        Self::start(None, Alone::wait())
    }

    /// Starts the demo with `ci/up --host`, where a namespace takes the host's place: its network is changed, not the
    /// machine's.
    #[track_caller]
    pub fn up_on(host: &Path) -> Self {
        Self::start(Some(host.to_owned()), Alone::wait())
    }

    /// As [`Demo::up`], for a test that has kept others out already.
    #[track_caller]
    pub fn start(host: Option<PathBuf>, alone: Alone) -> Self {
        // built first, so that it is taken down if the start fails half-way
        let demo = Self { host, _alone: alone };
        run(&mut demo.up_again());
        demo
    }

    /// The call of `ci/up` that makes this demo, or finds that it is up.
    pub fn up_again(&self) -> Command {
        let mut command = self.script("ci/up");
        if self.host.is_some() {
            command.arg("--host");
        }
        command.arg("--bin-dir").arg(bin_dir());
        command
    }

    /// Takes the demo down before its time; twice is no mistake.
    pub fn down(&self) {
        run(&mut self.script("ci/down"));
    }

    fn script(&self, script: &str) -> Command {
        let script = project().join(script);
        let Some(host) = &self.host else { return Command::new(script) };
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", host.display())).arg(script);
        command
    }

    /// What the agent says of itself; `None` if it does not run.
    pub fn try_status(&self) -> Option<Value> {
        let mut command = Command::new(bin_dir().join("heddle-agent"));
        let output = output(command.args(["status", "-o", "json", "--socket", SOCKET]));
        serde_json::from_slice(&output.stdout).ok()
    }

    /// What the agent says of itself.
    #[track_caller]
    pub fn status(&self) -> Value {
        wait_until("the agent's status", || self.try_status())
    }

    /// The status of one pod.
    pub fn pod(&self, name: &str) -> Option<Value> {
        self.status()["pods"].as_array()?.iter().find(|pod| pod["name"] == name).cloned()
    }

    /// Waits until a pod runs.
    #[track_caller]
    pub fn running_pod(&self, name: &str) -> Value {
        wait_until(&format!("pod {name} to run"), || {
            self.pod(name).filter(|pod| pod["containers"][0]["state"] == "running")
        })
    }

    /// The cluster address of a service, once it has this many endpoints.
    #[track_caller]
    pub fn service(&self, name: &str, endpoints: usize) -> String {
        wait_until(&format!("service {name} to have {endpoints} endpoints"), || {
            let status = self.status();
            let service = status["services"]
                .as_array()?
                .iter()
                .find(|service| service["name"] == name)?
                .clone();
            let found = service["ports"][0]["endpoints"].as_array()?.len();
            (found == endpoints)
                .then(|| service["cluster_ip"].as_str().unwrap_or_default().to_owned())
        })
    }

    /// Writes a manifest.
    pub fn write_manifest(&self, file: &str, text: &str) {
        let path = self.manifest(file);
        fs::write(&path, text)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }

    /// The path of a manifest.
    pub fn manifest(&self, file: &str) -> PathBuf {
        Path::new(DEMO).join("manifests").join(file)
    }

    /// The node's namespace.
    pub fn node(&self) -> NetNs {
        NetNs::named(NODE).unwrap_or_else(|error| panic!("no node: {error}"))
    }

    /// The namespace of a pod.
    #[track_caller]
    pub fn pod_netns(&self, name: &str) -> NetNs {
        let pod = self.running_pod(name);
        let netns = format!("heddle-{}", pod["uid"].as_str().unwrap_or_default());
        NetNs::named(&netns).unwrap_or_else(|error| panic!("no namespace of pod {name}: {error}"))
    }

    /// The namespace of a pod that a status told of, when there is no agent to ask.
    pub fn pod_netns_without_agent(&self, status: &Value, name: &str) -> NetNs {
        let pod = status["pods"].as_array().into_iter().flatten().find(|pod| pod["name"] == name);
        let uid = pod.and_then(|pod| pod["uid"].as_str()).unwrap_or_default();
        NetNs::named(&format!("heddle-{uid}"))
            .unwrap_or_else(|error| panic!("no namespace of pod {name}: {error}"))
    }

    /// The node's rules.
    #[track_caller]
    pub fn rules(&self) -> String {
        run(Command::new("nsenter").arg(format!("--net=/run/netns/{NODE}")).arg("iptables-save"))
    }

    /// Starts the agent again after it was killed, as its supervisor would.
    pub fn start_agent(&self) {
        let log = File::options().append(true).open(Path::new(DEMO).join("agent.log"));
        let log = log.unwrap_or_else(|error| panic!("cannot open the agent's log: {error}"));
        let mut command = Command::new("setsid");
        command.args(["--fork", "nsenter"]).arg(format!("--net=/run/netns/{NODE}"));
        command
            .arg(bin_dir().join("heddle-agent"))
            .args(["run", "--config"])
            .arg(Path::new(DEMO).join("agent.toml"));
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).status();
        started.unwrap_or_else(|error| panic!("cannot start the agent: {error}"));
        let pid =
            wait_until("the agent to answer", || self.try_status())["node"]["pid"].to_string();
        // `ci/down` ends the agent that is recorded: its pid, and when it started
        let line = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let start = line
            .rsplit(") ")
            .next()
            .and_then(|fields| fields.split(' ').nth(19))
            .unwrap_or_default();
        fs::write(Path::new(DEMO).join("agent.pid"), format!("{pid} {start}\n"))
            .unwrap_or_else(|error| panic!("cannot record the agent: {error}"));
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(Path::new(DEMO).join("agent.log")).unwrap_or_default();
            let tail: Vec<_> = log.lines().rev().take(40).collect();
            eprintln!(
                "the agent's last words:\n{}",
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
        let down = output(&mut self.script("ci/down"));
        if !down.status.success() {
            eprintln!("ci/down failed: {}", String::from_utf8_lossy(&down.stderr));
        }
    }
}

/// The body of an HTTP answer to a request made inside of a namespace. The address is `host:port`, perhaps with a path.
pub fn get(from: &NetNs, address: &str) -> io::Result<String> {
    from.run(|| get_here(address)).unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// The body of an HTTP answer to a request made from where this thread is.
pub fn get_here(address: &str) -> io::Result<String> {
    let (address, path) = address.split_once('/').unwrap_or((address, ""));
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok(body.trim().to_owned())
}

/// A server inside of a namespace that answers two datagrams, and is listening when this returns.
pub fn answer_udp(
    inside: &NetNs,
    address: &str,
    answer: &'static str,
) -> std::thread::JoinHandle<()> {
    let bound = inside
        .run(|| UdpSocket::bind(address))
        .unwrap_or_else(|error| panic!("no namespace: {error}"));
    let socket = bound.unwrap_or_else(|error| panic!("cannot listen on {address}: {error}"));
    socket
        .set_read_timeout(Some(PATIENCE))
        .unwrap_or_else(|error| panic!("cannot set a time-out: {error}"));
    // a socket stays in the namespace where it was made
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        for _ in 0..2 {
            if let Ok((_, from)) = socket.recv_from(&mut buffer) {
                socket.send_to(answer.as_bytes(), from).ok();
            }
        }
    })
}

/// The answer to a datagram sent inside of a namespace.
pub fn ask_udp(from: &NetNs, address: &str) -> io::Result<String> {
    let ask = || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.send_to(b"hello\n", address)?;
        let mut buffer = [0; 512];
        let (count, _) = socket.recv_from(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..count]).trim().to_owned())
    };
    from.run(ask).unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Asks again and again until exactly these answers have been seen.
#[track_caller]
pub fn all_answer(expected: &[&str], mut ask: impl FnMut() -> io::Result<String>) {
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..200 {
        seen.insert(
            ask().unwrap_or_else(|error| {
                panic!("no answer: {error}; so far {seen:?} of {expected:?}")
            }),
        );
        if seen.len() == expected.len() {
            break;
        }
    }
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}
