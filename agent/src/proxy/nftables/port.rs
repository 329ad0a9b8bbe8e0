//! What one port of a service adds to the table.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netns_tools::nftables::{Data, Key, Verdict};
use sha2::{Digest, Sha256};

use super::super::model::{Endpoint, Reach, ServicePort};
use super::layout::{LOCAL, MOST, SetName, node_port_key, number, service_key};
use super::route::{Kind, Route};

/// An element of a set, or of a map with its data.
pub type Entry = (SetName, Key, Option<Data>);

/// Who may use a load balancer's address: these ranges, in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sources(pub Box<[IpNetwork]>);

impl Sources {
    /// Of a port; `None`: everybody.
    fn of(port: &ServicePort) -> Option<Self> {
        let mut ranges = port.source_ranges.clone();
        ranges.sort_unstable();
        ranges.dedup();
        (!ranges.is_empty()).then(|| Self(ranges.into()))
    }

    /// The name of the chain; services with the same ranges share it.
    pub fn chain(&self) -> Box<str> {
        let text: String = self.0.iter().map(|range| format!("{range},")).collect();
        let digest = Sha256::digest(text.as_bytes());
        let digits: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("sources-{digits}").into()
    }
}

/// What several ports may need: it is there as long as one of them does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Shared {
    /// The chain of a route, and its element in `routes`.
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

/// What a port adds. Pure.
pub fn contribution(port: &ServicePort) -> Contribution {
    let mut writer = Writer { port, result: Contribution::default() };
    writer.cluster_address();
    writer.external_addresses();
    writer.node_port();
    writer.firewall();
    writer.endpoints();
    let mut result = writer.result;
    result.shared.sort_unstable();
    result.shared.dedup();
    result
}

struct Writer<'a> {
    port: &'a ServicePort,
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

    fn own_key(&self) -> Key {
        service_key(self.port.cluster_ip, self.port.id.protocol, self.port.port)
    }

    /// In whole seconds; a part of one counts as one.
    fn affinity(&self) -> u32 {
        let seconds = self.port.affinity.map_or(0, |time| time.as_secs().max(1));
        u32::try_from(seconds).unwrap_or(u32::MAX).min(0x00ff_ffff)
    }

    fn route(&mut self, kind: Kind) -> Route {
        let endpoints = &self.port.endpoints;
        let (cluster, local) = (count(&endpoints.cluster), count(&endpoints.local));
        let (cluster, local) = match kind {
            Kind::Pick | Kind::Cluster | Kind::External => (cluster, 0),
            Kind::ClusterLocal => (0, local),
            Kind::ExternalLocal => (cluster, local),
        };
        let route = Route { kind, cluster, local, affinity: self.affinity() };
        self.result.shared.push(Shared::Route(route));
        self.result.shared.extend(route.picks().map(Shared::Route));
        route
    }

    fn cluster_address(&mut self) {
        let key = self.own_key();
        let kind = if self.port.internal_local { Kind::ClusterLocal } else { Kind::Cluster };
        match self.port.internal() {
            Reach::To(_) => {
                let route = self.route(kind);
                self.add(SetName::Services, key, Some(Data::Value(route.key())));
            }
            Reach::Reject => self.add(SetName::Rejected, key, None),
            Reach::Drop => self.add(SetName::Dropped, key, None),
        }
        self.result.shared.push(Shared::ClusterIp(self.port.cluster_ip));
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
            let sets =
                [SetName::Services, SetName::ExternalServices, SetName::Rejected, SetName::Dropped];
            self.frontend(key, sets);
        }
    }

    fn node_port(&mut self) {
        let Some(node_port) = self.port.node_port else { return };
        let sets = [
            SetName::NodePorts,
            SetName::NodePortServices,
            SetName::RejectedNodePorts,
            SetName::DroppedNodePorts,
        ];
        self.frontend(node_port_key(self.port.id.protocol, node_port), sets);
    }

    /// Under the policy Local without an endpoint here, pods and this node still find the others; what nobody took is dropped.
    fn frontend(&mut self, key: Key, [routes, services, rejected, dropped]: [SetName; 4]) {
        if !self.port.endpoints.any {
            return self.add(rejected, key, None);
        }
        if self.port.external() == Reach::Drop {
            self.add(dropped, key, None);
        }
        let local = self.port.external_local;
        let kind = if local { Kind::ExternalLocal } else { Kind::External };
        let route = self.route(kind);
        self.add(routes, key, Some(Data::Value(route.key())));
        self.add(services, key, Some(Data::Value(self.own_key())));
    }

    fn firewall(&mut self) {
        let Some(sources) = Sources::of(self.port) else { return };
        for address in self.port.load_balancer_ips.clone() {
            let key = service_key(address, self.port.id.protocol, self.port.port);
            let verdict = Data::Verdict(Verdict::Goto(sources.chain()));
            self.add(SetName::Firewall, key, Some(verdict));
            self.result.shared.push(Shared::Sources(sources.clone()));
        }
    }

    fn endpoints(&mut self) {
        let port = self.port;
        if port.uses_cluster_endpoints() {
            self.pool(&port.endpoints.cluster, 0, SetName::Members);
        }
        if port.uses_local_endpoints() {
            self.pool(&port.endpoints.local, LOCAL, SetName::LocalMembers);
        }
        for endpoint in port.reachable() {
            if endpoint.local {
                self.result.shared.push(Shared::Hairpin(endpoint.address.ip()));
            }
        }
    }

    fn pool(&mut self, endpoints: &[Endpoint], offset: u32, members: SetName) {
        let service = self.own_key();
        for (index, endpoint) in (offset..).zip(endpoints.iter().take(MOST)) {
            let (address, port) = (endpoint.address.ip(), endpoint.address.port());
            let data = Data::Value(Key::new(address).and(port));
            self.add(SetName::Backends, service.and(number(index)), Some(data));
            if self.affinity() > 0 {
                self.add(members, service.and(address).and(port), None);
            }
        }
    }
}
