//! A cluster of agents on one machine: each node is a network namespace with an `eth0` on a common link, and has its own folders,
//! plugins, rules and pods. They share one containerd, in a containerd namespace each.
//!
//! Without an API server every node has the Node manifests of all of them; with one, it is on the machine outside.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use netns_tools::route::SCOPE_GLOBAL;
use netns_tools::testing::{End, TestNetns, veth_pair};
use netns_tools::{Address, NetNs, Netlink};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api_server::ApiServer;
use crate::containerd::{Containerd, image};
use crate::{Alone, PATIENCE, bin_dir, output, run, wait_until};

/// The address of the machine outside, which every node has as its default route.
pub const OUTSIDE: &str = "192.0.2.1";
/// The same of IPv6, where nodes have that.
pub const OUTSIDE6: &str = "2001:db8::1";

/// How a cluster is set up.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setup {
    /// How many nodes, at most 9.
    pub nodes: usize,
    /// `overlay.backend`.
    pub backend: &'static str,
    /// `proxy.mode`.
    pub proxy: &'static str,
    /// `mode` of the plugin `overlay`.
    pub plugin: &'static str,
    /// Nodes and pods have IPv6, too.
    pub dual_stack: bool,
    /// Nodes are objects of an API server.
    pub api_server: bool,
}

/// The cluster; everything ends with it.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    setup: Setup,
    /// Of pods.
    image: PathBuf,
    api: Option<ApiServer>,
    // after the nodes: their agents talk to it
    containerd: Containerd,
    link: TestNetns,
    folder: TempDir,
    // a pod's namespace is named after its uid, which is the same in every cluster: there is one at a time
    _alone: Alone,
}

/// One node.
#[derive(Debug)]
pub struct Node {
    /// Its name: `node-1`, `node-2`, …
    pub name: String,
    /// Its address on the common link.
    pub address: IpAddr,
    /// The same of IPv6, where nodes have that.
    pub address6: IpAddr,
    ns: TestNetns,
    home: PathBuf,
    agent: Option<Child>,
}

impl Cluster {
    /// Starts all of it.
    ///
    /// # Panics
    /// When something does not start.
    pub fn start(setup: Setup) -> Self {
        let alone = Alone::wait();
        let folder = TempDir::new().unwrap_or_else(|error| panic!("no folder: {error}"));
        let (containerd, link) = (Containerd::start(), TestNetns::new("link"));
        link.cmd(&["ip", "link", "set", "lo", "up"]);
        link.cmd(&["ip", "link", "add", "lan0", "type", "bridge"]);
        link.configure("lan0", &[&format!("{OUTSIDE}/24"), &format!("{OUTSIDE6}/64")]);
        let plugins = folder.path().join("bin");
        let mut install = Command::new(bin_dir().join("heddle-cni"));
        run(install.args(["install", "--bin-dir"]).arg(&plugins));
        let image = image(folder.path());
        let api = setup.api_server.then(|| start_api(&link, folder.path()));
        let nodes = Vec::new();
        let mut cluster =
            Self { nodes, setup, image, api, containerd, link, folder, _alone: alone };
        for number in 1..=setup.nodes {
            cluster.make_node(number);
        }
        if cluster.api.is_none() {
            for number in 1..=setup.nodes {
                let object = node_object(number, setup).to_string();
                cluster.write_everywhere(&format!("node-{number}.json"), &object);
            }
        }
        for node in &mut cluster.nodes {
            node.start_agent();
        }
        cluster
    }

    /// Adds a node as an administrator does: its Node object, and its agent.
    #[track_caller]
    pub fn add_node(&mut self) -> &Node {
        let number = self.nodes.len() + 1;
        self.make_node(number);
        let node = self.node_mut(number);
        node.start_agent();
        node
    }

    /// The API server.
    #[track_caller]
    pub fn api(&mut self) -> &mut ApiServer {
        self.api.as_mut().unwrap_or_else(|| panic!("set up without an API server"))
    }

    /// Has the API server know a node.
    #[track_caller]
    pub fn register(&self, number: usize) {
        let api = self.api.as_ref().unwrap_or_else(|| panic!("set up without an API server"));
        api.apply(&node_object(number, self.setup).to_string());
    }

    fn ctr(&self, node: &Node) -> Command {
        let mut ctr = self.containerd.ctr();
        ctr.args(["--namespace", &node.name]);
        ctr
    }

