//! The network between nodes: a namespace with two bridges, which routes between them and to a host outside.

use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use netns_tools::sysctl;
use netns_tools::testing::TestNetns;

/// Where nodes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// All on one link.
    Link,
    /// The first on one subnet, the others on another one.
    Routed,
}

impl Shape {
    /// On which of the two bridges a node is, from 1 on.
    pub const fn segment(self, node: u8) -> u8 {
        match self {
            Self::Routed if node > 1 => 2,
            Self::Link | Self::Routed => 1,
        }
    }
}

/// What is between nodes.
pub struct Underlay {
    pub shape: Shape,
    /// Switch and router.
    pub hub: TestNetns,
    /// A host that is no node. Packets for pods' addresses come from it to the node that has them, as with a cloud's own routes.
    pub outside: TestNetns,
}

/// The router's address on a segment (RFC 5737, RFC 3849).
pub fn router(segment: u8) -> [IpAddr; 2] {
    on_segment(segment, 1)
}

/// A host's address on a segment.
pub fn on_segment(segment: u8, host: u8) -> [IpAddr; 2] {
    let v4 = if segment == 1 { [192, 0, 2, host] } else { [198, 51, 100, host] };
    let v6 = format!("2001:db8:{segment}::{host:x}");
    [IpAddr::from(v4), v6.parse().unwrap()]
}

/// The host outside.
pub fn outside() -> [IpAddr; 2] {
    ["203.0.113.2", "2001:db8:3::2"].map(|address| address.parse().unwrap())
}

impl Underlay {
    pub fn new(shape: Shape) -> Self {
        let [hub, outside] = ["ov-hub", "ov-out"].map(TestNetns::new);
        for ns in [&hub, &outside] {
            ns.run(prepare);
        }
        let mut lines = String::from("link set lo up\n");
        for segment in [1, 2] {
            let [v4, v6] = router(segment);
            // by itself a bridge takes the least of its ports' addresses: with a port that goes the router would become another
            lines += &format!(
                "link add br{segment} address 02:00:00:00:b0:{segment:02x} type bridge forward_delay 0 mcast_snooping 0\nlink set br{segment} up\n"
            );
            lines += &format!(
                "address add {v4}/24 dev br{segment}\naddress add {v6}/64 dev br{segment} nodad\n"
            );
        }
        lines += &format!(
            "link add out type veth peer name eth0 netns {}\nlink set out up\n",
            outside.name()
        );
        lines += "address add 203.0.113.1/24 dev out\naddress add 2001:db8:3::1/64 dev out nodad\n";
        // only what comes from outside knows the way to pods
        lines += "rule add iif out lookup 100\n";
        ip(&hub, &lines);
        hub.cmd(&["ip", "-6", "rule", "add", "iif", "out", "lookup", "100"]);
        let [v4, v6] = self::outside();
        ip(
            &outside,
            &format!(
                "link set lo up\nlink set eth0 up\naddress add {v4}/24 dev eth0\naddress add {v6}/64 dev eth0 nodad\n\
                 route add default via 203.0.113.1\nroute add default via 2001:db8:3::1\n"
            ),
        );
        Self { shape, hub, outside }
    }

    /// Plugs in a node: its `eth0`, and the way back to its pods from outside. `card`: the last bytes of its Ethernet address.
    pub fn plug(&self, node: u8, card: u8, ns: &TestNetns, pods: [String; 2]) {
        let segment = self.shape.segment(node);
        let (own, router) = (on_segment(segment, 10 + node), router(segment));
        let port = port(node);
        ip(
            &self.hub,
            &format!(
                "link add {port} type veth peer name eth0 address 02:00:00:00:{card:02x}:{node:02x} netns {}\nlink set {port} master br{segment} up\n\
                 route replace {} via {} table 100\nroute replace {} via {} table 100\n",
                ns.name(),
                pods[0],
                own[0],
                pods[1],
                own[1]
            ),
        );
        ip(
            ns,
            &format!(
                "link set lo up\nlink set eth0 up\naddress add {}/24 dev eth0\naddress add {}/64 dev eth0 nodad\n\
                 route add default via {}\nroute add default via {}\n",
                own[0], own[1], router[0], router[1]
            ),
        );
    }

    /// Takes a node's cable away, with the node's end of it.
    pub fn unplug(&self, node: u8) {
        ip(&self.hub, &format!("link delete {}\n", port(node)));
    }

    /// Pulls a node's cable, or puts it back; the node's end stays as it is set up.
    pub fn set_carrier(&self, node: u8, on: bool) {
        let state = if on { "up" } else { "down" };
        ip(&self.hub, &format!("link set {} {state}\n", port(node)));
    }

    /// Packets between subnets that are longer than this are refused with ICMP "fragmentation needed", or fragmented where they may.
    pub fn set_router_mtu(&self, mtu: u32) {
        ip(&self.hub, &format!("link set br1 mtu {mtu}\nlink set br2 mtu {mtu}\n"));
    }

    /// Frames to a node that hold more than this are lost without a word, as on a wire with a smaller MTU than its ends believe.
    /// Whoever sends must cut segments itself (`gso_max_segs`): a wire never sees several at once.
    pub fn set_wire_mtu(&self, nodes: &[(u8, &TestNetns)], mtu: u32) {
        for (node, ns) in nodes {
            ip(&self.hub, &format!("link set {} mtu {mtu}\n", port(*node)));
            ip(ns, "link set eth0 gso_max_segs 1\n");
        }
    }

    /// No ICMP error of the router, and none that passes it, arrives any more.
    pub fn filter_icmp(&self) {
        let rules = "table inet icmp-filter {
            chain output { type filter hook output priority 0; icmp type destination-unreachable drop; icmpv6 type { destination-unreachable, packet-too-big } drop; }
            chain forward { type filter hook forward priority 0; icmp type destination-unreachable drop; icmpv6 type { destination-unreachable, packet-too-big } drop; }
        }";
        feed(&self.hub, &["nft", "-f", "-"], rules);
    }
}

fn port(node: u8) -> String {
    format!("port{node}")
}

/// Forwarding, no hints to take a shorter way, and no limits to ICMP errors, in the namespace of this thread.
pub fn prepare() {
    let keys = [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/ipv6/conf/default/accept_dad", "0"),
        ("net/ipv6/conf/default/accept_ra", "0"),
        ("net/ipv4/conf/all/send_redirects", "0"),
        ("net/ipv4/conf/default/send_redirects", "0"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
        ("net/ipv4/icmp_ratelimit", "0"),
        ("net/ipv6/icmp/ratelimit", "0"),
    ];
    for (key, value) in keys {
        sysctl::write(key, value).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Many commands of `ip` at once.
#[track_caller]
pub fn ip(ns: &TestNetns, lines: &str) {
    feed(ns, &["ip", "-batch", "-"], lines);
}

/// Runs a program in a namespace with a text to read; it must succeed.
#[track_caller]
pub fn feed(ns: &TestNetns, words: &[&str], text: &str) {
    let output = ns.run(|| {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?} in {}: {said}\n{text}", ns.name());
}
