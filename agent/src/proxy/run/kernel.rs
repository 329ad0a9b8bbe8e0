//! The loop in real kernels: throw-away namespaces with a client, a node and its services.

mod take_over;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use netns_tools::iptables::Iptables;
use netns_tools::netns::NetNs;
use netns_tools::nftables::Nftables;
use netns_tools::testing::{End, TestNetns, veth_pair};
use serde_json::json;

use super::*;
use crate::proxy::conntrack::KernelFlows;
use crate::proxy::iptables::IptablesBackend;
use crate::proxy::model::{Service, Slice};
use crate::proxy::nftables::NftablesBackend;
use crate::proxy::ops;

const VIP: &str = "10.96.0.10";
const NODE: &str = "10.9.0.1";
/// A proxy of a child process announces itself by this.
const CHILD: &str = "HEDDLE_PROXY_OF_A_TEST";

/// What writes rules in a test.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    IptablesNft,
    IptablesLegacy,
    Nftables,
}

impl Way {
    fn backend(self) -> Box<dyn Backend> {
        let iptables = |variant| {
            let found = Iptables::variant(Family::V4, variant).expect("iptables is installed");
            Box::new(IptablesBackend::new(Box::new(found)))
        };
        match self {
            Self::IptablesNft => iptables(netns_tools::iptables::Backend::Nft),
            Self::IptablesLegacy => iptables(netns_tools::iptables::Backend::Legacy),
            Self::Nftables => Box::new(NftablesBackend::open(Family::V4).unwrap()),
        }
    }

    fn predecessors(self, take_over: bool) -> Vec<Box<dyn Predecessor>> {
        let mode = if self == Self::Nftables { ops::Mode::Nftables } else { ops::Mode::Iptables };
        backends::predecessors(mode, Family::V4, take_over)
    }
}

/// What the loop told.
#[derive(Default)]
struct Told {
    settled: AtomicU64,
    lost: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Observer for Told {
    fn settled(&self, events: u64) {
        self.settled.store(events, Ordering::SeqCst);
    }

    fn lost(&self, _: Family) {
        self.lost.fetch_add(1, Ordering::SeqCst);
    }

    fn failed(&self, _: Family, failure: &Failure) {
        self.failures.lock().unwrap().push(failure.reason.clone());
    }
}

/// A proxy on a thread of its own, which ends with it and leaves its rules.
struct Proxy {
    events: Option<mpsc::Sender<Event>>,
    _options: watch::Sender<RuleOptions>,
    told: Arc<Told>,
    thread: Option<JoinHandle<()>>,
    sent: u64,
}

impl Proxy {
    fn start(ns: &TestNetns, way: Way) -> Self {
        Self::start_with(ns, way, false)
    }

    fn start_with(ns: &TestNetns, way: Way, take_over: bool) -> Self {
        let (events, received) = mpsc::channel(1024);
        let (options, current) = watch::channel(RuleOptions::default());
        let told = Arc::new(Told::default());
        let (observer, name) = (told.clone(), ns.name().to_owned());
        let work = move || serve(way, take_over, received, current, observer);
        let thread = thread::spawn(move || NetNs::named(&name).unwrap().run(work).unwrap());
        Self { events: Some(events), _options: options, told, thread: Some(thread), sent: 0 }
    }

    fn send(&mut self, event: Event) {
        self.events.as_ref().unwrap().blocking_send(event).unwrap();
        self.sent += 1;
    }

    /// Tells all that there is, and waits until it is in force.
    fn set(&mut self, services: Vec<Service>, slices: Vec<Slice>) {
        self.send(Event::AllServices(services));
        self.send(Event::AllSlices(slices));
        self.settle();
    }

    fn settle(&self) {
        within(Duration::from_mins(1), "rules to be in force", || {
            assert!(self.thread.as_ref().is_some_and(|thread| !thread.is_finished()));
            self.told.settled.load(Ordering::SeqCst) >= self.sent
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.events = None;
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))), "the proxy broke");
    }
}

