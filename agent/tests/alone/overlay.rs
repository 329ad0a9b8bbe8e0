//! `heddle-agent overlay` as an operator runs it: three nodes, an API server, pods that talk, and everything that can go wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use netns_tools::testing::{End, TestNetns, veth_pair};
use serde_json::{Value, json};
use test_api_server::{Resource, Server};

use crate::program::{self, PROGRAM, Program, ask, say, serve, within};

const ANNOTATION: &str = "overlay.heddle.dev/node";

/// A node with one pod, which says its name at port 8080.
struct Node {
    name: &'static str,
    number: u8,
    ns: TestNetns,
    pod: TestNetns,
    folder: PathBuf,
}

/// Nodes on one switch, and the API server beside it.
struct World {
    nodes: Vec<Node>,
    folder: tempfile::TempDir,
    server: Server,
    _runtime: tokio::runtime::Runtime,
    _switch: TestNetns,
}

impl World {
    fn new() -> Self {
        let switch = TestNetns::new("oswitch");
        switch.cmd(&["ip", "link", "add", "br0", "type", "bridge"]);
        switch.cmd(&["ip", "address", "add", "192.0.2.254/24", "dev", "br0"]);
        switch.cmd(&["ip", "link", "set", "br0", "up"]);
        let folder = tempfile::tempdir().unwrap();
        let nodes: Vec<_> = [("a", 1), ("b", 2), ("c", 3)]
            .map(|(name, number)| Node::new(name, number, &switch, folder.path()))
            .into();
        let (server, runtime) = serve(&switch, "192.0.2.254:0", folder.path());
        Self { nodes, folder, server, _runtime: runtime, _switch: switch }
    }

    /// A world whose first nodes are registered.
    fn with(registered: usize) -> Self {
        let world = Self::new();
        for node in &world.nodes[..registered] {
            world.server.put(node.object());
        }
        world
    }

    fn kubeconfig(&self) -> String {
        format!("--overlay-kubeconfig={}", self.folder.path().join("kubeconfig").display())
    }

    fn start(&self, number: usize) -> Program {
        self.nodes[number].start(&[&self.kubeconfig()])
    }

    fn talk(&self, one: usize, other: usize) {
        self.nodes[one].reaches(&self.nodes[other]);
        self.nodes[other].reaches(&self.nodes[one]);
    }

    fn annotation(&self, name: &str) -> Option<Value> {
        let object = self.server.get(Resource::Nodes, "", name)?;
        serde_json::from_str(object["metadata"]["annotations"][ANNOTATION].as_str()?).ok()
    }
}

impl Node {
    fn new(name: &'static str, number: u8, switch: &TestNetns, folder: &Path) -> Self {
        let (ns, pod) = (TestNetns::new("onode"), TestNetns::new("opod"));
        let port = format!("p{number}");
        let address = format!("192.0.2.{number}/24");
        veth_pair(End(switch, &port, &[]), End(&ns, "eth0", &[&address]));
        switch.cmd(&["ip", "link", "set", &port, "master", "br0"]);
        let (gateway, inside) = (format!("10.244.{number}.1/24"), format!("10.244.{number}.2/24"));
        veth_pair(End(&ns, "pod0", &[&gateway]), End(&pod, "eth0", &[&inside]));
        let gateway = format!("10.244.{number}.1");
        pod.cmd(&["ip", "route", "add", "default", "via", &gateway]);
        pod.cmd(&["ip", "link", "set", "eth0", "mtu", "1450"]);
        say(&pod, name);
        let folder = folder.join(name);
        fs::create_dir(&folder).unwrap();
        Self { name, number, ns, pod, folder }
    }

    fn object(&self) -> Value {
        self.object_at(&format!("192.0.2.{}", self.number))
    }

