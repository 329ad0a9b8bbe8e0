//! What is told of the overlay: a board that the controller writes and that status, metrics and health read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use conf::lease::Lease;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::desired::{Device, Route, Way};
use super::plan::Peer;
use super::probe::{Results, told};

/// The overlay: part of the document of `heddle-agent status -o json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OverlayStatus {
    /// `auto`, `vxlan`, `host-gw` or `none`.
    pub backend: String,
    /// The link to other nodes, with this node's addresses there; empty: none was found yet.
    pub underlay: String,
    /// VXLAN devices.
    pub devices: Vec<DeviceStatus>,
    /// What pods of this node get; `None`: nothing yet.
    pub lease: Option<LeaseStatus>,
    /// Whether the nodes are those from before a restart, as their source has not told all of them yet. What is there of others stays.
    pub from_kept_state: bool,
    /// Other nodes.
    pub peers: Vec<PeerStatus>,
    /// When something was written to the kernel last (RFC 3339).
    pub last_change: Option<String>,
    /// When the kernel was last known to be as it should be.
    pub last_sync: Option<String>,
    /// Claims of nodes that are refused: pod CIDRs, addresses and Ethernet addresses that an older node has.
    pub refused: Vec<String>,
    /// What is wrong, each with what to do.
    pub problems: Vec<String>,
}

/// A VXLAN device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceStatus {
    /// Its name.
    pub name: String,
    /// In bytes.
    pub mtu: u32,
    /// Its Ethernet address.
    pub mac: String,
    /// The underlay's address that it sends from.
    pub local: String,
    /// Whether checksums are left to hardware, and why not; empty: not known.
    pub checksum_offload: String,
}

impl From<&Device> for DeviceStatus {
    fn from(device: &Device) -> Self {
        Self {
            name: device.name.clone(),
            mtu: device.mtu,
            mac: device.mac.to_string(),
            local: device.local.to_string(),
            checksum_offload: String::new(),
        }
    }
}

/// What pods of this node get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeaseStatus {
    /// This node's part, in gateway form.
    pub subnets: Vec<String>,
    /// All pods.
    pub networks: Vec<String>,
    /// In bytes.
    pub mtu: u32,
    /// Whether the agent masquerades.
    pub masquerade: bool,
}

impl From<&Lease> for LeaseStatus {
    fn from(lease: &Lease) -> Self {
        let texts = |nets: &[ipnetwork::IpNetwork]| nets.iter().map(ToString::to_string).collect();
        Self {
            subnets: texts(lease.subnets()),
            networks: texts(lease.networks()),
            mtu: lease.mtu(),
            masquerade: lease.masquerade(),
        }
    }
}

/// Another node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerStatus {
    /// Its name.
    pub name: String,
    /// `vxlan`, `direct`, or `none` if there is no way to any of its pods.
    pub way: String,
    /// Its pod CIDRs to which there is a way.
    pub pod_cidrs: Vec<String>,
    /// Its address on the underlay.
    pub address: String,
    /// What arrives there; empty: not known.
    pub probe: String,
    /// Why there is no way to its pods, or to some of them.
    pub problems: Vec<String>,
}

impl PeerStatus {
    /// Of the plan for that node.
    pub fn of(name: &str, peer: &Peer) -> Self {
        let first = peer.routes.first();
        Self {
            name: name.to_owned(),
            way: way_of(peer).to_owned(),
            pod_cidrs: peer.routes.iter().map(|route| route.destination.to_string()).collect(),
            address: first.map(address).unwrap_or_default(),
            probe: String::new(),
            problems: peer.problems.iter().map(ToString::to_string).collect(),
        }
    }
}

/// For people: the way to another node's pods.
pub fn way_of(peer: &Peer) -> &'static str {
    peer.routes.first().map_or("none", |route| way(&route.way))
}

/// For people.
pub fn way(way: &Way) -> &'static str {
    match way {
        Way::Tunnel { .. } => "vxlan",
        Way::Direct { .. } => "direct",
    }
}

fn address(route: &Route) -> String {
    match &route.way {
        Way::Tunnel { remote, .. } => remote.to_string(),
        Way::Direct { gateway, .. } => gateway.to_string(),
    }
}

