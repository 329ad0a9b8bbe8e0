//! A node to try plugins on: a throw-away network namespace with its own bridges and rules, a directory
//! of plugins (ours or the reference's) and one of leases.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "every test program compiles this module and uses its own part of it"
)]

pub mod faults;
pub mod oracle;
pub mod state;
pub mod uplink;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use netns_tools::NetNs;
use netns_tools::testing::TestNetns;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Where Debian keeps the reference plugins.
const REFERENCE: &str = "/usr/lib/cni";

/// A variable for [`Node::call_with`]: the plugin finds nothing in `/usr/sbin`, where iptables is.
pub const HIDE_SBIN: &str = "TEST_HIDE_SBIN";

/// Whose plugins a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    Heddle,
    Reference,
}

/// A node.
pub struct Node {
    pub ns: TestNetns,
    pub dir: TempDir,
    bin: PathBuf,
}

/// A container to be: its namespace, and what a runtime calls it.
pub struct Pod {
    pub ns: TestNetns,
    pub id: String,
    pub ifname: String,
}

fn bin_dir(dir: &Path, suite: Suite) -> PathBuf {
    let bin = match suite {
        Suite::Reference => PathBuf::from(REFERENCE),
        Suite::Heddle => dir.join("bin"),
    };
    if suite == Suite::Heddle && !bin.exists() {
        fs::create_dir(&bin).unwrap();
        for plugin in cni_plugins::suite::PLUGINS {
            let file = bin.join(plugin.name());
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_heddle-cni"), file).unwrap();
        }
    }
    assert!(bin.join("bridge").exists(), "{} has no plugins", bin.display());
    bin
}

/// A plugin about to be started.
pub struct Prepared<'a> {
    ns: &'a NetNs,
    program: Command,
    input: String,
}

impl Prepared<'_> {
    pub fn spawn(&mut self) -> Child {
        let (program, input) = (&mut self.program, &self.input);
        self.ns
            .run(move || {
                let mut child = program.spawn().unwrap();
                // A plugin that refuses its environment does not read.
                let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
                child
            })
            .unwrap()
    }

    pub fn run(mut self) -> Answer {
        let output = self.spawn().wait_with_output().unwrap();
        Answer {
            ok: output.status.success(),
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// What a plugin answered.
#[derive(Debug)]
pub struct Answer {
    pub ok: bool,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Node {
    pub fn new(suite: Suite) -> Self {
        let dir = TempDir::new().unwrap();
        let bin = bin_dir(dir.path(), suite);
        let ns = TestNetns::new("hnode");
        ns.configure("lo", &[]);
        Self { ns, dir, bin }
    }

    pub fn heddle() -> Self {
        Self::new(Suite::Heddle)
    }

    /// The same node with other plugins.
    pub fn with_suite(mut self, suite: Suite) -> Self {
        self.bin = bin_dir(self.dir.path(), suite);
        self
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("leases")
    }

    pub fn bin_dir(&self) -> &Path {
        &self.bin
    }

    /// A pod with an empty namespace.
    #[expect(
        clippy::unused_self,
        reason = "a pod of this node reads well, though the node makes it only with ADD"
    )]
    pub fn pod(&self, id: &str) -> Pod {
        Pod { ns: TestNetns::new("hpod"), id: id.into(), ifname: "eth0".into() }
    }

    /// An `ipam` section for host-local with these subnets, a range set each.
    pub fn ipam(&self, subnets: &[&str]) -> Value {
        let ranges: Vec<_> = subnets.iter().map(|subnet| json!([{ "subnet": subnet }])).collect();
        json!({ "type": "host-local", "dataDir": self.data_dir(), "ranges": ranges })
    }

    /// The names of the address files of a network.
    pub fn leases(&self, network: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.data_dir().join(network)) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> =
            names.filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect();
        names.sort();
        names
    }

    pub fn call(&self, plugin: &str, command: &str, pod: &Pod, conf: &Value) -> Answer {
        self.call_with(plugin, command, pod, conf, &[])
    }

    /// Starts a plugin in the node's namespace. `env` adds to or replaces the usual variables; an empty value
    /// removes one.
    pub fn call_with(
        &self,
        plugin: &str,
        command: &str,
        pod: &Pod,
        conf: &Value,
        env: &[(&str, &str)],
    ) -> Answer {
        self.prepare(plugin, command, pod, conf, env).run()
    }

    /// A call that can be made from another thread.
    pub fn prepare(
        &self,
        plugin: &str,
        command: &str,
        pod: &Pod,
        conf: &Value,
        env: &[(&str, &str)],
    ) -> Prepared<'_> {
        let file = self.bin.join(plugin);
        let mut program = Command::new(&file);
        if env.iter().any(|(key, _)| *key == HIDE_SBIN) {
            program = Command::new("unshare");
            program.args(["--mount", "sh", "-c", "mount -t tmpfs none /usr/sbin && exec \"$0\""]);
            program.arg(&file);
        }
        program
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", &pod.id)
            .env("CNI_NETNS", pod.path())
            .env("CNI_IFNAME", &pod.ifname)
            .env("CNI_PATH", &self.bin);
        for (key, value) in env {
            if value.is_empty() {
                program.env_remove(key);
            } else {
                program.env(key, value);
            }
        }
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Prepared { ns: self.ns.ns(), program, input: conf.to_string() }
    }

    /// ADD that must succeed.
    pub fn add(&self, plugin: &str, pod: &Pod, conf: &Value) -> Value {
        let answer = self.call(plugin, "ADD", pod, conf);
        assert!(answer.ok, "{answer:#?}");
        answer.json()
    }

    /// DEL that must succeed, and say nothing.
    pub fn del(&self, plugin: &str, pod: &Pod, conf: &Value) {
        let answer = self.call(plugin, "DEL", pod, conf);
        assert!(answer.ok && answer.stdout.trim().is_empty(), "{answer:#?}");
    }

    /// A program in the node's namespace; its standard output.
    pub fn sh(&self, line: &str) -> String {
        sh(&self.ns, line)
    }
}

