//! What one port of a service adds to the table.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netns_tools::nftables::{Data, Key, Verdict};
use sha2::{Digest, Sha256};

use super::super::model::{Endpoint, Reach, ServicePort};
use super::super::options::RuleOptions;
use super::affinity::{StickyEndpoint, StickyPick, StickyPort, StickyRoute};
use super::layout::{LOCAL, MOST, SetName, node_port_key, number, service_key};
use super::route::{Kind, Route};

/// An element of a set, or of a map with its data.
pub type Entry = (SetName, Key, Option<Data>);

/// Who may use a load balancer's address: these ranges, in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sources(pub Box<[IpNetwork]>);

impl Sources {
    /// Of a port; `None`: everybody. Where the balancer's address is one of this node's (by a route), a connection from this node
    /// to it has that address as its source too: if this node may use it, so may that address.
    fn of(port: &ServicePort, options: &RuleOptions) -> Option<Self> {
        let mut ranges = port.source_ranges.clone();
        let allowed = |ip: &IpAddr| port.source_ranges.iter().any(|range| range.contains(*ip));
        if options.node_ips.iter().any(allowed) {
            ranges.extend(port.load_balancer_ips.iter().copied().map(IpNetwork::from));
        }
        ranges.sort_unstable();
        ranges.dedup();
        (!ranges.is_empty()).then(|| Self(ranges.into()))
    }

    /// The name of the chain; services with the same ranges share it.
    pub fn chain(&self) -> Box<str> {
        let text: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        let digest = Sha256::digest(text.join(",").as_bytes());
        let digits = data_encoding::HEXLOWER.encode(&digest[..8]);
        format!("sources-{digits}").into()
    }
}

/// What several ports, or several addresses of one, may need: it is there as long as one of them does. In order: what leads to
/// another is behind it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shared {
    /// The chain of an endpoint that remembers its clients, and their set.
    Endpoint(Box<StickyEndpoint>),
    /// The chain that chooses among such endpoints.
    Pick(Box<StickyPick>),
    /// The chain that leads to such a one.
    StickyRoute(Box<StickyRoute>),
    /// The chain of a route.
    Route(Route),
    /// The chain of source ranges.
    Sources(Sources),
    /// An element of `cluster-ips`.
    ClusterIp(IpAddr),
    /// An element of `hairpins`.
    Hairpin(IpAddr),
}

/// What a port adds.
#[derive(Debug, Default)]
pub struct Contribution {
    /// Elements of its own.
    pub entries: Vec<Entry>,
    /// What it shares; each once.
    pub shared: Vec<Shared>,
}

/// The sets of what is known by an address, or by a node port.
struct Sets {
    routes: SetName,
    backends: SetName,
    rejected: SetName,
    dropped: SetName,
}

const BY_ADDRESS: Sets = Sets {
    routes: SetName::Services,
    backends: SetName::Backends,
    rejected: SetName::Rejected,
    dropped: SetName::Dropped,
};

const BY_NODE_PORT: Sets = Sets {
    routes: SetName::NodePorts,
    backends: SetName::NodePortBackends,
    rejected: SetName::RejectedNodePorts,
    dropped: SetName::DroppedNodePorts,
};

/// What a port adds. Pure.
pub fn contribution(port: &ServicePort, options: &RuleOptions) -> Contribution {
    let result = Contribution::default();
    let mut writer = Writer { port, options, sticky: StickyPort::of(port), result };
    writer.cluster_address();
    writer.external_addresses();
    writer.node_port();
    writer.firewall();
    writer.hairpins();
    let mut result = writer.result;
    result.shared.sort_unstable();
    result.shared.dedup();
    result
}

struct Writer<'a> {
    port: &'a ServicePort,
    options: &'a RuleOptions,
    sticky: Option<StickyPort>,
    result: Contribution,
}

fn count(endpoints: &[Endpoint]) -> u16 {
    // at most MOST
    u16::try_from(endpoints.len().min(MOST)).unwrap_or(u16::MAX)
}

