//! Probes and what they find, between the prober and the worker.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use conf::{AgentConfig, ChecksumOffload};
use ipnetwork::IpNetwork;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Mtu;
use crate::overlay::cluster::Cluster;
use crate::overlay::desired::{Device, Route, Way};
use crate::overlay::plan::{MTU_MIN_IPV6, OVERHEAD_IPV4, OVERHEAD_IPV6, Plan};
use crate::overlay::probe::{
    Answering, Channels, Input, Key, Known, Offload, Results, Setting, Switch, Target, Tunnel,
    probe, respond, told,
};
use crate::overlay::status::{Board, Origin};

/// The search for what arrives ends here where pods have no IPv6 (RFC 791).
const FLOOR: u32 = 576;
/// Commands that wait for the worker: one for each device.
const SWITCHES: usize = 4;

/// What the plan means for probes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// Whom to ask.
    pub peers: BTreeMap<Key, Target>,
    /// The VXLAN devices, and whether they leave checksums to hardware.
    pub devices: BTreeMap<String, bool>,
    /// Where to answer.
    pub addresses: BTreeSet<IpAddr>,
    /// Whom to answer.
    pub nodes: BTreeSet<IpAddr>,
    /// Something on the way to all of them changed.
    pub anew: bool,
}

impl Targets {
    /// Of a plan; `offload` tells of a device whether it leaves checksums to hardware.
    pub fn of(plan: &Plan, cluster: &Cluster, offload: impl Fn(&str) -> bool) -> Self {
        let local = plan.local();
        let devices = local.devices();
        let mut found = Self::default();
        let ours = local.announcement();
        found.addresses.extend(&ours.addresses);
        found
            .addresses
            .extend(devices.iter().flat_map(|device| &device.addresses).map(IpNetwork::ip));
        for device in &devices {
            found.devices.insert(device.name.clone(), offload(&device.name));
        }
        let mut nodes = Vec::new();
        for (name, peer) in plan.peers() {
            let Some(node) = cluster.get(name) else { continue };
            let announced = node.announced.as_ref();
            nodes.extend(announced.into_iter().flat_map(|announced| &announced.addresses));
            nodes.extend(node.pod_cidrs.iter().map(IpNetwork::network));
            let Some(port) = announced.and_then(|announced| announced.probe_port) else {
                continue;
            };
            for route in &peer.routes {
                if let Some((to, target)) = target(route, &devices, port, local.pod_mtu()) {
                    found.peers.insert(Key { node: name.clone(), to }, target);
                }
            }
        }
        // at once: a set that grows one by one takes twice as much
        found.nodes = nodes.into_iter().collect();
        found
    }
}

fn target(route: &Route, devices: &[Device], port: u16, pods: u32) -> Option<(IpAddr, Target)> {
    let v6 = route.destination.is_ipv6();
    let floor = if v6 { MTU_MIN_IPV6 } else { FLOOR };
    match &route.way {
        Way::Tunnel { device: name, gateway, remote, .. } => {
            let device = devices.iter().find(|known| *known.name == **name)?;
            let from = device.addresses.iter().find(|address| address.is_ipv6() == v6)?.ip();
            let (full, local) = (device.mtu, device.local);
            let tunnel = Some(Tunnel { device: name.clone(), remote: *remote, local });
            Some((*gateway, Target { from, port, full, floor, tunnel }))
        }
        Way::Direct { gateway, source, .. } => {
            Some((*gateway, Target { from: *source, port, full: pods, floor, tunnel: None }))
        }
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
        board: board.clone(),
        mtus: BTreeMap::new(),
    };
    (channels, probing)
}

impl Probing {
    /// The plan is another.
    pub(super) fn aim(&self, targets: Targets) {
        let Targets { peers, devices, addresses, nodes, anew } = targets;
        let targets = if self.port.is_some() { peers } else { BTreeMap::new() };
        let input = Arc::new(Input { targets, devices, setting: self.setting });
        self.input.send_if_modified(|known| {
            let differs = *known != input;
            *known = input;
            differs
        });
        let port = self.port.unwrap_or_default();
        let answering = Arc::new(Answering { addresses, port, nodes });
        self.answering.send_if_modified(|known| {
            let differs = *known != answering;
            *known = answering;
            differs
        });
        if anew {
            // one that is under way is as good
            self.hurry.try_send(Vec::new()).ok();
        }
    }

    /// Waits until something is found. `None`: nothing will be any more.
    pub(super) async fn found(&mut self) -> Option<Found> {
        tokio::select! {
            changed = self.results.changed() => {
                changed.ok()?;
                let results = self.results.borrow_and_update().clone();
                Some(Found::Mtus(self.take(&results)))
            }
            Some(switch) = self.switches.recv() => Some(Found::Switch(switch)),
        }
    }

    /// Ways that carry less than IPv6 needs.
    fn narrow(&self, ways: &BTreeMap<Key, Known>) -> Vec<String> {
        let input = self.input.borrow();
        let narrow = ways.iter().filter(|(key, known)| told::is_narrow(key, known));
        let told = narrow.map(|(key, _)| {
            let node = &key.node;
            let tunnel = input.targets.get(key).and_then(|target| target.tunnel.as_ref());
            let overhead = match tunnel.map(|tunnel| tunnel.remote) {
                None => 0,
                Some(IpAddr::V4(_)) => OVERHEAD_IPV4,
                Some(IpAddr::V6(_)) => OVERHEAD_IPV6,
            };
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
}
