//! Where clients send to.

use std::net::{IpAddr, SocketAddr};

use netns_tools::conntrack::Filter;
use netns_tools::iptables::Family;

use crate::proxy::model::{Protocol, ServicePort};

/// What a service is reached by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Frontend {
    /// A cluster address, an external one, or a load balancer's, with the service's port.
    Address(Protocol, SocketAddr),
    /// A port at this node's addresses.
    NodePort(Protocol, u16),
}

impl Frontend {
    /// All of a port.
    pub fn of(port: &ServicePort) -> impl Iterator<Item = Self> {
        let protocol = port.id.protocol;
        let at = move |ip: IpAddr| Self::Address(protocol, SocketAddr::new(ip, port.port));
        let node_port = port.node_port.map(|number| Self::NodePort(protocol, number));
        addresses(port).map(at).chain(node_port)
    }

    /// Its protocol.
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::Address(protocol, _) | Self::NodePort(protocol, _) => protocol,
        }
    }

    /// The flows that were sent to it, and for a node port also what was sent to another host's.
    pub fn filter(self, family: Family) -> Filter {
        let filter = Filter::new(family).protocol(self.protocol().number());
        match self {
            Self::Address(_, at) => filter.to(at.ip()).port(at.port()),
            Self::NodePort(_, number) => filter.port(number),
        }
    }
}

/// The addresses of a port, without this node's.
fn addresses(port: &ServicePort) -> impl Iterator<Item = IpAddr> {
    let external = port.external_ips.iter().chain(&port.load_balancer_ips).copied();
    std::iter::once(port.cluster_ip).chain(external)
}

/// Whether a port is reached at this address of its own.
pub fn is_at(port: &ServicePort, at: SocketAddr) -> bool {
    port.port == at.port() && addresses(port).any(|address| address == at.ip())
}
