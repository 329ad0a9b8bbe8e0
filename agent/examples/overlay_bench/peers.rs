//! Thousands of remote nodes: from the program's start until all of them have their routes, and from the API's word of one change until
//! the kernel knows, against one netlink batch of just these entries.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use netns_tools::link::new::NewLink;
use netns_tools::route::spread_metric;
use netns_tools::testing::{End, TestNetns, veth_pair};
use netns_tools::{
    Change, FdbEntry, MacAddr, Netlink, Object, PermanentNeighbour, Route, RoutesOf, Vxlan,
};
use serde_json::{Value, json};
use test_api_server::ServerThread;

use crate::heddle::Folder;
use crate::program::{Agent, Program, Start};
use crate::{Outcome, median};

const DEVICE: &str = "heddle.1";
const NODE: &str = "node-0";
const ADDRESS: &str = "192.0.2.1/24";
/// The first sync on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);
/// One change.
const PATIENCE_OF_A_CHANGE: Duration = Duration::from_secs(30);
/// What the program does after the first sync is done by then.
const SETTLED: Duration = Duration::from_secs(3);

/// Milliseconds and MiB, medians.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Remote nodes.
    pub count: u32,
    /// One netlink batch, all routes of one metric.
    pub floor: f64,
    /// One netlink batch of just what the program writes: each route has a metric of its own.
    pub floor_ours: f64,
    /// From the program's start, beside an API that has all nodes, until the last route is there.
    pub start: f64,
    /// Of that: from the first route until the last.
    pub programming: f64,
    /// From the API's word of a node's new Ethernet address until its neighbour entry has it.
    pub change: f64,
    /// See `change`.
    pub change_worst: f64,
    /// From the API's word of a new node until its route is there.
    pub arrival: f64,
    /// What the program held when it had settled.
    pub memory: f64,
}

/// A remote node, by number from 0 on.
#[derive(Clone, Copy)]
struct Peer(u32);

impl Peer {
    const fn bytes(self) -> [u8; 2] {
        let [_, _, high, low] = self.0.to_be_bytes();
        [high, low]
    }

    /// The first address of its pods' range, 10.0.0.0/8 in all.
    fn first(self) -> IpAddr {
        let [high, low] = self.bytes();
        Ipv4Addr::new(10, high, low, 0).into()
    }

    fn range(self) -> Outcome<IpNetwork> {
        Ok(IpNetwork::new(self.first(), 24)?)
    }

    /// On the underlay, behind a router (RFC 2544).
    fn address(self) -> IpAddr {
        let [high, low] = (self.0 + 257).to_be_bytes()[2..].try_into().unwrap_or_default();
        Ipv4Addr::new(198, 18, high, low).into()
    }

    fn mac(self, turn: u8) -> MacAddr {
        let [high, low] = self.bytes();
        MacAddr([2, 0, 0, turn, high, low])
    }

    fn object(self, turn: u8) -> Value {
        let (name, range) = (format!("peer-{}", self.0), format!("{}/24", self.first()));
        let announced = json!({
            "backend": "vxlan", "vni": 1, "port": 8472, "addresses": [self.address()],
            "vteps": [{"address": self.address(), "mac": self.mac(turn).to_string()}],
        });
        let mut object = node(&name, &range, self.address());
        object["metadata"]["annotations"] =
            json!({"overlay.heddle.dev/node": announced.to_string()});
        // as large as a node's object is in a cluster
        object["status"]["nodeInfo"] = json!({
            "architecture": "amd64", "operatingSystem": "linux", "kernelVersion": "6.12.0-amd64", "kubeletVersion": "v1.33.1",
            "containerRuntimeVersion": "containerd://2.1.0", "osImage": "Linux", "machineID": format!("{:032x}", self.0),
        });
        object["status"]["capacity"] = json!({"cpu": "8", "memory": "32Gi", "pods": "110"});
        object
    }

    /// Route, neighbour and forwarding entry.
    fn entries(self, link: u32, layout: Layout) -> Outcome<[Object; 3]> {
        Ok([
            Object::Neighbour(PermanentNeighbour { link, address: self.first(), mac: self.mac(0) }),
            Object::Fdb(FdbEntry::new(link, self.mac(0), self.address())),
            Object::Route(Route {
                dst: self.range()?,
                gateway: Some(self.first()),
                oif: Some(link),
                onlink: true,
                priority: match layout {
                    Layout::Plain => None,
                    Layout::Ours => spread_metric(self.range()?),
                },
                ..Route::default()
            }),
        ])
    }
}