    fn make_node(&mut self, number: usize) {
        let (name, [address, address6]) = (format!("node-{number}"), node_addresses(number));
        let ns = TestNetns::new(&name);
        let port = format!("port{number}");
        let mut own = vec![format!("{address}/24")];
        own.extend(self.setup.dual_stack.then(|| format!("{address6}/64")));
        let own: Vec<_> = own.iter().map(String::as_str).collect();
        veth_pair(End(&self.link, &port, &[]), End(&ns, "eth0", &own));
        self.link.cmd(&["ip", "link", "set", &port, "master", "lan0"]);
        ns.cmd(&["ip", "route", "add", "default", "via", OUTSIDE]);
        let home = self.folder.path().join(&name);
        let node = Node { name, address, address6, ns, home, agent: None };
        for folder in ["manifests", "net.d", "run"] {
            make_folder(&node.home.join(folder));
        }
        if let Some(api) = &self.api {
            self.register(number);
            write(&node.home.join("kubeconfig"), &api.kubeconfig(&["--node", &node.name]));
        }
        write(&node.home.join("agent.toml"), &self.configuration(&node));
        write(&node.home.join("net.d/10-overlay.conflist"), &node.network_list(self.setup.plugin));
        run(self.ctr(&node).args(["images", "import"]).arg(&self.image));
        self.nodes.push(node);
    }

    fn configuration(&self, node: &Node) -> String {
        let (home, setup) = (node.home.display(), self.setup);
        let kubeconfig = self.api.as_ref().map(|_| format!("{home}/kubeconfig"));
        let (pods, services) = if setup.dual_stack {
            ("10.244.0.0/16,fd00:10:244::/48", "10.96.0.0/12,fd00:10:96::/108")
        } else {
            ("10.244.0.0/16", "10.96.0.0/12")
        };
        format!(
            "node_name = {name:?}\n\
             [paths]\nmanifests = \"{home}/manifests\"\nstate = \"{home}/state\"\nlogs = \"{home}/logs\"\nsocket = \"{home}/run/agent.sock\"\n\
             [cni]\nconf_dir = \"{home}/net.d\"\nbin_dirs = [\"{bin}\"]\ncache_dir = \"{home}/cni\"\n\
             [containerd]\nsocket = \"{socket}\"\nnamespace = {name:?}\n\
             [network]\npod_cidr = {pods:?}\nservice_cidr = {services:?}\n\
             [proxy]\nmode = {proxy:?}\n\
             [overlay]\nenabled = true\nbackend = {backend:?}\nlease = \"{home}/run/subnet.env\"\nkubeconfig = {kubeconfig:?}\n",
            name = node.name,
            bin = self.folder.path().join("bin").display(),
            socket = self.containerd.address().display(),
            proxy = setup.proxy,
            backend = setup.backend,
            kubeconfig = kubeconfig.unwrap_or_default(),
        )
    }

    /// Writes a manifest to every node's folder.
    pub fn write_everywhere(&self, file: &str, text: &str) {
        for node in &self.nodes {
            node.write_manifest(file, text);
        }
    }

    /// The node of that number, from 1.
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number - 1]
    }

    /// The node of that number, from 1, for what changes it.
    pub fn node_mut(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number - 1]
    }

    /// The machine outside, at [`OUTSIDE`].
    pub fn outside(&self) -> &NetNs {
        self.link.ns()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.end(std::thread::panicking());
        }
        for node in &self.nodes {
            self.remove_pods(node);
        }
    }
}

impl Cluster {
    /// Containers end with their containerd; their shims and namespaces do not.
    fn remove_pods(&self, node: &Node) {
        let listed = output(self.ctr(node).args(["containers", "ls", "-q"])).stdout;
        for id in String::from_utf8_lossy(&listed).lines() {
            output(self.ctr(node).args(["tasks", "delete", "--force", id]));
            output(self.ctr(node).args(["containers", "delete", id]));
        }
        for uid in node.records() {
            if let Err(error) = NetNs::delete(&format!("heddle-{uid}")) {
                eprintln!("pod {uid}: {error}");
            }
            remove_cgroups(&uid);
        }
    }
}

impl Node {
    fn network_list(&self, mode: &str) -> String {
        let at = |name: &str| self.home.join(name).display().to_string();
        let plugin = json!({
            "type": "overlay", "mode": mode, "subnetFile": at("run/subnet.env"), "dataDir": at("delegated"),
            "ipam": { "dataDir": at("leases") },
        });
        json!({ "cniVersion": "1.0.0", "name": "heddle", "plugins": [plugin] }).to_string()
    }

