//! Real connections while things change, many of them, and how quickly a refusal comes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use heddle_agent::proxy::model::{Event, FAMILIES, Model, Protocol};
use netns_tools::iptables::Family;
use netns_tools::netns::NetNs;
use netns_tools::testing::TestNetns;

use crate::echo::{Attempt, Outcome, Servers, block_in};
use crate::flows::Sender;
use crate::modes::{Programmed, Way};
use crate::net::{Net, ip};
use crate::world::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// Node port, external address, load balancer; both policies Cluster.
fn open() -> Kind {
    kinds()[1]
}

fn options() -> Options {
    variants().swap_remove(0)
}

fn attempt(source: Option<IpAddr>, to: SocketAddr, protocol: Protocol) -> Attempt {
    Attempt { source, source_port: 0, to, protocol, patience: PATIENCE }
}

fn cluster_address(family: Family, index: u8) -> SocketAddr {
    SocketAddr::new(cluster_ip(family, index), 80)
}

fn endpoint_of(outcome: Outcome) -> SocketAddr {
    match outcome {
        Outcome::Answered { endpoint, .. } => endpoint,
        other => panic!("a connection was not served: {other:?}"),
    }
}

/// Which endpoints were right when.
#[derive(Default)]
struct Timeline {
    /// The endpoints of each step.
    steps: Mutex<Vec<BTreeSet<SocketAddr>>>,
    /// Steps that the kernel may be in, and must be in: counts of steps begun and done.
    begun: AtomicUsize,
    done: AtomicUsize,
    connections: AtomicUsize,
    /// The next that was not used yet.
    source_port: AtomicU16,
    over: AtomicBool,
}

impl Timeline {
    fn begin(&self, endpoints: BTreeSet<SocketAddr>) {
        self.steps.lock().unwrap().push(endpoints);
        self.begun.fetch_add(1, SeqCst);
    }

    fn end(&self) {
        self.done.fetch_add(1, SeqCst);
    }

    /// Those of the steps that the kernel may have been in since `from`.
    fn allowed(&self, from: usize) -> BTreeSet<SocketAddr> {
        let steps = self.steps.lock().unwrap();
        steps[from - 1..self.begun.load(SeqCst)].iter().flatten().copied().collect()
    }

