//! Real flows: a client that keeps its socket, endpoints that come and go, and the kernel between them.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use netns_tools::conntrack::{Filter, UDP};
use netns_tools::testing::{End, TestNetns, veth_pair};
use netns_tools::{Conntrack, NetNs};

use super::world::{World, options};
use super::*;
use crate::proxy::model::Changes;

/// Addresses of one family.
struct Plan {
    family: Family,
    /// Of the node, on the side of its pods, and of the two endpoints.
    node: &'static str,
    endpoints: [&'static str; 2],
    cluster_ip: &'static str,
    iptables: &'static str,
    prefix: u8,
}

const V4: Plan = Plan {
    family: Family::V4,
    node: "10.1.0.254",
    endpoints: ["10.1.0.1", "10.1.0.2"],
    cluster_ip: "10.96.0.1",
    iptables: "iptables",
    prefix: 24,
};
const V6: Plan = Plan {
    family: Family::V6,
    node: "fd01::fe",
    endpoints: ["fd01::1", "fd01::2"],
    cluster_ip: "fd96::1",
    iptables: "ip6tables",
    prefix: 64,
};
const TARGET: u16 = super::world::TARGET;

/// A node, and a namespace with two endpoints.
struct Setup {
    plan: Plan,
    node: TestNetns,
    servers: [UdpSocket; 2],
    _pods: TestNetns,
}

impl Setup {
    fn new(plan: Plan) -> Self {
        let (node, pods) = (TestNetns::new("stale"), TestNetns::new("stale"));
        let with_prefix = |ip: &str| format!("{ip}/{}", plan.prefix);
        let ends = plan.endpoints.map(with_prefix);
        veth_pair(
            End(&node, "pods", &[&with_prefix(plan.node)]),
            End(&pods, "node", &[&ends[0], &ends[1]]),
        );
        let default = ["ip", "route", "add", "default", "dev", "pods"];
        let words = if plan.family == Family::V6 {
            [&["ip", "-6"], &default[1..]].concat()
        } else {
            default.to_vec()
        };
        node.cmd(&words);
        let bind = |ip: &str| {
            let socket = UdpSocket::bind(at(ip, TARGET)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            socket
        };
        let servers = pods.run(|| plan.endpoints.map(bind));
        let setup = Self { plan, node, servers, _pods: pods };
        setup.wait_for_endpoints();
        setup
    }

    /// A link of IPv6 carries packets only some time after it was made.
    fn wait_for_endpoints(&self) {
        for (index, ip) in self.plan.endpoints.iter().enumerate() {
            let client = self.client(at(ip, TARGET));
            assert!((0..20).any(|_| self.reaches(&client) == Some(index)), "no way to {ip}");
        }
    }

    /// Replaces the rules: what is sent to each of these goes to that endpoint. They stand for any backend's.
    fn rules(&self, rules: &[(String, usize)]) {
        let tool = self.plan.iptables;
        self.node.cmd(&[tool, "-t", "nat", "-F", "OUTPUT"]);
        for (matches, endpoint) in rules {
            let to = at(self.plan.endpoints[*endpoint], TARGET).to_string();
            let matches: Vec<_> = matches.split(' ').collect();
            let rule = [&[tool, "-t", "nat", "-A", "OUTPUT", "-p", "udp"], &matches[..]].concat();
            self.node.cmd(&[&rule[..], &["-j", "DNAT", "--to-destination", &to]].concat());
        }
    }

    fn to_cluster_ip(&self) -> String {
        format!("-d {} --dport 53", self.plan.cluster_ip)
    }

    fn frontend(&self) -> SocketAddr {
        at(self.plan.cluster_ip, 53)
    }

    /// A service in the words of [`World`].
    fn service(&self, rest: &str) -> String {
        format!("udp {} {rest}", self.frontend())
    }

    fn client(&self, to: SocketAddr) -> UdpSocket {
        self.node.run(|| {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).unwrap();
            socket.connect(to).unwrap();
            socket
        })
    }

    /// Which endpoint gets the next packet of a client.
    fn reaches(&self, client: &UdpSocket) -> Option<usize> {
        client.send(b"x").unwrap();
        let mut buffer = [0; 8];
        self.servers.iter().position(|server| server.recv(&mut buffer).is_ok())
    }

    fn flows(&self) -> KernelFlows {
        KernelFlows::of(NetNs::open(format!("/run/netns/{}", self.node.name())).unwrap())
    }

    fn forget(&self, world: &World, changes: &Changes) -> usize {
        let mut flows = self.flows();
        let (family, ports) = (self.plan.family, world.model.ports(self.plan.family));
        let done = forget_stale(family, changes.of(family), ports, &options(), &mut flows);
        done.unwrap().deleted
    }

    fn reconcile(&self, world: &World) -> usize {
        let mut flows = self.flows();
        let (family, ports) = (self.plan.family, world.model.ports(self.plan.family));
        reconcile(family, ports, &options(), &mut flows).unwrap().deleted
    }