    /// Writes a manifest to this node's folder.
    pub fn write_manifest(&self, file: &str, text: &str) {
        // at once, as an editor does: the folder is watched
        let (path, half) = (self.home.join("manifests").join(file), self.home.join("half"));
        write(&half, text);
        fs::rename(&half, &path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Starts the agent.
    pub fn start_agent(&mut self) {
        let log = File::options().create(true).append(true).open(self.log());
        let log = log.unwrap_or_else(|error| panic!("no log: {error}"));
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.ns.ns().path().display()));
        command.arg(bin_dir().join("heddle-agent")).args(["run", "--config"]);
        command.arg(self.home.join("agent.toml")).stdin(Stdio::null()).stdout(Stdio::null());
        let started = command.stderr(log).spawn();
        self.agent = Some(started.unwrap_or_else(|error| panic!("no agent: {error}")));
    }

    /// Kills the agent, as nobody should.
    pub fn kill_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().unwrap_or_else(|error| panic!("cannot kill the agent: {error}"));
            agent.wait().unwrap_or_else(|error| panic!("cannot wait for the agent: {error}"));
        }
    }

    fn log(&self) -> PathBuf {
        self.home.join("agent.log")
    }

    fn end(&mut self, tell: bool) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().ok();
            agent.wait().ok();
        }
        if tell {
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            let last: Vec<_> = log.lines().rev().take(30).collect();
            let last: Vec<_> = last.into_iter().rev().collect();
            eprintln!("{}'s last words:\n{}", self.name, last.join("\n"));
        }
    }

    /// Whether what it keeps on disk of other nodes includes the announcement of this one. That is written a second after a change.
    pub fn has_kept(&self, number: usize) -> bool {
        let text = fs::read_to_string(self.home.join("state/overlay/nodes.json"));
        let kept: Value = serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default();
        let mut nodes = kept["nodes"].as_array().into_iter().flatten();
        nodes.any(|node| node["name"] == format!("node-{number}") && !node["announced"].is_null())
    }

    /// The uids of the pods that it has records of.
    fn records(&self) -> Vec<String> {
        let entries = fs::read_dir(self.home.join("state/pods")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Removes the lease, as a reboot does with what is below `/run`.
    pub fn forget_lease(&self) {
        let path = self.home.join("run/subnet.env");
        fs::remove_file(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Its network namespace.
    pub fn ns(&self) -> &TestNetns {
        &self.ns
    }

    /// What the agent says of itself.
    #[track_caller]
    pub fn status(&self) -> Value {
        let socket = self.home.join("run/agent.sock");
        wait_until(&format!("the status of {}", self.name), || {
            let mut command = Command::new(bin_dir().join("heddle-agent"));
            let output = output(command.args(["status", "-o", "json", "--socket"]).arg(&socket));
            serde_json::from_slice(&output.stdout).ok()
        })
    }

    /// Waits until a pod runs; its address and its network namespace.
    #[track_caller]
    pub fn running_pod(&self, name: &str) -> (IpAddr, NetNs) {
        let pod = wait_until(&format!("pod {name} of {} to run", self.name), || {
            let status = self.status();
            let pod = status["pods"].as_array()?.iter().find(|pod| pod["name"] == name)?.clone();
            (pod["containers"][0]["state"] == "running").then_some(pod)
        });
        let text = |field: &str| pod[field].as_str().unwrap_or_default().to_owned();
        let ns = NetNs::named(&format!("heddle-{}", text("uid")));
        let address = text("ip").parse().unwrap_or_else(|error| panic!("{pod}: {error}"));
        (address, ns.unwrap_or_else(|error| panic!("{pod}: {error}")))
    }
}

/// The IPv6 address of a pod.
#[track_caller]
pub fn ipv6_of(pod: &NetNs) -> IpAddr {
    let mut netlink = Netlink::open_in(pod).unwrap_or_else(|error| panic!("{error}"));
    let addresses = netlink.addresses(None).unwrap_or_else(|error| panic!("{error}"));
    let ours = |it: &&Address| it.net.is_ipv6() && it.scope == SCOPE_GLOBAL;
    let found = addresses.iter().find(ours).unwrap_or_else(|| panic!("none in {addresses:?}"));
    found.net.ip()
}

/// Removes the control groups of a pod in every hierarchy, and the one of all pods if it is empty then. A process may still be on its way out.
fn remove_cgroups(uid: &str) {
    let root = Path::new("/sys/fs/cgroup");
    let below = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in below.chain([root.to_owned()]) {
        let pods = hierarchy.join("kubepods");
        let pod = pods.join(format!("pod{uid}"));
        for _ in 0..50 {
            for container in fs::read_dir(&pod).into_iter().flatten().flatten() {
                // only folders can be removed, and only those
                fs::remove_dir(container.path()).ok();
            }
            if fs::remove_dir(&pod).is_ok() || !pod.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        fs::remove_dir(&pods).ok();
    }
}

/// A pod that does nothing; tests run their servers in its namespace.
pub fn idle_pod(name: &str) -> String {
    let container = json!({
        "name": "idle", "image": "heddle.dev/demo/busybox:1",
        "command": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done"],
    });
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "terminationGracePeriodSeconds": 1, "containers": [container] },
    })
    .to_string()
}

/// The API server, which lets nodes follow each other.
#[track_caller]
fn start_api(ns: &TestNetns, folder: &Path) -> ApiServer {
    let api = ApiServer::start(ns, folder, OUTSIDE);
    let roles = crate::project().join("conf/overlay-rbac.yaml");
    api.kubectl(&["apply", "-f", &roles.to_string_lossy()]);
    api
}

/// IPv4 first.
fn node_addresses(number: usize) -> [IpAddr; 2] {
    [format!("192.0.2.{}", 10 + number), format!("2001:db8::{number:x}1")]
        .map(|text| text.parse().unwrap_or_else(|error| panic!("{text}: {error}")))
}

fn node_object(number: usize, setup: Setup) -> Value {
    let families = if setup.dual_stack { 2 } else { 1 };
    let ranges = [format!("10.244.{number}.0/24"), format!("fd00:10:244:{number}::/64")];
    let addresses = node_addresses(number).map(|it| json!({ "type": "InternalIP", "address": it }));
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": format!("node-{number}") },
        "spec": { "podCIDR": ranges[0], "podCIDRs": ranges[..families] },
        "status": { "addresses": addresses[..families] },
    })
}

