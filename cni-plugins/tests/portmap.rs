//! `portmap` behind `bridge`, with the real binary and real packets.

mod node;

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use netns_tools::testing::TestNetns;
use node::faults::{Scene, prove};
use node::{HIDE_SBIN, Node, Pod, Suite, assert_error, state, traffic, with_prev};
use serde_json::{Value, json};

/// The node's addresses towards the client; the second one of IPv4 is for `hostIP`.
const HOST: [&str; 3] = ["192.0.2.1", "192.0.2.3", "2001:db8::1"];
const CLIENT: [&str; 2] = ["192.0.2.2", "2001:db8::2"];
const GATEWAY: [&str; 2] = ["10.88.0.1", "fd88::1"];

/// A node with a client on another link.
struct World {
    node: Node,
    client: Pod,
}

fn world(suite: Suite) -> World {
    let node = Node::new(suite);
    let client = node.pod("client");
    node.sh(&format!(
        "ip link add up0 type veth peer name eth0 netns {} && ip addr add {}/24 dev up0 && ip addr add {}/24 dev up0 \
         && ip link set up0 up && ip -6 addr add {}/64 dev up0 nodad",
        client.ns.name(),
        HOST[0],
        HOST[1],
        HOST[2],
    ));
    client.sh(&format!(
        "ip addr add {}/24 dev eth0 && ip link set eth0 up && ip -6 addr add {}/64 dev eth0 nodad \
         && ip link set lo up && ip route add default via {} && ip -6 route add default via {}",
        CLIENT[0], CLIENT[1], HOST[0], HOST[2],
    ));
    World { node, client }
}

fn bridge_conf(node: &Node, version: &str) -> Value {
    json!({
        "cniVersion": version, "name": "testnet", "type": "bridge", "bridge": "br0",
        "isDefaultGateway": true, "hairpinMode": true,
        "ipam": node.ipam(&["10.88.0.0/24", "fd88::/64"]),
    })
}

/// A pod on the bridge, and the result so far.
fn pod_on_bridge(node: &Node, id: &str) -> (Pod, Value) {
    let pod = node.pod(id);
    pod.sh("ip link set lo up");
    let result = node.add("bridge", &pod, &bridge_conf(node, "1.0.0"));
    (pod, result)
}

fn conf(prev: &Value, mappings: &Value, extra: &Value) -> Value {
    let mut conf = json!({
        "cniVersion": "1.0.0", "name": "testnet", "type": "portmap",
        "runtimeConfig": { "portMappings": mappings },
        "prevResult": prev,
    });
    conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    conf
}

fn mapping(host: u16, container: u16, protocol: &str) -> Value {
    json!({ "hostPort": host, "containerPort": container, "protocol": protocol })
}

fn address(result: &Value, index: usize) -> String {
    let cidr = result["ips"][index]["address"].as_str().unwrap();
    cidr.split('/').next().unwrap().to_owned()
}

fn at(ip: &str, port: u16) -> String {
    SocketAddr::new(ip.parse().unwrap(), port).to_string()
}

/// Serves one TCP connection on the pod's port and says whom the server saw, or that nobody came.
fn reaches(from: &TestNetns, target: &str, pod: &Pod, own: &str) -> Option<String> {
    traffic::serve(&pod.ns, own, 1);
    let answer = traffic::fetch(from, target);
    if answer.is_none() {
        // Ends the server, which must not take the next connection.
        assert!(traffic::fetch(&pod.ns, own).is_some(), "{own}");
    }
    answer
}

/// Answers UDP datagrams with their text and the sender's address as the server sees it, until the test ends.
fn serve_udp(ns: &TestNetns, address: &str) {
    let address: SocketAddr = address.parse().unwrap();
    let socket = ns.run(move || UdpSocket::bind(address).unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let asked = String::from_utf8_lossy(&buffer[..length]);
            if socket.send_to(format!("{asked} {}", peer.ip()).as_bytes(), peer).is_err() {
                break;
            }
        }
    });
}

/// A client's UDP socket that keeps its port.
struct Udp(UdpSocket);

impl Udp {
    fn new(ns: &TestNetns, target: &str) -> Self {
        let target: SocketAddr = target.parse().unwrap();
        let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = ns.run(move || {
            let socket = UdpSocket::bind(any).unwrap();
            socket.connect(target).unwrap();
            socket
        });
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        Self(socket)
    }

