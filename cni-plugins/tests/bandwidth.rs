//! `bandwidth` after `bridge`, with the real binary, real packets and the reference beside it.

mod node;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use netns_tools::testing::TestNetns;
use node::faults::{Scene, prove};
use node::oracle::{self, Meant};
use node::{Node, Pod, Suite, state, with_prev};
use serde_json::{Value, json};

const MBIT: u64 = 1_000_000;

fn bridge(node: &Node) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "testnet", "type": "bridge", "bridge": "br0", "isGateway": true, "mtu": 1400,
        "ipam": node.ipam(&["10.88.0.0/24"]),
    })
}

fn limits(ingress: u64, egress: u64) -> Value {
    let burst = |rate: u64| if rate == 0 { 0 } else { 400_000 };
    json!({
        "ingressRate": ingress, "ingressBurst": burst(ingress), "egressRate": egress, "egressBurst": burst(egress),
    })
}

fn conf(version: &str, limits: &Value) -> Value {
    let mut conf = json!({ "cniVersion": version, "name": "testnet", "type": "bandwidth" });
    conf.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
    conf
}

/// A node with a pod on its bridge, and what bridge answered.
fn attached(suite: Suite, version: &str) -> (Node, Pod, Value) {
    let node = Node::new(suite);
    // Duplicate address detection on the host's side is the kernel's and takes seconds.
    node.sh("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
    let pod = node.pod("aaa");
    let mut bridge = bridge(&node);
    bridge["cniVersion"] = version.into();
    let result = node.add("bridge", &pod, &bridge);
    (node, pod, result)
}

/// The queueing disciplines and filters of a node's links.
fn traffic_control(node: &Node) -> Value {
    let mut qdiscs: Value = serde_json::from_str(&node.sh("tc -j qdisc show")).unwrap();
    qdiscs.as_array_mut().unwrap().retain(|qdisc| qdisc["kind"] != "noqueue");
    let mut filters = String::new();
    for link in node.sh("ip -o link | cut -d: -f2 | cut -d@ -f1").lines() {
        let link = link.trim();
        filters.push_str(
            &node.sh(&format!("tc filter show dev {link} parent ffff: 2>/dev/null || true")),
        );
    }
    state::Names::default().normalise(&mut qdiscs);
    // The reference's filter has a second action, the same again, which is never reached: the first one takes the packet.
    let lines =
        filters.lines().map(str::trim).take_while(|line| !line.starts_with("action order 2"));
    json!({ "qdiscs": qdiscs, "filters": lines.collect::<Vec<_>>() })
}

#[test]
fn add_check_del() {
    let (node, pod, prev) = attached(Suite::Heddle, "1.1.0");
    let before = (state::of(&node.ns), traffic_control(&node));
    let conf = conf("1.1.0", &limits(10 * MBIT, 20 * MBIT));
    let result = node.add("bandwidth", &pod, &with_prev(&conf, &prev));
    let interfaces = result["interfaces"].as_array().unwrap();
    assert_eq!(interfaces[..3], prev["interfaces"].as_array().unwrap()[..]);
    let ifb = interfaces[3]["name"].as_str().unwrap();
    let link = &node.ns.json(&["ip", "-j", "-d", "link", "show", ifb])[0];
    assert_eq!(interfaces[3], json!({ "name": ifb, "mac": link["address"] }));
    assert_eq!((&link["mtu"], &link["linkinfo"]["info_kind"]), (&1400.into(), &"ifb".into()));
    assert_eq!(link.get("txqlen").unwrap_or(&json!(0)), 0);
    assert_eq!(link["ifalias"], "cni:testnet:aaa:eth0");
    assert!(link["flags"].as_array().unwrap().contains(&"UP".into()));
    assert_eq!((&result["ips"], &result["dns"]), (&prev["ips"], &prev["dns"]));

    let full = with_prev(&conf, &result);
    let check = node.call("bandwidth", "CHECK", &pod, &full);
    assert!(check.ok, "{check:#?}");
    for (key, wrong, told) in
        [("mac", "0a:58:00:00:00:09", "has MAC address"), ("name", "x", "does not name")]
    {
        let mut wrong_prev = full.clone();
        wrong_prev["prevResult"]["interfaces"][3][key] = wrong.into();
        let answer = node.call("bandwidth", "CHECK", &pod, &wrong_prev);
        assert!(answer.json()["details"].as_str().unwrap().contains(told), "{answer:#?}");
    }
    for _ in 0..2 {
        node.del("bandwidth", &pod, &full);
        assert_eq!(before, (state::of(&node.ns), traffic_control(&node)));
    }
    let (code, _) = node.call("bandwidth", "CHECK", &pod, &full).error();
    assert_eq!(code, 110);
}

#[test]
fn every_drift_is_found() {
    let damages = [
        (
            "tc qdisc replace dev VETH root handle 1: tbf rate 9mbit burst 50000 latency 25ms",
            "is limited to rate 1125000",
        ),
        ("tc qdisc del dev VETH root", "is not limited"),
        ("tc qdisc del dev IFB root", "is not limited: its queue is"),
        ("tc qdisc del dev VETH ingress", "is not redirected to"),
        ("tc filter del dev VETH parent ffff:", "is not redirected to"),
        ("ip link set IFB down", "is down"),
        ("ip link set IFB mtu 1300", "has MTU 1300"),
        ("ip link set IFB alias cni:testnet:aaa:net1", "is another attachment's"),
        ("ip link del IFB", "is missing"),
    ];
    let conf = conf("1.1.0", &limits(10 * MBIT, 20 * MBIT));
    for (damage, told) in damages {
        let (node, pod, prev) = attached(Suite::Heddle, "1.1.0");
        let result = node.add("bandwidth", &pod, &with_prev(&conf, &prev));
        let name = |at: usize| result["interfaces"][at]["name"].as_str().unwrap();
        node.sh(&damage.replace("VETH", name(1)).replace("IFB", name(3)));
        let answer = node.call("bandwidth", "CHECK", &pod, &with_prev(&conf, &result));
        let (code, msg) = answer.error();
        assert_eq!(
            (code, msg.as_str()),
            (110, "the limits of interface \"eth0\" are not as ADD left them")
        );
        let details = answer.json()["details"].as_str().unwrap().to_owned();
        assert!(details.contains(told), "{damage}: {details}");
        // Whatever was done to it, DEL succeeds.
        node.del("bandwidth", &pod, &with_prev(&conf, &result));
    }
}

#[test]
fn without_limits_the_result_is_passed_on() {
    let (node, pod, prev) = attached(Suite::Heddle, "1.1.0");
    let before = traffic_control(&node);
    for none in [json!({}), limits(0, 0), json!({ "runtimeConfig": { "bandwidth": {} } })] {
        let conf = conf("1.1.0", &none);
        assert_eq!(node.add("bandwidth", &pod, &with_prev(&conf, &prev)), prev);
        // A quirk that is not copied: the reference's CHECK crashes.
        let check = node.call("bandwidth", "CHECK", &pod, &with_prev(&conf, &prev));
        assert!(check.ok, "{check:#?}");
        assert_eq!(node.add("bandwidth", &pod, &conf), json!({ "cniVersion": "1.1.0" }));
        node.del("bandwidth", &pod, &with_prev(&conf, &prev));
    }
    assert_eq!(traffic_control(&node), before);
}

#[test]
fn limits_from_the_runtime_and_one_direction_only() {
    let (node, pod, prev) = attached(Suite::Heddle, "1.1.0");
    let runtime = json!({ "runtimeConfig": { "bandwidth": limits(10 * MBIT, 0) } });
    let conf = conf("1.1.0", &runtime);
    let result = node.add("bandwidth", &pod, &with_prev(&conf, &prev));
    assert_eq!(result["interfaces"].as_array().unwrap().len(), 3, "no ifb is needed");
    let kinds: Vec<_> = node.ns.json(&["tc", "-j", "qdisc", "show"]).as_array().unwrap().clone();
    let count = |kind: &str| kinds.iter().filter(|qdisc| qdisc["kind"] == kind).count();
    assert_eq!((count("tbf"), count("ingress")), (1, 0));
    assert!(node.call("bandwidth", "CHECK", &pod, &with_prev(&conf, &result)).ok);
    node.del("bandwidth", &pod, &with_prev(&conf, &result));
}

#[test]
fn what_is_refused_changes_nothing() {
    let (node, pod, prev) = attached(Suite::Heddle, "1.1.0");
    let before = (traffic_control(&node), node.sh("ip -o link"));
    let good = conf("1.1.0", &limits(MBIT, MBIT));
    let with = |change: fn(&mut Value)| {
        let mut conf = with_prev(&good, &prev);
        change(&mut conf);
        conf
    };
    let other = node.pod("aaa");
    other.sh("ip link add eth0 type veth peer name eth1");
    let cases = [
        (&pod, with(|c| c["prevResult"] = Value::Null), 7, "must be called as chained plugin"),
        (&pod, with(|c| c["egressBurst"] = 0.into()), 7, "if rate is set, burst must also be set"),
        (&pod, with(|c| c["ingressRate"] = 0.into()), 7, "if burst is set, rate must also be set"),
        (
            &pod,
            with(|c| c["prevResult"] = json!({ "cniVersion": "1.1.0" })),
            111,
            "no interfaces provided",
        ),
        (
            &pod,
            with(|c| c["prevResult"]["interfaces"][1]["name"] = "other".into()),
            111,
            "no veth peer of container interface found in host ns",
        ),
        (
            &other,
            with(|_| ()),
            111,
            "container interface eth0 has no veth peer: both ends are in the container",
        ),
        (&pod, with(|c| c["cniVersion"] = "0.2.0".into()), 1, "incompatible CNI versions"),
    ];
    for (pod, conf, code, msg) in cases {
        assert_eq!(node.call("bandwidth", "ADD", pod, &conf).error(), (code, msg.into()));
        assert_eq!(before, (traffic_control(&node), node.sh("ip -o link")), "{msg}");
    }
    // An earlier attachment's remains, and a second interface of the container in the same network.
    node.add("bandwidth", &pod, &with_prev(&good, &prev));
    let (code, msg) = node.call("bandwidth", "ADD", &pod, &with_prev(&good, &prev)).error();
    assert!(code == 111 && msg.contains("exists already"), "{msg}");
    let mut second = node.pod("aaa");
    second.ifname = "net1".into();
    node.del("bandwidth", &second, &good);
    assert!(node.sh("ip -o link").contains("bwp"), "the other interface's DEL leaves it");
    let missing = [("CNI_NETNS", "/run/netns/no-such-namespace")];
    assert!(node.call_with("bandwidth", "DEL", &pod, &json!({
        "cniVersion": "1.1.0", "name": "testnet", "type": "bandwidth", "ingressRate": "nonsense",
        "prevResult": { "ips": 7 },
    }), &missing).ok);
    assert!(!node.sh("ip -o link").contains("bwp"));
}

#[test]
fn a_hook_of_somebody_else_s_stays() {
    let (node, pod, prev) = attached(Suite::Heddle, "1.1.0");
    let veth = prev["interfaces"][1]["name"].as_str().unwrap();
    node.sh(&format!(
        "tc qdisc add dev {veth} ingress && tc filter add dev {veth} parent ffff: protocol ip u32 match u32 0 0 flowid 1:1"
    ));
    let before = traffic_control(&node);
    let conf = with_prev(&conf("1.1.0", &limits(MBIT, MBIT)), &prev);
    assert_eq!(node.call("bandwidth", "ADD", &pod, &conf).error().0, 111);
    assert_eq!(traffic_control(&node), before, "and what was done before it was met is undone");
    node.del("bandwidth", &pod, &conf);
    assert_eq!(traffic_control(&node), before);
}

#[test]
fn all_or_nothing() {
    let scene = |ingress, egress| {
        move || {
            let node = Node::heddle();
            let pod = node.pod("aaa");
            // What the kernel does about IPv6 takes seconds and is none of this plugin's business.
            for ns in [&node.ns, &pod.ns] {
                ns.cmd(&["sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6"]);
            }
            let mut bridge = bridge(&node);
            bridge["cniVersion"] = "1.1.0".into();
            let prev = node.add("bridge", &pod, &bridge);
            Scene { node, pod, conf: with_prev(&conf("1.1.0", &limits(ingress, egress)), &prev) }
        }
    };
    prove("bandwidth", scene(MBIT, MBIT), |_| false);
    prove("bandwidth", scene(MBIT, 0), |_| false);
    prove("bandwidth", scene(0, MBIT), |_| false);
}

#[test]
fn gc_removes_what_is_proven_stale_and_nothing_else() {
    let node = Node::heddle();
    let conf = conf("1.1.0", &limits(0, MBIT));
    let pods: Vec<_> = ["kept", "stale", "elsewhere"].map(|id| node.pod(id)).into();
    for pod in &pods {
        let mut bridge = bridge(&node);
        bridge["cniVersion"] = "1.1.0".into();
        let mut conf = conf.clone();
        if pod.id == "elsewhere" {
            conf["name"] = "othernet".into();
        }
        let prev = node.add("bridge", pod, &bridge);
        node.add("bandwidth", pod, &with_prev(&conf, &prev));
    }
    // Of this name, but not ours: as the reference leaves them, or by hand.
    node.sh("ip link add bwp000000000000 type ifb; ip link add ifb7 type ifb; ip link set ifb7 alias mine");
    let names = || {
        let text = node.sh("ip -o link show type ifb");
        let mut names: Vec<_> =
            text.lines().map(|line| line.split(": ").nth(1).unwrap().to_owned()).collect();
        names.sort();
        names
    };
    let before = names();
    let mut gc = conf.clone();
    gc["cni.dev/valid-attachments"] = json!([
        { "containerID": "kept", "ifname": "eth0" }, { "containerID": "stale", "ifname": "net1" },
    ]);
    for _ in 0..2 {
        let answer = node.call("bandwidth", "GC", &pods[0], &gc);
        assert!(answer.ok, "{answer:#?}");
        let gone: Vec<_> = before.iter().filter(|name| !names().contains(name)).cloned().collect();
        // printf testnetstale | sha512sum
        assert_eq!(gone.len(), 1, "{gone:?}");
        assert_eq!(node.sh("ip -o link show type ifb").matches("testnet:stale").count(), 0);
    }
    // What its container sends is not lost.
    let pings = pods[1].sh("busybox ping -c 1 -W 5 10.88.0.1");
    assert!(pings.contains("1 packets received"), "{pings}");
}

#[test]
fn status_tries_the_kernel() {
    let node = Node::heddle();
    let before = node.sh("ip -o link");
    let answer = node.call("bandwidth", "STATUS", &node.pod("x"), &conf("1.1.0", &json!({})));
    assert!(answer.ok, "{answer:#?}");
    assert_eq!(node.sh("ip -o link"), before);
}

/// Bytes that arrive, counted by a thread.
struct Flow {
    received: Arc<AtomicU64>,
}

impl Flow {
    /// A connection from one namespace to an address in another, over which data flows until the test ends.
    fn start(from: &TestNetns, to: &TestNetns, address: &str) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        let listener = to.run(move || TcpListener::bind(address).unwrap());
        let received = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&received);
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = vec![0; 1 << 16];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                count.fetch_add(length as u64, Ordering::Relaxed);
            }
        });
        let mut stream = from
            .run(move || TcpStream::connect_timeout(&address, Duration::from_secs(10)).unwrap());
        std::thread::spawn(move || {
            let buffer = vec![0; 1 << 16];
            while stream.write_all(&buffer).is_ok() {}
        });
        Self { received }
    }

    /// Payload in bits per second over some seconds.
    fn rate(&self, seconds: u64) -> f64 {
        let (start, before) = (Instant::now(), self.received.load(Ordering::Relaxed));
        std::thread::sleep(Duration::from_secs(seconds));
        let bytes = self.received.load(Ordering::Relaxed) - before;
        #[expect(clippy::cast_precision_loss, reason = "a few megabytes")]
        let bits = (bytes * 8) as f64;
        bits / start.elapsed().as_secs_f64()
    }
}

