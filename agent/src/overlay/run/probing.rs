//! Probes and what they find, between the prober and the worker.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use conf::{AgentConfig, ChecksumOffload};
use ipnetwork::IpNetwork;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::Mtu;
use super::senders::Askers;
use crate::overlay::cluster::Cluster;
use crate::overlay::desired::{Device, Route, Way};
use crate::overlay::plan::{Local, MTU_MIN_IPV6, Plan};
use crate::overlay::probe::{
    Answering, Channels, End, Input, Key, Known, Offload, Results, Setting, Switch, Target, probe,
    respond, told,
};
use crate::overlay::status::{Board, Origin};

/// The search for what arrives ends here where pods have no IPv6 (RFC 791).
const FLOOR: u32 = 576;
/// Commands that wait for the worker: one for each device.
const SWITCHES: usize = 4;
/// Changes of so long are told to the prober together. A node that is new and asks earlier asks again.
const TOGETHER: Duration = Duration::from_millis(100);

/// What the plan means for probes, as it changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// Whom to ask: the ways to these nodes.
    pub peers: BTreeMap<Arc<str>, Ways>,
    /// Whom to answer.
    pub askers: Askers,
    /// These are all: nobody else is asked or answered. Otherwise others are as before.
    pub whole: bool,
    /// This node's side; `None`: as before.
    pub here: Option<Here>,
    /// Something on the way to all of them changed.
    pub anew: bool,
}

/// The ways to one node, each by where its probes go, in that order: of most nodes there is one, for which a map takes ten times as much.
type Ways = Vec<(IpAddr, Target)>;

/// This node.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Here {
    /// The VXLAN devices, and whether they leave checksums to hardware.
    pub devices: BTreeMap<String, bool>,
    /// Where to answer.
    pub addresses: BTreeSet<IpAddr>,
}

impl Here {
    /// Of a plan; `offload` tells of a device whether it leaves checksums to hardware.
    pub fn of(local: &Local, mut offload: impl FnMut(&str) -> bool) -> Self {
        let devices = local.devices();
        let inside = devices.iter().flat_map(|device| &device.addresses).map(IpNetwork::ip);
        let addresses = local.announcement().addresses.into_iter().chain(inside).collect();
        let devices = devices.iter().map(|device| (device.name.clone(), offload(&device.name)));
        Self { devices: devices.collect(), addresses }
    }
}

/// The ways to the nodes of these names. There are none to one that is gone.
pub fn ways<'a>(
    plan: &Plan,
    cluster: &Cluster,
    names: impl Iterator<Item = &'a str>,
) -> BTreeMap<Arc<str>, Ways> {
    let mut ends = Ends::of(plan.local());
    let of = |name: &'a str| {
        let (name, peer) = match plan.peers().get_key_value(name) {
            Some((name, peer)) => (name.clone(), Some(peer)),
            None => (Arc::from(name), None),
        };
        let announced = cluster.get(&name).and_then(|node| node.announced.as_ref());
        let port = announced.and_then(|announced| announced.probe_port);
        let routes = peer.into_iter().flat_map(|peer| &peer.routes);
        let mut ways: Ways = match port {
            Some(port) => routes.filter_map(|route| ends.target(route, port)).collect(),
            None => Vec::new(),
        };
        ways.sort_by_key(|(to, _)| *to);
        ways.dedup_by_key(|(to, _)| *to);
        (name, ways)
    };
    names.map(of).collect()
}

impl Targets {
    /// Takes in what changed since.
    fn extend(&mut self, newer: Self) {
        if newer.whole {
            *self = newer;
            return;
        }
        self.peers.extend(newer.peers);
        let Askers { came, went } = newer.askers;
        self.askers.went.retain(|address| !came.contains(address));
        self.askers.came.retain(|address| !went.contains(address));
        self.askers.came.extend(came);
        self.askers.went.extend(went);
        self.here = newer.here.or(self.here.take());
    }
}

/// This node's ends of ways, of which there are few.
#[derive(Debug)]
struct Ends {
    devices: Vec<Device>,
    pod_mtu: u32,
    shared: Vec<Arc<End>>,
}

