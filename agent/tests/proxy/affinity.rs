//! Session affinity, traced: who was served comes back to the same endpoint, until its time is over or the endpoint is gone.

use std::time::Duration;

use heddle_agent::proxy::model::{FAMILIES, Protocol};
use heddle_agent::proxy::tracer::{Fate, Hooks, Memory, Packet, Path, Verdict, trace};
use netns_tools::iptables::Family;

use crate::flows::Sender;
use crate::modes::{MODES, rules};
use crate::oracle::{Mode, Oracle};
use crate::world::*;

const TIMEOUT: Duration = Duration::from_secs(100);

fn service(endpoints: &str, kind: Kind) -> Vec<Example> {
    let example = Example::new(1, kind, endpoints);
    vec![Example { affinity_seconds: Some(100), ..example }]
}

fn follow(rules: &dyn Hooks, packet: &Packet, memory: &Memory) -> Vec<Path> {
    trace(rules, &host(), packet, memory).unwrap()
}

fn verdict(rules: &dyn Hooks, packet: &Packet, memory: &Memory) -> Verdict {
    follow(rules, packet, memory).into_iter().collect()
}

/// All that a test needs of one mode and family.
struct Setting {
    mode: Mode,
    family: Family,
    world: World,
}

impl Setting {
    fn rules(&self) -> Box<dyn Hooks> {
        let options = self.world.options.of(self.family);
        rules(self.mode, self.family, self.world.model.ports(self.family), &options)
    }

    fn expect(&self, packet: &Packet) -> Verdict {
        let options = self.world.options.of(self.family);
        let ports = self.world.model.ports(self.family);
        let host = &self.world.host;
        Oracle { ports, options: &options, host, mode: self.mode }.expect(packet)
    }
}

fn settings(endpoints: &str, kind: Kind) -> Vec<Setting> {
    let setting = |mode, family| Setting {
        mode,
        family,
        world: World::new(service(endpoints, kind), variants().swap_remove(0)),
    };
    MODES.iter().flat_map(|mode| FAMILIES.map(|family| setting(*mode, family))).collect()
}

fn kinds_with_doors() -> Vec<Kind> {
    kinds().into_iter().filter(|kind| kind.external && !kind.internal_local).collect()
}

/// Packets of some senders to each door.
fn knocks(family: Family) -> Vec<Packet> {
    let doors = [
        (cluster_ip(family, 1), 80),
        (balancer_ip(family, 1), 80),
        (NODE.ip(family), node_port(1)),
    ];
    let senders = [Sender::Pod(2), Sender::Node, Sender::Welcome];
    let knock = |(address, port)| senders.map(|sender| sender.packet(address, Protocol::Tcp, port));
    doors.into_iter().flat_map(knock).collect()
}

#[test]
fn a_client_comes_back_to_its_endpoint_until_its_time_is_over() {
    for kind in kinds_with_doors() {
        for setting in settings("p1:r p2:r o1:r", kind) {
            let rules = setting.rules();
            for packet in knocks(setting.family) {
                let expected = setting.expect(&packet);
                for path in follow(rules.as_ref(), &packet, &Memory::default()) {
                    let case = format!("{:?} {packet:?} {}", setting.mode, path.fate);
                    let just_before = path.memory.clone().after(TIMEOUT * 99 / 100);
                    let again = verdict(rules.as_ref(), &packet, &just_before);
                    assert_eq!(again, Verdict::sure(path.fate), "{case}: again");
                    let later = path.memory.after(TIMEOUT * 101 / 100);
                    let late = verdict(rules.as_ref(), &packet, &later);
                    assert_eq!(late, expected, "{case}: too late");
                }
            }
        }
    }
}

#[test]
fn coming_back_begins_the_time_anew() {
    for setting in settings("p1:r p2:r o1:r", kinds()[1]) {
        let rules = setting.rules();
        let packet = Sender::Welcome.packet(NODE.ip(setting.family), Protocol::Tcp, node_port(1));
        for first in follow(rules.as_ref(), &packet, &Memory::default()) {
            let mut memory = first.memory;
            for _ in 0..3 {
                let again = follow(rules.as_ref(), &packet, &memory.after(TIMEOUT * 3 / 4));
                let same = again.iter().all(|path| path.fate == first.fate);
                assert!(same, "{:?}: {again:?}, not {}", setting.mode, first.fate);
                memory = again.into_iter().next().unwrap().memory;
            }
        }
    }
}

/// A client that was served by an endpoint which is gone, or serves no more, goes to one of those that are left.
#[test]
fn a_client_of_an_endpoint_that_is_gone_goes_to_another() {
    for now in ["p1:r p2:r", "p1:r p2:r o1:s"] {
        let before = settings("p1:r p2:r o1:r", kinds()[1]);
        for (before, after) in before.into_iter().zip(settings(now, kinds()[1])) {
            let family = before.family;
            let gone = target(OTHER_PODS[0], family);
            let packet = Sender::Pod(2).packet(cluster_ip(family, 1), Protocol::Tcp, 80);
            let (old, new) = (before.rules(), after.rules());
            let mut lost = 0.0;
            for first in follow(old.as_ref(), &packet, &Memory::default()) {
                let Fate::Endpoint { to, .. } = first.fate else { panic!("{}", first.fate) };
                let then = verdict(new.as_ref(), &packet, &first.memory);
                let expected =
                    if to == gone { after.expect(&packet) } else { Verdict::sure(first.fate) };
                assert_eq!(then, expected, "{:?} {now}", after.mode);
                lost += if to == gone { first.probability } else { 0.0 };
            }
            assert!((lost - 1.0 / 3.0_f64).abs() < 1e-6, "{lost}");
        }
    }
}

/// Others are not bound by what one client did, and the client not at another service.
#[test]
fn affinity_is_of_one_client() {
    for setting in settings("p1:r p2:r o1:r", kinds()[1]) {
        let rules = setting.rules();
        let address = cluster_ip(setting.family, 1);
        let packet = Sender::Pod(2).packet(address, Protocol::Tcp, 80);
        for first in follow(rules.as_ref(), &packet, &Memory::default()) {
            assert!(!first.memory.is_empty());
            let other = Sender::Welcome.packet(address, Protocol::Tcp, 80);
            let found = verdict(rules.as_ref(), &other, &first.memory);
            assert_eq!(found, setting.expect(&other), "{:?}", setting.mode);
        }
    }
}

/// Who was served at one door comes back to the same endpoint by each other.
#[test]
fn affinity_holds_at_every_door() {
    for setting in settings("p1:r p2:r o1:r", kinds()[1]) {
        let rules = setting.rules();
        let family = setting.family;
        let doors = [
            (cluster_ip(family, 1), 80),
            (external_ip(family, 1), 80),
            (balancer_ip(family, 1), 80),
            (NODE.ip(family), node_port(1)),
            (GATEWAY.ip(family), node_port(1)),
        ];
        let to = |(address, port)| Sender::Pod(2).packet(address, Protocol::Tcp, port);
        for (one, other) in doors.iter().flat_map(|one| doors.map(|other| (*one, other))) {
            for first in follow(rules.as_ref(), &to(one), &Memory::default()) {
                let again = verdict(rules.as_ref(), &to(other), &first.memory);
                let Fate::Endpoint { to: endpoint, .. } = first.fate else { panic!() };
                let case = format!("{:?} {family:?}: {one:?}, then {other:?}", setting.mode);
                assert_eq!(again.endpoints(), [endpoint], "{case}");
            }
        }
    }
}
