//! Which endpoints serve: kube-proxy's rules of readiness, topology and traffic policy.
//!
//! Kubernetes documentation: "Virtual IPs and Service Proxies" (traffic policies, traffic to terminating endpoints) and
//! "Topology Aware Routing". Ready endpoints come first; only if there is none, those that still serve while they terminate. That
//! is judged apart for the policies Cluster and Local. Hints count only if every ready endpoint has them and one is for us.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{Endpoint, Endpoints, Node, Port, Protocol, ServicePort, Slice, SliceEndpoint};

/// The nearness that hints ask for.
#[derive(Clone, Copy)]
enum Near {
    Anywhere,
    SameNode,
    SameZone,
}

/// The endpoints of a port. `slices` are those of its service and family.
pub fn endpoints(built: &ServicePort, port: &Port, slices: &[&Slice], node: &Node) -> Endpoints {
    let all = merged(port, slices);
    let mut found = Endpoints::default();
    if built.uses_cluster_endpoints() {
        let near = nearness(&all, node);
        found.cluster = pick(&all, node, |endpoint| endpoint.ready && near.allows(endpoint, node));
        if found.cluster.is_empty() {
            found.cluster = pick(&all, node, serves_to_the_end);
        }
        found.any = !found.cluster.is_empty();
    }
    if built.uses_local_endpoints() {
        found.any |= all.values().any(|endpoint| endpoint.ready || serves_to_the_end(endpoint));
        let here = |endpoint: &SliceEndpoint| node.is(endpoint.node.as_deref());
        found.local = pick(&all, node, |endpoint| endpoint.ready && here(endpoint));
        if found.local.is_empty() {
            found.local =
                pick(&all, node, |endpoint| serves_to_the_end(endpoint) && here(endpoint));
        }
    }
    if port.protocol != Protocol::Tcp {
        found.retained = retained(&all, &found);
    }
    found
}

/// Those that could still answer, and that were not chosen.
fn retained(all: &BTreeMap<SocketAddr, &SliceEndpoint>, found: &Endpoints) -> Vec<SocketAddr> {
    let is_among = |list: &[Endpoint], address: SocketAddr| {
        list.binary_search_by_key(&address, |endpoint| endpoint.address).is_ok()
    };
    let answers = all.iter().filter(|(_, endpoint)| endpoint.ready || endpoint.serving);
    answers
        .map(|(address, _)| *address)
        .filter(|one| !is_among(&found.cluster, *one) && !is_among(&found.local, *one))
        .collect()
}

fn serves_to_the_end(endpoint: &SliceEndpoint) -> bool {
    endpoint.serving && endpoint.terminating
}

/// Every endpoint of a port once. While an endpoint moves from one slice to another it is in both for a moment, and not always
/// in the same condition: the better one counts.
fn merged<'a>(port: &Port, slices: &[&'a Slice]) -> BTreeMap<SocketAddr, &'a SliceEndpoint> {
    let mut all: BTreeMap<SocketAddr, &SliceEndpoint> = BTreeMap::new();
    for slice in slices {
        let ports = slice
            .ports
            .iter()
            .filter(|of_slice| of_slice.name == port.name && of_slice.protocol == port.protocol);
        for of_slice in ports {
            for endpoint in &slice.endpoints {
                let known =
                    all.entry(SocketAddr::new(endpoint.address, of_slice.port)).or_insert(endpoint);
                if worth(endpoint) > worth(known) {
                    *known = endpoint;
                }
            }
        }
    }
    all
}

fn worth(endpoint: &SliceEndpoint) -> (bool, bool) {
    (endpoint.ready, endpoint.serving)
}

fn pick(
    all: &BTreeMap<SocketAddr, &SliceEndpoint>,
    node: &Node,
    wanted: impl Fn(&SliceEndpoint) -> bool,
) -> Vec<Endpoint> {
    let wanted = all.iter().filter(|(_, endpoint)| wanted(endpoint));
    let picked = wanted.map(|(address, endpoint)| Endpoint {
        address: *address,
        local: node.is(endpoint.node.as_deref()),
    });
    let mut picked: Vec<_> = picked.collect();
    // kept for as long as the service is as it is
    picked.shrink_to_fit();
    picked
}

fn nearness(all: &BTreeMap<SocketAddr, &SliceEndpoint>, node: &Node) -> Near {
    let ready = || all.values().filter(|endpoint| endpoint.ready);
    let counts = |allows: Near, hinted: fn(&SliceEndpoint) -> bool| {
        ready().all(|endpoint| hinted(endpoint))
            && ready().any(|endpoint| allows.allows(endpoint, node))
    };
    if counts(Near::SameNode, |endpoint| !endpoint.for_nodes.is_empty()) {
        Near::SameNode
    } else if counts(Near::SameZone, |endpoint| !endpoint.for_zones.is_empty()) {
        Near::SameZone
    } else {
        Near::Anywhere
    }
}

impl Near {
    fn allows(self, endpoint: &SliceEndpoint, node: &Node) -> bool {
        match self {
            Self::Anywhere => true,
            Self::SameNode => endpoint.for_nodes.contains(&node.name),
            Self::SameZone => endpoint.for_zones.contains(&node.zone),
        }
    }
}