/// Where a problem comes from: each origin has its own, which it replaces as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The source of nodes.
    Source,
    /// What the list of nodes lacks.
    Nodes,
    /// Files that were read at the start.
    State,
    /// Files that are to be there at the next start.
    Kept,
    /// What is planned, and written to the kernel.
    Sync,
    /// What of this node's own is left out of the plan: by its links, or by its Node object.
    Local,
    /// That pods get no addresses.
    Lease,
    /// Packet filters and kernel parameters.
    Rules,
    /// Packet filters that somebody keeps changing.
    Repairs,
    /// This node's annotations.
    Announcement,
    /// This node's condition `NetworkUnavailable`.
    Network,
    /// Probes.
    Probe,
    /// The metrics server.
    Server,
}

impl Origin {
    /// Whether what goes wrong is logged where it is found: there it is known how often it has been.
    fn logs_itself(self) -> bool {
        matches!(self, Self::Source | Self::Announcement | Self::Network)
    }
}

/// What the board holds.
#[derive(Debug, Default)]
pub struct Facts {
    /// All but peers and problems, which are kept in other forms.
    pub status: OverlayStatus,
    /// Other nodes by name, as they are planned: words are made of them when somebody asks.
    pub peers: BTreeMap<Arc<str>, Arc<Peer>>,
    /// What arrives at them.
    pub probes: Arc<Results>,
    /// Of devices: whether checksums are left to hardware.
    pub offloads: BTreeMap<String, String>,
    /// Claims that are refused, by the name of who claims.
    pub refused: BTreeMap<String, Vec<String>>,
    /// What is wrong, by where it comes from.
    pub problems: BTreeMap<Origin, Vec<String>>,
}

/// The board. Clones are the same board.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<Facts>>);

impl Board {
    /// A board on which only the backend stands.
    pub fn new(backend: &str) -> Self {
        let board = Self::default();
        backend.clone_into(&mut board.facts().status.backend);
        board
    }

    /// Its facts, for one writer or reader at a time. Hold it shortly.
    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the problems of one origin. Those that are new are logged, unless who finds them does so.
    pub fn complain(&self, origin: Origin, problems: Vec<String>) {
        let mut facts = self.facts();
        let known = facts.problems.get(&origin).map_or(&[][..], Vec::as_slice);
        let new = problems.iter().filter(|problem| !known.contains(problem));
        for problem in new.filter(|_| !origin.logs_itself()) {
            tracing::warn!("{problem}");
        }
        if problems.is_empty() {
            facts.problems.remove(&origin);
        } else {
            facts.problems.insert(origin, problems);
        }
    }

    /// Everything, as it is told.
    pub fn status(&self) -> OverlayStatus {
        let (mut status, peers, probes) = self.gathered();
        let mut words = told::words(&probes.ways);
        let told = peers.iter().map(|(name, peer)| PeerStatus {
            probe: words.remove(name).unwrap_or_default(),
            ..PeerStatus::of(name, peer)
        });
        status.peers = told.collect();
        status
    }

    /// All but peers, whose words are made after the lock is released.
    fn gathered(&self) -> (OverlayStatus, BTreeMap<Arc<str>, Arc<Peer>>, Arc<Results>) {
        let facts = self.facts();
        let devices = facts.status.devices.iter().cloned().map(|mut device| {
            device.checksum_offload = facts.offloads.get(&device.name).cloned().unwrap_or_default();
            device
        });
        let status = OverlayStatus {
            devices: devices.collect(),
            problems: facts.problems.values().flatten().cloned().collect(),
            refused: facts.refused.values().flatten().cloned().collect(),
            ..facts.status.clone()
        };
        (status, facts.peers.clone(), Arc::clone(&facts.probes))
    }

    /// Why pods of this node may not reach others, in one line; `None`: all is well here. That a peer is wrong is its affair.
    pub fn failure(&self) -> Option<String> {
        let facts = self.facts();
        let of = |origin| facts.problems.get(&origin).filter(|problems| !problems.is_empty());
        let failed =
            of(Origin::Sync).or_else(|| of(Origin::Lease)).map(|problems| problems.join("; "));
        let unready = || {
            let never = facts.status.last_sync.is_none();
            never.then(|| "the overlay is not set up yet".to_owned())
        };
        failed.or_else(unready)
    }
}

/// A moment as it is told.
pub fn moment(at: SystemTime) -> Option<String> {
    let at = Timestamp::try_from(at).ok()?;
    Some(format!("{at:.0}"))
}