/// The share of a full packet that TCP carries: the limit counts whole Ethernet frames (MTU 1400).
const PAYLOAD: f64 = (1400.0 - 52.0) / 1414.0;

/// Whether a flow runs at the configured rate, within 10 %. A busy machine may need another look.
fn runs_at(flow: &Flow, rate: u64) {
    #[expect(clippy::cast_precision_loss, reason = "some ten million")]
    let wanted = rate as f64;
    // The bucket is full at first.
    let mut seen = vec![flow.rate(1)];
    for _ in 0..5 {
        let rate = flow.rate(3) / PAYLOAD;
        seen.push(rate);
        if (rate / wanted - 1.0).abs() <= 0.1 {
            println!("configured {wanted:.0} bit/s, measured {rate:.0} bit/s");
            return;
        }
    }
    panic!("configured {wanted} bit/s, measured {seen:?}");
}

#[test]
fn traffic_runs_at_the_configured_rate_in_both_directions() {
    let unlimited = {
        let (node, pod, _) = attached(Suite::Heddle, "1.1.0");
        Flow::start(&node.ns, &pod.ns, "10.88.0.2:5000").rate(1)
    };
    assert!(unlimited > 100e6, "without a limit there is more: {unlimited}");
    let (node, pod, prev) = attached(Suite::Heddle, "1.1.0");
    let (ingress, egress) = (16 * MBIT, 24 * MBIT);
    let (to_pod, from_pod) = ("10.88.0.2:5001", "10.88.0.1:5002");
    let conf = conf("1.1.0", &limits(ingress, egress));
    node.add("bandwidth", &pod, &with_prev(&conf, &prev));
    let down = Flow::start(&node.ns, &pod.ns, to_pod);
    runs_at(&down, ingress);
    let up = Flow::start(&pod.ns, &node.ns, from_pod);
    runs_at(&up, egress);
}

