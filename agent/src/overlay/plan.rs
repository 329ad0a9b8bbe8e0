//! What must hold in the kernel of this node, of its configuration, its underlay and the cluster. Pure.

mod local;
mod peer;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

pub use self::local::Local;
pub use self::peer::{Peer, Unreachable};
use super::cluster::Cluster;
use super::desired::{Change, Desired};
use super::node::Backend;

/// Outer Ethernet, IPv4, UDP and VXLAN headers count against the MTU of the underlay (RFC 7348, section 5): 14 + 20 + 8 + 8 bytes.
pub const OVERHEAD_IPV4: u32 = 50;
/// As [`OVERHEAD_IPV4`], with an IPv6 header of 40 bytes.
pub const OVERHEAD_IPV6: u32 = 70;
/// The least that IPv6 needs (RFC 8200, section 5).
pub const MTU_MIN_IPV6: u32 = 1280;
/// The least that IPv4 needs (RFC 791).
pub const MTU_MIN_IPV4: u32 = 68;

/// What of the configuration the plan depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How packets travel.
    pub backend: Backend,
    /// The VXLAN network identifier.
    pub vni: u32,
    /// The UDP port of VXLAN.
    pub port: u16,
    /// Bytes of a pod's packet; 0: as large as the underlay allows.
    pub mtu: u32,
    /// As flannel does: pods' IPv4 over the IPv4 device only, pods' IPv6 over the IPv6 device only.
    pub flannel: bool,
    /// Where this node answers probes.
    pub probe_port: Option<u16>,
}

impl Default for Settings {
    fn default() -> Self {
        let (backend, vni, port) = (Backend::Auto, 1, 8472);
        Self { backend, vni, port, mtu: 0, flannel: false, probe_port: Some(8473) }
    }
}

/// The link between the nodes, for one family of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Underlay {
    /// Its index.
    pub link: u32,
    /// Its name.
    pub name: String,
    /// The address that this node uses there, with the prefix length of its network.
    pub address: IpNetwork,
    /// In bytes.
    pub mtu: u32,
    /// By what this node's packets to everywhere else leave.
    pub gateway: Option<IpAddr>,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nothing can be sent to other nodes.
    #[error(
        "this node has no address to speak to other nodes with; give a link one, or name another link in overlay.interface"
    )]
    NoAddress,
    /// Packets of this size do not fit, or nothing would.
    #[error(
        "overlay.mtu: pods' packets of {wanted} bytes do not fit link {link}, whose MTU is {underlay}: with {overhead} bytes for the tunnel \
         at most {most} do; give a smaller overlay.mtu, or the link a larger one"
    )]
    TooLarge {
        /// The underlay's.
        link: String,
        /// Its MTU.
        underlay: u32,
        /// What the tunnel needs.
        overhead: u32,
        /// What is asked for.
        wanted: u32,
        /// What would fit.
        most: u32,
    },
    /// IP itself asks for more.
    #[error(
        "overlay.mtu: packets of {mtu} bytes are too small for {family}, which needs {least}; give a larger overlay.mtu, or link {link} \
         a larger one"
    )]
    TooSmall {
        /// The underlay's.
        link: String,
        /// What is left for pods.
        mtu: u32,
        /// Of the pods.
        family: &'static str,
        /// What it needs.
        least: u32,
    },
}

/// The whole plan, kept up to date change by change.
#[derive(Clone, Debug)]
pub struct Plan {
    local: Local,
    peers: BTreeMap<Arc<str>, Arc<Peer>>,
    /// By the peer's name: of this many bytes packets are known to arrive there.
    mtus: BTreeMap<String, u32>,
}

impl Plan {
    /// Of everything. `mtus`: by the name of the peer the largest packet that is known to arrive there, where that is less than sent.
    pub fn new(local: Local, cluster: &Cluster, mtus: BTreeMap<String, u32>) -> Self {
        let others = cluster.records().iter().filter(|(name, _)| ***name != *local.name);
        let peers = others.map(|(name, node)| {
            let peer = peer::plan(&local, cluster, node, mtus.get(&**name).copied());
            (name.clone(), Arc::new(peer))
        });
        let peers = peers.collect();
        Self { local, peers, mtus }
    }

    /// After [`Cluster::apply`], with the names that it returned, or after [`Self::know_mtu`]: what changes in the kernel.
    pub fn update(&mut self, cluster: &Cluster, names: &BTreeSet<String>) -> Vec<Change> {
        let mut before = BTreeMap::new();
        let mut after = BTreeMap::new();
        for name in names.iter().filter(|name| **name != self.local.name) {
            let old = match cluster.records().get_key_value(&**name) {
                Some((name, node)) => {
                    let mtu = self.mtus.get(&**name).copied();
                    let peer = peer::plan(&self.local, cluster, node, mtu);
                    after
                        .extend(peer.routes.iter().map(|route| (route.destination, route.clone())));
                    self.peers.insert(name.clone(), Arc::new(peer))
                }
                None => self.peers.remove(name.as_str()),
            };
            let old = old.into_iter().flat_map(|peer| Arc::unwrap_or_clone(peer).routes);
            before.extend(old.map(|route| (route.destination, route)));
        }
        changes(before, after)
    }

    /// What is known of the largest packet that arrives at `peer`; `None`: nothing that would be less than what is sent. It is in force with
    /// the next [`Self::update`] that names the peer: a range that moves between peers has one change only if they are in one update.
    pub fn know_mtu(&mut self, peer: &str, mtu: Option<u32>) {
        match mtu {
            Some(mtu) => self.mtus.insert(peer.into(), mtu),
            None => self.mtus.remove(peer),
        };
    }

    /// This node's side.
    pub fn local(&self) -> &Local {
        &self.local
    }

    /// Every other node by its name: the ways there, and why there are none.
    pub fn peers(&self) -> &BTreeMap<Arc<str>, Arc<Peer>> {
        &self.peers
    }

    /// All that must hold.
    pub fn desired(&self) -> Desired {
        let mut routes: Vec<_> =
            self.peers.values().flat_map(|peer| peer.routes.iter().cloned()).collect();
        routes.sort_by_key(|route| route.destination);
        Desired { devices: self.local.devices(), routes, partial: false }
    }
}

/// Each destination once, whichever node it moved from or to.
fn changes(
    before: BTreeMap<IpNetwork, super::desired::Route>,
    after: BTreeMap<IpNetwork, super::desired::Route>,
) -> Vec<Change> {
    let gone = before.keys().filter(|key| !after.contains_key(*key)).map(|key| Change::Gone(*key));
    let gone: Vec<_> = gone.collect();
    let put = after.into_iter().filter(|(key, route)| before.get(key) != Some(route));
    put.map(|(_, route)| Change::Put(route)).chain(gone).collect()
}

#[cfg(test)]
mod tests;