impl Pod {
    pub fn path(&self) -> String {
        self.ns.ns().path().display().to_string()
    }

    pub fn sh(&self, line: &str) -> String {
        sh(&self.ns, line)
    }

    /// Whether a TCP connection to `target` comes up and brings `expected`.
    pub fn fetch(&self, target: &str) -> Option<String> {
        traffic::fetch(&self.ns, target)
    }
}

impl Answer {
    /// The one JSON document on standard output.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// The code of the error that this must be.
    pub fn error(&self) -> (u64, String) {
        assert!(!self.ok && self.code == Some(1), "{self:#?}");
        let json = self.json();
        (json["code"].as_u64().unwrap(), json["msg"].as_str().unwrap().to_owned())
    }
}

/// The answer must be this error, with `msg` in its message.
#[track_caller]
pub fn assert_error(answer: &Answer, code: u64, msg: &str) {
    let (found, text) = answer.error();
    assert!(text.contains(msg), "{answer:#?}");
    assert_eq!(found, code, "{answer:#?}");
}

/// The configuration with ADD's answer in it, as a runtime passes it to CHECK and DEL.
pub fn with_prev(conf: &Value, result: &Value) -> Value {
    let mut conf = conf.clone();
    conf["prevResult"] = result.clone();
    conf
}

fn sh(ns: &TestNetns, line: &str) -> String {
    ns.cmd(&["sh", "-c", line])
}

pub mod traffic {
    //! Real packets: a server that tells its caller's address, and its caller.

    use std::io::{ErrorKind, Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use netns_tools::testing::TestNetns;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// Serves `connections` connections on `address` in a namespace: each is told the address it came from.
    /// Returns when the server listens.
    pub fn serve(ns: &TestNetns, address: &str, connections: usize) {
        let address: SocketAddr = address.parse().unwrap();
        // The socket stays in the namespace that it was made in, wherever it is used.
        let listener = ns.run(move || bind(address));
        std::thread::spawn(move || {
            for stream in listener.incoming().take(connections) {
                let mut stream = stream.unwrap();
                let peer = stream.peer_addr().unwrap().ip().to_string();
                stream.write_all(peer.as_bytes()).unwrap();
            }
        });
    }

    /// An earlier server may have answered and not yet gone.
    fn bind(address: SocketAddr) -> TcpListener {
        let start = Instant::now();
        loop {
            match TcpListener::bind(address) {
                Err(error)
                    if error.kind() == ErrorKind::AddrInUse && start.elapsed() < PATIENCE =>
                {
                    std::thread::sleep(Duration::from_millis(10));
                }
                listener => return listener.unwrap(),
            }
        }
    }

    /// What a server tells; `None` if it cannot be reached.
    pub fn fetch(ns: &TestNetns, target: &str) -> Option<String> {
        let target: SocketAddr = target.parse().unwrap();
        let (sender, receiver) = mpsc::channel();
        ns.run(move || {
            let answer = TcpStream::connect_timeout(&target, PATIENCE).and_then(|mut stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                let mut text = String::new();
                stream.read_to_string(&mut text)?;
                Ok(text)
            });
            let _ = sender.send(answer.ok());
        });
        receiver.recv().unwrap()
    }
}