fn serve(
    way: Way,
    take_over: bool,
    events: mpsc::Receiver<Event>,
    options: watch::Receiver<RuleOptions>,
    observer: Arc<Told>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let family = FamilyParts {
            backend: way.backend(),
            flows: Box::new(KernelFlows::new()),
            predecessors: way.predecessors(take_over),
        };
        let pace = Pace { least: Duration::ZERO, resync: Duration::from_hours(1) };
        let parts = Parts {
            events,
            options,
            node: Some(Node::named("here")),
            families: vec![family],
            pace,
            observer,
            alarm: Some(Alarm::open().unwrap()),
        };
        Runner::new(parts).run().await;
    });
}

fn within(limit: Duration, what: &str, mut check: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < limit, "waited {limit:?} for {what}");
        thread::sleep(Duration::from_millis(5));
    }
    start.elapsed()
}

fn service(number: u32) -> Service {
    let ip = Ipv4Addr::from(u32::from(VIP.parse::<Ipv4Addr>().unwrap()) + number);
    let object = json!({"metadata": {"namespace": "default", "name": format!("s{number}")},
        "spec": {"clusterIP": ip.to_string(), "ports": [
            {"name": "tcp", "port": 80}, {"name": "udp", "port": 53, "protocol": "UDP"}]}});
    Service::of(&serde_json::from_value(object).unwrap()).unwrap().unwrap()
}

fn slice(number: u32, address: &str) -> Slice {
    let object = json!({
        "metadata": {"namespace": "default", "name": format!("s{number}-1"),
            "labels": {"kubernetes.io/service-name": format!("s{number}")}},
        "addressType": "IPv4",
        "ports": [{"name": "tcp", "port": 8080}, {"name": "udp", "port": 5353, "protocol": "UDP"}],
        "endpoints": [{"addresses": [address], "nodeName": "here"}]});
    Slice::of(&serde_json::from_value(object).unwrap()).unwrap()
}

/// A node and a client that reaches services through it.
struct World {
    node: TestNetns,
    client: TestNetns,
}

impl World {
    fn new(label: &str) -> Self {
        let (node, client) = (TestNetns::new(label), TestNetns::new(label));
        veth_pair(End(&node, "eth0", &["10.9.0.1/24"]), End(&client, "eth0", &["10.9.0.2/24"]));
        client.cmd(&["ip", "route", "add", "default", "via", NODE]);
        Self { node, client }
    }

