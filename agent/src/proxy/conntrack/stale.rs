//! Which flows are stale. Pure.

use std::collections::HashMap;
use std::net::SocketAddr;

use netns_tools::conntrack::{Filter, Flow, SCTP, UDP};
use netns_tools::iptables::Family;

use super::Frontend;
use crate::proxy::model::{Changed, Endpoint, Ports, Protocol, ServicePort};

/// Up to so many frontends the kernel is asked for the flows of each. It walks its whole table for every question, but prints only
/// what matches; printing all UDP flows for us to choose from costs as much as this many walks.
const QUESTIONS: usize = 8;

/// Whether a flow is to be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is not stale, or none of ours.
    Keep,
    /// It is stale.
    Stale,
    /// It is stale if it was sent to a node port: if its destination is this node.
    StaleAtNode,
}

/// What is known of a frontend.
#[derive(Debug, Default)]
struct Doubt<'a> {
    /// The ports that it belonged to, if that is known.
    before: Vec<&'a ServicePort>,
    /// The ports that it belongs to. Mostly one; none if it is gone.
    now: Vec<&'a ServicePort>,
}

/// Frontends that may have stale flows.
#[derive(Debug)]
pub struct Doubts<'a> {
    frontends: HashMap<Frontend, Doubt<'a>>,
    /// Whether it is known to whom they belonged before.
    history: bool,
}

impl<'a> Doubts<'a> {
    /// After a change, of which everything is known: what serves a frontend, and what did. An address may have moved from one
    /// service to another.
    pub fn of_changes(changed: &'a Changed, ports: &'a Ports) -> Self {
        let mut frontends: HashMap<_, Doubt<'a>> = HashMap::new();
        for (id, before) in changed.iter().filter(|(id, _)| id.protocol != Protocol::Tcp) {
            if let Some(port) = before {
                Frontend::of(port)
                    .for_each(|at| frontends.entry(at).or_default().before.push(port));
            }
            if let Some(port) = ports.get(id) {
                Frontend::of(port).for_each(|at| frontends.entry(at).or_default().now.push(port));
            }
        }
        frontends.retain(|_, doubt| doubt.may_have_stale_flows());
        Self { frontends, history: true }
    }

    /// Of everything, without knowing what was before. A diverted flow to an endpoint that does not serve is stale
    ///
    /// * at a cluster address, because nobody else diverts what is sent there;
    /// * at an external address, a load balancer's or a node port only if the endpoint has the port number of an endpoint that
    ///   serves. Pods of one service mostly have one port number in common, so this is most likely one that served before; a
    ///   `hostPort` of another program, on the same port of this node, most likely leads to another number.
    ///
    /// A direct flow is stale where there is an endpoint now. What was sent to services that are gone is not known any more.
    pub fn of_ports(ports: &'a Ports) -> Self {
        let mut frontends: HashMap<_, Doubt<'a>> = HashMap::new();
        for (_, port) in ports.iter().filter(|(id, _)| id.protocol != Protocol::Tcp) {
            Frontend::of(port).for_each(|at| frontends.entry(at).or_default().now.push(port));
        }
        Self { frontends, history: false }
    }

    /// What to ask the kernel for.
    pub fn filters(&self, family: Family) -> Vec<Filter> {
        if self.frontends.len() <= QUESTIONS {
            return self.frontends.keys().map(|frontend| frontend.filter(family)).collect();
        }
        let has = |protocol| self.frontends.keys().any(|frontend| frontend.protocol() == protocol);
        let protocols = [Protocol::Udp, Protocol::Sctp].into_iter().filter(|one| has(*one));
        protocols.map(|one| Filter::new(family).protocol(one.number())).collect()
    }

    /// Whether a flow is stale. Other zones are other people's: the rules see only packets of zone 0.
    pub fn judge(&self, flow: &Flow) -> Verdict {
        let protocol = match flow.protocol {
            UDP => Protocol::Udp,
            SCTP => Protocol::Sctp,
            _ => return Verdict::Keep,
        };
        if flow.zone != 0 {
            return Verdict::Keep;
        }
        let to = flow.original.destination;
        // as in the rules, a service's own address comes before node ports
        let is_stale = |doubt: &Doubt<'_>| doubt.is_stale(flow, self.history);
        if let Some(doubt) = self.frontends.get(&Frontend::Address(protocol, to)) {
            return if is_stale(doubt) { Verdict::Stale } else { Verdict::Keep };
        }
        let at_node = self.frontends.get(&Frontend::NodePort(protocol, to.port()));
        if at_node.is_some_and(is_stale) { Verdict::StaleAtNode } else { Verdict::Keep }
    }
}

impl Doubt<'_> {
    /// Whether to look for flows at all: an endpoint went, or the first came.
    fn may_have_stale_flows(&self) -> bool {
        let went = |port: &&ServicePort| serving(port).any(|endpoint| !self.serves(endpoint));
        self.is_new() || self.before.iter().any(went)
    }

    fn is_stale(&self, flow: &Flow, history: bool) -> bool {
        let endpoint = flow.reply.source;
        if self.serves(endpoint) {
            false
        } else if !flow.is_diverted() {
            self.is_new()
        } else if history {
            self.before.iter().any(|port| serves(port, endpoint))
        } else {
            self.now.iter().any(|port| may_be_ours(port, flow))
        }
    }

    fn serves(&self, endpoint: SocketAddr) -> bool {
        self.now.iter().any(|port| serves(port, endpoint))
    }

    /// Somebody serves, and as far as is known nobody did.
    fn is_new(&self) -> bool {
        let has = |ports: &[&ServicePort]| ports.iter().any(|port| has_endpoints(port));
        has(&self.now) && !has(&self.before)
    }
}

/// See [`Doubts::of_ports`].
fn may_be_ours(port: &ServicePort, flow: &Flow) -> bool {
    let (to, endpoint) = (flow.original.destination, flow.reply.source);
    let at_cluster_ip = (to.ip(), to.port()) == (port.cluster_ip, port.port);
    at_cluster_ip || serving(port).any(|one| one.port() == endpoint.port())
}

fn has_endpoints(port: &ServicePort) -> bool {
    !port.endpoints.cluster.is_empty() || !port.endpoints.local.is_empty()
}

/// Every endpoint that may have flows; some more than once.
fn serving(port: &ServicePort) -> impl Iterator<Item = SocketAddr> {
    let endpoints = &port.endpoints;
    let chosen = endpoints.cluster.iter().chain(&endpoints.local).map(|one| one.address);
    chosen.chain(endpoints.retained.iter().copied())
}

fn serves(port: &ServicePort, endpoint: SocketAddr) -> bool {
    let endpoints = &port.endpoints;
    let holds = |list: &[Endpoint]| list.binary_search_by_key(&endpoint, |one| one.address).is_ok();
    holds(&endpoints.cluster)
        || holds(&endpoints.local)
        || endpoints.retained.binary_search(&endpoint).is_ok()
}
