//! Real packets through the real kernel: each flow must do what the tracer said that it would.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use heddle_agent::proxy::model::{FAMILIES, Protocol};
use heddle_agent::proxy::tracer::{Fate, Memory, Verdict, trace};
use netns_tools::iptables::Family;
use netns_tools::netns::NetNs;
use tokio::task::JoinSet;

use crate::echo::{Attempt, Outcome, Servers, block_in};
use crate::flows::{Flow, SENDERS, Sender, flows};
use crate::modes::{Programmed, Way, rules};
use crate::net::Net;
use crate::oracle::Mode;
use crate::sctp;
use crate::world::*;

/// A loaded machine answers late, but it answers.
const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for what would be answered.
const SILENCE: Duration = Duration::from_millis(400);
/// All of three endpoints are missed with a probability of 10^-10.
const ATTEMPTS: usize = 60;
/// Connections of a sender at the same time; more than listeners keep waiting are lost.
const AT_ONCE: usize = 48;

/// Services for real packets: every kind, in the situations that differ most.
fn services() -> Vec<Example> {
    let mut examples = Vec::new();
    let mut add = |kind, endpoints: &str, protocol| {
        let index = u8::try_from(examples.len() + 1).unwrap();
        examples.push(Example { protocol, ..Example::new(index, kind, endpoints) });
    };
    for kind in kinds() {
        for endpoints in ["", "p1:r p2:r o1:r", "o1:r o2:r"] {
            add(kind, endpoints, "TCP");
        }
        add(kind, "p1:s o1:r", "UDP");
    }
    let open = kinds()[1];
    for (endpoints, protocol) in
        [("n:r o1:r", "TCP"), ("", "UDP"), ("p1:r p2:r", "UDP"), ("n:r", "UDP")]
    {
        add(open, endpoints, protocol);
    }
    let at_this_node = |index, protocol| Example {
        at_this_node: true,
        protocol,
        ..Example::new(index, open, "p1:r o1:r")
    };
    let next = u8::try_from(examples.len() + 1).unwrap();
    examples.extend([at_this_node(next, "TCP"), at_this_node(next + 1, "UDP")]);
    examples
}

/// The same for SCTP, of which each attempt waits for the one before.
fn services_of_sctp() -> Vec<Example> {
    let [open, local] = [kinds()[1], kinds()[2]];
    let example = |index, kind, endpoints| Example {
        protocol: "SCTP",
        ..Example::new(index, kind, endpoints)
    };
    vec![
        example(1, open, "p1:r o1:r"),
        example(2, local, "p1:r o1:r"),
        example(3, open, ""),
        example(4, local, "o1:r"),
    ]
}

/// What a flow must do, and how to try.
struct Trial {
    flow: Flow,
    expected: Verdict,
}

/// Flows whose answers find back, with the tracer's verdicts. What nothing translates or refuses goes where nobody is.
fn trials(world: &World, mode: Mode, family: Family) -> Vec<Trial> {
    let (ports, options) = (world.model.ports(family), world.options.of(family));
    let rules = rules(mode, family, ports, &options);
    let trial = |flow: Flow| {
        let paths = trace(rules.as_ref(), &world.host, &flow.packet, &Memory::default());
        let expected: Verdict =
            paths.unwrap_or_else(|e| panic!("{}: {e}", flow.name)).into_iter().collect();
        Trial { flow, expected }
    };
    flows(&world.examples, family).into_iter().map(trial).filter(can_be_tried).collect()
}

fn can_be_tried(trial: &Trial) -> bool {
    let flow = &trial.flow;
    let packet = &flow.packet;
    // the kernel drops packets for its loopback interface from elsewhere by itself
    let stray = packet.destination.is_loopback() && flow.sender != Sender::Node;
    // what stays on the other node is not answered through this one
    let there = matches!(flow.sender, Sender::OtherNode | Sender::OtherPod);
    let back = |(fate, _)| match fate {
        Fate::Endpoint { to, source } => {
            let theirs = OTHER_PODS.iter().any(|place| place.ip(family_of(to)) == to.ip());
            !(there && theirs && source == packet.source)
        }
        Fate::Untouched { .. } => false,
        Fate::Rejected | Fate::Dropped => true,
    };
    !stray && trial.expected.fates().all(back)
}