impl Ends {
    fn of(local: &Local) -> Self {
        Self { devices: local.devices(), pod_mtu: local.pod_mtu(), shared: Vec::new() }
    }

    fn target(&mut self, route: &Route, port: u16) -> Option<(IpAddr, Target)> {
        let end = self.end(route)?;
        let (to, remote) = match route.way {
            Way::Tunnel { gateway, remote, .. } => (gateway, remote),
            Way::Direct { gateway, .. } => (gateway, gateway),
        };
        Some((to, Target { end: self.share(end), port, remote }))
    }

    fn end(&self, route: &Route) -> Option<End> {
        let v6 = route.destination.is_ipv6();
        let floor = if v6 { MTU_MIN_IPV6 } else { FLOOR };
        match &route.way {
            Way::Tunnel { device: name, .. } => {
                let device = self.devices.iter().find(|known| *known.name == **name)?;
                let from = device.addresses.iter().find(|address| address.is_ipv6() == v6)?.ip();
                let (full, local) = (device.mtu, device.local);
                Some(End { from, local, device: Some(name.clone()), full, floor })
            }
            Way::Direct { source, .. } => {
                Some(End { from: *source, local: *source, device: None, full: self.pod_mtu, floor })
            }
        }
    }

    fn share(&mut self, end: End) -> Arc<End> {
        if let Some(known) = self.shared.iter().find(|known| ***known == end) {
            return known.clone();
        }
        let end = Arc::new(end);
        self.shared.push(end.clone());
        end
    }
}

/// The loop's side of the prober.
#[derive(Debug)]
pub struct Probing {
    setting: Setting,
    port: Option<u16>,
    input: watch::Sender<Arc<Input>>,
    answering: watch::Sender<Arc<Answering>>,
    hurry: mpsc::Sender<Vec<Key>>,
    results: watch::Receiver<Arc<Results>>,
    switches: mpsc::Receiver<Switch>,
    /// What the prober is to hear of.
    waiting: Targets,
    /// When it is to.
    tell_at: Option<Instant>,
    board: Board,
    mtus: BTreeMap<String, u32>,
}

/// What comes of probes.
#[derive(Debug)]
pub enum Found {
    /// Of these nodes it is known anew what arrives.
    Mtus(Vec<Mtu>),
    /// A device's checksums are to be computed elsewhere.
    Switch(Switch),
}

/// Starts to probe and to answer, in the network namespace of the tasks' threads.
pub fn start(config: &AgentConfig, board: &Board, tasks: &mut JoinSet<()>) -> Probing {
    let (channels, probing) = connect(config, board);
    let answering = probing.answering.subscribe();
    tasks.spawn(probe(channels));
    tasks.spawn(respond(answering));
    probing
}

/// The two sides, with nobody at the other one yet.
pub(super) fn connect(config: &AgentConfig, board: &Board) -> (Channels, Probing) {
    let setting = match config.overlay.checksum_offload {
        ChecksumOffload::Auto => Setting::Auto,
        ChecksumOffload::On => Setting::On,
        ChecksumOffload::Off => Setting::Off,
    };
    let (input, asked) = watch::channel(Arc::default());
    let (results, found) = watch::channel(Arc::default());
    let ((hurry, hurried), (switches, commands)) = (mpsc::channel(1), mpsc::channel(SWITCHES));
    let channels = Channels { input: asked, hurry: hurried, results, switches };
    let probing = Probing {
        setting,
        port: config.overlay.probe_port,
        input,
        answering: watch::channel(Arc::default()).0,
        hurry,
        results: found,
        switches: commands,
        waiting: Targets::default(),
        tell_at: None,
        board: board.clone(),
        mtus: BTreeMap::new(),
    };
    (channels, probing)
}