impl Writer<'_> {
    fn add(&mut self, set: SetName, key: Key, data: Option<Data>) {
        self.result.entries.push((set, key, data));
    }

    /// Adds the chains of a way to the endpoints; answers what `services` and `nodeports` hold.
    fn route(&mut self, kind: Kind) -> Data {
        let chain = match self.sticky.clone() {
            Some(port) => self.sticky_route(&port, kind),
            None => self.common_route(kind),
        };
        Data::Verdict(Verdict::Goto(chain))
    }

    fn common_route(&mut self, kind: Kind) -> Box<str> {
        let endpoints = &self.port.endpoints;
        let (cluster, local) = kind.pools();
        let count = |is_used: bool, endpoints| if is_used { count(endpoints) } else { 0 };
        let (cluster, local) = (count(cluster, &endpoints.cluster), count(local, &endpoints.local));
        let route = Route { kind, cluster, local };
        self.result.shared.push(Shared::Route(route));
        self.result.shared.extend(route.picks().map(Shared::Route));
        route.chain()
    }

    fn sticky_route(&mut self, port: &StickyPort, kind: Kind) -> Box<str> {
        let (cluster, local) = kind.pools();
        let pools = (cluster && self.pick(port, false), local && self.pick(port, true));
        let route = StickyRoute { kind, id: port.id.clone(), pools };
        let chain = route.chain();
        self.result.shared.push(Shared::StickyRoute(Box::new(route)));
        chain
    }

    /// Adds the chain that chooses among the endpoints of a policy, with theirs. Answers whether there are any.
    fn pick(&mut self, port: &StickyPort, local: bool) -> bool {
        let endpoints = &self.port.endpoints;
        let endpoints = if local { &endpoints.local } else { &endpoints.cluster };
        let endpoints: Box<[_]> = endpoints.iter().map(|endpoint| endpoint.address).collect();
        if endpoints.is_empty() {
            return false;
        }
        let pick = StickyPick { port: port.clone(), local, endpoints };
        let chains = pick.endpoints().map(|endpoint| Shared::Endpoint(Box::new(endpoint)));
        self.result.shared.extend(chains);
        self.result.shared.push(Shared::Pick(Box::new(pick)));
        true
    }

    fn cluster_address(&mut self) {
        let port = self.port;
        let key = service_key(port.cluster_ip, port.id.protocol, port.port);
        let local = port.internal_local;
        match port.internal() {
            Reach::To(_) => {
                let route = self.route(if local { Kind::ClusterLocal } else { Kind::Cluster });
                self.add(SetName::Services, key, Some(route));
                self.pool(key, &BY_ADDRESS, local);
            }
            Reach::Reject => self.add(SetName::Rejected, key, None),
            Reach::Drop => self.add(SetName::Dropped, key, None),
        }
        self.result.shared.push(Shared::ClusterIp(port.cluster_ip));
    }

    /// Addresses from outside, each once.
    fn external_ips(&self) -> Vec<IpAddr> {
        let mut all = self.port.external_ips.clone();
        all.extend_from_slice(&self.port.load_balancer_ips);
        all.retain(|address| *address != self.port.cluster_ip);
        all.sort_unstable();
        all.dedup();
        all
    }

    fn external_addresses(&mut self) {
        for address in self.external_ips() {
            let key = service_key(address, self.port.id.protocol, self.port.port);
            self.frontend(key, &BY_ADDRESS);
        }
    }

    fn node_port(&mut self) {
        let Some(node_port) = self.port.node_port else { return };
        self.frontend(node_port_key(self.port.id.protocol, node_port), &BY_NODE_PORT);
    }

    /// Under the policy Local without an endpoint here, pods and this node still find the others; what nobody took is dropped.
    fn frontend(&mut self, key: Key, sets: &Sets) {
        if !self.port.endpoints.any {
            return self.add(sets.rejected, key, None);
        }
        if self.port.external() == Reach::Drop {
            self.add(sets.dropped, key, None);
        }
        let local = self.port.external_local;
        let route = self.route(if local { Kind::ExternalLocal } else { Kind::External });
        self.add(sets.routes, key, Some(route));
        self.pool(key, sets, false);
        if local {
            self.pool(key, sets, true);
        }
    }

    fn firewall(&mut self) {
        let Some(sources) = Sources::of(self.port, self.options) else { return };
        for address in self.port.load_balancer_ips.clone() {
            let key = service_key(address, self.port.id.protocol, self.port.port);
            let verdict = Data::Verdict(Verdict::Goto(sources.chain()));
            self.add(SetName::Firewall, key, Some(verdict));
            self.result.shared.push(Shared::Sources(sources.clone()));
        }
    }

    fn hairpins(&mut self) {
        for endpoint in self.port.reachable() {
            if endpoint.local {
                self.result.shared.push(Shared::Hairpin(endpoint.address.ip()));
            }
        }
    }

    /// Where `key` leads under one of the policies; the chains of a port that remembers its clients know by themselves.
    fn pool(&mut self, key: Key, sets: &Sets, local: bool) {
        if self.sticky.is_some() {
            return;
        }
        let endpoints = &self.port.endpoints;
        let (endpoints, offset) =
            if local { (&endpoints.local, LOCAL) } else { (&endpoints.cluster, 0) };
        for (index, endpoint) in (offset..).zip(endpoints.iter().take(MOST)) {
            let (address, port) = (endpoint.address.ip(), endpoint.address.port());
            let data = Data::Value(Key::new(address).and(port));
            self.add(sets.backends, key.and(number(index)), Some(data));
        }
    }
}
