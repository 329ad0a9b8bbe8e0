//! Two nodes with a pod each, and a router between them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use netns_tools::testing::{End, TestNetns, veth_pair};
use tokio::sync::{mpsc, watch};

use super::super::*;
use super::block_on;

pub const PORT: u16 = 8473;
/// Nothing in these tests takes longer, on whatever machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The family of the underlay, with what goes around a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Underlay {
    V4,
    V6,
}

impl Underlay {
    pub fn node(self, number: u8) -> String {
        match self {
            Self::V4 => format!("192.0.{number}.1"),
            Self::V6 => format!("2001:db8:{number}::1"),
        }
    }

    pub fn overhead(self) -> u32 {
        if self == Self::V4 { 50 } else { 70 }
    }

    pub fn mtu(self) -> u32 {
        1500 - self.overhead()
    }
}

pub struct World {
    pub underlay: Underlay,
    pub router: TestNetns,
    pub nodes: [TestNetns; 2],
    pub pods: [TestNetns; 2],
}

/// The pods' networks by node, 1 and 2: `10.244.1.0/24`, with the device's address first.
const DEVICE: &str = "heddle.1";

fn mac(number: u8) -> String {
    format!("02:00:00:00:00:0{number}")
}

impl World {
    /// `df` is what the device does with the outer packet's DF flag: `set`, `unset` or `inherit`.
    pub fn new(underlay: Underlay, df: &str) -> Self {
        let named = || [TestNetns::new("probe"), TestNetns::new("probe")];
        let (router, nodes, pods) = (TestNetns::new("probe"), named(), named());
        for (number, node) in (1..).zip(&nodes) {
            let own = [format!("192.0.{number}.1/24"), format!("2001:db8:{number}::1/64")];
            let gateway = [format!("192.0.{number}.254/24"), format!("2001:db8:{number}::254/64")];
            veth_pair(
                End(node, "eth0", &own.each_ref().map(String::as_str)),
                End(&router, &format!("r{number}"), &gateway.each_ref().map(String::as_str)),
            );
            for gateway in [format!("192.0.{number}.254"), format!("2001:db8:{number}::254")] {
                node.cmd(&["ip", "route", "add", "default", "via", &gateway]);
            }
        }
        let world = Self { underlay, router, nodes, pods };
        for ns in [&world.router, &world.nodes[0], &world.nodes[1]] {
            for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
                ns.run(|| netns_tools::sysctl::write(key, "1")).unwrap();
            }
        }
        world.add_pod(1);
        world.add_pod(2);
        world.add_tunnel(1, df);
        world.add_tunnel(2, df);
        world
    }

    fn at(&self, number: u8) -> (&TestNetns, &TestNetns) {
        let place = usize::from(number - 1);
        (&self.nodes[place], &self.pods[place])
    }

    fn add_pod(&self, number: u8) {
        let (node, pod) = self.at(number);
        let host = [format!("10.244.{number}.1/24"), format!("fd00:{number}::1/64")];
        let own = [format!("10.244.{number}.2/24"), format!("fd00:{number}::2/64")];
        veth_pair(
            End(node, "pod", &host.each_ref().map(String::as_str)),
            End(pod, "eth0", &own.each_ref().map(String::as_str)),
        );
        let mtu = self.underlay.mtu().to_string();
        pod.cmd(&["ip", "link", "set", "eth0", "mtu", &mtu]);
        for gateway in [format!("10.244.{number}.1"), format!("fd00:{number}::1")] {
            pod.cmd(&["ip", "route", "add", "default", "via", &gateway]);
        }
    }

    fn add_tunnel(&self, number: u8, df: &str) {
        let (node, _) = self.at(number);
        let run = |line: &str| drop(node.cmd(&line.split_whitespace().collect::<Vec<_>>()));
        let (local, mtu, mac_) = (self.underlay.node(number), self.underlay.mtu(), mac(number));
        // the flag is IPv4's
        let df = if self.underlay == Underlay::V4 { format!("df {df}") } else { String::new() };
        run(&format!(
            "ip link add {DEVICE} address {mac_} mtu {mtu} type vxlan id 1 dstport 8472 local {local} dev eth0 nolearning {df}"
        ));
        node.configure(
            DEVICE,
            &[&format!("10.244.{number}.0/32"), &format!("fd00:{number}::/128")],
        );
        let peer = 3 - number;
        let (remote, peer_mac) = (self.underlay.node(peer), mac(peer));
        for (gateway, _) in Self::networks(peer) {
            run(&format!("ip neigh add {gateway} lladdr {peer_mac} dev {DEVICE} nud permanent"));
        }
        run(&format!("bridge fdb add {peer_mac} dev {DEVICE} dst {remote}"));
        self.set_route_mtu(number, None);
    }

    fn networks(number: u8) -> [(String, String); 2] {
        [
            (format!("10.244.{number}.0"), format!("10.244.{number}.0/24")),
            (format!("fd00:{number}::"), format!("fd00:{number}::/64")),
        ]
    }

    /// One of the kernel's counters of the first node.
    pub fn counter(&self, file: &str, name: &str) -> u64 {
        let path = format!("/proc/thread-self/net/{file}");
        let text = self.nodes[0].run(|| std::fs::read_to_string(path)).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap_or_else(|| panic!("{name}: {text}")).trim().parse().unwrap()
    }

    /// The routes of node `number` to the pods of the other one.
    pub fn set_route_mtu(&self, number: u8, mtu: Option<u32>) {
        let (node, _) = self.at(number);
        for (gateway, network) in Self::networks(3 - number) {
            let mtu = mtu.map_or(String::new(), |mtu| format!("mtu {mtu}"));
            let line = format!(
                "ip route replace {network} via {gateway} dev {DEVICE} onlink proto 104 {mtu}"
            );
            node.cmd(&line.split_whitespace().collect::<Vec<_>>());
        }
    }

    /// What the router sends towards the second node is no larger.
    pub fn narrow(&self, mtu: u32) {
        self.router.cmd(&["ip", "link", "set", "r2", "mtu", &mtu.to_string()]);
    }

    /// The router tells nobody that a packet is too large.
    pub fn filter_icmp(&self) {
        self.nft(
            "table inet quiet { chain out { type filter hook output priority 0;
             icmp type destination-unreachable drop; icmpv6 type packet-too-big drop; }; }",
        );
    }

    pub fn nft(&self, rules: &str) {
        self.router.cmd(&["nft", rules]);
    }

    /// The other node, as node `number` knows it.
    pub fn key_of(number: u8) -> Key {
        Key { node: "other".into(), to: ip(&format!("10.244.{}.0", 3 - number)) }
    }

    /// The second node, as the first one knows it.
    pub fn key() -> Key {
        Self::key_of(1)
    }

    fn target_of(&self, number: u8) -> Target {
        let end = super::super::End {
            from: ip(&format!("10.244.{number}.0")),
            local: ip(&self.underlay.node(number)),
            device: Some(DEVICE.into()),
            full: self.underlay.mtu(),
            floor: 576,
        };
        Target { end: Arc::new(end), port: PORT, remote: ip(&self.underlay.node(3 - number)) }
    }

    pub fn input(&self) -> Input {
        self.input_of(1)
    }

    pub fn input_of(&self, number: u8) -> Input {
        Input {
            targets: BTreeMap::from([(Self::key_of(number), self.target_of(number))]),
            devices: BTreeMap::from([(DEVICE.into(), true)]),
            setting: Setting::Auto,
        }
    }

    fn answering(&self, number: u8) -> Answering {
        let addresses = |number: u8| {
            [ip(&format!("10.244.{number}.0")), ip(&self.underlay.node(number))].into()
        };
        Answering { addresses: addresses(number), port: PORT, nodes: addresses(3 - number) }
    }

    /// Lets node 2 answer and node 1 probe it while `body` runs.
    pub fn probing(&self, input: Input, body: impl FnOnce(&mut Probing)) {
        self.probing_from(1, input, body);
    }

    /// Lets node `number` probe the other one while `body` runs.
    pub fn probing_from(&self, number: u8, input: Input, body: impl FnOnce(&mut Probing)) {
        let (answering, wanted) = watch::channel(Arc::new(self.answering(3 - number)));
        let (input, input_end) = watch::channel(Arc::new(input));
        let (hurry, hurry_end) = mpsc::channel(4);
        let (results, results_end) = watch::channel(Arc::default());
        let (switches, switches_end) = mpsc::channel(4);
        let channels = Channels { input: input_end, hurry: hurry_end, results, switches };
        thread::scope(|scope| {
            let (asker, answerer) = (self.at(number).0.ns(), self.at(3 - number).0.ns());
            scope.spawn(|| answerer.run(|| block_on(respond(wanted))).unwrap());
            scope.spawn(|| asker.run(|| block_on(probe(channels))).unwrap());
            // all dropped also if `body` panics: both end then
            let (results, switches) = (results_end, switches_end);
            body(&mut Probing { input, answering, hurry, results, switches });
        });
    }

    /// Sends `length` bytes from the first pod to the second; how many arrive while they do come.
    pub fn stream(&self, v6: bool, length: usize) -> usize {
        let quiet = Duration::from_secs(3);
        let [from, to] = &self.pods;
        let address = SocketAddr::new(ip(if v6 { "fd00:2::2" } else { "10.244.2.2" }), 5001);
        let listener = to.run(|| TcpListener::bind(address)).unwrap();
        let limit = quiet * 2;
        let Ok(mut sender) = from.run(|| TcpStream::connect_timeout(&address, limit)) else {
            return 0;
        };
        sender.set_write_timeout(Some(PATIENCE)).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        receiver.set_read_timeout(Some(quiet)).unwrap();
        let waiting = sender.try_clone().unwrap();
        thread::scope(|scope| {
            // an error is an end like any other: what arrived is what counts
            scope.spawn(move || sender.write_all(&vec![7; length]));
            let (mut arrived, mut buffer) = (0, vec![0; 65_536]);
            while let Ok(more) = receiver.read(&mut buffer)
                && more > 0
            {
                arrived += more;
            }
            // the sender may be waiting for room that never comes
            let _ = waiting.shutdown(Shutdown::Both);
            arrived
        })
    }
}