fn family_of(address: SocketAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

impl Trial {
    fn outcomes(&self) -> BTreeSet<Outcome> {
        let outcome = |(fate, _)| match fate {
            Fate::Endpoint { to, source } => Outcome::Answered { endpoint: to, seen: source },
            Fate::Rejected => Outcome::Refused,
            Fate::Dropped | Fate::Untouched { .. } => Outcome::Silent,
        };
        self.expected.fates().map(outcome).collect()
    }

    fn is_silent(&self) -> bool {
        self.outcomes().contains(&Outcome::Silent)
    }

    fn attempt(&self, silent: bool) -> Attempt {
        let packet = &self.flow.packet;
        let chosen = matches!(self.flow.sender, Sender::Node | Sender::Pod(_) | Sender::OtherNode);
        Attempt {
            source: (!chosen).then_some(packet.source),
            source_port: 0,
            to: SocketAddr::new(packet.destination, packet.port),
            protocol: packet.protocol,
            patience: if silent { SILENCE } else { PATIENCE },
        }
    }

    /// Connects until every expected outcome was seen, or one that is not.
    async fn make(&self) -> Result<(), String> {
        let expected = self.outcomes();
        let silent = self.is_silent();
        let mut seen = BTreeSet::new();
        for _ in 0..ATTEMPTS {
            let outcome = self.attempt(silent).make().await;
            seen.insert(outcome);
            if !expected.contains(&outcome) || seen == expected {
                break;
            }
        }
        if seen == expected {
            return Ok(());
        }
        Err(format!("{}: {seen:?}, not {expected:?}: {:?}", self.flow.name, self.flow.packet))
    }
}

/// Tries flows of one sender, several at a time. Those that nobody answers are tried all at once: it is only waited for them.
async fn try_all(trials: Vec<Trial>) -> Vec<String> {
    let mut running: JoinSet<Result<(), String>> = JoinSet::new();
    let mut failed = Vec::new();
    let (sctp, trials): (Vec<_>, Vec<_>) =
        trials.into_iter().partition(|trial| trial.flow.packet.protocol == Protocol::Sctp);
    for trial in sctp {
        failed.extend(trial.make().await.err());
    }
    let (silent, others): (Vec<_>, Vec<_>) = trials.into_iter().partition(Trial::is_silent);
    let silent_count = silent.len();
    for trial in silent.into_iter().chain(others) {
        if running.len() == AT_ONCE + silent_count {
            failed.extend(running.join_next().await.and_then(|made| made.unwrap().err()));
        }
        running.spawn(async move { trial.make().await });
    }
    failed.extend(running.join_all().await.into_iter().filter_map(Result::err));
    failed
}

/// Tries everything, each sender in its namespace.
fn failures(net: &Net, trials: Vec<Trial>) -> Vec<String> {
    let mut trials = trials;
    let mut senders: Vec<(&NetNs, Vec<Trial>)> = Vec::new();
    for sender in SENDERS {
        let (own, rest) = trials.into_iter().partition(|trial| trial.flow.sender == sender);
        senders.push((net.of(sender).ns(), own));
        trials = rest;
    }
    std::thread::scope(|scope| {
        let start = |(ns, own)| scope.spawn(move || block_in(ns, async move || try_all(own).await));
        let started: Vec<_> = senders.into_iter().map(start).collect();
        started.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[track_caller]
fn packets_do_what_is_traced(way: Way, options: Options) {
    let mut world = World::new(services(), options);
    let net = Net::new();
    let _servers = Servers::start(&net.endpoints());
    let _programmed = Programmed::new(way, net.node.ns(), &mut world.model, &world.options);
    for family in FAMILIES {
        let trials = trials(&world, way.mode(), family);
        let tried = trials.len();
        assert!(tried > 1000, "{tried} flows are not all");
        let failures = failures(&net, trials);
        let shown = failures.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
        assert!(failures.is_empty(), "{way:?}: {} of {tried} flows:\n{shown}", failures.len());
    }
}

/// One after the other, and each is waited for: fewer services do.
#[track_caller]
fn sctp_does_what_is_traced(way: Way) {
    let mut world = World::new(services_of_sctp(), variants().swap_remove(0));
    let net = Net::new();
    let _servers = sctp::Servers::start(&net.endpoints());
    let _programmed = Programmed::new(way, net.node.ns(), &mut world.model, &world.options);
    for family in FAMILIES {
        let mut trials = trials(&world, way.mode(), family);
        trials.retain(|trial| trial.flow.packet.protocol == Protocol::Sctp);
        let tried = trials.len();
        assert!(tried > 80, "{tried} flows are not all");
        let fates: Vec<_> = trials.iter().flat_map(|trial| trial.expected.fates()).collect();
        let has = |wanted: fn(&Fate) -> bool| fates.iter().any(|(fate, _)| wanted(fate));
        assert!(has(|fate| matches!(fate, Fate::Endpoint { .. })));
        assert!(has(|fate| *fate == Fate::Rejected) && has(|fate| *fate == Fate::Dropped));
        let failures = failures(&net, trials);
        let shown = failures.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
        assert!(failures.is_empty(), "{way:?}: {} of {tried} flows:\n{shown}", failures.len());
    }
}

#[test]
fn sctp_with_iptables() {
    sctp_does_what_is_traced(Way::IptablesNft);
}

#[test]
fn sctp_with_iptables_legacy() {
    sctp_does_what_is_traced(Way::IptablesLegacy);
}

#[test]
fn sctp_with_nftables() {
    sctp_does_what_is_traced(Way::Nftables);
}

/// A test for each way and some of the options.
macro_rules! packets {
    ($($name:ident = $way:expr, $options:expr;)+) => { $(
        #[test]
        fn $name() {
            packets_do_what_is_traced($way, variants().swap_remove($options));
        }
    )+ };
}

packets! {
    iptables_with_pods_by_cluster_range = Way::IptablesNft, 0;
    iptables_with_pods_by_bridge = Way::IptablesNft, 2;
    iptables_with_all_masqueraded = Way::IptablesNft, 4;
    iptables_with_pods_unknown = Way::IptablesNft, 5;
    iptables_legacy_with_pods_by_cluster_range = Way::IptablesLegacy, 0;
    iptables_legacy_with_pods_by_bridge = Way::IptablesLegacy, 2;
    nftables_with_pods_by_cluster_range = Way::Nftables, 0;
    nftables_with_pods_by_bridge = Way::Nftables, 2;
    nftables_with_all_masqueraded = Way::Nftables, 4;
    nftables_with_pods_unknown = Way::Nftables, 5;
}