    /// Asks until there is an answer to this question, not to an earlier one, or the patience ends.
    fn ask(&self, patience: Duration) -> Option<String> {
        static QUESTIONS: AtomicUsize = AtomicUsize::new(0);
        let question = format!("{} ", QUESTIONS.fetch_add(1, Ordering::Relaxed));
        let start = Instant::now();
        let mut buffer = [0; 64];
        while start.elapsed() < patience {
            // An ICMP error of an earlier datagram is reported here.
            let _ = self.0.send(question.trim().as_bytes());
            while let Ok(length) = self.0.recv(&mut buffer) {
                let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if let Some(seen) = answer.strip_prefix(&question) {
                    return Some(seen.to_owned());
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }
}

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(400);

fn backends() -> [Value; 2] {
    [json!({ "backend": "iptables" }), json!({ "backend": "nftables" })]
}

fn merged(mut one: Value, other: &Value) -> Value {
    one.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
    one
}

fn rules(node: &Node) -> Vec<String> {
    let all = node.sh("iptables-save -t nat; ip6tables-save -t nat");
    all.lines().filter(|line| line.starts_with("-A")).map(str::to_owned).collect()
}

/// Rules that are a container's own.
fn own_rules(node: &Node) -> Vec<String> {
    rules(node).into_iter().filter(|rule| rule.contains("CNI-DN-")).collect()
}

#[test]
fn tcp_from_everywhere() {
    for backend in backends() {
        let World { node, client } = world(Suite::Heddle);
        let (pod, prev) = pod_on_bridge(&node, "a");
        let (other, prev_other) = pod_on_bridge(&node, "b");
        let conf = conf(&prev, &json!([mapping(8080, 80, "tcp")]), &backend);
        let result = node.add("portmap", &pod, &conf);
        assert_eq!(result, prev, "the result is passed on");
        for (family, host) in [(0, HOST[0]), (1, HOST[2])] {
            let (own, target) = (at(&address(&prev, family), 80), at(host, 8080));
            let seen = |from: &TestNetns| reaches(from, &target, &pod, &own);
            let gateway = Some(GATEWAY[family].to_owned());
            assert_eq!(seen(&client.ns).as_deref(), Some(CLIENT[family]), "from outside");
            assert!(seen(&node.ns).is_some(), "from the node itself");
            // As in the reference, only iptables' rules take neighbours for what has no way back.
            let neighbour = match backend["backend"].as_str() {
                Some("iptables") => gateway.clone(),
                _ => Some(address(&prev_other, family)),
            };
            assert_eq!(seen(&other.ns), neighbour, "from a neighbour");
            assert_eq!(seen(&pod.ns), gateway, "hairpin");
        }
        let own = at(&address(&prev, 0), 80);
        let seen = reaches(&node.ns, "127.0.0.1:8080", &pod, &own);
        assert_eq!(seen.as_deref(), Some(GATEWAY[0]), "from the node's loopback");
        let check = node.call("portmap", "CHECK", &pod, &conf);
        assert!(check.ok, "{check:#?}");
        node.del("portmap", &pod, &conf);
        assert_eq!(traffic::fetch(&client.ns, &at(HOST[0], 8080)), None, "gone after DEL");
    }
}

#[test]
fn udp_in_both_families() {
    for backend in backends() {
        let World { node, client } = world(Suite::Heddle);
        let (pod, prev) = pod_on_bridge(&node, "a");
        let conf = conf(&prev, &json!([mapping(5353, 53, "UDP")]), &backend);
        for family in 0..2 {
            serve_udp(&pod.ns, &at(&address(&prev, family), 53));
        }
        node.add("portmap", &pod, &conf);
        for (family, host) in [(0, HOST[0]), (1, HOST[2])] {
            let seen = Udp::new(&client.ns, &at(host, 5353)).ask(LONG);
            assert_eq!(seen.as_deref(), Some(CLIENT[family]));
            assert!(Udp::new(&node.ns, &at(host, 5353)).ask(LONG).is_some());
        }
        let seen = Udp::new(&node.ns, "127.0.0.1:5353").ask(LONG);
        assert_eq!(seen.as_deref(), Some(GATEWAY[0]));
    }
}

/// A client that never pauses keeps its flow alive, which leads to where its first packet went.
#[test]
fn a_udp_client_that_never_pauses_follows_the_port() {
    for backend in backends() {
        let World { node, client } = world(Suite::Heddle);
        let (one, prev_one) = pod_on_bridge(&node, "one");
        let (two, prev_two) = pod_on_bridge(&node, "two");
        for (pod, prev) in [(&one, &prev_one), (&two, &prev_two)] {
            for family in 0..2 {
                serve_udp(&pod.ns, &at(&address(prev, family), 53));
            }
        }
        // Rules of another container make the kernel track.
        let (third, prev_third) = pod_on_bridge(&node, "third");
        node.add("portmap", &third, &conf(&prev_third, &json!([mapping(9, 9, "tcp")]), &backend));
        let sockets =
            [Udp::new(&client.ns, &at(HOST[0], 5353)), Udp::new(&client.ns, &at(HOST[2], 5353))];
        for socket in &sockets {
            assert_eq!(socket.ask(SHORT), None, "nothing is mapped yet");
        }
        let mappings = json!([mapping(5353, 53, "udp")]);
        let listing =
            || node.sh("conntrack -L -p udp 2>/dev/null; conntrack -L -f ipv6 -p udp 2>/dev/null");
        for (pod, prev) in [(&one, &prev_one), (&two, &prev_two)] {
            let conf = conf(prev, &mappings, &backend);
            node.add("portmap", pod, &conf);
            for (family, socket) in sockets.iter().enumerate() {
                assert_eq!(socket.ask(LONG).as_deref(), Some(CLIENT[family]));
                assert!(
                    listing().contains(&format!("src={}", address(prev, family))),
                    "{}",
                    listing()
                );
            }
            node.del("portmap", pod, &conf);
            assert!(!listing().contains("dport=5353"), "{}", listing());
            for socket in &sockets {
                assert_eq!(socket.ask(SHORT), None, "the port leads nowhere");
            }
        }
    }
}

#[test]
fn a_host_ip_restricts_a_mapping() {
    for backend in backends() {
        let World { node, client } = world(Suite::Heddle);
        let (pod, prev) = pod_on_bridge(&node, "a");
        let with_ip = |host: u16, container, ip: &str| {
            merged(mapping(host, container, "tcp"), &json!({ "hostIP": ip }))
        };
        let mappings = json!([
            with_ip(8080, 80, HOST[1]),
            with_ip(8081, 81, "0.0.0.0"),
            with_ip(8082, 82, HOST[2]),
            with_ip(8083, 83, "::"),
        ]);
        node.add("portmap", &pod, &conf(&prev, &mappings, &backend));
        let cases = [
            (HOST[0], 8080, 0, 80, false),
            (HOST[1], 8080, 0, 80, true),
            (HOST[2], 8080, 1, 80, false),
            (HOST[0], 8081, 0, 81, true),
            (HOST[1], 8081, 0, 81, true),
            (HOST[2], 8081, 1, 81, false),
            (HOST[0], 8082, 0, 82, false),
            (HOST[2], 8082, 1, 82, true),
            (HOST[0], 8083, 0, 83, false),
            (HOST[2], 8083, 1, 83, true),
        ];
        for (host, port, family, own, expected) in cases {
            let seen =
                reaches(&client.ns, &at(host, port), &pod, &at(&address(&prev, family), own));
            assert_eq!(seen.is_some(), expected, "{host} port {port}");
        }
    }
}

#[test]
fn masquerading_options() {
    for backend in backends() {
        let World { node, client } = world(Suite::Heddle);
        let (pod, prev) = pod_on_bridge(&node, "a");
        let mappings = json!([mapping(8080, 80, "tcp")]);
        let seen = |from: &TestNetns, host: &str, family| {
            reaches(from, &at(host, 8080), &pod, &at(&address(&prev, family), 80))
        };

        let all = conf(&prev, &mappings, &merged(json!({ "masqAll": true }), &backend));
        node.add("portmap", &pod, &all);
        assert_eq!(seen(&client.ns, HOST[0], 0).as_deref(), Some(GATEWAY[0]));
        assert_eq!(seen(&client.ns, HOST[2], 1).as_deref(), Some(GATEWAY[1]));
        assert_eq!(seen(&node.ns, "127.0.0.1", 0).as_deref(), Some(GATEWAY[0]));
        assert!(node.call("portmap", "CHECK", &pod, &all).ok);
        node.del("portmap", &pod, &all);

        node.sh("echo 0 > /proc/sys/net/ipv4/conf/br0/route_localnet");
        let none = conf(&prev, &mappings, &merged(json!({ "snat": false }), &backend));
        node.add("portmap", &pod, &none);
        assert_eq!(seen(&client.ns, HOST[0], 0).as_deref(), Some(CLIENT[0]));
        assert_eq!(node.sh("cat /proc/sys/net/ipv4/conf/br0/route_localnet").trim(), "0");
        assert_eq!(seen(&node.ns, "127.0.0.1", 0), None, "without snat");
        assert!(node.call("portmap", "CHECK", &pod, &none).ok);
    }
}

#[test]
fn who_marks_packets() {
    let World { node, .. } = world(Suite::Heddle);
    let (pod, prev) = pod_on_bridge(&node, "a");
    let mappings = json!([mapping(8080, 80, "tcp")]);
    let seen = || reaches(&node.ns, "127.0.0.1:8080", &pod, &at(&address(&prev, 0), 80));

    let bit = conf(&prev, &mappings, &json!({ "markMasqBit": 31 }));
    node.add("portmap", &pod, &bit);
    assert!(
        rules(&node).iter().any(|rule| rule.contains("0x80000000/0x80000000")),
        "{:#?}",
        rules(&node)
    );
    assert_eq!(seen().as_deref(), Some(GATEWAY[0]));
    node.del("portmap", &pod, &bit);

    let external = conf(&prev, &mappings, &json!({ "externalSetMarkChain": "OTHER-MARK" }));
    let refused = node.call("portmap", "ADD", &pod, &external);
    assert_error(
        &refused,
        7,
        "externalSetMarkChain \"OTHER-MARK\" does not exist in iptables's nat table",
    );
    assert_eq!(own_rules(&node), [""; 0]);
    // The mark of a bit that nobody masquerades is not enough.
    for program in ["iptables", "ip6tables"] {
        node.sh(&format!("{program} -t nat -N OTHER-MARK && {program} -t nat -A OTHER-MARK -j MARK --set-xmark 0x10/0x10"));
    }
    node.add("portmap", &pod, &external);
    assert_eq!(seen(), None, "nobody masquerades");
    node.sh("iptables -t nat -A POSTROUTING -m mark --mark 0x10/0x10 -j MASQUERADE");
    assert_eq!(seen().as_deref(), Some(GATEWAY[0]));
    assert!(node.call("portmap", "CHECK", &pod, &external).ok);
}

#[test]
fn conditions_restrict_who_is_served() {
    let World { node, client } = world(Suite::Heddle);
    let (pod, prev) = pod_on_bridge(&node, "a");
    let mappings = json!([mapping(8080, 80, "tcp")]);
    let conditions =
        json!({ "conditionsV4": ["!", "--source", CLIENT[0]], "conditionsV6": ["-s", CLIENT[1]] });
    let conf = conf(&prev, &mappings, &conditions);
    node.add("portmap", &pod, &conf);
    let seen = |from: &TestNetns, host: &str, family| {
        reaches(from, &at(host, 8080), &pod, &at(&address(&prev, family), 80)).is_some()
    };
    assert!(!seen(&client.ns, HOST[0], 0));
    assert!(seen(&node.ns, HOST[0], 0));
    assert!(seen(&client.ns, HOST[2], 1));
    assert!(!seen(&node.ns, HOST[2], 1));
    let check = node.call("portmap", "CHECK", &pod, &conf);
    assert!(check.ok, "{check:#?}");
}

#[test]
fn check_finds_whatever_is_missing() {
    let World { node, .. } = world(Suite::Heddle);
    let (pod, prev) = pod_on_bridge(&node, "a");
    let conf = conf(&prev, &json!([mapping(8080, 80, "tcp"), mapping(53, 53, "udp")]), &json!({}));
    node.add("portmap", &pod, &conf);
    for program in ["iptables", "ip6tables"] {
        let all = node.sh(&format!("{program}-save -t nat"));
        let made = all.lines().filter(|line| line.starts_with("-A") && line.contains("CNI-"));
        assert!(made.clone().count() >= 9, "{all}");
        for rule in made {
            let deletion = rule.replacen("-A", "-D", 1);
            node.sh(&format!("{program} -t nat {deletion}"));
            let check = node.call("portmap", "CHECK", &pod, &conf);
            assert_error(&check, 110, "the port mappings of \"a\" are not as ADD left them");
            node.sh(&format!("{program}-restore <<'E'\n{all}\nE\n"));
            let check = node.call("portmap", "CHECK", &pod, &conf);
            assert!(check.ok, "{rule}: {check:#?}");
        }
    }
    node.sh("echo 0 > /proc/sys/net/ipv4/conf/br0/route_localnet");
    let check = node.call("portmap", "CHECK", &pod, &conf);
    assert!(check.stdout.contains("route_localnet is 0"), "{check:#?}");
}

#[test]
fn del_is_idempotent_and_knows_what_the_configuration_does_not_say() {
    let World { node, .. } = world(Suite::Heddle);
    let (pod, prev) = pod_on_bridge(&node, "a");
    let (other, prev_other) = pod_on_bridge(&node, "b");
    let mappings = json!([mapping(8080, 80, "tcp"), mapping(53, 53, "udp")]);
    let conf = conf(&prev, &mappings, &json!({}));
    node.add("portmap", &other, &with_prev(&conf, &prev_other));
    let before = rules(&node);
    let mut bare = conf.clone();
    bare.as_object_mut()
        .unwrap()
        .retain(|key, _| !matches!(key.as_str(), "prevResult" | "runtimeConfig"));
    let mut wrong = conf.clone();
    wrong["runtimeConfig"]["portMappings"][0]["hostPort"] = json!(-1);
    wrong["markMasqBit"] = json!(99);
    wrong["prevResult"] = json!({ "ips": 7 });
    for del in [conf.clone(), bare, wrong] {
        node.add("portmap", &pod, &conf);
        for _ in 0..2 {
            let answer = node.call_with("portmap", "DEL", &pod, &del, &[("CNI_NETNS", "")]);
            assert!(answer.ok, "{answer:#?}");
            assert_eq!(rules(&node), before);
        }
    }
}

/// A second ADD, after a DEL that was lost, replaces the first one's mappings. (The reference keeps both.)
#[test]
fn a_second_add_replaces_the_first() {
    let World { node, .. } = world(Suite::Heddle);
    let (pod, prev) = pod_on_bridge(&node, "a");
    node.add("portmap", &pod, &conf(&prev, &json!([mapping(8080, 80, "tcp")]), &json!({})));
    let again = conf(&prev, &json!([mapping(9090, 90, "tcp")]), &json!({}));
    node.add("portmap", &pod, &again);
    let once = own_rules(&node);
    assert!(!once.join("\n").contains("8080"), "{once:#?}");
    node.add("portmap", &pod, &again);
    assert_eq!(own_rules(&node), once);
}

#[test]
fn gc_removes_what_is_not_valid_and_of_this_network() {
    let World { node, .. } = world(Suite::Heddle);
    let mappings = json!([mapping(8080, 80, "tcp"), mapping(53, 53, "udp")]);
    let pods: Vec<_> = ["a", "b", "c"].iter().map(|id| pod_on_bridge(&node, id)).collect();
    for (n, (pod, prev)) in pods.iter().enumerate() {
        let network = if n == 2 { "testnet2" } else { "testnet" };
        let conf = conf(prev, &mappings, &json!({ "name": network, "cniVersion": "1.1.0" }));
        node.add("portmap", pod, &conf);
    }
    let all = own_rules(&node);
    let gc = |valid: Value| {
        let conf = json!({
            "cniVersion": "1.1.0", "name": "testnet", "type": "portmap", "cni.dev/valid-attachments": valid,
        });
        let answer = node.call_with(
            "portmap",
            "GC",
            &pods[0].0,
            &conf,
            &[("CNI_CONTAINERID", ""), ("CNI_NETNS", ""), ("CNI_IFNAME", "")],
        );
        assert!(answer.ok, "{answer:#?}");
        own_rules(&node)
    };
    let both =
        json!([{ "containerID": "a", "ifname": "eth0" }, { "containerID": "b", "ifname": "eth0" }]);
    assert_eq!(gc(both), all);
    let left = gc(json!([{ "containerID": "b", "ifname": "eth0" }]));
    assert_eq!(left.len(), all.len() / 3 * 2);
    assert!(!left.join("\n").contains("id: \\\"a\\\""), "{left:#?}");
    let left = gc(json!([]));
    assert_eq!(left.len(), all.len() / 3);
    assert!(left.join("\n").contains("name: \\\"testnet2\\\" id: \\\"c\\\""), "{left:#?}");
}

#[test]
fn status_says_why_not() {
    let node = Node::heddle();
    let pod = node.pod("a");
    let conf = json!({ "cniVersion": "1.1.0", "name": "testnet", "type": "portmap", "backend": "iptables" });
    let env = [("CNI_CONTAINERID", ""), ("CNI_NETNS", ""), ("CNI_IFNAME", "")];
    let answer = node.call_with("portmap", "STATUS", &pod, &conf, &env);
    assert!(answer.ok, "{answer:#?}");
    let hidden: Vec<_> = env.into_iter().chain([(HIDE_SBIN, "1")]).collect();
    let answer = node.call_with("portmap", "STATUS", &pod, &conf, &hidden);
    assert_error(&answer, 50, "portmap cannot map ports now");
    assert!(
        answer.json()["details"].as_str().unwrap().contains("no usable iptables found"),
        "{answer:#?}"
    );
}

#[test]
fn nothing_to_map_is_nothing_to_do() {
    let node = Node::heddle();
    let (pod, prev) = pod_on_bridge(&node, "a");
    for mappings in [json!([]), Value::Null] {
        let conf = conf(&prev, &mappings, &json!({}));
        assert_eq!(node.add("portmap", &pod, &conf), prev);
        assert!(node.call("portmap", "CHECK", &pod, &conf).ok);
    }
    assert_eq!(rules(&node), [""; 0]);
}

#[test]
fn refused_before_anything_is_done() {
    let node = Node::heddle();
    let (pod, prev) = pod_on_bridge(&node, "a");
    let one = |change: Value| json!([merged(mapping(80, 80, "tcp"), &change)]);
    let cases = [
        (one(json!({ "hostPort": 0 })), json!({}), "Invalid host port number: 0"),
        (one(json!({ "hostPort": 65536 })), json!({}), "Invalid host port number: 65536"),
        (one(json!({ "containerPort": -3 })), json!({}), "Invalid container port number: -3"),
        (one(json!({ "protocol": "icmp" })), json!({}), "Invalid protocol: \"icmp\""),
        (one(json!({ "hostIP": "here" })), json!({}), "Invalid host IP: \"here\""),
        (one(json!({})), json!({ "markMasqBit": 32 }), "MasqMarkBit must be between 0 and 31"),
        (one(json!({})), json!({ "markMasqBit": -1 }), "MasqMarkBit must be between 0 and 31"),
        (
            one(json!({})),
            json!({ "markMasqBit": 1, "externalSetMarkChain": "X" }),
            "Cannot specify externalSetMarkChain and markMasqBit",
        ),
        (one(json!({})), json!({ "externalSetMarkChain": "-X" }), "cannot be the name of a chain"),
        (one(json!({})), json!({ "backend": "ipfw" }), "unrecognized backend \"ipfw\""),
        (
            one(json!({})),
            json!({ "backend": "iptables", "conditionsV4": ["ip", "saddr", "10.0.0.0/8"], "conditionsV6": ["meta"] }),
            "iptables backend was requested but configuration contains nftables-specific options [conditionsV4 conditionsV6]",
        ),
        (
            one(json!({})),
            json!({ "backend": "nftables", "conditionsV4": ["-i", "x"], "externalSetMarkChain": "X" }),
            "nftables backend was requested but configuration contains iptables-specific options [externalSetMarkChain conditionsV4]",
        ),
        (
            one(json!({})),
            json!({ "conditionsV4": ["-i", "a\nCOMMIT"] }),
            "holds a control character",
        ),
        (one(json!({})), json!({ "prevResult": null }), "must be called as chained plugin"),
    ];
    for (mappings, extra, msg) in cases {
        let answer = node.call("portmap", "ADD", &pod, &conf(&prev, &mappings, &extra));
        assert_error(&answer, 7, msg);
    }
    assert_eq!(rules(&node), [""; 0]);
}

/// Many containers at once, the first ones of the node: nobody empties a chain that another has just made.
#[test]
fn the_first_containers_of_a_node_come_together() {
    come_together(&json!({ "backend": "iptables" }), (0, 0));
    come_together(&json!({ "backend": "nftables" }), (4, 2));
}

fn come_together(backend: &Value, expected: (usize, usize)) {
    let World { node, .. } = world(Suite::Heddle);
    let pods: Vec<_> = (0..6).map(|n| pod_on_bridge(&node, &format!("pod{n}"))).collect();
    let confs: Vec<_> = (8080..)
        .zip(&pods)
        .map(|(port, (_, prev))| conf(prev, &json!([mapping(port, 80, "tcp")]), backend))
        .collect();
    let calls: Vec<_> = pods
        .iter()
        .zip(&confs)
        .map(|((pod, _), conf)| node.prepare("portmap", "ADD", pod, conf, &[]))
        .collect();
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for call in calls {
            let sender = sender.clone();
            scope.spawn(move || sender.send(call.run()).unwrap());
        }
        drop(sender);
        for answer in receiver {
            assert!(answer.ok, "{answer:#?}");
        }
    });
    for ((pod, _), conf) in pods.iter().zip(&confs) {
        let check = node.call("portmap", "CHECK", pod, conf);
        assert!(check.ok, "{check:#?}");
    }
    let text = hostports(&node);
    let rules = |ending: &str| text.lines().filter(|line| line.contains(ending)).count();
    // In each family: two hooks; two jumps from the one chain.
    assert_eq!((rules("jump hostports_all"), rules("jump hostip_hostports")), expected, "{text}");
    for program in ["iptables", "ip6tables"] {
        let all = node.sh(&format!("{program}-save -t nat"));
        let mut rules: Vec<_> = all.lines().filter(|line| line.starts_with("-A")).collect();
        let count = rules.len();
        rules.sort_unstable();
        rules.dedup();
        assert_eq!(rules.len(), count, "no rule is there twice: {all}");
    }
}

fn is_shared(line: &str) -> bool {
    let own = line.contains("CNI-DN-") || line.contains("c1");
    (line.contains("CNI-HOSTPORT-") || line.contains("cni_hostport")) && !own
}

fn prove_with(extra: Value) {
    let scene = || {
        let node = Node::heddle();
        // Nothing changes by itself a second later.
        node.sh("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
        let (pod, prev) = pod_on_bridge(&node, "c1");
        let mappings = json!([mapping(8080, 80, "tcp"), mapping(53, 53, "udp")]);
        let conf = conf(&prev, &mappings, &extra);
        // What the kernel does by itself after a link is made.
        state::of(&node.ns);
        state::of(&pod.ns);
        Scene { node, pod, conf }
    };
    prove("portmap", scene, is_shared);
}

#[test]
fn all_or_nothing_with_iptables() {
    prove_with(json!({ "backend": "iptables" }));
}

#[test]
fn all_or_nothing_without_snat() {
    prove_with(json!({ "backend": "iptables", "snat": false }));
}

#[test]
fn all_or_nothing_with_nftables() {
    prove_with(json!({ "backend": "nftables" }));
}

fn hostports(node: &Node) -> String {
    node.sh("for f in ip ip6; do nft -a list table $f cni_hostport 2>/dev/null; done; true")
}

#[test]
fn nftables_without_iptables() {
    let World { node, client } = world(Suite::Heddle);
    let (pod, prev) = pod_on_bridge(&node, "a");
    let conf = conf(&prev, &json!([mapping(8080, 80, "tcp")]), &json!({ "cniVersion": "1.1.0" }));
    let env = [(HIDE_SBIN, "1")];
    for command in ["ADD", "CHECK"] {
        let answer = node.call_with("portmap", command, &pod, &conf, &env);
        assert!(answer.ok, "{answer:#?}");
    }
    let seen = reaches(&client.ns, &at(HOST[0], 8080), &pod, &at(&address(&prev, 0), 80));
    assert_eq!(seen.as_deref(), Some(CLIENT[0]));
    assert_eq!(own_rules(&node), [""; 0]);
    let none = [("CNI_CONTAINERID", ""), ("CNI_NETNS", ""), ("CNI_IFNAME", ""), env[0]];
    let answer = node.call_with("portmap", "STATUS", &pod, &conf, &none);
    assert!(answer.ok, "{answer:#?}");
    let answer = node.call_with("portmap", "DEL", &pod, &conf, &env);
    assert!(answer.ok && !hostports(&node).contains("\"a\""), "{answer:#?}");
    // What may be said to iptables only is not silently left out.
    let mut marked = conf.clone();
    marked["externalSetMarkChain"] = json!("X");
    let answer = node.call_with("portmap", "ADD", &pod, &marked, &env);
    assert_error(
        &answer,
        7,
        "nftables backend was requested but configuration contains iptables-specific options",
    );
}

#[test]
fn nftables_conditions_restrict_who_is_served() {
    let World { node, client } = world(Suite::Heddle);
    let (pod, prev) = pod_on_bridge(&node, "a");
    let (other, prev_other) = pod_on_bridge(&node, "b");
    let mappings = json!([mapping(8080, 80, "tcp")]);
    let conditions = json!({
        "backend": "nftables", "conditionsV4": ["ip", "saddr", "!=", CLIENT[0]], "conditionsV6": ["iifname", "up0"],
    });
    let restricted = conf(&prev, &mappings, &conditions);
    node.add("portmap", &pod, &restricted);
    let seen = |from: &TestNetns, host: &str, family| {
        reaches(from, &at(host, 8080), &pod, &at(&address(&prev, family), 80)).is_some()
    };
    assert!(!seen(&client.ns, HOST[0], 0));
    assert!(seen(&node.ns, HOST[0], 0));
    assert!(seen(&client.ns, HOST[2], 1));
    assert!(!seen(&node.ns, HOST[2], 1));
    assert!(node.call("portmap", "CHECK", &pod, &restricted).ok);
    // Not the reference's quirk: the conditions of one container are not everybody's.
    let free = json!([mapping(9090, 80, "tcp")]);
    node.add("portmap", &other, &conf(&prev_other, &free, &json!({ "backend": "nftables" })));
    let own = at(&address(&prev_other, 0), 80);
    assert!(reaches(&client.ns, &at(HOST[0], 9090), &other, &own).is_some());
    assert!(!seen(&client.ns, HOST[0], 0));

    let odd = json!({ "backend": "nftables", "conditionsV4": ["ip", "ttl", "3"] });
    let before = hostports(&node);
    let refused = node.call("portmap", "ADD", &pod, &conf(&prev, &mappings, &odd));
    assert_error(&refused, 2, "the condition \"ip ttl 3\" is not understood");
    assert_eq!(hostports(&node), before);
}

#[test]
fn nftables_check_finds_whatever_is_missing() {
    let World { node, .. } = world(Suite::Heddle);
    let (pod, prev) = pod_on_bridge(&node, "a");
    let mappings = json!([mapping(8080, 80, "tcp"), mapping(53, 53, "udp")]);
    let conf = conf(&prev, &mappings, &json!({ "backend": "nftables" }));
    for family in ["ip", "ip6"] {
        let list = || node.sh(&format!("nft -a list table {family} cni_hostport"));
        node.add("portmap", &pod, &conf);
        let mut missed = 0;
        loop {
            // The rules that are there now, in their chains; one more of them is taken away each time.
            let text = list();
            let mut chain = "";
            let mut rules = Vec::new();
            for line in text.lines().map(str::trim) {
                chain =
                    line.strip_prefix("chain ").and_then(|l| l.split(' ').next()).unwrap_or(chain);
                if let Some((rule, handle)) = line.split_once(" # handle ")
                    && !rule.ends_with('{')
                {
                    rules.push((chain.to_owned(), handle.to_owned()));
                }
            }
            let Some((chain, handle)) = rules.get(missed) else { break };
            node.sh(&format!("nft delete rule {family} cni_hostport {chain} handle {handle}"));
            let check = node.call("portmap", "CHECK", &pod, &conf);
            assert_error(&check, 110, "the port mappings of \"a\" are not as ADD left them");
            node.add("portmap", &pod, &conf);
            let check = node.call("portmap", "CHECK", &pod, &conf);
            assert!(check.ok, "{check:#?}");
            missed += 1;
        }
        assert!(missed >= 7, "{missed}");
    }
}

#[test]
fn nftables_gc_and_del_know_what_nobody_says() {
    let World { node, .. } = world(Suite::Heddle);
    let mappings = json!([mapping(8080, 80, "tcp"), mapping(53, 53, "udp")]);
    let pods: Vec<_> = ["a", "b", "c"].iter().map(|id| pod_on_bridge(&node, id)).collect();
    for (n, (pod, prev)) in pods.iter().enumerate() {
        let network = if n == 2 { "testnet2" } else { "testnet" };
        let conf = conf(prev, &mappings, &json!({ "name": network, "backend": "nftables" }));
        node.add("portmap", pod, &conf);
    }
    let gc = json!({
        "cniVersion": "1.1.0", "name": "testnet", "type": "portmap",
        "cni.dev/valid-attachments": [{ "containerID": "b", "ifname": "eth0" }],
    });
    let none = [("CNI_CONTAINERID", ""), ("CNI_NETNS", ""), ("CNI_IFNAME", "")];
    let answer = node.call_with("portmap", "GC", &pods[0].0, &gc, &none);
    assert!(answer.ok, "{answer:#?}");
    let has = |id: &str| hostports(&node).matches(&format!("comment \"{id}\"")).count();
    assert_eq!(has("a"), 0);
    assert_eq!(has("b"), has("c"));
    assert!(has("b") >= 9);
    // The backend of the configuration is another one by now, and nothing else is known.
    let bare = json!({ "cniVersion": "1.0.0", "name": "testnet", "type": "portmap", "backend": "iptables" });
    node.del("portmap", &pods[1].0, &bare);
    assert_eq!(has("b"), 0);
    assert!(has("c") >= 9);
}
