//! Two nodes with a pod each, and a host that is no node, all on one link.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use netns_tools::testing::{End, TestNetns, veth_pair};

use super::*;

/// How long a datagram may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// After so long without a datagram none is expected any more.
const SILENCE: Duration = Duration::from_millis(250);

pub const POD: [&str; 2] = ["10.244.1.2", "fd02:0:0:1::2"];
pub const OTHER_POD: [&str; 2] = ["10.244.2.2", "fd02:0:0:2::2"];
pub const NODE: [&str; 2] = ["192.0.2.1", "fd01::1"];
pub const OUTSIDE: [&str; 2] = ["192.0.2.3", "fd01::3"];
/// Where the node's tunnel speaks from.
pub const DEVICE: [&str; 2] = ["10.244.1.0", "fd02:0:0:1::"];

/// A node: its number is the last of its addresses.
struct Member<'w> {
    number: u8,
    node: &'w TestNetns,
    pod: &'w TestNetns,
}

pub struct World {
    pub node: TestNetns,
    pub pod: TestNetns,
    pub other: TestNetns,
    pub other_pod: TestNetns,
    pub outside: TestNetns,
    _wire: TestNetns,
}

impl World {
    pub fn new() -> Self {
        let [node, pod, other, other_pod, outside, wire] =
            ["node", "pod", "other", "opod", "out", "wire"].map(without_dad);
        wire.cmd(&["ip", "link", "add", "br0", "type", "bridge"]);
        wire.configure("br0", &[]);
        for (number, ns) in [(1, &node), (2, &other), (3, &outside)] {
            let port = format!("port{number}");
            let addresses = [format!("192.0.2.{number}/24"), format!("fd01::{number}/64")];
            veth_pair(End(ns, "eth0", &[&addresses[0], &addresses[1]]), End(&wire, &port, &[]));
            wire.cmd(&["ip", "link", "set", &port, "master", "br0"]);
        }
        let world = Self { node, pod, other, other_pod, outside, _wire: wire };
        for member in world.members() {
            member.build();
        }
        world.members()[0].reach(2);
        world.members()[1].reach(1);
        world
    }

    fn members(&self) -> [Member<'_>; 2] {
        [
            Member { number: 1, node: &self.node, pod: &self.pod },
            Member { number: 2, node: &self.other, pod: &self.other_pod },
        ]
    }

    /// Rules of the node.
    pub fn rules(&self) -> Rules {
        self.node.run(Rules::open).unwrap()
    }

    /// Writes rules at the node, which must be free of problems.
    pub fn sync(&self, rules: &mut Rules, input: &RuleInput) -> RuleReport {
        let report = self.node.run(|| rules.sync(input)).unwrap();
        assert_eq!(report.problems, [""; 0]);
        report
    }

    /// Lets the host that is no node send into the tunnel, as one of `10.244.9.0/24`.
    pub fn intrude(&self) {
        let host = &self.outside;
        for command in [
            "ip link add heddle.1 address 02:00:00:00:00:03 type vxlan id 1 dstport 8472 local 192.0.2.3 nolearning dev eth0",
            "ip address add 10.244.9.0/32 dev heddle.1",
            "ip link set heddle.1 up",
            "ip route add 10.244.1.0/24 via 10.244.1.0 dev heddle.1 onlink",
            "ip neighbour replace 10.244.1.0 lladdr 02:00:00:00:00:01 dev heddle.1 nud permanent",
            "bridge fdb append 02:00:00:00:00:01 dev heddle.1 dst 192.0.2.1 self permanent",
        ] {
            host.cmd(&command.split(' ').collect::<Vec<_>>());
        }
        // as every node has a default route: rp_filter lets pass what could be answered at all
        self.node.cmd(&["ip", "route", "add", "default", "via", OUTSIDE[0]]);
    }
}

