//! Nodes and their pods as namespaces, joined by links of a router; no daemon: the plan and the kernel's side are driven directly.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use heddle_agent::overlay::cluster::{Cluster, Event};
use heddle_agent::overlay::desired::Desired;
use heddle_agent::overlay::kernel::{Kernel, Report};
use heddle_agent::overlay::node::{Backend, NodeRecord, derived_mac};
use heddle_agent::overlay::plan::{Local, Plan, Settings, Underlay};
use netns_tools::testing::TestNetns;
use netns_tools::{MacAddr, Veth};

/// How long something may take that takes no time where nothing else runs.
const PATIENCE: Duration = Duration::from_secs(20);
/// So much is sent: many packets of full size.
const BULK: usize = 300_000;

/// Which families something has.
#[derive(Clone, Copy)]
pub struct Families {
    pub v4: bool,
    pub v6: bool,
}

pub const BOTH: Families = Families { v4: true, v6: true };
pub const ONLY_V4: Families = Families { v4: true, v6: false };
pub const ONLY_V6: Families = Families { v4: false, v6: true };

/// Two networks, 192.0.2.0/24 and 198.51.100.0/24, with a router between.
pub struct Router {
    ns: TestNetns,
}

impl Router {
    pub fn new() -> Self {
        let ns = TestNetns::new("ovrouter");
        forward(&ns);
        for network in 0..2 {
            let bridge = format!("br{network}");
            ns.cmd(&["ip", "link", "add", &bridge, "type", "bridge"]);
            let [v4, v6] = [underlay(network, 1, true), underlay(network, 1, false)];
            ns.configure(&bridge, &[&v4, &v6]);
        }
        Self { ns }
    }
}

/// Of the host `host` on one of the two networks.
pub fn underlay(network: u8, host: u8, v4: bool) -> String {
    match (network, v4) {
        (0, true) => format!("192.0.2.{host}/24"),
        (_, true) => format!("198.51.100.{host}/24"),
        (network, false) => format!("2001:db8:{network}::{host:x}/64"),
    }
}

/// As nodes are, and with the filter that drops what comes in by another way than answers go out.
fn forward(ns: &TestNetns) {
    for setting in [
        "net.ipv4.ip_forward=1",
        "net.ipv6.conf.all.forwarding=1",
        "net.ipv4.conf.all.rp_filter=1",
        "net.ipv4.conf.default.rp_filter=1",
    ] {
        ns.cmd(&["sysctl", "-qw", setting]);
    }
}

/// A node with one pod.
pub struct Node {
    pub ns: TestNetns,
    pub pod: TestNetns,
    pub number: u8,
    pub settings: Settings,
    pub mac: MacAddr,
    /// Its addresses on the underlay.
    pub addresses: Vec<String>,
    pub pods: Families,
    pub kernel: Kernel,
    pub plan: Option<Plan>,
}

impl Node {
    pub fn new(router: &Router, number: u8, network: u8, under: Families, pods: Families) -> Self {
        let (ns, pod) = (TestNetns::new("ovnode"), TestNetns::new("ovpod"));
        forward(&ns);
        ns.configure("lo", &[]);
        pod.configure("lo", &[]);
        let port = format!("n{number}");
        let veth = Veth { peer_ns: Some(router.ns.ns()), ..Veth::new("eth0", &port) };
        ns.netlink().add_veth(&veth).unwrap();
        router.ns.cmd(&["ip", "link", "set", &port, "master", &format!("br{network}"), "up"]);
        let mut addresses = Vec::new();
        for (v4, wanted) in [(true, under.v4), (false, under.v6)] {
            addresses.extend(wanted.then(|| underlay(network, 10 + number, v4)));
        }
        let texts: Vec<_> = addresses.iter().map(String::as_str).collect();
        ns.configure("eth0", &texts);
        default_route(&ns, "eth0", network, under);
        add_pod(&ns, &pod, number, pods);
        let kernel = Kernel::open_in(ns.ns()).unwrap();
        let mac = derived_mac(&format!("n{number}"));
        let settings = Settings::default();
        Self { ns, pod, number, settings, mac, addresses, pods, kernel, plan: None }
    }

    pub fn with(mut self, backend: Backend) -> Self {
        self.settings.backend = backend;
        self
    }

    /// Its pod's address.
    pub fn ip(&self, v4: bool) -> IpAddr {
        let text = if v4 {
            format!("10.244.{}.5", self.number)
        } else {
            format!("fd00:244:{}::5", self.number)
        };
        text.parse().unwrap()
    }

    /// Without an announcement.
    fn bare(&self) -> NodeRecord {
        let cidrs = [
            (self.pods.v4, format!("10.244.{}.0/24", self.number)),
            (self.pods.v6, format!("fd00:244:{}::/64", self.number)),
        ];
        NodeRecord {
            name: format!("n{}", self.number).into(),
            created: Some(self.number.into()),
            pod_cidrs: cidrs
                .iter()
                .filter(|(has, _)| *has)
                .map(|(_, cidr)| cidr.parse().unwrap())
                .collect(),
            ..NodeRecord::default()
        }
    }

    pub fn local(&self) -> Local {
        let link = self.ns.link("eth0");
        let underlays: Vec<_> = self
            .addresses
            .iter()
            .map(|address| Underlay {
                link: link.index,
                name: link.name.clone(),
                address: address.parse().unwrap(),
                mtu: link.mtu,
                gateway: None,
            })
            .collect();
        Local::new(self.settings.clone(), &self.bare(), self.mac, &underlays).unwrap()
    }

