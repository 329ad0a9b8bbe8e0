//! A node, a client behind it and the servers of the last service, each in a namespace of its own.

use std::net::{Ipv4Addr, SocketAddr};

use netns_tools::testing::{End, TestNetns, veth_pair};

use crate::world::{self, Size};
use crate::{Outcome, path};

/// The client's network, of the pods' range: its connections keep their source.
const CLIENT_ADDRESS: &str = "10.244.255.2/24";
const TO_CLIENT: &str = "10.244.255.1/24";

/// The namespaces; they go with this.
pub struct Topology {
    /// Where rules are.
    pub node: TestNetns,
    /// A pod of this node.
    pub client: TestNetns,
    /// Where servers are.
    pub pods: TestNetns,
}

impl Topology {
    /// Makes it. Services' addresses have a way, as on a node. Without rules whoever is asked at the last service's own address
    /// refuses at once, so that who waits for it can try again soon.
    pub fn new(size: Size) -> Self {
        let [node, client, pods] = [(); 3].map(|()| TestNetns::new("bench"));
        veth_pair(
            End(&node, "pods", &[world::NODE_ADDRESS]),
            End(&pods, "node", &world::SERVER_ADDRESSES),
        );
        veth_pair(End(&node, "client", &[TO_CLIENT]), End(&client, "node", &[CLIENT_ADDRESS]));
        let via = |address: &str| address.split('/').next().unwrap_or_default().to_owned();
        let (node_address, to_client) = (via(world::NODE_ADDRESS), via(TO_CLIENT));
        node.cmd(&["ip", "route", "add", "default", "via", &world::SERVER.to_string()]);
        client.cmd(&["ip", "route", "add", "default", "via", &to_client]);
        pods.cmd(&["ip", "route", "add", "default", "via", &node_address]);
        let service = format!("{}/32", world::cluster_ip(size.last()));
        pods.cmd(&["ip", "address", "add", &service, "dev", "lo"]);
        node.cmd(&["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
        Self { node, client, pods }
    }

    /// Starts the servers.
    pub fn serve(&self) -> Outcome<[path::Server<'_>; 2]> {
        let start = |address| path::Server::start(&self.pods, address);
        Ok([start(world::SERVER)?, start(world::OTHER_SERVER)?])
    }

    /// What connections cost from the client, and from the node.
    pub fn connect(&self, service: Ipv4Addr) -> Outcome<Connects> {
        let service = SocketAddr::from((service, world::PORT));
        Ok(Connects {
            pod: self.client.run(|| path::connect(&service))?,
            node: self.node.run(|| path::connect(&service))?,
        })
    }
}

/// Medians in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Connects {
    /// From a pod, which is forwarded.
    pub pod: Pair,
    /// From the node itself, to which the answer must come back: masqueraded.
    pub node: Pair,
}

/// Connections to a service and to its endpoint, that took turns.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pair {
    /// Through the service.
    pub service: f64,
    /// Without it.
    pub direct: f64,
}

impl Pair {
    /// How many times as long the service takes.
    pub fn ratio(self) -> f64 {
        self.service / self.direct
    }
}