    fn object_at(&self, address: &str) -> Value {
        let cidr = format!("10.244.{}.0/24", self.number);
        json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name},
            "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]},
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let path = |name: &str| self.path(name).display().to_string();
        let mut all = vec![
            "overlay".to_owned(),
            format!("--node-name={}", self.name),
            format!("--paths-state={}", path("state")),
            format!("--paths-manifests={}", path("manifests")),
            format!("--overlay-lease={}", path("subnet.env")),
            format!("--overlay-socket={}", path("overlay.sock")),
            "--overlay-backend=vxlan".to_owned(),
        ];
        all.extend(more.iter().map(|one| (*one).to_owned()));
        all
    }

    /// Runs the program to its end.
    fn once(&self, more: &[&str]) -> Output {
        self.ns.command(PROGRAM).args(self.arguments(more)).output().unwrap()
    }

    /// What it prints if all goes well.
    fn told(&self, more: &[&str]) -> String {
        let output = self.once(more);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{more:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = self.ns.command(PROGRAM);
        command.args(self.arguments(more));
        command
    }

    fn spawn(&self, more: &[&str]) -> Program {
        Program::spawn(self.command(more), &self.folder)
    }

    fn start(&self, more: &[&str]) -> Program {
        Program::start(self.command(more), &self.folder)
    }

    fn reaches(&self, other: &Self) {
        program::reaches(&self.pod, &format!("10.244.{}.2:8080", other.number), other.name);
    }

    fn ip(&self, arguments: &[&str]) -> String {
        self.ns.cmd(&[&["ip"], arguments].concat())
    }

    /// All that is the overlay's in this node's kernel, in order.
    fn written(&self) -> Vec<String> {
        let mut lines: Vec<_> = self
            .ip(&["route", "show", "proto", "104"])
            .lines()
            .chain(self.ip(&["neighbour", "show", "nud", "permanent"]).lines())
            .filter(|line| !line.contains("lo "))
            .map(|line| line.trim().to_owned())
            .collect();
        let entries = self.ns.command("bridge").args(["fdb", "show", "dev", "heddle.1"]).output();
        let entries = String::from_utf8(entries.unwrap().stdout).unwrap();
        lines.extend(entries.lines().map(|line| line.trim().to_owned()));
        lines.sort();
        lines
    }

    fn status(&self) -> Value {
        let mut command = self.ns.command(PROGRAM);
        command.args(["status", "-o", "json", "--socket"]).arg(self.path("overlay.sock"));
        let output = command.output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }
}

fn becomes<T: PartialEq + std::fmt::Debug>(what: &str, want: &T, mut look: impl FnMut() -> T) {
    within(what, || {
        let now = look();
        if now == *want { Ok(()) } else { Err(format!("{now:#?}, and not {want:#?}")) }
    });
}

#[test]
fn nodes_that_come_change_and_go_are_followed() {
    let world = World::with(2);
    let [a, b, c] = &world.nodes[..] else { unreachable!() };
    let (one, two) = (world.start(0), world.start(1));
    world.talk(0, 1);
    let lease = fs::read_to_string(a.path("subnet.env")).unwrap();
    for line in [
        "HEDDLE_NETWORK=10.244.0.0/16",
        "HEDDLE_SUBNET=10.244.1.1/24",
        "HEDDLE_MTU=1450",
        "HEDDLE_IPMASQ=true",
    ] {
        assert!(lease.lines().any(|known| known == line), "{line}: {lease}");
    }
    let announced = world.annotation("a").unwrap();
    assert_eq!(
        (&announced["backend"], &announced["addresses"]),
        (&json!("vxlan"), &json!(["192.0.2.1"]))
    );

    // one more
    world.server.put(c.object());
    let three = world.start(2);
    world.talk(0, 2);
    world.talk(1, 2);
    let shown = a.told(&["--show", &world.kubeconfig()]);
    assert!(shown.contains("all as it should be"), "{shown}");
    let peers = a.status()["overlay"]["peers"].clone();
    let of = |key: &str| {
        peers.as_array().unwrap().iter().map(|peer| peer[key].clone()).collect::<Vec<_>>()
    };
    assert_eq!((of("name"), of("way")), (vec![json!("b"), json!("c")], vec![json!("vxlan"); 2]));
    let request = b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n";
    let metrics = ask(&a.ns, "127.0.0.1:10247", request).unwrap();
    assert!(metrics.contains("heddle_overlay_peers{way=\"vxlan\"} 2"), "{metrics}");

    // one gets another address on the underlay
    b.ip(&["address", "delete", "192.0.2.2/24", "dev", "eth0"]);
    b.ip(&["address", "add", "192.0.2.22/24", "dev", "eth0"]);
    let mut moved = b.object_at("192.0.2.22");
    moved["metadata"]["annotations"] =
        world.server.get(Resource::Nodes, "", "b").unwrap()["metadata"]["annotations"].clone();
    world.server.put(moved);
    becomes("b announces its new address", &json!(["192.0.2.22"]), || {
        world.annotation("b").unwrap_or_default()["addresses"].clone()
    });
    world.talk(0, 1);
    world.talk(1, 2);

    // one goes
    three.stop();
    world.server.delete(Resource::Nodes, "", "c");
    becomes("nothing leads to c", &false, || a.written().join("\n").contains("10.244.3."));
    world.talk(0, 1);
    for agent in [one, two] {
        let said = agent.stop();
        assert!(
            said.contains("devices, routes and rules stay") && !said.contains("ERROR"),
            "{said}"
        );
    }
    world.talk(0, 1);
}