fn node(name: &str, range: &str, address: IpAddr) -> Value {
    json!({
        "kind": "Node", "apiVersion": "v1", "metadata": {"name": name},
        "spec": {"podCIDR": range, "podCIDRs": [range]},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    })
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// How a batch's routes are made.
#[derive(Clone, Copy)]
enum Layout {
    /// Of one metric: the kernel's cost of each grows with how many there are.
    Plain,
    /// As the program makes them.
    Ours,
}

/// What a batch takes, in namespaces of its own.
fn floor(count: u32, layout: Layout) -> Outcome<f64> {
    let ns = TestNetns::new("bench-f");
    let mut net = ns.netlink();
    net.add_vxlan(&NewLink::new(DEVICE), &Vxlan::new(1, IpAddr::from([192, 0, 2, 1])))?;
    ns.configure(DEVICE, &["10.255.255.0/32"]);
    let link = ns.link(DEVICE).index;
    let entries = (0..count).map(|number| Peer(number).entries(link, layout));
    let entries: Vec<_> = entries.collect::<Outcome<Vec<_>>>()?.into_iter().flatten().collect();
    let start = Instant::now();
    let done = net.apply(entries.into_iter().map(Change::add))?;
    let took = start.elapsed();
    match done.refused.first() {
        Some(refused) => Err(refused.error.to_string().into()),
        None => Ok(milliseconds(took)),
    }
}

/// A node with the program, beside an API server; nothing else is there of the other nodes.
struct World {
    agent: Agent,
    api: ServerThread,
    net: Netlink,
    #[expect(dead_code, reason = "it is there as long as the program runs")]
    folder: Folder,
    #[expect(dead_code, reason = "it is there as long as the program runs")]
    router: TestNetns,
    node: TestNetns,
    started: Instant,
}

impl World {
    fn start(program: &Program, count: u32) -> Outcome<Self> {
        let [node, router] = [(); 2].map(|()| TestNetns::new("bench-n"));
        veth_pair(End(&node, "eth0", &[ADDRESS]), End(&router, "eth0", &["192.0.2.254/24"]));
        node.cmd(&["ip", "route", "add", "default", "via", "192.0.2.254"]);
        let api = ServerThread::start(node.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?)?;
        api.server.put(self::node(NODE, "10.255.255.0/24", IpAddr::from([192, 0, 2, 1])));
        api.server.put_all((0..count).map(|number| Peer(number).object(0)));
        let folder = Folder::new()?;
        std::fs::write(folder.path("kubeconfig"), api.server.kubeconfig())?;
        let start = Start { ns: &node, name: NODE, network: "10.0.0.0/8", backend: "vxlan" };
        let started = Instant::now();
        let agent = program.spawn(&start, &folder)?;
        let net = node.netlink();
        Ok(Self { agent, api, net, folder, router, node, started })
    }

    /// How many routes lead through the device.
    fn routes(&mut self) -> Outcome<u32> {
        let Some(link) = self.net.link(DEVICE)? else { return Ok(0) };
        let only = RoutesOf { oif: Some(link.index), ..RoutesOf::default() };
        let routes = self.net.routes_of(only)?;
        Ok(u32::try_from(routes.iter().filter(|route| route.dst.prefix() == 24).count())?)
    }

    /// When the first of the routes was there, and when all.
    fn wait_for_routes(&mut self, count: u32) -> Outcome<[Duration; 2]> {
        let mut first = None;
        loop {
            let asked = self.started.elapsed();
            let routes = self.routes()?;
            if routes > 0 && first.is_none() {
                first = Some(asked);
            }
            if routes >= count {
                return Ok([first.unwrap_or(asked), self.started.elapsed()]);
            }
            if asked > PATIENCE {
                let said = self.agent.said();
                return Err(format!("{routes} of {count} routes after {asked:?}\n{said}").into());
            }
            self.agent.check()?;
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// From the write to the API until the kernel knows.
    fn until(
        &mut self,
        object: Value,
        mut known: impl FnMut(&mut Netlink) -> Outcome<bool>,
    ) -> Outcome<f64> {
        let start = Instant::now();
        self.api.server.put(object);
        while !known(&mut self.net)? {
            if start.elapsed() > PATIENCE_OF_A_CHANGE {
                return Err(format!("a change is not followed\n{}", self.agent.said()).into());
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        Ok(milliseconds(start.elapsed()))
    }

    fn change(&mut self, peer: Peer, turn: u8) -> Outcome<f64> {
        let link = self.node.link(DEVICE).index;
        self.until(peer.object(turn), |net| {
            let known = net.neighbour(link, peer.first())?;
            Ok(known.is_some_and(|known| known.mac == Some(peer.mac(turn))))
        })
    }

    fn arrival(&mut self, peer: Peer) -> Outcome<f64> {
        let link = self.node.link(DEVICE).index;
        // the neighbour is written with the route; to look for one is cheaper than to list all routes
        self.until(peer.object(0), |net| Ok(net.neighbour(link, peer.first())?.is_some()))
    }
}

/// Measures the batch and the program in turns.
pub fn measure(program: &Program, count: u32, rounds: usize) -> Outcome<Figures> {
    let [mut floors, mut ours, mut starts, mut windows, mut memory] = [const { Vec::new() }; 5];
    let (mut changes, mut arrivals) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        floors.push(floor(count, Layout::Plain)?);
        ours.push(floor(count, Layout::Ours)?);
        let mut world = World::start(program, count)?;
        let [first, all] = world.wait_for_routes(count)?;
        starts.push(milliseconds(all));
        windows.push(milliseconds(all.saturating_sub(first)));
        std::thread::sleep(SETTLED);
        memory.push(world.agent.memory()?);
        for turn in 1..=8_u8 {
            std::thread::sleep(Duration::from_millis(150));
            changes.push(world.change(Peer(count / 2 + u32::from(turn)), turn)?);
            std::thread::sleep(Duration::from_millis(150));
            arrivals.push(world.arrival(Peer(count + u32::from(turn)))?);
        }
    }
    Ok(Figures {
        count,
        floor: median(floors),
        floor_ours: median(ours),
        start: median(starts),
        programming: median(windows),
        change_worst: changes.iter().copied().fold(0.0, f64::max),
        change: median(changes),
        arrival: median(arrivals),
        memory: median(memory),
    })
}
