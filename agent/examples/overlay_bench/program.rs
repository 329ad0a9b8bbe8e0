//! The program, started in the namespaces of nodes, beside an API server that has their Node objects.

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use netns_tools::testing::TestNetns;
use serde_json::{Value, json};
use test_api_server::ServerThread;

use crate::Outcome;
use crate::heddle::Folder;
use crate::node::{CLUSTER, Node};
use crate::place::{Path, Place};

/// A `heddle-agent`.
pub struct Program {
    path: PathBuf,
}

/// Where and as what it is started.
pub struct Start<'a> {
    /// The node's namespace.
    pub ns: &'a TestNetns,
    /// The node's name.
    pub name: &'a str,
    /// The range of all pods.
    pub network: &'a str,
    /// As in the configuration.
    pub backend: &'a str,
}

impl Program {
    /// At this path.
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Starts one on each node.
    pub fn start(&self, nodes: &[Node; 2], place: Place) -> Outcome<Agents> {
        let folder = Folder::new()?;
        let [first, _] = nodes;
        let address = first.address();
        let api = ServerThread::start(first.ns.run(|| TcpListener::bind((address, 0)))?)?;
        api.server.put_all(nodes.iter().map(object));
        std::fs::write(folder.path("kubeconfig"), api.server.kubeconfig())?;
        let backend = if place.path == Path::Vxlan { "vxlan" } else { "host-gw" };
        let agents = nodes.iter().map(|node| {
            let name = node.name();
            self.spawn(&Start { ns: &node.ns, name: &name, network: CLUSTER, backend }, &folder)
        });
        Ok(Agents { running: agents.collect::<Outcome<_>>()?, api, folder })
    }

    /// Starts it in a namespace; a folder has its kubeconfig, and gets all that it keeps.
    pub fn spawn(&self, start: &Start<'_>, folder: &Folder) -> Outcome<Agent> {
        let home = folder.path(start.name);
        std::fs::create_dir(&home)?;
        let at = |file: &str| home.join(file).display().to_string();
        let text = format!(
            "node_name = \"{}\"\n[paths]\nmanifests = \"{}\"\nstate = \"{}\"\n[network]\npod_cidr = \"{}\"\n\
             service_cidr = \"172.30.0.0/16\"\n[overlay]\nbackend = \"{}\"\nkubeconfig = \"{}\"\nlease = \"{}\"\nsocket = \"{}\"\n",
            start.name,
            at("manifests"),
            at("state"),
            start.network,
            start.backend,
            folder.path("kubeconfig").display(),
            at("subnet.env"),
            at("overlay.sock"),
        );
        std::fs::write(home.join("agent.toml"), text)?;
        let log = home.join("log");
        let mut command = start.ns.command(&self.path.to_string_lossy());
        command.args(["overlay", "--config", &at("agent.toml")]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let child = command.spawn();
        let child =
            child.map_err(|error| format!("cannot start {}: {error}", self.path.display()))?;
        Ok(Agent { child, log })
    }
}

/// A running program. It ends with this.
pub struct Agent {
    child: Child,
    log: PathBuf,
}

impl Agent {
    /// The end of what it wrote.
    pub fn said(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// It must run.
    pub fn check(&mut self) -> Outcome {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("the program ended: {status}\n{}", self.said()).into()),
        }
    }

    /// What it holds, in MiB (`VmRSS`, proc(5)).
    pub fn memory(&self) -> Outcome<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let found = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = found.and_then(|rest| rest.split_whitespace().next()).ok_or("no VmRSS")?;
        Ok(number.parse::<f64>()? / 1024.0)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // it may be gone already
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The programs of two nodes, and what they need.
pub struct Agents {
    running: Vec<Agent>,
    #[expect(dead_code, reason = "it serves as long as this lives")]
    api: ServerThread,
    #[expect(dead_code, reason = "it is there as long as the programs run")]
    folder: Folder,
}

impl Agents {
    /// The end of what they wrote.
    pub fn said(&self) -> String {
        self.running.iter().map(Agent::said).collect::<Vec<_>>().join("\n")
    }
}

fn object(node: &Node) -> Value {
    json!({
        "kind": "Node", "apiVersion": "v1", "metadata": {"name": node.name()},
        "spec": {"podCIDR": node.range(), "podCIDRs": [node.range()]},
        "status": {"addresses": [{"type": "InternalIP", "address": node.address().to_string()}]},
    })
}