/// The channels to a prober.
#[derive(Debug)]
pub struct Probing {
    pub input: watch::Sender<Arc<Input>>,
    pub answering: watch::Sender<Arc<Answering>>,
    pub hurry: mpsc::Sender<Vec<Key>>,
    pub results: watch::Receiver<Arc<Results>>,
    pub switches: mpsc::Receiver<Switch>,
}

impl Probing {
    /// Waits until the way `key` is known to be so.
    #[track_caller]
    pub fn until(&mut self, key: &Key, wanted: impl Fn(&Known) -> bool) -> Known {
        let known = |results: &Results| results.ways.get(key).copied().unwrap_or_default();
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let now = known(&self.results.borrow());
            if wanted(&now) {
                return now;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("never, but {:?}", known(&self.results.borrow()));
    }

    #[track_caller]
    pub fn until_outcome(&mut self, key: &Key, outcome: Outcome) {
        self.until(key, |known| known.outcome == Some(outcome));
    }

    /// Waits until the state of the device is told so.
    #[track_caller]
    pub fn until_device(&self, wanted: impl Fn(&str) -> bool) -> String {
        let told = || self.results.borrow().devices.get(DEVICE).map(ToString::to_string);
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(text) = told().filter(|text| wanted(text)) {
                return text;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("never, but {:?}", told());
    }

    /// The next command for the kernel.
    #[track_caller]
    pub fn next_switch(&mut self) -> Switch {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Ok(switch) = self.switches.try_recv() {
                return switch;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("no command, and {:?}", self.results.borrow());
    }
}
