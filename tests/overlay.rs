//! Pods of different nodes, end to end: agents that run pods, the plugin `overlay`, routes between the nodes, and services.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use heddle_tests::cluster::{
    Cluster, OUTSIDE, OUTSIDE6, Setup, idle_pod, ipv6_of, seen_source, stream,
};
use heddle_tests::wait_until;
use netns_tools::NetNs;
use serde_json::json;

/// Where the pods' servers listen.
const PORT: u16 = 8080;
/// The service's own port, addresses and node port.
const SERVICE_PORT: u16 = 80;
const SERVICES: [&str; 2] = ["10.96.0.80", "fd00:10:96::80"];
const NODE_PORT: u16 = 30080;

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

use Family::{V4, V6};

impl Family {
    /// What of the two is this one's.
    fn of<T>(self, [v4, v6]: [T; 2]) -> T {
        if self == V4 { v4 } else { v6 }
    }

    /// Every address of it.
    fn any(self, port: u16) -> SocketAddr {
        at(self.of(["0.0.0.0", "::"]).parse::<IpAddr>().expect("an address"), port)
    }

    fn service(self) -> SocketAddr {
        at(self.of(SERVICES).parse::<IpAddr>().expect("an address"), SERVICE_PORT)
    }
}

fn at(address: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(address.into(), port)
}

fn any(port: u16) -> SocketAddr {
    V4.any(port)
}

/// A service, and its endpoints as somebody wrote them: without an API server nobody gathers those of other nodes.
fn service(protocol: &str, endpoint: IpAddr, node: &str) -> String {
    let family = if endpoint.is_ipv4() { V4 } else { V6 };
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
        "spec": {
            "type": "NodePort", "clusterIP": family.of(SERVICES),
            "ports": [{ "name": "a", "protocol": protocol, "port": SERVICE_PORT, "targetPort": PORT, "nodePort": NODE_PORT }],
        },
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": "web-1", "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": family.of(["IPv4", "IPv6"]),
        "endpoints": [{ "addresses": [endpoint], "conditions": { "ready": true }, "nodeName": node }],
        "ports": [{ "name": "a", "protocol": protocol, "port": PORT }],
    });
    format!("{service}\n---\n{slice}\n")
}

/// A pod's address and its namespace.
type Pod = (IpAddr, NetNs);

/// The pods of the nodes, and one more of the first.
struct Pods {
    each: Vec<Pod>,
    other: Pod,
}

impl Pods {
    fn start(cluster: &Cluster, nodes: usize) -> Self {
        for number in 1..=nodes {
            cluster.node(number).write_manifest("pod.json", &idle_pod("pod"));
        }
        cluster.node(1).write_manifest("other.json", &idle_pod("other"));
        let each = (1..=nodes).map(|number| cluster.node(number).running_pod("pod")).collect();
        Self { each, other: cluster.node(1).running_pod("other") }
    }

    /// The same pods by their addresses of IPv6.
    fn of_ipv6(self) -> Self {
        let of_ipv6 = |(_, ns): Pod| (ipv6_of(&ns), ns);
        Self { each: self.each.into_iter().map(of_ipv6).collect(), other: of_ipv6(self.other) }
    }
}

/// Every way that packets of a cluster take, and whom the receiver sees.
#[track_caller]
fn everybody_is_reached_as_they_should_be(setup: Setup) {
    let mut cluster = Cluster::start(setup);
    let pods = Pods::start(&cluster, setup.nodes);
    everybody_is_reached(&cluster, &pods, V4);
    agents_are_not_needed(&mut cluster, &pods);
    if setup.dual_stack {
        let pods = pods.of_ipv6();
        everybody_is_reached(&cluster, &pods, V6);
        agents_are_not_needed(&mut cluster, &pods);
    }
}