fn make_folder(path: &Path) {
    fs::create_dir_all(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Connects from one namespace to a server in another one, by whatever address leads there, and tells whom the server saw. It is
/// tried for as long as patience lasts: routes and rules may be on their way.
#[track_caller]
pub fn seen_source(from: &NetNs, server: &NetNs, bind: SocketAddr, to: SocketAddr) -> IpAddr {
    let listener = server.run(|| TcpListener::bind(bind));
    let listener = listener.unwrap_or_else(|error| panic!("no namespace: {error}"));
    let listener = listener.unwrap_or_else(|error| panic!("cannot listen on {bind}: {error}"));
    let connect = || from.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(1)));
    let _stream = wait_until(&format!("{to} to answer"), || connect().ok()?.ok());
    let (_, peer) = listener.accept().unwrap_or_else(|error| panic!("no connection: {error}"));
    peer.ip()
}

/// Whether a stream of this many bytes arrives.
#[track_caller]
pub fn stream(from: &NetNs, server: &NetNs, to: SocketAddr, bytes: usize) {
    use std::io::{Read, Write};
    let listener = server.run(|| TcpListener::bind(to));
    let listener = listener.unwrap_or_else(|error| panic!("no namespace: {error}"));
    let listener = listener.unwrap_or_else(|error| panic!("cannot listen on {to}: {error}"));
    let connect = || from.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(1)));
    let mut stream = wait_until(&format!("{to} to answer"), || connect().ok()?.ok());
    let writer = std::thread::spawn(move || {
        stream.set_write_timeout(Some(PATIENCE)).and_then(|()| stream.write_all(&vec![7; bytes]))
    });
    let (mut accepted, _) =
        listener.accept().unwrap_or_else(|error| panic!("no connection: {error}"));
    accepted.set_read_timeout(Some(PATIENCE)).unwrap_or_else(|error| panic!("{error}"));
    let mut received = Vec::new();
    accepted
        .read_to_end(&mut received)
        .unwrap_or_else(|error| panic!("{bytes} bytes to {to}: {error} after {}", received.len()));
    assert_eq!(received.len(), bytes);
    writer.join().expect("the writer").unwrap_or_else(|error| panic!("{error}"));
}