    /// Echoes at the node, for as long as the namespace is there.
    fn echo(&self) {
        let listener = self.node.run(|| TcpListener::bind((NODE, 8080)).unwrap());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut stream));
            }
        });
        let socket = self.node.run(|| UdpSocket::bind((NODE, 5353)).unwrap());
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                socket.send_to(&buffer[..length], from).ok();
            }
        });
    }

    /// Whether the table of nftables mode is there.
    fn has_table(&self) -> bool {
        let tables = Nftables::open_in(self.node.ns()).and_then(|mut nft| nft.tables()).unwrap();
        tables.iter().any(|table| table.name == "heddle")
    }

    /// Whether rules of services are there.
    fn has_rules(&self, way: Way) -> bool {
        let chains = |program: &str| self.node.cmd(&[program]).contains("KUBE-SVC-");
        match way {
            Way::Nftables => self.has_table(),
            Way::IptablesNft => chains("iptables-nft-save"),
            Way::IptablesLegacy => chains("iptables-legacy-save"),
        }
    }

    fn connect(&self) -> Option<TcpStream> {
        let address = SocketAddr::new(VIP.parse().unwrap(), 80);
        let patience = Duration::from_millis(100);
        let stream = self.client.run(|| TcpStream::connect_timeout(&address, patience)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Some(stream)
    }

    fn udp(&self) -> UdpSocket {
        let socket = self.client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.connect((VIP, 53)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        socket
    }
}

fn goes_on(stream: &mut TcpStream, word: [u8; 4]) -> bool {
    let mut answer = [0; 4];
    stream.write_all(&word).is_ok() && stream.read_exact(&mut answer).is_ok() && answer == word
}

fn answers(socket: &UdpSocket, word: [u8; 4]) -> bool {
    let mut answer = [0; 4];
    socket.send(&word).is_ok() && socket.recv(&mut answer).is_ok_and(|length| length == 4)
}

#[test]
fn a_flush_is_repaired_within_a_second() {
    let flushes: [(Way, &[&[&str]]); 6] = [
        (Way::Nftables, &[&["nft", "flush", "ruleset"]]),
        (Way::Nftables, &[&["nft", "flush", "table", "ip", "heddle"]]),
        (Way::IptablesNft, &[&["nft", "flush", "ruleset"]]),
        (Way::IptablesNft, &[&["iptables-nft", "-t", "nat", "-F"]]),
        (Way::IptablesLegacy, &[&["iptables-legacy", "-t", "nat", "-F"]]),
        (
            Way::IptablesLegacy,
            &[&["iptables-legacy", "-t", "nat", "-F"], &["iptables-legacy", "-t", "nat", "-X"]],
        ),
    ];
    for (way, commands) in flushes {
        let world = World::new("flush");
        world.echo();
        let mut proxy = Proxy::start(&world.node, way);
        proxy.set(vec![service(0)], vec![slice(0, NODE)]);
        assert!(world.connect().is_some(), "{way:?}");
        for command in commands {
            world.node.cmd(command);
        }
        let took = within(Duration::from_secs(1), "a repair", || world.connect().is_some());
        println!("{way:?} after {commands:?}: {took:?}");
        within(Duration::from_secs(1), "the news", || proxy.told.lost.load(Ordering::SeqCst) > 0);
        assert!(proxy.told.failures.lock().unwrap().is_empty());
    }
}

#[test]
fn a_switch_of_mode_loses_no_connection() {
    for (from, to) in [
        (Way::IptablesNft, Way::Nftables),
        (Way::IptablesLegacy, Way::Nftables),
        (Way::Nftables, Way::IptablesNft),
    ] {
        let world = World::new("switch");
        world.echo();
        let mut proxy = Proxy::start(&world.node, from);
        proxy.set(vec![service(0)], vec![slice(0, NODE)]);
        let (mut stream, socket) = (world.connect().unwrap(), world.udp());
        assert!(goes_on(&mut stream, *b"0000") && answers(&socket, *b"0000"));
        drop(proxy);
        let mut next = Proxy::start(&world.node, to);
        next.send(Event::AllServices(vec![service(0)]));
        next.send(Event::AllSlices(vec![slice(0, NODE)]));
        for _ in 0..100 {
            assert!(goes_on(&mut stream, *b"abcd"), "{from:?} to {to:?}");
            assert!(answers(&socket, *b"efgh"), "{from:?} to {to:?}");
            assert!(world.connect().is_some(), "a new connection, {from:?} to {to:?}");
            thread::sleep(Duration::from_millis(5));
        }
        next.settle();
        assert!(answers(&socket, *b"last") && goes_on(&mut stream, *b"last"));
        // only the new mode's rules are there
        let saved =
            if from == Way::IptablesLegacy { "iptables-legacy-save" } else { "iptables-nft-save" };
        let chains = world.node.cmd(&[saved]);
        assert_eq!(world.has_table(), to == Way::Nftables, "{from:?} to {to:?}");
        assert_eq!(chains.contains("KUBE-SERVICES"), to != Way::Nftables, "{chains}");
    }
}

#[test]
fn cleanup_removes_all_of_ours_and_nothing_else() {
    let world = World::new("cleanup");
    world.node.cmd(&["nft", "add", "table", "ip", "theirs"]);
    world.node.cmd(&["iptables-nft", "-t", "nat", "-N", "THEIRS"]);
    world.node.cmd(&["iptables-nft", "-t", "nat", "-A", "OUTPUT", "-j", "THEIRS"]);
    let before = world.node.cmd(&["iptables-nft-save"]);
    for way in [Way::IptablesNft, Way::Nftables] {
        let mut proxy = Proxy::start(&world.node, way);
        proxy.set(vec![service(0)], vec![slice(0, NODE)]);
        drop(proxy);
        let chains = world.node.cmd(&["iptables-nft-save"]);
        assert!(world.has_table() || chains.contains("KUBE-SERVICES"), "{chains}");
        world.node.run(|| backends::cleanup(false)).unwrap();
        // iptables-nft makes tables and their chains when it first needs them, and they stay, empty
        let kept = |text: &str| {
            let lines =
                text.lines().filter(|line| line.starts_with("-A") || line.starts_with(":THEIRS"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let after = world.node.cmd(&["iptables-nft-save"]);
        assert_eq!(kept(&after), kept(&before), "{after}");
        let tables = world.node.cmd(&["nft", "list", "tables"]);
        assert!(!after.contains("KUBE") && !tables.contains("heddle"), "{after}{tables}");
        assert!(tables.contains("table ip theirs"), "{tables}");
    }
}

/// Not a test of its own: the proxy that `kill_9` kills.
#[test]
#[ignore = "is started by another test"]
fn child() {
    let Ok(way) = std::env::var(CHILD) else { return };
    let way = [Way::IptablesNft, Way::IptablesLegacy, Way::Nftables]
        .into_iter()
        .find(|known| format!("{known:?}") == way)
        .unwrap();
    let (events, received) = mpsc::channel(8);
    let (_options, current) = watch::channel(RuleOptions::default());
    let feed = thread::spawn(move || {
        events.blocking_send(Event::AllServices((0..1000).map(service).collect())).unwrap();
        events
            .blocking_send(Event::AllSlices((0..1000).map(|n| slice(n, "10.9.9.9")).collect()))
            .unwrap();
        println!("told");
        // changes without end, so that whenever the kill comes something is being written
        for turn in 0_u32.. {
            let address = format!("10.9.{}.{}", turn % 200, turn % 250 + 1);
            if events.blocking_send(Event::Slice(slice(turn % 1000, &address))).is_err() {
                break;
            }
        }
    });
    serve(way, false, received, current, Arc::default());
    feed.join().unwrap();
}

fn spawn_child(ns: &TestNetns, way: Way) -> Child {
    let mut command = ns.command(std::env::current_exe().unwrap().to_str().unwrap());
    command.args(["--exact", "proxy::run::kernel::child", "--ignored"]);
    command.env(CHILD, format!("{way:?}")).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

#[test]
fn a_kill_in_the_middle_of_a_sync_is_made_up_for_at_the_next_start() {
    for way in [Way::IptablesNft, Way::IptablesLegacy, Way::Nftables] {
        let world = World::new("kill");
        world.echo();
        for pause in [0, 40, 150] {
            let mut child = spawn_child(&world.node, way);
            within(Duration::from_mins(1), "a child that writes", || world.has_rules(way));
            thread::sleep(Duration::from_millis(pause));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let mut proxy = Proxy::start(&world.node, way);
        proxy.set(vec![service(0)], vec![slice(0, NODE)]);
        assert!(world.connect().is_some(), "{way:?}");
        drop(proxy);
        let mut model = Model::new(Node::named("here"));
        model.set_service(service(0));
        model.set_slice(slice(0, NODE));
        let comparison = world.node.run(|| {
            let mut backend = way.backend();
            let options = RuleOptions::default();
            backend.compare(model.ports(Family::V4), &options, &|_| true).unwrap()
        });
        assert_eq!(comparison.actual, comparison.desired, "{way:?}");
    }
}
