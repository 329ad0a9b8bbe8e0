//! The world with programs on all nodes and a pod on each.

use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use serde_json::{Value, json};
use test_api_server::Resource;

use crate::agent::{Agent, PATIENCE};
use crate::node::Pod;
use crate::traffic::{datagram, eventually, stream};
use crate::underlay::Shape;
use crate::world::World;

/// The annotation by which nodes announce themselves.
pub const ANNOTATION: &str = "overlay.heddle.dev/node";
/// Name of the device.
pub const DEVICE: &str = "heddle.1";
/// What passes in any case.
pub const SMALL: usize = 100;
/// In bytes, of a transfer.
const TRANSFER: usize = 4 << 20;
/// For a transfer on a loaded machine.
const TRANSFER_BOUND: Duration = Duration::from_secs(10);

/// Programs first: they end before their nodes go.
pub struct Cluster {
    agents: [Option<Agent>; 3],
    world: World,
}

impl Deref for Cluster {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl DerefMut for Cluster {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

impl Cluster {
    /// Starts programs with more lines for `[overlay]`, makes a pod on each node as the lease says, and waits until all pods talk.
    pub fn new(shape: Shape, more: &str) -> Self {
        Self::of(World::new(shape), [more; 3])
    }

    /// The same in a world that was changed before, each program with lines of its own.
    pub fn of(world: World, more: [&str; 3]) -> Self {
        let cluster = Self::silent(world, more);
        cluster.all_talk(PATIENCE);
        cluster
    }

    /// The same, without waiting for pods to talk.
    pub fn silent(world: World, more: [&str; 3]) -> Self {
        let mut cluster = Self::idle(world);
        for (node, more) in (1..).zip(more) {
            cluster.start(node, more);
        }
        for node in 1..=3 {
            cluster.add_pod(node);
        }
        cluster
    }

    /// No programs and no pods.
    pub fn idle(world: World) -> Self {
        Self { agents: [None, None, None], world }
    }

    pub fn start(&mut self, node: u8, more: &str) {
        let agent = self.world.start(node, more);
        self.agents[usize::from(node) - 1] = Some(agent);
    }

    /// Takes the program of a node: to crash it, or to stop it.
    pub fn take(&mut self, node: u8) -> Agent {
        self.agents[usize::from(node) - 1].take().expect("a program runs there")
    }

    /// Starts the program of a node again, after a crash.
    pub fn restart(&mut self, node: u8, more: &str) {
        self.take(node).crash();
        self.start(node, more);
    }

    pub fn agent(&self, node: u8) -> &Agent {
        self.agents[usize::from(node) - 1].as_ref().expect("a program runs there")
    }

    /// Makes a pod with the MTU that the lease says.
    #[track_caller]
    pub fn add_pod(&mut self, node: u8) -> usize {
        let what = format!("node-{node} has a lease");
        let (mtu, _) = eventually(PATIENCE, &what, || {
            let told = || self.agents[usize::from(node) - 1].as_ref().map(Agent::said);
            self.world
                .node(node)
                .pod_mtu()
                .map_err(|why| format!("{why}\n{}", told().unwrap_or_default()))
        });
        self.world.node_mut(node).add_pod(mtu)
    }

    pub fn pod(&self, node: u8) -> &Pod {
        self.world.node(node).pod(0)
    }

    /// Sends a packet of a size from a node's pod to another's, in both families.
    pub fn try_size(&self, from: u8, to: u8, size: usize) -> Result<(), String> {
        let (from, to) = (self.pod(from), self.pod(to));
        for (to, own) in [(to.v4(), from.v4), (to.v6(), from.v6)] {
            let seen = datagram(&from.ns, to, size)?;
            if seen != own {
                return Err(format!("{own} is seen as {seen} by {}", to.1));
            }
        }
        Ok(())
    }

    /// Waits until pods of two nodes talk in small packets, in both directions; the time that it took.
    #[track_caller]
    pub fn talk(&self, one: u8, other: u8, bound: Duration) -> Duration {
        let what = format!("pods of node-{one} and node-{other} talk");
        let ((), took) = eventually(bound, &what, || {
            self.try_size(one, other, SMALL).and_then(|()| self.try_size(other, one, SMALL))
        });
        took
    }

    #[track_caller]
    pub fn all_talk(&self, bound: Duration) {
        for (one, other) in [(1, 2), (1, 3), (2, 3)] {
            self.talk(one, other, bound);
        }
    }

    /// A transfer from a node's pod to another's, in both families.
    pub fn transfer(&self, from: u8, to: u8) -> Result<(), String> {
        let (from, to) = (self.pod(from), self.pod(to));
        stream(&from.ns, to.v4(), TRANSFER, TRANSFER_BOUND)?;
        stream(&from.ns, to.v6(), TRANSFER, TRANSFER_BOUND).map(drop)
    }

    /// A Node object as the API has it now.
    pub fn object(&self, node: u8) -> Value {
        let name = self.world.node(node).name();
        let object = self.world.api.get(Resource::Nodes, "", &name);
        let mut object = object.expect("the API has it");
        object["kind"] = json!("Node");
        object
    }

    /// What a node announces, as JSON; it must have done so.
    pub fn announced(&self, node: u8) -> Result<Value, String> {
        let object = self.object(node);
        let text = object["metadata"]["annotations"][ANNOTATION].as_str();
        let text = text.ok_or_else(|| format!("node-{node} announced nothing: {object}"))?;
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// Has the API say that a node announces this.
    pub fn announce(&self, node: u8, announcement: &Value) {
        let mut object = self.object(node);
        object["metadata"]["annotations"][ANNOTATION] = json!(announcement.to_string());
        self.world.put(object);
    }

    /// What `heddle-agent status` of a node tells, as text.
    pub fn status(&self, node: u8) -> String {
        Agent::status(self.world.node(node))
    }

    /// Waits until the log or the status of a node has all of these words.
    #[track_caller]
    pub fn is_told(&self, node: u8, words: &[&str]) {
        eventually(PATIENCE, &format!("node-{node} tells of {words:?}"), || {
            let told = [self.agent(node).said(), self.status(node)];
            let found = told.iter().flat_map(|text| text.lines());
            let mut found = found.filter(|line| words.iter().all(|word| line.contains(word)));
            found.next().map(drop).ok_or_else(|| told.join("\nstatus: "))
        });
    }

    /// Routes, neighbours and forwarding entries of a node that name an address or a range, as `ip` and `bridge` show them.
    pub fn entries(&self, node: u8, word: &str) -> Vec<String> {
        let ns = &self.world.node(node).ns;
        let shown = [
            ns.cmd(&["ip", "route"]),
            ns.cmd(&["ip", "-6", "route"]),
            ns.cmd(&["ip", "neigh"]),
            ns.cmd(&["bridge", "fdb"]),
        ];
        let lines = shown.iter().flat_map(|text| text.lines());
        lines.filter(|line| line.contains(word)).map(str::to_owned).collect()
    }

    /// What `ip -d` shows of a node's VXLAN device.
    pub fn device(&self, node: u8) -> Value {
        let shown = ["ip", "-d", "-j", "link", "show", "dev", DEVICE];
        self.world.node(node).ns.json(&shown)[0].clone()
    }

    /// The first address of a node's underlay.
    pub fn address(&self, node: u8) -> IpAddr {
        self.world.node(node).addresses()[0]
    }
}
