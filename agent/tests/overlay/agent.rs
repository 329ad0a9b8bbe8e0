//! The running program.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::node::Node;

const PROGRAM: &str = env!("CARGO_BIN_EXE_heddle-agent");

/// How long the program may take until it says that it is there, on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// `heddle-agent overlay` on one node. It is killed with this; when the test fails, its log is printed.
pub struct Agent {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Agent {
    /// Starts it with more lines for the section `[overlay]`.
    pub fn start(node: &Node, kubeconfig: &std::path::Path, more: &str) -> Self {
        let at = |name: &str| node.path(name).display().to_string();
        let text = format!(
            "node_name = \"{}\"\n[paths]\nmanifests = \"{}\"\nstate = \"{}\"\n\
             [network]\npod_cidr = \"10.244.0.0/16,fd00:10:244::/48\"\nservice_cidr = \"10.96.0.0/12,fd00:10:96::/108\"\n\
             [overlay]\nkubeconfig = \"{}\"\nlease = \"{}\"\nsocket = \"{}\"\n{more}\n",
            node.name(),
            at("manifests"),
            at("state"),
            kubeconfig.display(),
            at("run/subnet.env"),
            at("run/overlay.sock"),
        );
        fs::create_dir_all(node.path("manifests")).unwrap();
        fs::create_dir_all(node.path("state")).unwrap();
        fs::write(node.path("agent.toml"), text).unwrap();
        let log = node.path("log");
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = node.ns.command(PROGRAM);
        command.args(["overlay", "--config", &at("agent.toml")]);
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Self { name: node.name(), child: command.spawn().unwrap(), log }
    }

    /// Everything that it said so far, with what others said before it on this node.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What `heddle-agent status` tells of a node's program; empty while it does not answer.
    pub fn status(node: &Node) -> String {
        let socket = node.path("run/overlay.sock").display().to_string();
        let output = node.ns.output(&[PROGRAM, "status", "--socket", &socket]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Ends it at once, as a crash does.
    pub fn crash(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it as systemd does.
    pub fn stop(mut self) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{}: {status}\n{}", self.name, self.said());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- the log of {}:\n{}", self.name, self.said());
        }
    }
}