    fn wait_for(&self, more: usize) {
        let until = self.connections.load(SeqCst) + more;
        let start = Instant::now();
        while self.connections.load(SeqCst) < until && !self.over.load(SeqCst) {
            assert!(start.elapsed() < Duration::from_mins(1), "clients make no connections");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// One connection after the other; what goes wrong, in words.
    async fn connect(&self, attempts: [Attempt; 2]) -> Option<String> {
        let mut turn = attempts.into_iter().cycle();
        while let Some(attempt) = turn.next().filter(|_| !self.over.load(SeqCst)) {
            // a connection of UDP is over only when it is forgotten: one from the same port would belong to it
            let source_port = self.source_port.fetch_add(1, SeqCst);
            let attempt = Attempt { source_port, ..attempt };
            let from = self.done.load(SeqCst);
            let outcome = attempt.make().await;
            self.connections.fetch_add(1, SeqCst);
            let allowed = self.allowed(from);
            let is_right = matches!(outcome, Outcome::Answered { endpoint, .. } if allowed.contains(&endpoint));
            if !is_right {
                self.over.store(true, SeqCst);
                return Some(format!("{attempt:?}: {outcome:?}, not one of {allowed:?}"));
            }
        }
        None
    }
}

/// Endpoints come, go, and leave in peace.
const ROLLING: [&str; 9] = [
    "p1:r",
    "p1:r p2:r",
    "p1:s p2:r o1:r",
    "p2:r o1:r o2:r",
    "p2:s o1:s o2:s",
    "o1:s p3:r",
    "p3:r p1:r p2:r o1:r o2:r",
    "o2:r",
    "p1:r o1:r",
];

fn examples(endpoints: &str) -> Vec<Example> {
    let example = |index, protocol| Example { protocol, ..Example::new(index, open(), endpoints) };
    vec![example(1, "TCP"), example(2, "UDP")]
}

fn roll(model: &mut Model, endpoints: &str) -> BTreeSet<SocketAddr> {
    for slice in examples(endpoints).iter().flat_map(Example::slices) {
        model.apply(Event::Slice(slice));
    }
    let ports = FAMILIES.map(|family| model.ports(family).values().cloned().collect::<Vec<_>>());
    let all = ports.iter().flatten().flat_map(|port| port.endpoints.cluster.clone());
    all.map(|endpoint| endpoint.address).collect()
}

/// Every connection, begun at whatever moment, is served by an endpoint that serves at that moment.
#[track_caller]
fn no_connection_fails_while_endpoints_roll(way: Way) {
    let net = Net::new();
    let _servers = Servers::start(&net.endpoints());
    let mut model = model(&examples(ROLLING[0]));
    let mut programmed = Programmed::new(way, net.node.ns(), &mut model, &options());
    let timeline = Timeline { source_port: AtomicU16::new(10_000), ..Timeline::default() };
    timeline.begin(roll(&mut model, ROLLING[0]));
    timeline.end();
    let clients = [Sender::Pod(2), Sender::Node, Sender::Welcome];
    let failures: Vec<String> = std::thread::scope(|scope| {
        let start = |sender: Sender| {
            let (ns, timeline) = (net.of(sender).ns(), &timeline);
            scope.spawn(move || block_in(ns, async move || keep_connecting(timeline, sender).await))
        };
        let started = clients.map(start);
        for endpoints in ROLLING.iter().cycle().skip(1).take(2 * ROLLING.len()) {
            timeline.wait_for(30);
            timeline.begin(roll(&mut model, endpoints));
            programmed.follow(&mut model);
            timeline.end();
        }
        timeline.wait_for(30);
        timeline.over.store(true, SeqCst);
        started.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{way:?}: {}", failures.join("\n"));
}

/// Both families at the cluster address (from outside: at the node port), TCP and UDP in turn.
async fn keep_connecting(timeline: &Timeline, sender: Sender) -> Vec<String> {
    let by = |family, index, protocol| {
        let outside = sender == Sender::Welcome;
        let at_node = SocketAddr::new(NODE.ip(family), node_port(index));
        let to = if outside { at_node } else { cluster_address(family, index) };
        attempt(outside.then_some(WELCOME.ip(family)), to, protocol)
    };
    let [four, six] = FAMILIES.map(|family| {
        timeline.connect([by(family, 1, Protocol::Tcp), by(family, 2, Protocol::Udp)])
    });
    let (four, six) = tokio::join!(four, six);
    four.into_iter().chain(six).collect()
}

#[test]
fn no_connection_fails_while_endpoints_roll_with_iptables() {
    no_connection_fails_while_endpoints_roll(Way::IptablesNft);
}

#[test]
fn no_connection_fails_while_endpoints_roll_with_iptables_legacy() {
    no_connection_fails_while_endpoints_roll(Way::IptablesLegacy);
}

#[test]
fn no_connection_fails_while_endpoints_roll_with_nftables() {
    no_connection_fails_while_endpoints_roll(Way::Nftables);
}

/// Connections in a namespace, several at a time: who served how many.
fn served(ns: &NetNs, attempts: Vec<Attempt>) -> Vec<Outcome> {
    block_in(ns, async move || {
        let mut outcomes = Vec::new();
        for some in attempts.chunks(32) {
            let start = |attempt: &Attempt| tokio::task::spawn((*attempt).make());
            for running in some.iter().map(start).collect::<Vec<_>>() {
                outcomes.push(running.await.unwrap());
            }
        }
        outcomes
    })
}

/// With 3 degrees of freedom, more than this comes once in 10^6 times (Pearson's test).
const UNEVEN: f64 = 30.7;
const CONNECTIONS: u16 = 400;

#[track_caller]
fn connections_are_spread_evenly(way: Way) {
    let net = Net::new();
    let _servers = Servers::start(&net.endpoints());
    let mut model = model(&examples("p1:r p2:r o1:r o2:r"));
    let _programmed = Programmed::new(way, net.node.ns(), &mut model, &options());
    for family in FAMILIES {
        let one = attempt(None, cluster_address(family, 1), Protocol::Tcp);
        let mut counts: BTreeMap<SocketAddr, f64> = BTreeMap::new();
        for outcome in served(net.pods[2].ns(), vec![one; CONNECTIONS.into()]) {
            *counts.entry(endpoint_of(outcome)).or_default() += 1.0;
        }
        let expected = f64::from(CONNECTIONS) / 4.0;
        let square = |count: &f64| (count - expected).powi(2) / expected;
        let sum: f64 = counts.values().map(square).sum();
        assert!(counts.len() == 4 && sum < UNEVEN, "{way:?}: {sum}: {counts:?}");
    }
}

#[test]
fn connections_are_spread_evenly_with_iptables() {
    connections_are_spread_evenly(Way::IptablesNft);
}

#[test]
fn connections_are_spread_evenly_with_nftables() {
    connections_are_spread_evenly(Way::Nftables);
}

const AFFINITY_SECONDS: u32 = 3;
/// All of them go to where they were before by chance once in 3^24 times.
const CLIENTS: u8 = 24;

/// Clients outside that are told apart by their addresses.
struct Clients<'a> {
    ns: &'a NetNs,
    attempts: Vec<Attempt>,
}

impl<'a> Clients<'a> {
    fn new(net: &'a Net, family: Family) -> Self {
        let source = |index| match family {
            Family::V4 => format!("203.0.113.{}", 100 + index),
            Family::V6 => format!("fd00:203::{:x}", 0x100 + u16::from(index)),
        };
        let prefix = if family == Family::V4 { 32 } else { 128 };
        let sources: Vec<IpAddr> =
            (0..CLIENTS).map(|index| source(index).parse().unwrap()).collect();
        let line = |source: &IpAddr| format!("address add {source}/{prefix} dev lo nodad\n");
        ip(&net.outside, &sources.iter().map(line).collect::<String>());
        let to = SocketAddr::new(NODE.ip(family), node_port(1));
        let from = |source| attempt(Some(source), to, Protocol::Tcp);
        Self { ns: net.outside.ns(), attempts: sources.into_iter().map(from).collect() }
    }

    fn connect(&self) -> Vec<SocketAddr> {
        served(self.ns, self.attempts.clone()).into_iter().map(endpoint_of).collect()
    }
}

fn with_affinity(endpoints: &str) -> Example {
    let affinity_seconds = Some(AFFINITY_SECONDS);
    Example { affinity_seconds, ..Example::new(1, open(), endpoints) }
}

#[track_caller]
fn clients_come_back_until_their_time_is_over(way: Way) {
    let net = Net::new();
    let _servers = Servers::start(&net.endpoints());
    let mut model = model(&[with_affinity("p1:r p2:r o1:r")]);
    let mut programmed = Programmed::new(way, net.node.ns(), &mut model, &options());
    let time = Duration::from_secs(AFFINITY_SECONDS.into());
    let clients = FAMILIES.map(|family| Clients::new(&net, family));
    let connect = || clients.each_ref().map(Clients::connect);
    // on a machine that is so slow that the time is over meanwhile, nothing can be said
    let in_time = || {
        let start = Instant::now();
        let both = (connect(), connect());
        (start.elapsed() < time).then_some(both)
    };
    let both = (0..10).find_map(|_| in_time());
    let (first, again) = both.expect("this machine needs seconds for some connections");
    assert_eq!(first, again, "{way:?}: somebody did not come back");
    std::thread::sleep(time + Duration::from_millis(200));
    let later = connect();
    for (family, (first, later)) in FAMILIES.iter().zip(first.iter().zip(&later)) {
        assert_ne!(first, later, "{way:?}, {family:?}: nobody was forgotten");
    }
    // one endpoint goes: its clients are served by others at once
    for slice in with_affinity("p1:r p2:r").slices() {
        model.apply(Event::Slice(slice));
    }
    programmed.follow(&mut model);
    let gone = FAMILIES.map(|family| target(OTHER_PODS[0], family));
    assert!(later.iter().flatten().any(|endpoint| gone.contains(endpoint)));
    assert!(!connect().iter().flatten().any(|endpoint| gone.contains(endpoint)), "{way:?}");
}

#[test]
fn clients_come_back_until_their_time_is_over_with_iptables() {
    clients_come_back_until_their_time_is_over(Way::IptablesNft);
}

#[test]
fn clients_come_back_until_their_time_is_over_with_iptables_legacy() {
    clients_come_back_until_their_time_is_over(Way::IptablesLegacy);
}

#[test]
fn clients_come_back_until_their_time_is_over_with_nftables() {
    clients_come_back_until_their_time_is_over(Way::Nftables);
}

/// With iptables and IPv6 the refusal of a TCP connection, an error of `ICMPv6`, is only noted while `connect` still holds the socket
/// (`tcp_v6_err` in the kernel's `net/ipv6/tcp_ipv6.c`); the next counts, that of the SYN which is sent again after a second. Over a
/// veth that is so every time. All others take less than a millisecond, among them all of nftables mode.
const REFUSED_WITHIN: Duration = Duration::from_secs(3);

/// Who asks for what nobody serves does not wait, whatever the protocol and wherever he is.
#[track_caller]
fn refusals_come_at_once(way: Way) {
    let net = Net::new();
    let mut model = model(&examples(""));
    let _programmed = Programmed::new(way, net.node.ns(), &mut model, &options());
    let at = |family, index, protocol| {
        let node = SocketAddr::new(NODE.ip(family), node_port(index));
        [attempt(None, cluster_address(family, index), protocol), attempt(None, node, protocol)]
    };
    let of = |family| [at(family, 1, Protocol::Tcp), at(family, 2, Protocol::Udp)].concat();
    let attempts = FAMILIES.map(of).concat();
    for ns in [&net.pods[2], &net.node, &net.outside] {
        let mut took = Duration::MAX;
        // more than once, for a machine that does other things too
        for _ in 0..3 {
            let start = Instant::now();
            let outcomes = served(ns.ns(), attempts.clone());
            took = took.min(start.elapsed());
            let all = outcomes.iter().all(|outcome| *outcome == Outcome::Refused);
            assert!(all, "{way:?} {attempts:?}: {outcomes:?}");
            if took < REFUSED_WITHIN {
                break;
            }
        }
        assert!(took < REFUSED_WITHIN, "{way:?}: refused after {took:?}");
    }
}

#[test]
fn refusals_come_at_once_with_iptables() {
    refusals_come_at_once(Way::IptablesNft);
}

#[test]
fn refusals_come_at_once_with_nftables() {
    refusals_come_at_once(Way::Nftables);
}

/// Errors "destination unreachable" that a namespace was told, of both families.
fn unreachables(ns: &TestNetns) -> u64 {
    let number = |word: &str| word.parse::<u64>().unwrap();
    let v4 = ns.cmd(&["cat", "/proc/net/snmp"]);
    let lines: Vec<Vec<&str>> = v4
        .lines()
        .filter(|line| line.starts_with("Icmp:"))
        .map(|l| l.split(' ').collect())
        .collect();
    let column = lines[0].iter().position(|word| *word == "InDestUnreachs").unwrap();
    let v6 = ns.cmd(&["cat", "/proc/net/snmp6"]);
    let six = v6.lines().find(|line| line.starts_with("Icmp6InDestUnreachs")).unwrap();
    number(lines[1][column]) + number(six.split_whitespace().nth(1).unwrap())
}

/// In nftables mode TCP is refused by a reset, wherever the client is and whatever it asked for; UDP by ICMP.
#[test]
fn tcp_is_refused_by_a_reset_with_nftables() {
    let net = Net::new();
    let mut model = model(&examples(""));
    let _programmed = Programmed::new(Way::Nftables, net.node.ns(), &mut model, &options());
    let to = |protocol, to| attempt(None, to, protocol);
    let at_node = |family, index| SocketAddr::new(NODE.ip(family), node_port(index));
    let other_port = |family| SocketAddr::new(cluster_ip(family, 1), 81);
    for ns in [&net.pods[2], &net.node, &net.outside] {
        let tcp = FAMILIES.map(|family| {
            [cluster_address(family, 1), at_node(family, 1), other_port(family)]
                .map(|address| to(Protocol::Tcp, address))
        });
        let before = unreachables(ns);
        let outcomes = served(ns.ns(), tcp.concat());
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Refused), "{outcomes:?}");
        assert_eq!(unreachables(ns), before);
        let udp = FAMILIES.map(|family| to(Protocol::Udp, cluster_address(family, 2)));
        let outcomes = served(ns.ns(), udp.to_vec());
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Refused), "{outcomes:?}");
        assert!(unreachables(ns) > before);
    }
}
