//! Real sockets in namespaces: who is answered, where, and what happens when a port is taken.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Instant;

use netns_tools::NetNs;
use netns_tools::nfacct::PacketCounters;
use netns_tools::testing::{End, TestNetns, veth_pair};
use tokio::sync::oneshot;

use super::*;

const NOWHERE: Listeners =
    Listeners { metrics: None, health: None, hard_fail: false, names: SettingNames::KUBE_PROXY };
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A proxy's servers in a namespace, until this goes.
struct Running {
    ops: Ops,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(ns: &TestNetns, listeners: Listeners) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (started, up) = mpsc::channel();
        let name = ns.name().to_owned();
        let thread = std::thread::spawn(move || {
            NetNs::named(&name).unwrap().enter().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let (ops, _) = ops(Mode::Iptables);
                let serving = ops.serve(listeners).unwrap();
                started.send(ops).unwrap();
                let _ = stopped.await;
                drop(serving);
            });
        });
        let ops = up.recv().unwrap();
        Self { ops, stop: Some(stop), thread: Some(thread) }
    }

    fn check(&self, checks: &[(&str, u16, usize)]) {
        let check = |(name, port, local_endpoints): &(&str, u16, usize)| {
            let name = ServiceName::from_key(name);
            (name, HealthCheck { port: *port, local_endpoints: *local_endpoints })
        };
        self.ops.health_checks(&checks.iter().map(check).collect());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
        self.thread.take().map(JoinHandle::join).transpose().unwrap();
    }
}

/// Asks for a path from a namespace, and returns the head and the body of the answer.
fn ask(from: &TestNetns, address: &str, path: &str) -> io::Result<(String, String)> {
    let address: SocketAddr = address.parse().unwrap();
    let mut stream = from.run(|| TcpStream::connect_timeout(&address, PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Ok((head.to_owned(), body.to_owned()))
}

fn status(from: &TestNetns, address: &str, path: &str) -> String {
    let answer = ask(from, address, path).map(|(head, _)| head[9..12].to_owned());
    answer.unwrap_or_else(|error| error.kind().to_string())
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn pair() -> (TestNetns, TestNetns) {
    let (node, outside) = (TestNetns::new("ops"), TestNetns::new("ops"));
    veth_pair(
        End(&node, "eth0", &["10.9.0.1/24", "10.9.0.11/24", "fd00::1/64"]),
        End(&outside, "eth0", &["10.9.0.2/24", "fd00::2/64"]),
    );
    (node, outside)
}

#[test]
fn health_is_for_everybody_and_metrics_are_for_this_host() {
    let (node, outside) = pair();
    let listeners = Listeners {
        metrics: Some("127.0.0.1:10249".parse().unwrap()),
        health: Some("0.0.0.0:10256".parse().unwrap()),
        hard_fail: true,
        ..NOWHERE
    };
    let running = Running::start(&node, listeners);
    for address in ["10.9.0.1:10256", "[fd00::1]:10256"] {
        for path in ["/healthz", "/livez"] {
            eventually(path, || status(&outside, address, path) == "200");
        }
    }
    eventually("metrics", || status(&node, "127.0.0.1:10249", "/metrics") == "200");
    assert_eq!(status(&outside, "10.9.0.1:10249", "/metrics"), "connection refused");
    assert_eq!(running.ops.problems(), [""; 0]);
    drop(running);
    assert_eq!(status(&node, "127.0.0.1:10249", "/metrics"), "connection refused");
}

#[test]
fn a_port_that_is_taken_is_told_and_tried_again() {
    let node = TestNetns::new("ops");
    node.configure("lo", &[]);
    let taken = |port: u16| node.run(move || TcpListener::bind(("127.0.0.1", port)).unwrap());
    let (metrics, check) = (taken(10249), taken(32000));
    let listeners = Listeners { metrics: Some(metrics.local_addr().unwrap()), ..NOWHERE };

    let hard = Listeners { hard_fail: true, ..listeners };
    let error = node.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { ops(Mode::Iptables).0.serve(hard).unwrap_err().to_string() })
    });
    let want = "the metrics server cannot listen at 127.0.0.1:10249; free the port (`ss -ltnp sport = :10249`; kube-proxy has the \
                same one), set metricsBindAddress, or set bindAddressHardFail to false";
    assert_eq!(error, want);

    let running = Running::start(&node, listeners);
    running.ops.set_node_ports(&NodePortAddresses::Listed(vec!["127.0.0.1".parse().unwrap()]));
    running.check(&[("ns/a", 32000, 1), ("ns/b", 32001, 1)]);
    eventually("both are told", || running.ops.problems().len() == 2);
    let want = [
        "the health check of service ns/a cannot be answered at 127.0.0.1:32000: Address already in use (os error 98); see who has the \
         port with `ss -ltnp sport = :32000`",
        "the metrics server cannot listen at 127.0.0.1:10249: Address already in use (os error 98); see who has the port with `ss -ltnp \
         sport = :10249` (kube-proxy has the same one), or set metricsBindAddress; it is tried again every 5 s",
    ];
    assert_eq!(running.ops.problems(), want);
    assert_eq!(
        status(&node, "127.0.0.1:32001", "/"),
        "200",
        "others are not kept from their ports"
    );
    drop((metrics, check));
    eventually("they listen", || running.ops.problems().is_empty());
    eventually("metrics", || status(&node, "127.0.0.1:10249", "/metrics") == "200");
    assert_eq!(status(&node, "127.0.0.1:32000", "/"), "200");
}

