//! Packets: a client, this node between, and two servers behind it that answer with their own name.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use netns_tools::testing::{End, TestNetns, veth_pair};

use super::*;

struct Site {
    client: TestNetns,
    node: TestNetns,
    servers: Vec<TestNetns>,
    _outside: TestNetns,
}

/// The client is 192.0.2.2, the node its gateway; servers are 10.1.0.N.
fn site() -> Site {
    let (client, node) = (TestNetns::new("pnft-c"), TestNetns::new("pnft-n"));
    veth_pair(
        End(&client, "up", &["192.0.2.2/24", "192.0.2.3/24"]),
        End(&node, "down", &["192.0.2.1/24"]),
    );
    client.cmd(&["ip", "route", "add", "default", "via", "192.0.2.1"]);
    node.cmd(&["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    // a node routes cluster addresses somewhere before they are translated
    let outside = TestNetns::new("pnft-o");
    veth_pair(End(&outside, "in", &["203.0.113.9/24"]), End(&node, "out", &["203.0.113.1/24"]));
    node.cmd(&["ip", "route", "add", "default", "via", "203.0.113.9"]);
    let server = |number: u8| {
        let server = TestNetns::new("pnft-s");
        let (link, gateway) = (format!("s{number}"), format!("10.1.{number}.254/24"));
        let address = format!("10.1.{number}.1/24");
        veth_pair(End(&server, "up", &[&address]), End(&node, &link, &[&gateway]));
        server.cmd(&["ip", "route", "add", "default", "via", gateway.strip_suffix("/24").unwrap()]);
        server.run(|| serve(number));
        server
    };
    let servers = (0..2).map(server).collect();
    Site { client, node, servers, _outside: outside }
}

/// Says its number and who asked, for as long as the test runs.
fn serve(number: u8) {
    let tcp = TcpListener::bind("0.0.0.0:8080").unwrap();
    let udp = UdpSocket::bind("0.0.0.0:8080").unwrap();
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap().ip();
            let _ = stream.write_all(format!("{number} {peer}").as_bytes());
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 16];
        while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(format!("{number} {}", peer.ip()).as_bytes(), peer);
        }
    });
}

fn ask(from: &TestNetns, to: &str) -> std::io::Result<String> {
    let to: SocketAddr = to.parse().unwrap();
    from.run(move || {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(3))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })
}

fn ask_udp(from: &TestNetns, to: &str) -> String {
    from.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket.send_to(b"?", to).unwrap();
        let mut buffer = [0; 64];
        let (len, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(from, to.parse().unwrap());
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    })
}

fn answers(from: &TestNetns, to: &str) -> BTreeSet<String> {
    (0..16).map(|_| ask(from, to).unwrap()).collect()
}

fn set(lines: &[&str]) -> BTreeSet<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

fn endpoints() -> [&'static str; 2] {
    ["10.1.0.1@n1", "10.1.1.1@n2"]
}