#[track_caller]
fn everybody_is_reached(cluster: &Cluster, pods: &Pods, family: Family) {
    let Pods { each: pods, other: (other, other_ns) } = pods;
    let any = |port| family.any(port);
    let address_of = |number| {
        let node = cluster.node(number);
        family.of([node.address, node.address6])
    };
    // every pod to every pod, without translation, also with full packets
    for (from, from_ns) in pods {
        for (to, to_ns) in pods {
            assert_eq!(seen_source(from_ns, to_ns, any(PORT), at(*to, PORT)), *from);
        }
        assert_eq!(seen_source(from_ns, other_ns, any(PORT), at(*other, PORT)), *from);
    }
    stream(&pods[0].1, &pods[2].1, at(pods[2].0, PORT), 1 << 20);

    // out of the cluster as the node
    let outside: IpAddr = family.of([OUTSIDE, OUTSIDE6]).parse().expect("an address");
    for (number, (_, pod)) in (1..).zip(pods) {
        let seen = seen_source(pod, cluster.outside(), any(PORT), at(outside, PORT));
        assert_eq!(seen, address_of(number));
    }
    // a node to a pod of another one, as an address that leads back
    let node = cluster.node(1).ns().ns();
    let seen = seen_source(node, &pods[1].1, any(PORT), at(pods[1].0, PORT));
    let own = [address_of(1), family.of(["10.244.1.0", "fd00:10:244:1::"]).parse().expect("one")];
    assert!(own.contains(&seen), "{seen}");

    // a service whose endpoint is on another node, on the same one, and the caller itself
    let (source, caller) = &pods[0];
    let endpoints = [(pods[1].0, &pods[1].1, 2), (*other, other_ns, 1), (pods[0].0, caller, 1)];
    for (endpoint, server, node) in endpoints {
        let service = service("TCP", endpoint, &cluster.node(node).name);
        cluster.write_everywhere("service.yaml", &service);
        let seen = seen_source(caller, server, any(PORT), family.service());
        if endpoint == *source {
            assert_ne!(seen, *source, "a pod does not speak to itself over a service");
        } else {
            assert_eq!(seen, *source, "service to {endpoint}");
        }
        // the node port of a node that has no endpoint, from outside
        seen_source(cluster.outside(), server, any(PORT), at(address_of(3), NODE_PORT));
    }
}

/// They come back to what is there, and to bridges whose packets pass no rules.
#[track_caller]
fn agents_are_not_needed(cluster: &mut Cluster, pods: &Pods) {
    let Pods { each: pods, other: (other, other_ns) } = pods;
    let (source, caller) = &pods[0];
    let family = if source.is_ipv4() { V4 } else { V6 };
    let any = |port| family.any(port);
    for number in 1..=pods.len() {
        cluster.node_mut(number).kill_agent();
    }
    let seen = seen_source(caller, &pods[2].1, any(PORT), at(pods[2].0, PORT));
    assert_eq!(seen, *source);
    // as some systems have it
    let parameter = family.of(["iptables", "ip6tables"]);
    let parameter = format!("net.bridge.bridge-nf-call-{parameter}=0");
    cluster.node(1).ns().cmd(&["sysctl", "-qw", &parameter]);
    for number in 1..=pods.len() {
        cluster.node_mut(number).start_agent();
    }
    for (number, (address, _)) in (1..).zip(pods) {
        let (v4, ns) = cluster.node(number).running_pod("pod");
        assert_eq!(if family == V4 { v4 } else { ipv6_of(&ns) }, *address);
    }
    let seen = seen_source(caller, &pods[2].1, any(PORT), at(pods[2].0, PORT));
    assert_eq!(seen, *source);
    // answers of a pod of the same node have to be translated back all the same
    cluster.write_everywhere("service.yaml", &service("TCP", *other, &cluster.node(1).name));
    wait_until("a service on the same node to be reached as itself", || {
        (seen_source(caller, other_ns, any(PORT), family.service()) == *source).then_some(())
    });
}

#[test]
fn three_nodes_over_vxlan_with_bridges() {
    let (nodes, backend, proxy, plugin) = (3, "vxlan", "iptables", "bridge");
    let setup = Setup { nodes, backend, proxy, plugin, ..Setup::default() };
    everybody_is_reached_as_they_should_be(setup);
}

#[test]
fn three_nodes_over_vxlan_without_bridges() {
    let (nodes, backend, proxy, plugin) = (3, "vxlan", "nftables", "ptp");
    let setup = Setup { nodes, backend, proxy, plugin, ..Setup::default() };
    everybody_is_reached_as_they_should_be(setup);
}

#[test]
fn three_nodes_on_one_link_without_a_tunnel() {
    let (nodes, backend, proxy, plugin) = (3, "auto", "nftables", "bridge");
    let setup = Setup { nodes, backend, proxy, plugin, ..Setup::default() };
    everybody_is_reached_as_they_should_be(setup);
}

#[test]
fn three_nodes_of_both_families_over_vxlan_with_bridges() {
    let (nodes, backend, proxy, plugin) = (3, "vxlan", "nftables", "bridge");
    let setup = Setup { nodes, backend, proxy, plugin, dual_stack: true, ..Setup::default() };
    everybody_is_reached_as_they_should_be(setup);
}