/// Differences from the reference that are meant; a line that contains all words of an entry is one of them.
const MEANT: [Meant; 6] = [
    (&["ifalias"], "ours say whose they are"),
    oracle::TXQLEN,
    oracle::KEEP_ADDR,
    oracle::NODAD,
    (
        &["\"ingressRate\":1234567", "/options/burst: ours 49999, reference 49998"],
        "the reference cuts microseconds off",
    ),
    (
        &["\"ingressRate\":1234567", "/options/lat"],
        "what is told as latency follows from the bucket",
    ),
];

/// The same limits by either suite: results, links, queueing disciplines and filters.
#[test]
fn the_reference_does_the_same() {
    let mut wrong = Vec::new();
    let cases = [
        ("0.3.0", limits(8 * MBIT, 4 * MBIT)),
        ("0.3.1", limits(8 * MBIT, 0)),
        ("0.4.0", limits(0, 4 * MBIT)),
        ("1.0.0", limits(1_234_567, 7_654_321)),
        ("1.0.0", json!({ "runtimeConfig": { "bandwidth": limits(100 * MBIT, 1000 * MBIT) } })),
        ("1.0.0", json!({})),
    ];
    for (version, limits) in cases {
        let [ours, theirs] = [Suite::Heddle, Suite::Reference].map(|suite| {
            let (node, pod, prev) = attached(suite, version);
            let conf = conf(version, &limits);
            let mut result = node.add("bandwidth", &pod, &with_prev(&conf, &prev));
            let full = with_prev(&conf, &result);
            let limited = limits != json!({});
            // The reference's CHECK crashes when there is no limit.
            if version >= "0.4.0" && limited {
                let check = node.call("bandwidth", "CHECK", &pod, &full);
                assert!(check.ok, "{suite:?} {version} {limits}: {check:#?}");
            }
            // 1.1.1 prints an empty dns; newer ones do not.
            result.as_object_mut().unwrap().retain(|_, value| *value != json!({}));
            state::Names::default().normalise(&mut result);
            let up = json!({ "node": state::of(&node.ns), "tc": traffic_control(&node), "result": result });
            node.del("bandwidth", &pod, &full);
            json!({ "up": up, "ifbs": node.sh("ip -o link show type ifb") })
        });
        let found = state::differences("", &ours, &theirs).into_iter();
        let found = found.map(|line| format!("{version} {limits}: {line}"));
        wrong.extend(found.filter(|line| !oracle::is_meant(line, &MEANT)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_deletes_what_the_other_added() {
    for (adds, deletes) in [(Suite::Heddle, Suite::Reference), (Suite::Reference, Suite::Heddle)] {
        let (node, pod, prev) = attached(adds, "1.0.0");
        let conf = conf("1.0.0", &limits(8 * MBIT, 4 * MBIT));
        let result = node.add("bandwidth", &pod, &with_prev(&conf, &prev));
        let full = with_prev(&conf, &result);
        let node = node.with_suite(deletes);
        let check = node.call("bandwidth", "CHECK", &pod, &full);
        assert!(check.ok, "{adds:?} then {deletes:?}: {check:#?}");
        node.del("bandwidth", &pod, &full);
        assert_eq!(node.sh("ip -o link show type ifb"), "", "{adds:?} then {deletes:?}");
        if deletes == Suite::Heddle {
            assert_eq!(traffic_control(&node)["qdiscs"], json!([]));
        }
    }
}