impl Member<'_> {
    fn build(&self) {
        let Self { number, node, pod } = self;
        let gateways = [format!("10.244.{number}.1/24"), format!("fd02:0:0:{number}::1/64")];
        let addresses = [format!("10.244.{number}.2/24"), format!("fd02:0:0:{number}::2/64")];
        veth_pair(
            End(node, "pod0", &[&gateways[0], &gateways[1]]),
            End(pod, "eth0", &[&addresses[0], &addresses[1]]),
        );
        pod.cmd(&["ip", "route", "add", "default", "via", &format!("10.244.{number}.1")]);
        pod.cmd(&["ip", "route", "add", "default", "via", &format!("fd02:0:0:{number}::1")]);
        node.run(|| {
            netns_tools::sysctl::write("net/ipv4/ip_forward", "1").unwrap();
            netns_tools::sysctl::write("net/ipv6/conf/all/forwarding", "1").unwrap();
        });
        let (mac, local) = (format!("02:00:00:00:00:0{number}"), format!("192.0.2.{number}"));
        let add = "ip link add heddle.1 address MAC type vxlan id 1 dstport 8472 local LOCAL nolearning dev eth0";
        let add = add.replace("MAC", &mac).replace("LOCAL", &local);
        node.cmd(&add.split(' ').collect::<Vec<_>>());
        assert_eq!(node.run(|| prepare_device("heddle.1")), [""; 0]);
        node.configure(
            "heddle.1",
            &[&format!("10.244.{number}.0/32"), &format!("fd02:0:0:{number}::/128")],
        );
    }

    fn reach(&self, peer: u8) {
        let mac = format!("02:00:00:00:00:0{peer}");
        let remote = format!("192.0.2.{peer}");
        for (range, gateway) in [
            (format!("10.244.{peer}.0/24"), format!("10.244.{peer}.0")),
            (format!("fd02:0:0:{peer}::/64"), format!("fd02:0:0:{peer}::")),
        ] {
            let on = ["dev", "heddle.1"];
            let route = ["ip", "route", "add", &range, "via", &gateway, on[0], on[1], "onlink"];
            self.node.cmd(&route);
            let neighbour = [
                "ip",
                "neighbour",
                "replace",
                &gateway,
                "lladdr",
                &mac,
                on[0],
                on[1],
                "nud",
                "permanent",
            ];
            self.node.cmd(&neighbour);
        }
        self.node.cmd(&[
            "bridge",
            "fdb",
            "append",
            &mac,
            "dev",
            "heddle.1",
            "dst",
            &remote,
            "self",
            "permanent",
        ]);
    }
}

/// A namespace whose links are usable at once: until its link-local address is, a node does not even ask for its neighbours.
fn without_dad(label: &str) -> TestNetns {
    let ns = TestNetns::new(label);
    for of in ["all", "default"] {
        let key = format!("net/ipv6/conf/{of}/accept_dad");
        ns.run(|| netns_tools::sysctl::write(&key, "0")).unwrap();
    }
    ns
}

pub fn without_counts(rules: &str) -> String {
    let mut words = Vec::new();
    for line in rules.lines() {
        let mut line = line.split(' ').collect::<Vec<_>>();
        if let Some(at) = line.iter().position(|word| *word == "packets") {
            line.drain(at..at + 4);
        }
        words.push(line.join(" "));
    }
    words.join("\n")
}

/// Who a receiver sees when a datagram is sent to it; `None`: none arrives.
pub fn seen(from: (&TestNetns, &str), to: (&TestNetns, &str)) -> Option<String> {
    let (receiver, target) = receiver(to);
    let sender = sender(from);
    let start = Instant::now();
    let mut buffer = [0; 16];
    // again and again: the first may be lost while neighbours get to know each other
    while start.elapsed() < SILENCE * 4 {
        // an ICMP error of the one before is told here
        sender.send_to(b"knock", target).ok();
        if let Ok((_, source)) = receiver.recv_from(&mut buffer) {
            return Some(source.ip().to_string());
        }
    }
    None
}

/// Whether a datagram arrives, and its answer comes back.
pub fn talks(from: (&TestNetns, &str), to: (&TestNetns, &str)) -> bool {
    let (receiver, target) = receiver(to);
    let sender = sender(from);
    let start = Instant::now();
    let mut buffer = [0; 16];
    while start.elapsed() < SILENCE * 4 {
        sender.send_to(b"knock", target).ok();
        let Ok((_, source)) = receiver.recv_from(&mut buffer) else { continue };
        receiver.send_to(b"answer", source).ok();
        if sender.recv_from(&mut buffer).is_ok_and(|(_, by)| by == target) {
            return true;
        }
    }
    false
}

fn receiver((ns, address): (&TestNetns, &str)) -> (UdpSocket, SocketAddr) {
    let socket = ns.run(|| UdpSocket::bind((address, 0))).unwrap();
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    let target = socket.local_addr().unwrap();
    (socket, target)
}

fn sender((ns, address): (&TestNetns, &str)) -> UdpSocket {
    let address: IpAddr = address.parse().unwrap();
    let socket = ns.run(|| UdpSocket::bind((address, 0))).unwrap();
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    socket
}

pub fn within(what: &str, mut check: impl FnMut() -> bool) {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
