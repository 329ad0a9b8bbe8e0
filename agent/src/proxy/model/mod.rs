//! What must hold, and nothing of how: Services, `EndpointSlices` and this node become [`ServicePort`]s, per family.
//!
//! The model is incremental: a change of one object recomputes the ports of one service, and [`Model::take_changes`] says which
//! ports of which family are not what they were. It is pure: no kernel, no network, no clock.
//!
//! | file | what |
//! | --- | --- |
//! | `name` | names of services and ports, protocols |
//! | `service`, `slice` | the few fields of the objects that matter here, checked |
//! | `slices` | the slices of one service |
//! | `select` | which endpoints serve: readiness, topology hints, traffic policies |
//! | `port` | one port of one service in one family: the model's result |
//! | `claims` | who has an address and port, where several services ask for one |
//! | `node` | what of this node the rules depend on |

mod claims;
mod name;
mod node;
mod port;
mod select;
mod service;
mod slice;
mod slices;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use netns_tools::iptables::Family;

use claims::Claims;
pub use name::{PortId, Protocol, ServiceName};
pub use node::Node;
pub use port::{Endpoint, Endpoints, Reach, ServicePort};
pub use service::{Port, Refused, Service};
pub use slice::{Slice, SliceEndpoint, SlicePort};
use slices::Slices;

/// The label by which a service asks for another proxy.
pub const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// Both families.
pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The ports of one family, in order.
pub type Ports = BTreeMap<PortId, Arc<ServicePort>>;

/// The ports of one family that were added, changed or removed, each with what it was before (`None`: it was not there).
/// [`Model::ports`] tells what it is now.
pub type Changed = BTreeMap<PortId, Option<Arc<ServicePort>>>;

/// What became different since it was last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Of IPv4.
    pub v4: Changed,
    /// Of IPv6.
    pub v6: Changed,
    /// When the changes of endpoints were caused, as the API's annotation
    /// `endpoints.kubernetes.io/last-change-trigger-time` tells.
    pub triggered: Vec<SystemTime>,
    /// Objects of services that changed.
    pub services: usize,
    /// Objects of endpoints that changed.
    pub slices: usize,
}

impl Changes {
    /// The ports of a family that changed.
    pub fn of(&self, family: Family) -> &Changed {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    fn of_mut(&mut self, family: Family) -> &mut Changed {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    /// Whether any rule may have to change.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Takes in what happened later; what a port was before the first change counts.
    pub fn merge(&mut self, later: Self) {
        for (mine, other) in [(&mut self.v4, later.v4), (&mut self.v6, later.v6)] {
            for (id, before) in other {
                mine.entry(id).or_insert(before);
            }
        }
        self.triggered.extend(later.triggered);
        self.services += later.services;
        self.slices += later.slices;
    }
}

/// What a source of objects tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A service is there, or changed.
    Service(Service),
    /// A service is gone, or not for this proxy any more.
    NoService(ServiceName),
    /// A slice is there, or changed.
    Slice(Slice),
    /// A slice is gone.
    NoSlice {
        /// `namespace/name` of the slice.
        name: Arc<str>,
        /// Whose it was, if that is known.
        service: Option<ServiceName>,
    },
    /// This node is there, or changed.
    Node(Node),
    /// All services that there are: whatever is not among them is gone. The first of these, with the first
    /// [`Event::AllSlices`], means that the source has synced.
    AllServices(Vec<Service>),
    /// All slices that there are.
    AllSlices(Vec<Slice>),
}

/// The health check that a load balancer makes of this node for one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The node port to answer at.
    pub port: u16,
    /// How many endpoints of this node are ready, each address counted once.
    pub local_endpoints: usize,
}

/// All that the proxy knows.
#[derive(Debug, Default)]
pub struct Model {
    node: Node,
    services: HashMap<ServiceName, Box<Service>>,
    slices: HashMap<ServiceName, Slices>,
    v4: Ports,
    v6: Ports,
    claims: Claims,
    changes: Changes,
}

impl Model {
    /// An empty model of a node.
    pub fn new(node: Node) -> Self {
        Self { node, ..Self::default() }
    }