impl Probing {
    /// The plan is another. To tell the prober costs what there is, so changes are told together, a moment later.
    pub(super) fn aim(&mut self, targets: Targets) {
        let (whole, anew) = (targets.whole, targets.anew);
        self.waiting.extend(targets);
        if whole || anew {
            self.tell();
        } else {
            self.tell_at.get_or_insert_with(|| Instant::now() + TOGETHER);
        }
        if anew {
            // one that is under way is as good
            self.hurry.try_send(Vec::new()).ok();
        }
    }

    fn tell(&mut self) {
        self.tell_at = None;
        let Targets { peers, askers, whole, here, .. } = std::mem::take(&mut self.waiting);
        let (devices, addresses) = match here {
            Some(here) => (Some(here.devices), Some(here.addresses)),
            None => (None, None),
        };
        self.tell_prober(peers, whole, devices);
        self.tell_responder(&askers, whole, addresses);
    }

    fn tell_prober(
        &self,
        mut peers: BTreeMap<Arc<str>, Ways>,
        whole: bool,
        devices: Option<BTreeMap<String, bool>>,
    ) {
        let known = self.input.borrow().clone();
        if self.port.is_none() {
            peers.clear();
        }
        let is_same = |name: &Arc<str>, ways: &Ways| {
            let known = ways_of(&known.targets, name).map(|(key, target)| (&key.to, target));
            known.eq(ways.iter().map(|(to, target)| (to, target)))
        };
        if !whole {
            peers.retain(|name, ways| !is_same(name, ways));
            if peers.is_empty() && devices.as_ref().is_none_or(|devices| *devices == known.devices)
            {
                return;
            }
        }
        let mut targets = if whole { BTreeMap::new() } else { known.targets.clone() };
        for name in peers.keys().filter(|_| !whole) {
            let gone: Vec<_> = ways_of(&known.targets, name).map(|(key, _)| key).collect();
            for key in gone {
                targets.remove(key);
            }
        }
        let ways = peers.into_iter().flat_map(|(node, ways)| {
            ways.into_iter().map(move |(to, target)| (Key { node: node.clone(), to }, target))
        });
        if whole {
            targets = ways.collect();
        } else {
            targets.extend(ways);
        }
        let devices = devices.unwrap_or_else(|| known.devices.clone());
        let input = Arc::new(Input { targets, devices, setting: self.setting });
        if input != known {
            self.input.send_replace(input);
        }
    }

    fn tell_responder(
        &self,
        Askers { came, went }: &Askers,
        whole: bool,
        addresses: Option<BTreeSet<IpAddr>>,
    ) {
        let known = self.answering.borrow().clone();
        let is_new = |address: &IpAddr| !known.nodes.contains(address);
        let differs = whole || came.iter().any(is_new) || !went.iter().all(is_new);
        let moved = addresses.as_ref().is_some_and(|addresses| *addresses != known.addresses);
        if !differs && !moved {
            return;
        }
        let mut nodes = if whole { BTreeSet::new() } else { known.nodes.clone() };
        nodes.extend(came);
        nodes.retain(|address| !went.contains(address));
        let addresses = addresses.unwrap_or_else(|| known.addresses.clone());
        let port = self.port.unwrap_or_default();
        let answering = Arc::new(Answering { addresses, port, nodes });
        if answering != known {
            self.answering.send_replace(answering);
        }
    }

    /// Waits until something is found. `None`: nothing will be any more.
    pub(super) async fn found(&mut self) -> Option<Found> {
        loop {
            let tell_at = self.tell_at;
            tokio::select! {
                changed = self.results.changed() => {
                    changed.ok()?;
                    let results = self.results.borrow_and_update().clone();
                    return Some(Found::Mtus(self.take(&results)));
                }
                Some(switch) = self.switches.recv() => return Some(Found::Switch(switch)),
                () = sleep_until(tell_at.unwrap_or_else(Instant::now)), if tell_at.is_some() => {
                    self.tell();
                }
            }
        }
    }

