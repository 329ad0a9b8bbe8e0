//! The world of [`crate::world`] in namespaces: this node with pods at a bridge, another node with pods, and a host outside that is
//! also the network between the nodes.

use std::io::Write;
use std::process::{Command, Stdio};

use heddle_agent::proxy::model::FAMILIES;
use netns_tools::iptables::Family;
use netns_tools::netns::NetNs;
use netns_tools::sysctl;
use netns_tools::testing::TestNetns;

use crate::flows::Sender;
use crate::world::*;

/// All namespaces; they go with it.
pub struct Net {
    pub node: TestNetns,
    pub pods: Vec<TestNetns>,
    pub other: TestNetns,
    pub other_pods: Vec<TestNetns>,
    pub outside: TestNetns,
}

impl Net {
    pub fn new() -> Self {
        let new = |label: &str| TestNetns::new(&format!("px-{label}"));
        let net = Self {
            node: new("node"),
            pods: PODS.iter().map(|_| new("pod")).collect(),
            other: new("other"),
            other_pods: OTHER_PODS.iter().map(|_| new("opod")).collect(),
            outside: new("out"),
        };
        net.build();
        net
    }

    /// Where a sender is.
    pub fn of(&self, sender: Sender) -> &TestNetns {
        match sender {
            Sender::Pod(number) => &self.pods[number],
            Sender::Node => &self.node,
            Sender::OtherNode => &self.other,
            Sender::OtherPod => &self.other_pods[0],
            Sender::Welcome | Sender::Stranger => &self.outside,
        }
    }

    /// Every endpoint with where it is.
    pub fn endpoints(&self) -> Vec<(Place, &NetNs)> {
        let pods = PODS.iter().copied().zip(self.pods.iter().map(TestNetns::ns));
        let others = OTHER_PODS.iter().copied().zip(self.other_pods.iter().map(TestNetns::ns));
        pods.chain(others).chain([(NODE, self.node.ns())]).collect()
    }

    fn build(&self) {
        for ns in self.all() {
            ns.run(prepare);
            ip(ns, "link set lo up\n");
        }
        self.build_outside();
        self.build_node();
        self.build_other();
    }

    fn all(&self) -> impl Iterator<Item = &TestNetns> {
        let pods = self.pods.iter().chain(&self.other_pods);
        pods.chain([&self.node, &self.other, &self.outside])
    }

    fn build_outside(&self) {
        let mut lines = String::from("link add lan type bridge forward_delay 0\nlink set lan up\n");
        for (port, peer) in [("this", &self.node), ("other", &self.other)] {
            lines += &veth(port, UPLINK, peer);
            lines += &format!("link set {port} master lan up\n");
        }
        lines += &address("lan", ROUTER, 24, 64);
        for place in [WELCOME, STRANGER] {
            lines += &address("lo", place, 32, 128);
        }
        lines += &defaults(NODE);
        ip(&self.outside, &lines);
    }

    fn build_node(&self) {
        let mut lines = format!("link set {UPLINK} up\n");
        lines += &address(UPLINK, NODE, 24, 64);
        lines += &format!("link add {BRIDGE} type bridge forward_delay 0\nlink set {BRIDGE} up\n");
        lines += &address(BRIDGE, GATEWAY, 24, 64);
        lines += &format!("link add {EXTRA} type bridge\nlink set {EXTRA} up\n");
        lines += &address(EXTRA, LOCAL_EXTERNAL, 32, 128);
        for (number, pod) in self.pods.iter().enumerate() {
            let port = format!("veth{number}");
            lines += &veth(&port, "eth0", pod);
            lines += &format!("link set {port} master {BRIDGE} up\n");
            lines += &format!("link set {port} type bridge_slave hairpin on\n");
        }
        lines += &defaults(ROUTER);
        for family in FAMILIES {
            let (pods, via) = (networks(family)[2], OTHER_NODE.ip(family));
            lines += &format!("route add {pods} via {via}\n");
        }
        ip(&self.node, &lines);
        for (place, pod) in PODS.iter().zip(&self.pods) {
            let address = address("eth0", *place, 24, 64);
            ip(pod, &format!("link set eth0 up\n{address}{}", defaults(GATEWAY)));
        }
    }

    /// The other node's pods have links of their own.
    fn build_other(&self) {
        let mut lines = format!("link set {UPLINK} up\n");
        lines += &address(UPLINK, OTHER_NODE, 24, 64);
        for (number, pod) in self.other_pods.iter().enumerate() {
            let port = format!("pod{number}");
            lines += &veth(&port, "eth0", pod);
            lines += &format!("link set {port} up\n");
            lines += &address(&port, OTHER_GATEWAY, 32, 128);
            for family in FAMILIES {
                lines += &format!("route add {} dev {port}\n", OTHER_PODS[number].ip(family));
            }
        }
        // what comes through this node is answered through it
        lines += &defaults(NODE);
        ip(&self.other, &lines);
        for (place, pod) in OTHER_PODS.iter().zip(&self.other_pods) {
            let mut lines = format!("link set eth0 up\n{}", address("eth0", *place, 32, 128));
            for family in FAMILIES {
                lines += &format!("route add {} dev eth0\n", OTHER_GATEWAY.ip(family));
            }
            ip(pod, &(lines + &defaults(OTHER_GATEWAY)));
        }
    }
}

/// Forwarding, no hints to take a shorter way, and no limits to refusals.
fn prepare() {
    let keys = [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/ipv4/conf/all/send_redirects", "0"),
        ("net/ipv4/conf/default/send_redirects", "0"),
        ("net/ipv4/conf/all/accept_redirects", "0"),
        ("net/ipv6/conf/all/accept_redirects", "0"),
        ("net/ipv6/conf/default/accept_redirects", "0"),
        ("net/ipv6/conf/default/accept_dad", "0"),
        ("net/ipv6/conf/default/accept_ra", "0"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
        ("net/ipv4/conf/all/route_localnet", "1"),
        ("net/ipv4/icmp_ratelimit", "0"),
        ("net/ipv6/icmp/ratelimit", "0"),
        ("net/bridge/bridge-nf-call-iptables", "1"),
        ("net/bridge/bridge-nf-call-ip6tables", "1"),
    ];
    for (key, value) in keys {
        sysctl::write(key, value).unwrap_or_else(|error| panic!("{error}"));
    }
    // older kernels have these for all namespaces, which are none of ours
    for key in ["net/ipv4/icmp_msgs_per_sec", "net/ipv4/icmp_msgs_burst"] {
        let _ = sysctl::write(key, "1000000");
    }
}

fn veth(name: &str, peer_name: &str, peer: &TestNetns) -> String {
    format!("link add {name} type veth peer name {peer_name} netns {}\n", peer.name())
}

fn address(interface: &str, place: Place, v4: u8, v6: u8) -> String {
    let line = |family: Family| {
        format!("address add {} dev {interface} nodad\n", place.net(family, v4, v6))
    };
    FAMILIES.map(line).concat()
}

fn defaults(via: Place) -> String {
    FAMILIES.map(|family| format!("route add default via {}\n", via.ip(family))).concat()
}

/// Many commands of `ip` at once.
#[track_caller]
pub fn ip(ns: &TestNetns, lines: &str) {
    let output = ns.run(|| {
        let mut command = Command::new("ip");
        command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip in {}: {said}\n{lines}", ns.name());
}