#[test]
fn three_nodes_of_both_families_without_bridges() {
    let (nodes, backend, proxy, plugin) = (3, "auto", "iptables", "ptp");
    let setup = Setup { nodes, backend, proxy, plugin, dual_stack: true, ..Setup::default() };
    everybody_is_reached_as_they_should_be(setup);
}

/// The routes of a node to the pods of another one, as `ip` shows them.
fn routes_to(cluster: &Cluster, node: usize, other: usize) -> String {
    cluster.node(node).ns().cmd(&["ip", "route", "show", &format!("10.244.{other}.0/24")])
}

/// Nodes come and go by kubectl, and the server itself may go, too.
#[test]
fn nodes_of_an_api_server_are_followed() {
    let (nodes, backend, proxy, plugin) = (3, "vxlan", "nftables", "bridge");
    let setup = Setup { nodes, backend, proxy, plugin, api_server: true, ..Setup::default() };
    let mut cluster = Cluster::start(setup);
    let start = |cluster: &Cluster, number: usize, name: &str| {
        cluster.node(number).write_manifest(&format!("{name}.json"), &idle_pod(name));
    };
    let talk = |from: &(IpAddr, NetNs), to: &(IpAddr, NetNs)| {
        assert_eq!(seen_source(&from.1, &to.1, any(PORT), at(to.0, PORT)), from.0);
    };
    (1..=3).for_each(|number| start(&cluster, number, "pod"));
    let [one, two, three] = [1, 2, 3].map(|number| cluster.node(number).running_pod("pod"));
    for (from, to) in [(&one, &two), (&two, &three), (&three, &one)] {
        talk(from, to);
    }

    // another node
    cluster.add_node();
    start(&cluster, 4, "pod");
    let four = cluster.node(4).running_pod("pod");
    talk(&four, &one);
    talk(&two, &four);

    // one goes, with its machine
    cluster.node_mut(2).kill_agent();
    cluster.api().kubectl(&["delete", "node", "node-2"]);
    for number in [1, 3, 4] {
        wait_until("nothing to be left of it", || {
            routes_to(&cluster, number, 2).is_empty().then_some(())
        });
    }
    talk(&three, &four);

    // the server goes, and a node begins without it
    wait_until("node-3 to have kept what it knows", || cluster.node(3).has_kept(4).then_some(()));
    cluster.api().kill();
    cluster.node_mut(3).kill_agent();
    cluster.node(3).forget_lease();
    cluster.node_mut(3).start_agent();
    start(&cluster, 3, "later");
    let later = cluster.node(3).running_pod("later");
    for peer in [&one, &four] {
        talk(&later, peer);
        talk(peer, &three);
    }

    // it comes back, and so does the node
    cluster.api().start_again();
    cluster.register(2);
    cluster.node_mut(2).start_agent();
    talk(&later, &two);
    talk(&two, &one);
}

/// Sends until somebody answers; who it was.
fn ask(socket: &UdpSocket, to: SocketAddr) -> io::Result<String> {
    let mut buffer = [0; 64];
    socket.send_to(b"who", to)?;
    let (length, _) = socket.recv_from(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Answers datagrams with a name for as long as the test runs.
fn answer_as(name: &'static str, server: &NetNs) {
    let bound = server.run(|| UdpSocket::bind(any(PORT))).expect("the pod's namespace");
    let socket = bound.expect("a free port");
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(name.as_bytes(), from).ok();
        }
    });
}

/// The kernel keeps sending a flow to where it went first, unless it is told to forget it.
#[test]
fn a_udp_flow_follows_its_service_to_another_node() {
    let (nodes, backend, proxy, plugin) = (3, "vxlan", "nftables", "ptp");
    let setup = Setup { nodes, backend, proxy, plugin, ..Setup::default() };
    let cluster = Cluster::start(setup);
    for number in 1..=3 {
        cluster.node(number).write_manifest("pod.json", &idle_pod("pod"));
    }
    let pods: Vec<_> = (1..=3).map(|number| cluster.node(number).running_pod("pod")).collect();
    answer_as("second", &pods[1].1);
    answer_as("third", &pods[2].1);
    let socket = pods[0].1.run(|| UdpSocket::bind("0.0.0.0:0")).expect("the pod's namespace");
    let socket = socket.expect("a socket");
    socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a time-out");
    for (node, name) in [(2, "second"), (3, "third"), (2, "second")] {
        let service = service("UDP", pods[node - 1].0, &cluster.node(node).name);
        cluster.write_everywhere("service.yaml", &service);
        wait_until(&format!("the {name} pod to answer"), || {
            (ask(&socket, V4.service()).ok()? == name).then_some(())
        });
    }
}