#[test]
fn connections_of_every_kind() {
    let site = site();
    let mut model = Model::new(Node::named("n1"));
    let mut add = |name: &str, spec: Value, ends: &[&str]| {
        model.set_service(service(name, spec));
        model.set_slice(slice(name, ends));
    };
    add("cip", json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}), &endpoints());
    add("dns", json!({"clusterIP": "10.96.0.2", "ports": [{"port": 53, "protocol": "UDP"}]}), &[]);
    add(
        "np",
        json!({"type": "NodePort", "clusterIP": "10.96.0.3", "externalIPs": ["198.51.100.1"],
        "ports": [{"port": 80, "nodePort": 30080}]}),
        &endpoints(),
    );
    add(
        "local",
        json!({"type": "NodePort", "clusterIP": "10.96.0.4", "externalTrafficPolicy": "Local",
        "ports": [{"port": 80, "nodePort": 30081}]}),
        &endpoints(),
    );
    add(
        "none",
        json!({"type": "NodePort", "clusterIP": "10.96.0.5", "ports": [{"port": 80, "nodePort": 30082}]}),
        &[],
    );
    add(
        "away",
        json!({"clusterIP": "10.96.0.6", "internalTrafficPolicy": "Local", "ports": [{"port": 80}]}),
        &["10.1.1.1@n2"],
    );
    add("one", json!({"clusterIP": "10.96.0.7", "ports": [{"port": 80}]}), &["10.1.0.1@n1"]);
    let udp = json!({"metadata": {"namespace": "default", "name": "dns-1", "labels": {"kubernetes.io/service-name": "dns"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.1.1.1"]}], "ports": [{"port": 8080, "protocol": "UDP"}]});
    model.set_slice(Slice::of(&serde_json::from_value(udp).unwrap()).unwrap());
    let mut backend = NftablesBackend::open_in(Family::V4, site.node.ns()).unwrap();
    backend.sync(model.ports(Family::V4), &options(), Scope::Full).unwrap();

    // from outside: masqueraded to a cluster address and a node port, both endpoints in turn
    let masqueraded = set(&["0 10.1.0.254", "1 10.1.1.254"]);
    assert_eq!(answers(&site.client, "10.96.0.1:80"), masqueraded);
    assert_eq!(answers(&site.client, "192.0.2.1:30080"), masqueraded);
    assert_eq!(answers(&site.client, "198.51.100.1:80"), masqueraded);
    assert_eq!(ask_udp(&site.client, "10.96.0.2:53"), "1 10.1.1.254");
    // policy Local keeps the client's address
    assert_eq!(answers(&site.client, "192.0.2.1:30081"), set(&["0 192.0.2.2"]));
    // from a pod: its own address, but for itself
    assert_eq!(answers(&site.servers[1], "10.96.0.7:80"), set(&["0 10.1.1.1"]));
    assert_eq!(answers(&site.servers[0], "10.96.0.1:80"), set(&["0 10.1.0.254", "1 10.1.0.1"]));
    // from the node itself
    assert_eq!(answers(&site.node, "10.96.0.1:80").len(), 2);
    assert_eq!(answers(&site.node, "192.0.2.1:30081").len(), 2);
    // nobody serves, a port that no service has: told at once; none here: silence
    let refused = |from: &TestNetns, to: &str| ask(from, to).unwrap_err().kind();
    for to in ["10.96.0.5:80", "192.0.2.1:30082", "10.96.0.1:81"] {
        assert_eq!(refused(&site.client, to), std::io::ErrorKind::ConnectionRefused, "{to}");
    }
    assert_eq!(refused(&site.servers[0], "10.96.0.6:80"), std::io::ErrorKind::TimedOut);
}

#[test]
fn a_client_is_remembered() {
    let site = site();
    let mut model = Model::new(Node::named("n1"));
    let spec = |seconds: u32| {
        json!({"type": "NodePort", "clusterIP": "10.96.0.1", "sessionAffinity": "ClientIP", "externalIPs": ["198.51.100.1"],
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}, "ports": [{"port": 80, "nodePort": 30080}]})
    };
    model.set_service(service("s", spec(1)));
    model.set_slice(slice("s", &endpoints()));
    let mut backend = NftablesBackend::open_in(Family::V4, site.node.ns()).unwrap();
    backend.sync(model.ports(Family::V4), &options(), Scope::Full).unwrap();
    for to in ["10.96.0.1:80", "198.51.100.1:80", "192.0.2.1:30080"] {
        assert_eq!(answers(&site.client, to).len(), 1, "{to}");
        // forgotten in time, so sooner or later it is another
        let mut seen = answers(&site.client, to);
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(1100));
            seen.insert(ask(&site.client, to).unwrap());
            if seen.len() == 2 {
                break;
            }
        }
        assert_eq!(seen.len(), 2, "{to}");
    }
    // an endpoint that goes takes its clients with it, and they stay where they go then, also when it is back
    model.set_service(service("s", spec(600)));
    let mut sync = |model: &mut Model| {
        let changes = model.take_changes();
        backend.sync(model.ports(Family::V4), &options(), Scope::Changed(&changes.v4)).unwrap();
    };
    sync(&mut model);
    let first = ask(&site.client, "10.96.0.1:80").unwrap();
    let other = if first.starts_with('0') { endpoints()[1] } else { endpoints()[0] };
    model.set_slice(slice("s", &[other]));
    sync(&mut model);
    let second = answers(&site.client, "10.96.0.1:80");
    assert!(second.len() == 1 && !second.contains(&first), "{second:?}");
    model.set_slice(slice("s", &endpoints()));
    sync(&mut model);
    assert_eq!(answers(&site.client, "10.96.0.1:80"), second);
}