#[test]
fn what_others_change_is_put_right() {
    let world = World::with(2);
    let [a, b, _] = &world.nodes[..] else { unreachable!() };
    let _agents = [world.start(0), world.start(1)];
    world.talk(0, 1);
    let right = a.written();
    assert_eq!(right.len(), 3, "{right:#?}");
    let changes: [&[&str]; 4] = [
        &["route", "delete", "10.244.2.0/24"],
        &["neighbour", "flush", "dev", "heddle.1", "nud", "permanent"],
        &["link", "set", "heddle.1", "down"],
        &["link", "delete", "heddle.1"],
    ];
    for change in changes {
        a.ip(change);
        becomes(&change.join(" "), &right, || a.written());
        world.talk(0, 1);
    }
    a.ns.cmd(&["nft", "delete", "table", "inet", "heddle-overlay"]);
    becomes("the table is back", &true, || {
        a.ns.cmd(&["nft", "list", "tables"]).contains("inet heddle-overlay")
    });

    // the announcement, and not others' annotations
    let mut object = world.server.get(Resource::Nodes, "", "b").unwrap();
    let announced = world.annotation("b");
    object["kind"] = json!("Node");
    object["metadata"]["annotations"] = json!({"mine": "stays"});
    world.server.put(object);
    becomes("b announces itself again", &announced, || world.annotation("b"));
    let annotations =
        world.server.get(Resource::Nodes, "", "b").unwrap()["metadata"]["annotations"].clone();
    assert_eq!(annotations["mine"], "stays");
    world.talk(0, 1);
    assert_eq!(b.status()["overlay"]["problems"], json!([]));

    let second = a.once(&[&world.kubeconfig()]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("another overlay controller of Heddle"), "{said}");
    assert!(said.contains("runs in this network namespace; stop it first"), "{said}");
}

#[test]
fn a_boot_without_the_api_begins_with_what_was_kept() {
    let world = World::with(2);
    let [a, _, _] = &world.nodes[..] else { unreachable!() };
    let (one, _two) = (world.start(0), world.start(1));
    world.talk(0, 1);
    let right = a.written();
    one.stop();
    // the machine boots: nothing is in the kernel, nothing in /run
    a.ip(&["link", "delete", "heddle.1"]);
    a.ns.cmd(&["nft", "flush", "ruleset"]);
    fs::remove_file(a.path("subnet.env")).unwrap();
    world.server.set_away(true);
    let one = world.start(0);
    assert_eq!(a.written(), right);
    assert!(
        fs::read_to_string(a.path("subnet.env")).unwrap().contains("HEDDLE_SUBNET=10.244.1.1/24")
    );
    world.talk(0, 1);
    let status = a.status()["overlay"].clone();
    assert_eq!(status["from_kept_state"], true);
    becomes("that the API is away is told", &true, || {
        a.status()["overlay"]["problems"]
            .to_string()
            .contains("the ways to other nodes stay as they are")
    });
    // broken state is told and left out; then nothing is known until the API is back
    one.stop();
    for file in ["nodes.json", "mac.json"] {
        fs::write(a.path("state/overlay").join(file), "{\"half\":").unwrap();
    }
    let one = a.spawn(&[&world.kubeconfig()]);
    becomes("the broken file is told", &true, || one.said().contains("nodes.json is left out"));
    assert!(a.written().iter().any(|line| line.contains("10.244.2.0")), "what is there stays");
    world.server.set_away(false);
    one.wait_until_ready();
    assert_eq!(a.written(), right);
    becomes("all is well", &json!(false), || a.status()["overlay"]["from_kept_state"].clone());
    world.talk(0, 1);
}