    /// Ways that carry less than IPv6 needs.
    fn narrow(&self, ways: &BTreeMap<Key, Known>) -> Vec<String> {
        let input = self.input.borrow();
        let narrow = ways.iter().filter(|(key, known)| told::is_narrow(key, known));
        let told = narrow.map(|(key, _)| {
            let node = &key.node;
            let overhead = input.targets.get(key).map_or(0, Target::overhead);
            let carries = told::carried(node, ways).map_or_else(
                || format!("less than {MTU_MIN_IPV6} bytes"),
                |most| format!("only {most} bytes"),
            );
            format!(
                "the way to {node} carries {carries} of a pod's packet, IPv6 needs {MTU_MIN_IPV6}: larger packets of pods' IPv6 are lost on it (IPv4 \
                 has its packets cut); give every link between the nodes an MTU of at least {}",
                MTU_MIN_IPV6 + overhead
            )
        });
        told.collect()
    }

    /// What differs from what was known.
    fn take(&mut self, results: &Arc<Results>) -> Vec<Mtu> {
        let mut mtus = BTreeMap::new();
        for (key, known) in &results.ways {
            if let Some(mtu) = known.mtu {
                let least = mtus.entry(key.node.as_ref().to_owned()).or_insert(mtu);
                *least = mtu.min(*least);
            }
        }
        self.board.facts().probes = Arc::clone(results);
        let vain = |(device, offload): (&String, &Offload)| match offload {
            Offload::Vain { reason, .. } => Some(format!("device {device}: {reason}")),
            _ => None,
        };
        let mut problems: Vec<_> = results.devices.iter().filter_map(vain).collect();
        problems.extend(self.narrow(&results.ways));
        self.board.complain(Origin::Probe, problems);
        let told = results.devices.iter();
        self.board.facts().offloads =
            told.map(|(device, offload)| (device.clone(), offload.to_string())).collect();
        let gone = self.mtus.keys().filter(|name| !mtus.contains_key(*name));
        let mut changed: Vec<Mtu> = gone.map(|name| (name.clone(), None)).collect();
        let news = mtus.iter().filter(|(name, mtu)| self.mtus.get(*name) != Some(mtu));
        changed.extend(news.map(|(name, mtu)| (name.clone(), Some(*mtu))));
        self.mtus = mtus;
        changed
    }
}