/// The time that is left for a client in a set: it was to stay for 600 seconds.
fn seconds_left(node: &TestNetns, set: &str) -> u64 {
    let json = node.json(&["nft", "-j", "list", "set", "ip", "heddle", set]);
    let objects = json["nftables"].as_array().unwrap();
    let set = objects.iter().find_map(|object| object.get("set")).unwrap();
    set["elem"][0]["elem"]["expires"].as_u64().unwrap()
}

/// A client that a set of clients has goes to its endpoint by every door, and stays there for another while.
#[test]
fn a_client_comes_back_by_every_door() {
    let site = site();
    let mut model = Model::new(Node::named("n1"));
    let object = json!({"metadata": {"namespace": "default", "name": "s"},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.1", "sessionAffinity": "ClientIP", "externalIPs": ["198.51.100.1"],
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}},
            "ports": [{"port": 80, "nodePort": 30080}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.2"}]}}});
    model.set_service(Service::of(&serde_json::from_value(object).unwrap()).unwrap().unwrap());
    model.set_slice(slice("s", &endpoints()));
    let mut backend = NftablesBackend::open_in(Family::V4, site.node.ns()).unwrap();
    backend.sync(model.ports(Family::V4), &options(), Scope::Full).unwrap();
    let listed = site.node.cmd(&["nft", "list", "sets"]);
    let sets = listed.lines().filter_map(|line| line.trim().strip_prefix("set affinity-"));
    let sets: Vec<String> =
        sets.map(|set| format!("affinity-{}", set.trim_end_matches(" {"))).collect();
    for (number, address) in ["10.1.0.1", "10.1.1.1"].into_iter().enumerate() {
        let set = sets.iter().find(|set| set.contains(address)).unwrap();
        for to in ["10.96.0.1:80", "198.51.100.1:80", "198.51.100.2:80", "192.0.2.1:30080"] {
            for set in &sets {
                site.node.cmd(&["nft", "flush", "set", "ip", "heddle", set]);
            }
            let known =
                format!("add element ip heddle {set} {{ 192.0.2.2 timeout 600s expires 200s }}");
            site.node.cmd(&[&["nft"][..], &known.split(' ').collect::<Vec<_>>()].concat());
            assert!(seconds_left(&site.node, set) <= 200);
            let found = answers(&site.client, to);
            assert!(found.len() == 1, "{to}: {found:?}");
            assert!(
                found.iter().all(|answer| answer.starts_with(&number.to_string())),
                "{found:?}"
            );
            assert!(seconds_left(&site.node, set) > 200, "{to}: the time did not begin anew");
        }
    }
}

#[test]
fn source_ranges() {
    let site = site();
    let mut model = Model::new(Node::named("n1"));
    let object = json!({"metadata": {"namespace": "default", "name": "lb"},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.1", "loadBalancerSourceRanges": ["192.0.2.2/32"],
            "ports": [{"port": 80}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}}});
    model.set_service(Service::of(&serde_json::from_value(object).unwrap()).unwrap().unwrap());
    model.set_slice(slice("lb", &endpoints()));
    let mut backend = NftablesBackend::open_in(Family::V4, site.node.ns()).unwrap();
    backend.sync(model.ports(Family::V4), &options(), Scope::Full).unwrap();
    let from = |address: &str| {
        let address: std::net::IpAddr = address.parse().unwrap();
        site.client.run(move || {
            let output = std::process::Command::new("curl")
                .args([
                    "-s",
                    "--http0.9",
                    "-m",
                    "1",
                    "--interface",
                    &address.to_string(),
                    "198.51.100.1",
                ])
                .output();
            output.unwrap().stdout.len()
        })
    };
    assert!(from("192.0.2.2") > 0);
    assert_eq!(from("192.0.2.3"), 0);
    // not at the cluster address
    assert_eq!(answers(&site.client, "10.96.0.1:80").len(), 2);
}