/// The status as a person reads it, with `columns` to align rows.
pub fn render(status: &OverlayStatus, columns: impl Fn(&[Vec<String>]) -> String) -> String {
    let mut text = format!("overlay {}", status.backend);
    let or =
        |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
    let _ = write!(text, ", underlay {}", or(&status.underlay, "not found"));
    let since = status.last_sync.as_deref().unwrap_or("never");
    let changed = status.last_change.as_deref().unwrap_or("never");
    let _ = writeln!(text, ", last sync {since}, last change {changed}");
    for device in &status.devices {
        let DeviceStatus { name, mtu, mac, local, checksum_offload } = device;
        let offload = or(checksum_offload, "not known");
        let _ = writeln!(
            text,
            "device {name}, MTU {mtu}, MAC {mac}, from {local}, checksum offload {offload}"
        );
    }
    match &status.lease {
        Some(lease) => {
            let (subnets, networks) = (lease.subnets.join(", "), lease.networks.join(", "));
            let masquerade = if lease.masquerade { "masqueraded" } else { "not masqueraded" };
            let _ =
                writeln!(text, "lease {subnets} of {networks}, MTU {}, {masquerade}", lease.mtu);
        }
        None => text.push_str("lease none yet\n"),
    }
    if status.from_kept_state {
        text.push_str(
            "nodes are those from before the restart; what is there of others stays until all are told of\n",
        );
    }
    for problem in status.problems.iter().chain(&status.refused) {
        let _ = writeln!(text, "problem: {problem}");
    }
    let mut rows =
        vec![["NODE", "WAY", "ADDRESS", "PODS", "PROBE", "MESSAGE"].map(str::to_owned).to_vec()];
    rows.extend(status.peers.iter().map(|peer| {
        vec![
            peer.name.clone(),
            peer.way.clone(),
            or(&peer.address, "-"),
            or(&peer.pod_cidrs.join(","), "-"),
            or(&peer.probe, "-"),
            peer.problems.join("; "),
        ]
    }));
    text.push('\n');
    text.push_str(&columns(&rows));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_replaced_by_origin_and_health_follows_the_sync() {
        let board = Board::new("auto");
        assert_eq!(board.failure().as_deref(), Some("the overlay is not set up yet"));
        board.facts().status.last_sync = Some("now".to_owned());
        board.complain(Origin::Source, vec!["away".to_owned()]);
        assert_eq!((board.failure(), board.status().problems), (None, vec!["away".to_owned()]));
        board.complain(Origin::Sync, vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(board.failure().as_deref(), Some("a; b"));
        board.complain(Origin::Sync, Vec::new());
        board.complain(Origin::Source, Vec::new());
        assert_eq!((board.failure(), board.status().problems.len()), (None, 0));
    }

    #[test]
    fn a_table() {
        let device = DeviceStatus {
            name: "heddle.1".into(),
            mtu: 1450,
            mac: "02:00:00:00:00:01".into(),
            local: "192.0.2.1".into(),
            checksum_offload: "on".into(),
        };
        let lease = LeaseStatus {
            subnets: vec!["10.244.1.1/24".into()],
            networks: vec!["10.244.0.0/16".into()],
            mtu: 1450,
            masquerade: true,
        };
        let peer = PeerStatus {
            name: "b".into(),
            way: "vxlan".into(),
            pod_cidrs: vec!["10.244.2.0/24".into()],
            address: "192.0.2.2".into(),
            ..PeerStatus::default()
        };
        let silent = PeerStatus {
            name: "c".into(),
            way: "none".into(),
            problems: vec!["announces nothing yet".into()],
            ..PeerStatus::default()
        };
        let status = OverlayStatus {
            backend: "vxlan".into(),
            underlay: "eth0".into(),
            devices: vec![device],
            lease: Some(lease),
            peers: vec![peer, silent],
            last_sync: Some("2026-11-21T12:00:00Z".into()),
            problems: vec!["the API is away".into()],
            ..OverlayStatus::default()
        };
        let columns = |rows: &[Vec<String>]| {
            rows.iter().map(|row| row.join(" | ") + "\n").collect::<String>()
        };
        insta::assert_snapshot!(render(&status, columns), @r"
        overlay vxlan, underlay eth0, last sync 2026-11-21T12:00:00Z, last change never
        device heddle.1, MTU 1450, MAC 02:00:00:00:00:01, from 192.0.2.1, checksum offload on
        lease 10.244.1.1/24 of 10.244.0.0/16, MTU 1450, masqueraded
        problem: the API is away

        NODE | WAY | ADDRESS | PODS | PROBE | MESSAGE
        b | vxlan | 192.0.2.2 | 10.244.2.0/24 | - | 
        c | none | - | - | - | announces nothing yet
        ");
    }
}
