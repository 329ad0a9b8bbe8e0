//! One port of one service in one family: what must hold.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnetwork::IpNetwork;
use netns_tools::iptables::Family;

use super::{Port, PortId, Service};

/// Where traffic may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Address and port.
    pub address: SocketAddr,
    /// Whether it is on this node.
    pub local: bool,
}

/// The endpoints that serve, chosen as kube-proxy chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// For traffic under the policy Cluster, in order of address.
    pub cluster: Vec<Endpoint>,
    /// For traffic under the policy Local, in order of address: all of them are on this node.
    pub local: Vec<Endpoint>,
    /// Endpoints of UDP and SCTP ports that serve, but that nothing new goes to: they terminate, or policy or topology prefers
    /// others. The flows that they have are left to them, as TCP connections are, so this is not in any rule. In order, and none
    /// of the others.
    pub retained: Vec<SocketAddr>,
    /// Whether any endpoint serves at all, here or elsewhere. Says whether "none here" means DROP (there are some elsewhere)
    /// or REJECT (nobody is there).
    pub any: bool,
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach<'a> {
    /// It goes to one of these; never empty.
    To(&'a [Endpoint]),
    /// Nobody serves: the client is told at once.
    Reject,
    /// Somebody serves, but not here, and the policy wants it here: whoever balances over nodes tries another.
    Drop,
}

/// One port of one service in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Which.
    pub id: PortId,
    /// The cluster address.
    pub cluster_ip: IpAddr,
    /// The port at the cluster address, the external addresses and the load balancer's.
    pub port: u16,
    /// The port at this node's addresses.
    pub node_port: Option<u16>,
    /// Addresses that somebody routes here.
    pub external_ips: Vec<IpAddr>,
    /// Addresses of load balancers that keep the destination (`ipMode: VIP`).
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may use the load balancer's addresses; everybody if empty.
    pub source_ranges: Vec<IpNetwork>,
    /// `externalTrafficPolicy: Local`
    pub external_local: bool,
    /// `internalTrafficPolicy: Local`
    pub internal_local: bool,
    /// `sessionAffinity: ClientIP` with its time-out.
    pub affinity: Option<Duration>,
    /// The port at which a load balancer asks for this node's health.
    pub health_check_node_port: Option<u16>,
    /// Who serves.
    pub endpoints: Endpoints,
}

impl ServicePort {
    /// A port without endpoints yet. `None` if the service has no address of the family.
    pub(super) fn new(service: &Service, port: &Port, family: Family) -> Option<Self> {
        let is_ours = |ip: &IpAddr| family.has(*ip);
        let ours =
            |ips: &[IpAddr]| -> Vec<IpAddr> { ips.iter().copied().filter(is_ours).collect() };
        let ranges = service.source_ranges.iter().copied();
        Some(Self {
            id: PortId {
                service: service.name.clone(),
                port: port.name.clone(),
                protocol: port.protocol,
            },
            cluster_ip: service.cluster_ips.iter().copied().find(is_ours)?,
            port: port.port,
            node_port: port.node_port,
            external_ips: ours(&service.external_ips),
            load_balancer_ips: ours(&service.load_balancer_ips),
            source_ranges: ranges.filter(|range| is_ours(&range.ip())).collect(),
            external_local: service.external_local,
            internal_local: service.internal_local,
            affinity: service.affinity,
            health_check_node_port: service.health_check_node_port,
            endpoints: Endpoints::default(),
        })
    }

    /// Whether it can be reached other than by its cluster address.
    pub fn is_externally_accessible(&self) -> bool {
        self.node_port.is_some()
            || !self.external_ips.is_empty()
            || !self.load_balancer_ips.is_empty()
    }

    /// Whether any traffic goes to endpoints of the whole cluster. Under `externalTrafficPolicy: Local` traffic of pods and of
    /// this node to an external address still does.
    pub fn uses_cluster_endpoints(&self) -> bool {
        !self.internal_local || self.is_externally_accessible()
    }

    /// Whether any traffic goes to endpoints of this node only.
    pub fn uses_local_endpoints(&self) -> bool {
        self.internal_local || (self.external_local && self.is_externally_accessible())
    }

    /// What happens to a connection to the cluster address.
    pub fn internal(&self) -> Reach<'_> {
        self.reach(self.internal_local)
    }

    /// What happens to a connection from outside to an external address or a node port.
    pub fn external(&self) -> Reach<'_> {
        self.reach(self.external_local)
    }

    /// What happens to a connection under the policy Local, or Cluster.
    pub fn reach(&self, local: bool) -> Reach<'_> {
        let endpoints = if local { &self.endpoints.local } else { &self.endpoints.cluster };
        match (self.endpoints.any, endpoints.is_empty()) {
            (false, _) => Reach::Reject,
            (true, true) => Reach::Drop,
            (true, false) => Reach::To(endpoints),
        }
    }

    /// About how many endpoints some traffic goes to; those of this node may be counted twice.
    pub fn endpoint_count(&self) -> usize {
        let cluster = if self.uses_cluster_endpoints() { self.endpoints.cluster.len() } else { 0 };
        let local = if self.uses_local_endpoints() { self.endpoints.local.len() } else { 0 };
        cluster + local
    }

    /// Every endpoint that some traffic goes to, in order of address, each once.
    pub fn reachable(&self) -> Vec<Endpoint> {
        let mut all = Vec::new();
        if self.uses_cluster_endpoints() {
            all.extend_from_slice(&self.endpoints.cluster);
        }
        if self.uses_local_endpoints() {
            all.extend_from_slice(&self.endpoints.local);
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}