    /// What must hold in a family.
    pub fn ports(&self, family: Family) -> &Ports {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// This node, as it was last told.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// A service by name.
    pub fn service(&self, name: &ServiceName) -> Option<&Service> {
        self.services.get(name).map(|service| &**service)
    }

    /// The names of all services.
    pub fn service_names(&self) -> impl Iterator<Item = &ServiceName> {
        self.services.keys()
    }

    /// A service was added or changed.
    pub fn set_service(&mut self, service: Service) {
        let name = service.name.clone();
        if self.service(&name) != Some(&service) {
            self.services.insert(name.clone(), Box::new(service));
            self.changes.services += 1;
            self.rebuild(&name);
        }
    }

    /// A service is gone, or not for us any more.
    pub fn remove_service(&mut self, name: &ServiceName) {
        if self.services.remove(name).is_some() {
            self.changes.services += 1;
            self.rebuild(name);
        }
    }

    /// A slice was added or changed. One that moved to another service leaves the first.
    pub fn set_slice(&mut self, slice: Slice) {
        let (name, service) = (slice.name.clone(), slice.service.clone());
        self.leave_others(&name, &service);
        let slices = self.slices.entry(service.clone()).or_default();
        if slices.get(&name).is_some_and(|known| known.same_endpoints(&slice)) {
            return;
        }
        self.changes.slices += 1;
        self.changes.triggered.extend(slice.triggered);
        slices.set(slice);
        self.rebuild(&service);
    }

    /// A slice is gone. `service` is whose it was; if that is not known, all are searched.
    pub fn remove_slice(&mut self, name: &str, service: Option<&ServiceName>) {
        let of = match service {
            Some(service) => Some(service.clone()),
            None => self.service_of_slice(name),
        };
        let Some(service) = of else { return };
        let Some(slices) = self.slices.get_mut(&service) else { return };
        if slices.remove(name) {
            if slices.is_empty() {
                self.slices.remove(&service);
            }
            self.changes.slices += 1;
            self.rebuild(&service);
        }
    }

    /// The label that names a slice's service may change, though no controller does so.
    fn leave_others(&mut self, name: &str, service: &ServiceName) {
        let elsewhere = !self.slices.get(service).is_some_and(|slices| slices.has(name));
        if elsewhere && let Some(other) = self.service_of_slice(name) {
            self.remove_slice(name, Some(&other));
        }
    }

    /// Nearly always the slice's name begins with its service's name, so that is looked at first.
    fn service_of_slice(&self, name: &str) -> Option<ServiceName> {
        let likely = name.rsplit_once('-').map(|(service, _)| ServiceName::from_key(service));
        if let Some(likely) = likely
            && self.slices.get(&likely).is_some_and(|slices| slices.has(name))
        {
            return Some(likely);
        }
        let mut all = self.slices.iter();
        all.find(|(_, slices)| slices.has(name)).map(|(service, _)| service.clone())
    }

    /// Takes in what a source tells.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Service(service) => self.set_service(service),
            Event::NoService(name) => self.remove_service(&name),
            Event::Slice(slice) => self.set_slice(slice),
            Event::NoSlice { name, service } => self.remove_slice(&name, service.as_ref()),
            Event::Node(node) => self.set_node(node),
            Event::AllServices(all) => self.replace_services(all),
            Event::AllSlices(all) => self.replace_slices(all),
        }
    }

    fn replace_services(&mut self, all: Vec<Service>) {
        let kept: BTreeSet<_> = all.iter().map(|service| service.name.clone()).collect();
        let gone: Vec<_> =
            self.services.keys().filter(|name| !kept.contains(name)).cloned().collect();
        for name in gone {
            self.remove_service(&name);
        }
        for service in all {
            self.set_service(service);
        }
    }

    fn replace_slices(&mut self, all: Vec<Slice>) {
        let kept: BTreeSet<_> = all.iter().map(|slice| slice.name.clone()).collect();
        let known = self.slices.iter().flat_map(|(service, slices)| {
            slices.iter().map(move |slice| (slice.name.clone(), service.clone()))
        });
        let gone: Vec<_> = known.filter(|(name, _)| !kept.contains(name)).collect();
        for (name, service) in gone {
            self.remove_slice(&name, Some(&service));
        }
        for slice in all {
            self.set_slice(slice);
        }
    }

    /// This node changed: another zone judges every hint anew.
    pub fn set_node(&mut self, node: Node) {
        let judged_anew = node.name != self.node.name || node.zone != self.node.zone;
        self.node = node;
        if judged_anew {
            let names: Vec<_> = self.services.keys().cloned().collect();
            for name in names {
                self.rebuild(&name);
            }
        }
    }

    /// What changed since the last call.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Whether something changed since [`Model::take_changes`].
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// How many object changes wait: of services, of endpoints.
    pub fn pending(&self) -> (usize, usize) {
        (self.changes.services, self.changes.slices)
    }

    /// The health checks that this node answers.
    pub fn health_checks(&self) -> BTreeMap<ServiceName, HealthCheck> {
        let check = |service: &Service| {
            let port = service.health_check_node_port?;
            let slices = self.slices.get(&service.name).into_iter().flat_map(Slices::iter);
            let local = slices.flat_map(|slice| slice.endpoints.iter());
            let addresses: BTreeSet<_> = local
                .filter(|endpoint| endpoint.ready && self.node.is(endpoint.node.as_deref()))
                .map(|endpoint| endpoint.address)
                .collect();
            let check = HealthCheck { port, local_endpoints: addresses.len() };
            Some((service.name.clone(), check))
        };
        self.services.values().filter_map(|service| check(service)).collect()
    }

    /// Computes the ports of a service anew, and of those that lose or gain an address by it.
    fn rebuild(&mut self, name: &ServiceName) {
        let mut waiting = vec![name.clone()];
        let mut done = BTreeSet::new();
        while let Some(name) = waiting.pop() {
            if done.insert(name.clone()) {
                let claimed = self.service(&name).map(Claims::of).unwrap_or_default();
                let created = self.services.get(&name).and_then(|service| service.created);
                waiting.extend(self.claims.set(&name, created, claimed));
                self.recompute(&name);
            }
        }
    }

    fn recompute(&mut self, name: &ServiceName) {
        for family in FAMILIES {
            let mut next = self.ports_of(name, family);
            let ports = match family {
                Family::V4 => &mut self.v4,
                Family::V6 => &mut self.v6,
            };
            let known = ports.range(name.first_port()..).map(|(id, _)| id);
            let known: Vec<_> = known.take_while(|id| id.service == *name).cloned().collect();
            let changed = self.changes.of_mut(family);
            for id in known {
                match next.remove(&id) {
                    Some(port) if *ports[&id] == port => {}
                    Some(port) => {
                        let before = ports.insert(id.clone(), Arc::new(port));
                        changed.entry(id).or_insert(before);
                    }
                    None => {
                        let before = ports.remove(&id);
                        changed.entry(id).or_insert(before);
                    }
                }
            }
            for (id, port) in next {
                changed.entry(id.clone()).or_insert(None);
                ports.insert(id, Arc::new(port));
            }
        }
    }

    fn ports_of(&self, name: &ServiceName, family: Family) -> BTreeMap<PortId, ServicePort> {
        let Some(service) = self.services.get(name) else { return BTreeMap::new() };
        let slices = self.slices.get(name).into_iter().flat_map(Slices::iter);
        let slices: Vec<_> = slices.filter(|slice| slice.family == family).collect();
        // a number or node port that a service names twice is the first port's
        let (mut numbers, mut node_ports) = (BTreeSet::new(), BTreeSet::new());
        let port = |port: &Port| {
            let mut built = ServicePort::new(service, port, family)?;
            let has_address = self.claims.strip(name, &mut built);
            if !has_address || !numbers.insert((port.protocol, port.port)) {
                return None;
            }
            built.node_port =
                built.node_port.filter(|node| node_ports.insert((port.protocol, *node)));
            built.endpoints = select::endpoints(&built, port, &slices, &self.node);
            Some((built.id.clone(), built))
        };
        service.ports.iter().filter_map(port).collect()
    }
}

#[cfg(test)]
mod tests;
