//! A node with a network that has a DHCP server: dnsmasq, or one that does as it is told; and the daemon.

pub mod server;

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::node::{Node, Pod, Suite};

/// Generous for a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Waits for something that must happen.
pub fn eventually(what: &str, so: impl Fn() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < PATIENCE, "{what} does not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A program that ends with its guard.
pub struct Running {
    child: Child,
    pub log: PathBuf,
}

impl Running {
    fn start(mut command: Command, log: PathBuf) -> Self {
        let file = File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Self { child: command.spawn().unwrap(), log }
    }

    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// As by `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As by systemd; the exit code.
    pub fn terminate(mut self) -> Option<i32> {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.log.display(), self.said());
        }
    }
}

/// A node whose bridge `br0` is the network; it has 10.77.0.1.
pub struct Lan {
    pub node: Node,
}

impl Lan {
    pub fn new() -> Self {
        let node = Node::new(Suite::Heddle);
        node.sh(
            "ip link add br0 type bridge && ip addr add 10.77.0.1/24 dev br0 && ip link set br0 up",
        );
        Self { node }
    }

    /// A pod whose eth0 is on the network, and down.
    pub fn pod(&self, id: &str) -> Pod {
        let pod = self.node.pod(id);
        let name = pod.ns.name();
        self.node.sh(&format!(
            "ip link add to-{id} type veth peer name eth0 netns {name} && ip link set to-{id} master br0 up"
        ));
        pod
    }

    pub fn socket(&self) -> PathBuf {
        self.node.dir.path().join("dhcp.sock")
    }

    pub fn state(&self) -> PathBuf {
        self.node.dir.path().join("state")
    }

    /// The leases that the daemon has written down.
    pub fn written(&self) -> usize {
        let entries = fs::read_dir(self.state()).into_iter().flatten().flatten();
        entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "json")).count()
    }

    pub fn conf(&self, ipam: &Value) -> Value {
        let mut all = json!({ "type": "dhcp", "daemonSocketPath": self.socket() });
        all.as_object_mut().unwrap().extend(ipam.as_object().unwrap().clone());
        json!({ "cniVersion": "1.1.0", "name": "testnet", "type": "dhcp", "ipam": all })
    }

    /// Our daemon, in a hurry.
    pub fn daemon(&self) -> Running {
        self.daemon_with("-timeout 1s -resendmax 300ms -resendtimeout 20s")
    }

    pub fn daemon_with(&self, flags: &str) -> Running {
        let program = env!("CARGO_BIN_EXE_heddle-cni");
        let (socket, state) = (self.socket(), self.state());
        let line = format!(
            "{program} dhcp-daemon --socketpath {} --statedir {} {flags}",
            socket.display(),
            state.display()
        );
        self.daemon_by(&line)
    }

    pub fn daemon_by(&self, line: &str) -> Running {
        let mut words = line.split_whitespace();
        let mut command = self.node.ns.command(words.next().unwrap());
        command.args(words);
        let running = Running::start(command, self.node.dir.path().join("daemon.log"));
        eventually("the daemon's socket", || UnixStream::connect(self.socket()).is_ok());
        running
    }

    /// dnsmasq for 10.77.0.50 to 10.77.0.99 with leases of two minutes, its least.
    pub fn dnsmasq(&self, more: &[&str]) -> Running {
        let dir = self.node.dir.path();
        let mut command = self.node.ns.command("dnsmasq");
        command
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--port=0",
                "--user=root",
                "--no-ping",
            ])
            .args([
                "--interface=br0",
                "--bind-interfaces",
                "--except-interface=lo",
                "--dhcp-authoritative",
            ])
            .args([
                "--dhcp-range=10.77.0.50,10.77.0.99,255.255.255.0,120",
                "--log-dhcp",
                "--log-facility=-",
            ])
            .arg(format!("--dhcp-leasefile={}", self.dnsmasq_file().display()))
            .arg(format!("--pid-file={}", dir.join("dnsmasq.pid").display()))
            .args(more);
        let running = Running::start(command, dir.join("dnsmasq.log"));
        eventually("dnsmasq's start", || running.said().contains("DHCP, IP range"));
        running
    }

    fn dnsmasq_file(&self) -> PathBuf {
        self.node.dir.path().join("dnsmasq.leases")
    }

    /// What dnsmasq has leased: `expiry mac address name client-id`, a line each.
    pub fn leased(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dnsmasq_file()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// Whether a pod's interface is up.
pub fn is_up(pod: &Pod) -> bool {
    pod.ns.link("eth0").up
}
