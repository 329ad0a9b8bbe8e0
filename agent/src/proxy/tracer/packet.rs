//! The packet, and what must be known of the host that it meets.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::proxy::model::Protocol;

/// The loopback interface.
pub(super) const LOOPBACK: &str = "lo";

/// Where a packet comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A program of this host's own network namespace.
    Here,
    /// By an interface.
    By {
        /// The interface that routing sees: the bridge, for a frame that came by one of its ports.
        interface: String,
        /// The bridge's port.
        port: Option<String>,
    },
}

impl Arrival {
    /// By an interface that is no bridge.
    pub fn by(interface: &str) -> Self {
        Self::By { interface: interface.to_owned(), port: None }
    }

    /// By a port of a bridge.
    pub fn by_port(bridge: &str, port: &str) -> Self {
        Self::By { interface: bridge.to_owned(), port: Some(port.to_owned()) }
    }
}

/// The first packet of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// From where.
    pub arrival: Arrival,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol.
    pub protocol: Protocol,
    /// Destination port.
    pub port: u16,
}

/// An interface of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its addresses with their prefixes; first is the one that the kernel prefers.
    pub addresses: Vec<IpNetwork>,
}

/// A host: its addresses and its routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Its interfaces but for the loopback interface, in order of their indexes.
    pub interfaces: Vec<Interface>,
    /// Routes beside those that come with addresses: what goes by which interface.
    pub routes: Vec<(IpNetwork, String)>,
}

impl Host {
    /// Whether an address is one of this host's (`RTN_LOCAL`).
    pub fn is_local(&self, address: IpAddr) -> bool {
        let own = |interface: &Interface| interface.addresses.iter().any(|net| net.ip() == address);
        address.is_loopback() || self.interfaces.iter().any(own)
    }

    /// The interface that a packet for an address leaves by: the loopback interface for the host's own. `None`: no route.
    pub fn route(&self, destination: IpAddr) -> Option<&str> {
        if self.is_local(destination) {
            return Some(LOOPBACK);
        }
        let own = self.interfaces.iter().flat_map(|interface| {
            interface.addresses.iter().map(|net| (*net, interface.name.as_str()))
        });
        let all = own.chain(self.routes.iter().map(|(net, name)| (*net, name.as_str())));
        let fitting = all.filter(|(net, _)| net.contains(destination));
        fitting.max_by_key(|(net, _)| net.prefix()).map(|(_, name)| name)
    }

    /// The address that this host shows where it speaks to a destination: the destination itself if it is the host's own, else
    /// the first of the interface that the packet leaves by.
    pub fn source_for(&self, destination: IpAddr) -> Option<IpAddr> {
        if self.is_local(destination) {
            return Some(destination);
        }
        self.address_of(self.route(destination)?, destination)
    }

    /// The address that masquerading gives to a packet for a destination.
    pub fn masquerade_source(&self, destination: IpAddr) -> Option<IpAddr> {
        self.address_of(self.route(destination)?, destination)
    }

    /// The address that masquerading gives to a packet that leaves by an interface. The loopback interface has none that would
    /// do, so it lends one of another (`inet_select_addr` in the kernel's `net/ipv4/devinet.c`).
    pub(super) fn address_of(&self, name: &str, destination: IpAddr) -> Option<IpAddr> {
        let same = |net: &&IpNetwork| net.is_ipv4() == destination.is_ipv4();
        let of = |interface: &Interface| interface.addresses.iter().find(same).map(IpNetwork::ip);
        let own = self.interfaces.iter().find(|interface| interface.name == name).and_then(of);
        own.or_else(|| self.interfaces.iter().find_map(of))
    }
}