/// Those to one node: addresses of IPv4 come first.
fn ways_of<'a>(
    targets: &'a BTreeMap<Key, Target>,
    node: &'a Arc<str>,
) -> impl Iterator<Item = (&'a Key, &'a Target)> {
    let first = Key { node: node.clone(), to: Ipv4Addr::UNSPECIFIED.into() };
    targets.range(first..).take_while(|(key, _)| key.node == *node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::probe::Outcome;

    fn known(full: u32, outcome: Outcome) -> Known {
        Known { outcome: Some(outcome), mtu: None, full }
    }

    fn ways(of: &[(&str, &str, Known)]) -> BTreeMap<Key, Known> {
        let key = |node: &str, to: &str| Key { node: node.into(), to: to.parse().unwrap() };
        of.iter().map(|(node, to, known)| (key(node, to), *known)).collect()
    }

    #[test]
    fn a_way_that_is_too_narrow_for_ipv6_is_a_problem_that_names_node_and_remedy() {
        let config = AgentConfig::from_layers([conf::Layer::defaults("a")]).unwrap();
        let (_channels, mut probing) = connect(&config, &Board::new("vxlan"));
        let (narrow, arrives) = (known(1450, Outcome::ArrivesUpTo(64)), Outcome::ArrivesUpTo(1254));
        let of = [
            ("b", "10.244.2.0", known(1450, arrives)),
            ("b", "fd00:2::", narrow),
            ("c", "fd00:3::", narrow),
            // IPv4 alone needs no more
            ("d", "10.244.4.0", known(1450, Outcome::ArrivesUpTo(600))),
        ];
        let results = Results { ways: ways(&of), ..Results::default() };
        probing.take(&Arc::new(results));
        let status = probing.board.status();
        let [b, c] = &status.problems[..] else { panic!("{status:?}") };
        assert!(b.contains("the way to b carries only 1254 bytes"), "{b}");
        assert!(b.contains("IPv6 needs 1280") && b.contains("an MTU of at least 1280"), "{b}");
        assert!(c.contains("the way to c carries less than 1280 bytes"), "{c}");
        let told = told::words(&probing.board.facts().probes.ways)["b"].clone();
        assert!(told.ends_with("IPv6: packets of 1280 bytes do not arrive, which IPv6 needs"));
        probing.take(&Arc::default());
        assert!(probing.board.status().problems.is_empty());
    }

    fn way() -> Target {
        let from = "192.0.2.1".parse().unwrap();
        let end = End { from, local: from, device: None, full: 1450, floor: 576 };
        Target { end: Arc::new(end), port: 8473, remote: "192.0.2.2".parse().unwrap() }
    }

    /// To nodes by their names, each at these addresses.
    fn peers(all: &[(&str, &[&str])]) -> BTreeMap<Arc<str>, Ways> {
        let ways = |to: &[&str]| to.iter().map(|to| (to.parse().unwrap(), way())).collect();
        all.iter().map(|(name, to)| (Arc::from(*name), ways(to))).collect()
    }

    fn addresses(all: &[&str]) -> BTreeSet<IpAddr> {
        all.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_told_together_a_moment_later_and_others_stay() {
        let config = AgentConfig::from_layers([conf::Layer::defaults("a")]).unwrap();
        let (mut channels, mut probing) = connect(&config, &Board::new("vxlan"));
        let mut answering = probing.answering.subscribe();
        let asked = |channels: &mut Channels| -> Vec<String> {
            let input = channels.input.borrow_and_update();
            input.targets.keys().map(|key| format!("{} {}", key.node, key.to)).collect()
        };
        let here = Here { addresses: addresses(&["192.0.2.1"]), ..Here::default() };
        probing.aim(Targets {
            peers: peers(&[
                ("b", &["10.244.2.0", "fd00:2::"]),
                ("bb", &["10.244.3.0"]),
                ("c", &[]),
            ]),
            askers: Askers { came: addresses(&["192.0.2.2", "192.0.2.3"]), ..Askers::default() },
            whole: true,
            here: Some(here),
            anew: true,
        });
        // at once
        assert_eq!(asked(&mut channels), ["b 10.244.2.0", "b fd00:2::", "bb 10.244.3.0"]);
        assert!(
            channels.hurry.try_recv().is_ok() && answering.borrow_and_update().nodes.len() == 2
        );
        let change = |all: &[(&str, &[&str])], came: &[&str], went: &[&str]| {
            let askers = Askers { came: addresses(came), went: addresses(went) };
            Targets { peers: peers(all), askers, ..Targets::default() }
        };
        let steps = [
            change(&[("b", &["10.244.2.0"])], &["192.0.2.4"], &["192.0.2.2"]),
            change(&[("c", &["10.244.4.0"])], &["192.0.2.2"], &["192.0.2.4"]),
            change(&[("bb", &[]), ("b", &["10.244.2.0", "10.244.9.0"])], &[], &["192.0.2.3"]),
        ];
        for step in steps {
            probing.aim(step);
        }
        assert!(!channels.input.has_changed().unwrap() && !answering.has_changed().unwrap());
        // nothing is found, and meanwhile they are told
        tokio::time::timeout(TOGETHER * 2, probing.found()).await.unwrap_err();
        assert_eq!(asked(&mut channels), ["b 10.244.2.0", "b 10.244.9.0", "c 10.244.4.0"]);
        let now = answering.borrow_and_update().clone();
        assert_eq!(now.nodes, addresses(&["192.0.2.2"]));
        assert_eq!(now.addresses, addresses(&["192.0.2.1"]));
        assert!(channels.hurry.try_recv().is_err());
        // what is known wakes nobody
        probing.aim(change(&[("c", &["10.244.4.0"]), ("d", &[])], &["192.0.2.2"], &["192.0.2.9"]));
        tokio::time::timeout(TOGETHER * 2, probing.found()).await.unwrap_err();
        assert!(!channels.input.has_changed().unwrap() && !answering.has_changed().unwrap());
    }
}
