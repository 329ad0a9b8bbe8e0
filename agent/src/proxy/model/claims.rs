//! Who has an address and port.
//!
//! Nothing keeps two services from naming the same external address and port, and for moments even the same node port. Rules of
//! both would make the outcome depend on their order; here the older service has it (then the first by name), until it is gone.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::{Protocol, Service, ServiceName, ServicePort};

/// What can belong to one service only. No address: a node port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    address: Option<IpAddr>,
    protocol: Protocol,
    port: u16,
}

type Claimant = (i64, ServiceName);

/// All claims. In lists, as nearly every one has one entry and there are as many as services.
#[derive(Debug, Default)]
pub struct Claims {
    /// In order: first is the one who has it.
    claimants: HashMap<Frontend, Vec<Claimant>>,
    held: HashMap<ServiceName, (i64, Box<[Frontend]>)>,
}

impl Claims {
    /// What a service asks for: each once, in order.
    pub fn of(service: &Service) -> Box<[Frontend]> {
        let mut all = Vec::new();
        for port in &service.ports {
            let protocol = port.protocol;
            let addresses = service.cluster_ips.iter().chain(&service.external_ips);
            for address in addresses.chain(&service.load_balancer_ips) {
                all.push(Frontend { address: Some(*address), protocol, port: port.port });
            }
            all.extend(port.node_port.map(|port| Frontend { address: None, protocol, port }));
        }
        all.sort_unstable();
        all.dedup();
        all.into()
    }

    /// Sets what a service asks for; answers which other services lose or gain by it.
    pub fn set(
        &mut self,
        name: &ServiceName,
        created: Option<i64>,
        wanted: Box<[Frontend]>,
    ) -> BTreeSet<ServiceName> {
        let created = created.unwrap_or(i64::MAX);
        let (was, before) = self.held.remove(name).unwrap_or_else(|| (created, [].into()));
        let mut touched = BTreeSet::new();
        if was == created && before == wanted {
            self.keep(name, created, wanted);
            return touched;
        }
        for frontend in &before {
            self.change(*frontend, &mut touched, |all| {
                all.retain(|(_, claimant)| claimant != name);
            });
        }
        for frontend in &wanted {
            self.change(*frontend, &mut touched, |all| {
                let claimant = (created, name.clone());
                if let Err(at) = all.binary_search(&claimant) {
                    all.reserve_exact(1);
                    all.insert(at, claimant);
                }
            });
        }
        self.keep(name, created, wanted);
        touched.remove(name);
        touched
    }

    fn keep(&mut self, name: &ServiceName, created: i64, wanted: Box<[Frontend]>) {
        if !wanted.is_empty() {
            self.held.insert(name.clone(), (created, wanted));
        }
    }

    fn change(
        &mut self,
        frontend: Frontend,
        touched: &mut BTreeSet<ServiceName>,
        change: impl FnOnce(&mut Vec<Claimant>),
    ) {
        let all = self.claimants.entry(frontend).or_default();
        let before = all.first().cloned();
        change(all);
        let after = all.first().cloned();
        if all.is_empty() {
            self.claimants.remove(&frontend);
        }
        if before != after {
            touched.extend(before.into_iter().chain(after).map(|(_, name)| name));
        }
    }

    /// Takes from a port what another service has. `false`: that is its cluster address, and without it there is no port. The API
    /// server gives none twice, but objects come from elsewhere too, and two rules for one address would be refused with all that
    /// is changed at the same time.
    pub fn strip(&self, name: &ServiceName, port: &mut ServicePort) -> bool {
        let (protocol, number) = (port.id.protocol, port.port);
        let has = |address: Option<IpAddr>, port: u16| {
            let first = self.claimants.get(&Frontend { address, protocol, port });
            first.and_then(|all| all.first()).is_some_and(|(_, owner)| owner == name)
        };
        port.external_ips.retain(|ip| has(Some(*ip), number));
        port.load_balancer_ips.retain(|ip| has(Some(*ip), number));
        port.node_port = port.node_port.filter(|port| has(None, *port));
        has(Some(port.cluster_ip), number)
    }
}