    fn tracked(&self) -> usize {
        let mut conntrack = Conntrack::open_in(self.node.ns()).unwrap();
        conntrack.list(&Filter::new(self.plan.family).protocol(UDP)).unwrap().len()
    }
}

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

fn an_endpoint_is_replaced(plan: Plan) {
    let setup = Setup::new(plan);
    setup.rules(&[(setup.to_cluster_ip(), 0)]);
    let world = World::of(&setup.service("1@n1:r"));
    let client = setup.client(setup.frontend());
    let other = setup.client(at(setup.plan.endpoints[0], TARGET));
    assert_eq!((setup.reaches(&client), setup.reaches(&other)), (Some(0), Some(0)));
    setup.rules(&[(setup.to_cluster_ip(), 1)]);
    assert_eq!(setup.reaches(&client), Some(0), "the kernel goes by the flow");
    let (world, changes) = world.then(&setup.service("2@n1:r"));
    assert_eq!(setup.forget(&world, &changes), 1);
    assert_eq!((setup.reaches(&client), setup.reaches(&other)), (Some(1), Some(0)));
    assert_eq!((setup.tracked(), setup.reconcile(&world)), (2, 0));
}

#[test]
fn an_endpoint_is_replaced_and_the_client_keeps_its_socket() {
    an_endpoint_is_replaced(V4);
}

#[test]
fn an_endpoint_is_replaced_and_the_client_keeps_its_socket_v6() {
    an_endpoint_is_replaced(V6);
}

#[test]
fn the_first_endpoint_comes() {
    for plan in [V4, V6] {
        let setup = Setup::new(plan);
        // tracking begins with the first rule, whatever it is for; the packet leaves by the default route and is lost
        setup.rules(&[("--dport 9".to_owned(), 0)]);
        let world = World::of(&setup.service("1@n1:d"));
        let client = setup.client(setup.frontend());
        assert_eq!((setup.reaches(&client), setup.tracked()), (None, 1));
        setup.rules(&[(setup.to_cluster_ip(), 0)]);
        assert_eq!(setup.reaches(&client), None, "the kernel goes by the flow");
        let (world, changes) = world.then(&setup.service("1@n1:r"));
        assert_eq!(setup.forget(&world, &changes), 1);
        assert_eq!(setup.reaches(&client), Some(0));
        assert_eq!(setup.reconcile(&world), 0);
    }
}

#[test]
fn a_node_port_changes() {
    for plan in [V4, V6] {
        let setup = Setup::new(plan);
        let node_port = |number: u16| format!("-m addrtype --dst-type LOCAL --dport {number}");
        setup.rules(&[(node_port(30053), 0), (setup.to_cluster_ip(), 0)]);
        let world = World::of(&setup.service("np=30053 1@n1:r"));
        let node = setup.plan.node;
        let [old, new] = [30053, 30054].map(|number| setup.client(at(node, number)));
        let inside = setup.client(setup.frontend());
        // nobody listens there yet, but it is tracked
        new.send(b"x").unwrap();
        assert_eq!((setup.reaches(&old), setup.reaches(&inside)), (Some(0), Some(0)));
        setup.rules(&[(node_port(30054), 0), (setup.to_cluster_ip(), 0)]);
        let (world, changes) = world.then(&setup.service("np=30054 1@n1:r"));
        assert_eq!(setup.reaches(&old), Some(0), "the kernel goes by the flow");
        // the new one's is forgotten too, if the kernel kept it: nobody listens there
        assert!(setup.forget(&world, &changes) >= 1);
        // what ICMP told of an earlier packet is an error of the next
        let _ = (old.take_error(), new.take_error());
        assert_eq!(setup.reaches(&old), None);
        assert_eq!((setup.reaches(&new), setup.reaches(&inside)), (Some(0), Some(0)));
    }
}

/// A start: who is served stays, who talks to nobody does not.
#[test]
fn a_start_keeps_what_is_valid() {
    let setup = Setup::new(V4);
    setup.rules(&[(setup.to_cluster_ip(), 0)]);
    let stale = setup.client(setup.frontend());
    assert_eq!(setup.reaches(&stale), Some(0));
    setup.rules(&[(setup.to_cluster_ip(), 1)]);
    let valid = setup.client(setup.frontend());
    assert_eq!(setup.reaches(&valid), Some(1));
    let world = World::of(&setup.service("2@n1:r"));
    assert_eq!((setup.tracked(), setup.reconcile(&world)), (2, 1));
    let mut conntrack = Conntrack::open_in(setup.node.ns()).unwrap();
    let flows = conntrack.list(&Filter::new(Family::V4).protocol(UDP)).unwrap();
    assert_eq!(flows[0].original.source.port(), valid.local_addr().unwrap().port());
    assert_eq!((setup.reaches(&stale), setup.reaches(&valid)), (Some(1), Some(1)));
}