#[test]
fn a_load_balancer_learns_of_endpoints_and_of_their_number() {
    let (node, outside) = pair();
    let running = Running::start(&node, NOWHERE);
    let told = |address: &str| ask(&outside, address, "/healthz").unwrap();
    running.check(&[("ns/a", 32000, 2), ("ns/b", 32001, 0)]);
    for address in ["10.9.0.1:32000", "[fd00::1]:32000"] {
        eventually("it listens", || status(&outside, address, "/") == "200");
        let (head, body) = told(address);
        let head = head.to_lowercase();
        for line in [
            "x-load-balancing-endpoint-weight: 2",
            "content-type: application/json",
            "x-content-type-options: nosniff",
        ] {
            assert!(head.contains(line), "{line} is not in {head}");
        }
        let body: Value = serde_json::from_str(&body).unwrap();
        let want = json!({
            "service": {"namespace": "ns", "name": "a"},
            "localEndpoints": 2,
            "serviceProxyHealthy": true,
        });
        assert_eq!(body, want);
    }
    assert_eq!(status(&outside, "10.9.0.1:32001", "/"), "503");
    running.check(&[("ns/a", 32000, 0), ("ns/b", 32001, 1)]);
    assert_eq!(status(&outside, "10.9.0.1:32000", "/"), "503");
    assert_eq!(status(&outside, "10.9.0.1:32001", "/"), "200");
}

#[test]
fn rules_that_do_not_keep_up_are_told_to_load_balancers_too() {
    let (ops, clock) = ops(Mode::Iptables);
    let name = ServiceName::new("ns", "a");
    ops.health_checks(&[(name, HealthCheck { port: 1, local_endpoints: 1 })].into());
    synced(&ops, Family::V4, None);
    ops.queued(Family::V4, at(0));
    clock.set(60);
    assert!(!ops.health().is_healthy());
    let asked = async { get(checks::router(&ops, &ServiceName::new("ns", "a")), "/").await };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (code, _, body) = runtime.block_on(asked);
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains(r#""serviceProxyHealthy":false"#), "{body}");
}

#[test]
fn sockets_follow_services_and_addresses() {
    let (node, outside) = pair();
    let running = Running::start(&node, NOWHERE);
    let asked = |address: &str| status(&outside, address, "/");
    running.check(&[("ns/a", 32000, 1)]);
    eventually("it listens", || asked("10.9.0.1:32000") == "200");
    let mut kept = outside.run(|| TcpStream::connect("10.9.0.1:32000").unwrap());

    // the port goes to another service: its old connections end
    running.check(&[("ns/b", 32000, 1)]);
    kept.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(matches!(kept.read(&mut [0]), Ok(0) | Err(_)), "the old service's connection goes on");
    let served = || {
        ask(&outside, "10.9.0.1:32000", "/").is_ok_and(|(_, body)| body.contains(r#""name":"b""#))
    };
    eventually("b has the port", served);
    assert_eq!(running.ops.problems(), [""; 0]);

    let listed = |all: &[&str]| {
        NodePortAddresses::Listed(all.iter().map(|ip| ip.parse().unwrap()).collect())
    };
    running.ops.set_node_ports(&listed(&["10.9.0.11", "fd00::1", "fe80::1"]));
    eventually("only where it should", || asked("10.9.0.1:32000") == "connection refused");
    eventually("at the listed address", || asked("10.9.0.11:32000") == "200");
    eventually("in both families", || asked("[fd00::1]:32000") == "200");
    assert_eq!(running.ops.problems(), [""; 0]);

    running.check(&[]);
    eventually("it is closed", || asked("10.9.0.11:32000") == "connection refused");
    eventually("in both families", || asked("[fd00::1]:32000") == "connection refused");
}

#[test]
fn counters_of_the_rules_are_read_from_the_kernel() {
    let node = TestNetns::new("ops");
    PacketCounters::open_in(node.ns()).unwrap().ensure("ct_state_invalid_dropped_pkts").unwrap();
    let text = node.run(|| ops(Mode::Iptables).0.metrics_text());
    let want = "# HELP kubeproxy_iptables_ct_state_invalid_dropped_packets_total [ALPHA] packets dropped by iptables to work around \
                conntrack problems\n# TYPE kubeproxy_iptables_ct_state_invalid_dropped_packets_total counter\n\
                kubeproxy_iptables_ct_state_invalid_dropped_packets_total 0\n";
    assert!(text.contains(want), "{text}");
    assert!(!text.contains("localhost_nodeports"), "there is no such counter:\n{text}");
}