#[test]
fn a_start_beside_a_healthy_api_warns_of_nothing() {
    let world = World::with(2);
    // the list takes longer than anything else
    world.server.set_delay(Duration::from_millis(500));
    let agents = [world.start(0), world.start(1)];
    world.talk(0, 1);
    for agent in &agents {
        assert_eq!(agent.warned(), [""; 0], "{}", agent.said());
    }
    // a Node that is missing is told as soon as that is known
    let missing = world.nodes[2].spawn(&[&world.kubeconfig()]);
    becomes("what is missing is told", &1, || missing.warned().len());
    assert!(missing.warned()[0].contains("there is no Node c yet"), "{}", missing.said());
    world.server.put(world.nodes[2].object());
    missing.wait_until_ready();
}

#[test]
fn an_api_that_is_away_is_one_line_and_its_return_another() {
    let world = World::with(2);
    let (one, _two) = (world.start(0), world.start(1));
    world.talk(0, 1);
    world.server.set_away(true);
    becomes("it is told", &true, || one.said().contains("the API does not answer"));
    let a = &world.nodes[0];
    std::thread::sleep(Duration::from_secs(12));
    let warned = one.warned();
    assert_eq!(warned.len(), 1, "{}", one.said());
    for words in ["what stays: the ways to other nodes", "reason="] {
        assert!(warned[0].contains(words), "{words}: {}", warned[0]);
    }
    let problems = a.status()["overlay"]["problems"].to_string();
    assert!(problems.contains("nodes are not told of"), "{problems}");
    world.server.set_away(false);
    becomes("it is back", &1, || one.said().matches("the API answers again").count());
    becomes("nothing is wrong", &json!([]), || a.status()["overlay"]["problems"].clone());
    assert_eq!(one.warned().len(), 1, "{}", one.said());
}

#[test]
fn killed_at_any_time_nothing_is_lost_and_nothing_is_double() {
    let world = World::with(2);
    let [a, _, _] = &world.nodes[..] else { unreachable!() };
    let (mut one, _two) = (world.start(0), world.start(1));
    world.talk(0, 1);
    let right = a.written();
    for millis in [0, 3, 10, 20, 35, 60, 100, 200] {
        one.kill();
        if millis % 2 == 0 {
            // it may not be there yet
            a.ns.command("ip").args(["route", "delete", "10.244.2.0/24"]).output().unwrap();
        }
        one = a.spawn(&[&world.kubeconfig()]);
        std::thread::sleep(Duration::from_millis(millis));
    }
    one.kill();
    let one = world.start(0);
    becomes("all is there once", &right, || a.written());
    world.talk(0, 1);
    let left: Vec<_> = fs::read_dir(a.path("state/overlay"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert!(left.len() <= 4, "{left:?}");

    one.stop();
    let said = a.told(&["--cleanup"]);
    for what in ["heddle.1", "heddle-overlay", "subnet.env", "nodes.json"] {
        assert!(said.contains(what), "{what}: {said}");
    }
    assert!(!a.ip(&["link"]).contains("heddle.1") && !a.ip(&["route"]).contains("104"));
    assert!(!a.ns.cmd(&["nft", "list", "ruleset"]).contains("heddle"));
    assert!(a.ip(&["address", "show", "eth0"]).contains("192.0.2.1/24"), "what is not ours stays");
    assert_eq!(a.told(&["--cleanup"]), "there is nothing of the overlay here\n");
}

#[test]
fn nodes_that_are_written_down_need_no_api() {
    let world = World::with(0);
    let objects: Vec<_> = world.nodes.iter().map(|node| node.object().to_string()).collect();
    let manifests = objects.join("\n---\n");
    for node in &world.nodes {
        fs::create_dir(node.path("manifests")).unwrap();
        fs::write(node.path("manifests/nodes.yaml"), &manifests).unwrap();
    }
    let plan = world.nodes[0].told(&["--dry-run"]);
    assert!(plan.contains("route 10.244.3.0/24 via 10.244.3.0 dev heddle.1"), "{plan}");
    assert!(!world.nodes[0].ip(&["link"]).contains("heddle.1"), "a dry run changes nothing");
    assert!(!world.nodes[0].path("state").exists());
    let agents: Vec<_> = world.nodes.iter().map(|node| node.start(&[])).collect();
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        world.talk(one, other);
    }
    let [a, ..] = &world.nodes[..] else { unreachable!() };
    fs::write(a.path("manifests/nodes.yaml"), a.object().to_string()).unwrap();
    becomes("nothing is written any more", &0, || a.written().len());
    assert_eq!(world.server.take_requests(), [""; 0]);
    drop(agents);
}