    pub fn record(&self) -> NodeRecord {
        NodeRecord { announced: Some(self.local().announcement()), ..self.bare() }
    }

    /// Everything anew, which must succeed.
    #[track_caller]
    pub fn sync(&mut self, cluster: &Cluster) -> Report {
        let plan = Plan::new(self.local(), cluster, BTreeMap::new());
        let report = self.kernel.sync(&plan.desired()).unwrap();
        assert_eq!(report.failed, []);
        self.plan = Some(plan);
        report
    }

    /// One change, which must succeed.
    #[track_caller]
    pub fn follow(&mut self, cluster: &mut Cluster, event: Event) -> Report {
        let names = cluster.apply(event);
        let changes = self.plan.as_mut().unwrap().update(cluster, &names);
        let report = self.kernel.update(&changes).unwrap();
        assert_eq!(report.failed, []);
        report
    }

    pub fn desired(&self) -> Desired {
        self.plan.as_ref().unwrap().desired()
    }

    /// By which link packets to `address` go.
    pub fn link_towards(&self, address: IpAddr) -> String {
        let route = self.ns.json(&["ip", "-j", "route", "get", &address.to_string()]);
        route[0]["dev"].as_str().unwrap().to_owned()
    }
}

fn default_route(ns: &TestNetns, link: &str, network: u8, under: Families) {
    for (v4, wanted) in [(true, under.v4), (false, under.v6)] {
        if wanted {
            let gateway = underlay(network, 1, v4);
            let gateway = gateway.split('/').next().unwrap();
            ns.cmd(&["ip", "route", "add", "default", "via", gateway, "dev", link]);
        }
    }
}

fn add_pod(ns: &TestNetns, pod: &TestNetns, number: u8, families: Families) {
    let veth = Veth { peer_ns: Some(pod.ns()), ..Veth::new("pod", "eth0") };
    ns.netlink().add_veth(&veth).unwrap();
    let ranges = [
        (families.v4, format!("10.244.{number}."), "24"),
        (families.v6, format!("fd00:244:{number}::"), "64"),
    ];
    let of = |host| -> Vec<String> {
        let all = ranges.iter().filter(|(has, ..)| *has);
        all.map(|(_, start, prefix)| format!("{start}{host}/{prefix}")).collect()
    };
    let texts =
        |list: &[String]| list.iter().map(|text| text.clone().leak() as &str).collect::<Vec<_>>();
    ns.configure("pod", &texts(&of(1)));
    pod.configure("eth0", &texts(&of(5)));
    for (_, start, _) in ranges.iter().filter(|(has, ..)| *has) {
        pod.cmd(&["ip", "route", "add", "default", "via", &format!("{start}1")]);
    }
}

/// All know all, from the start.
pub fn cluster(nodes: &[Node]) -> Cluster {
    let mut cluster = Cluster::default();
    cluster.apply(Event::All(nodes.iter().map(Node::record).collect()));
    cluster
}

/// Every node is made as it should be, and a second time nothing is left to do.
#[track_caller]
pub fn settle(nodes: &mut [Node]) -> Cluster {
    let cluster = cluster(nodes);
    for node in nodes {
        let mtu = node.local().pod_mtu().to_string();
        node.pod.cmd(&["ip", "link", "set", "eth0", "mtu", &mtu]);
        node.sync(&cluster);
        let again = node.sync(&cluster);
        assert!(again.is_empty(), "n{}: {again:?}", node.number);
    }
    cluster
}

/// Every pod speaks to every other, in all common families, under its own address.
#[track_caller]
pub fn all_talk(nodes: &[Node]) {
    for (one, other) in nodes.iter().flat_map(|one| nodes.iter().map(move |other| (one, other))) {
        for v4 in [true, false] {
            let has = |families: Families| if v4 { families.v4 } else { families.v6 };
            if one.number != other.number && has(one.pods) && has(other.pods) {
                talk(one, other, v4);
            }
        }
    }
}

#[track_caller]
pub fn talk(one: &Node, other: &Node, v4: bool) {
    let source = eventually(|| try_talk(&one.pod, &other.pod, other.ip(v4)))
        .unwrap_or_else(|e| panic!("n{} to n{} (IPv4 {v4}): {e}", one.number, other.number));
    assert_eq!(source, one.ip(v4));
}

/// Until it succeeds or a long time has passed.
pub fn eventually<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(_) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(50)),
            done => return done,
        }
    }
}

/// Sends much from one namespace to another, and returns the address that it came from.
pub fn try_talk(from: &TestNetns, to: &TestNetns, address: IpAddr) -> io::Result<IpAddr> {
    let listener = to.run(|| TcpListener::bind((address, 0)))?;
    let port = listener.local_addr()?.port();
    let patience = Duration::from_secs(3);
    let mut stream =
        from.run(|| TcpStream::connect_timeout(&SocketAddr::new(address, port), patience))?;
    let (mut accepted, source) = listener.accept()?;
    accepted.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || stream.write_all(&vec![7; BULK]));
        let mut received = Vec::new();
        accepted.read_to_end(&mut received)?;
        sender.join().unwrap()?;
        if received.len() == BULK {
            Ok(source.ip())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    })
}
