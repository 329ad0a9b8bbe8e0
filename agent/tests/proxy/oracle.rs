//! What should become of a packet, from Kubernetes' own words: "Virtual IPs and Service Proxies", "Service" (traffic policies,
//! source ranges, external IPs), and the behaviour of kube-proxy 1.36 where these leave it open.
//!
//! Nothing here knows of chains, marks or maps. What the two modes do differently, as kube-proxy's do, is a [`Difference`].

use std::net::IpAddr;

use heddle_agent::proxy::model::{Endpoint, Ports, Reach, ServicePort};
use heddle_agent::proxy::options::{LocalMatch, NodePortAddresses, RuleOptions};
use heddle_agent::proxy::tracer::{Arrival, Fate, Host, Packet, Verdict};
use netns_tools::iptables::Family;

/// How rules are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Iptables,
    Nftables,
}

/// What kube-proxy's two modes do differently, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// 127.0.0.1 serves node ports only in iptables mode: `route_localnet`, which it needs, is a hole that nftables mode closed.
    NodePortsAtLocalhost,
    /// Another port of a cluster address is refused in nftables mode, where one set holds all cluster addresses. In iptables mode
    /// the packet goes where routes lead it.
    OtherPortsOfClusterAddresses,
    /// A program of this node that asks an external address without endpoints is told so only in nftables mode: in iptables mode
    /// the chain of external services does not hang in OUTPUT.
    NoEndpointsAskedFromHere,
    /// In iptables mode a node port without endpoints is refused at every address of this node, listed or not.
    NoEndpointsAtEveryAddress,
    /// Only in iptables mode, which opens 127.0.0.0/8 for node ports, packets for it that come from elsewhere are dropped.
    LoopbackFromElsewhere,
    /// In nftables mode source ranges are judged before anything else, in iptables mode only if there are endpoints: whom they do
    /// not allow is then refused instead of ignored.
    RangesWithoutEndpoints,
    /// An endpoint of another node that comes back to itself through this node is masqueraded only in iptables mode; in nftables
    /// mode the set of such pairs holds this node's endpoints.
    HairpinOfOtherNodes,
}

impl Mode {
    fn has(self, difference: Difference) -> bool {
        use Difference::*;
        match difference {
            NodePortsAtLocalhost
            | NoEndpointsAtEveryAddress
            | LoopbackFromElsewhere
            | HairpinOfOtherNodes => self == Self::Iptables,
            OtherPortsOfClusterAddresses | NoEndpointsAskedFromHere | RangesWithoutEndpoints => {
                self == Self::Nftables
            }
        }
    }
}

/// All that the expectation depends on.
#[derive(Clone, Copy, Debug)]
pub struct Oracle<'a> {
    pub ports: &'a Ports,
    pub options: &'a RuleOptions,
    pub host: &'a Host,
    pub mode: Mode,
}

/// By which of a service's doors a packet comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Cluster,
    External,
    Balancer,
    NodePort,
    /// A node port at an address that does not serve node ports.
    ClosedNodePort,
}

impl Oracle<'_> {
    /// What should become of a packet.
    pub fn expect(&self, packet: &Packet) -> Verdict {
        let verdict = match self.service(packet) {
            Some((port, door)) => self.served(port, door, packet),
            None => self.not_served(packet),
        };
        let is_stray = verdict.endpoints().is_empty() && self.is_stray(packet);
        if is_stray { Verdict::sure(Fate::Dropped) } else { verdict }
    }

    /// For the loopback interface, and from elsewhere.
    fn is_stray(&self, packet: &Packet) -> bool {
        let opened = self.options.localhost_node_ports && packet.destination.is_ipv4();
        let stray = packet.destination.is_loopback() && !packet.source.is_loopback();
        stray && opened && self.mode.has(Difference::LoopbackFromElsewhere)
    }

    fn service(&self, packet: &Packet) -> Option<(&ServicePort, Door)> {
        let of_protocol = || self.ports.values().filter(|port| port.id.protocol == packet.protocol);
        let at_address = of_protocol()
            .filter(|port| port.port == packet.port)
            .find_map(|port| Some((port.as_ref(), door(port, packet.destination)?)));
        let at_node = || {
            if !self.host.is_local(packet.destination) {
                return None;
            }
            let port = of_protocol().find(|port| port.node_port == Some(packet.port))?;
            let open = self.serves_node_ports(packet.destination);
            Some((port.as_ref(), if open { Door::NodePort } else { Door::ClosedNodePort }))
        };
        at_address.or_else(at_node)
    }

    fn serves_node_ports(&self, address: IpAddr) -> bool {
        let opened = self.options.localhost_node_ports && address.is_ipv4();
        if address.is_loopback() && !(opened && self.mode.has(Difference::NodePortsAtLocalhost)) {
            return false;
        }
        match &self.options.node_ports {
            NodePortAddresses::Any => true,
            NodePortAddresses::Listed(listed) => listed.contains(&address),
        }
    }

    fn served(&self, port: &ServicePort, door: Door, packet: &Packet) -> Verdict {
        match door {
            Door::Cluster => {
                let masquerade = self.options.masquerade_all || self.is_foreign(packet);
                self.reached(port.internal(), packet, masquerade)
            }
            Door::ClosedNodePort => self.at_closed_node_port(port, packet),
            Door::Balancer if self.ranges_count(port) && !self.may_use_balancer(port, packet) => {
                Verdict::sure(Fate::Dropped)
            }
            Door::External | Door::Balancer | Door::NodePort => self.at_external_door(port, packet),
        }
    }

    /// Pods and this node are inside, wherever they knock; only others are bound to the policy.
    fn at_external_door(&self, port: &ServicePort, packet: &Packet) -> Verdict {
        let inside = port.reach(false);
        if port.external() == Reach::Reject {
            return self.nobody(packet);
        }
        if !port.external_local {
            return self.reached(inside, packet, true);
        }
        if self.is_of_pod(packet) == Some(true) {
            return self.reached(inside, packet, false);
        }
        if self.host.is_local(packet.source) {
            return self.reached(inside, packet, true);
        }
        self.reached(port.external(), packet, false)
    }

    fn nobody(&self, packet: &Packet) -> Verdict {
        let elsewhere = !self.host.is_local(packet.destination);
        let from_here = packet.arrival == Arrival::Here;
        if from_here && elsewhere && !self.mode.has(Difference::NoEndpointsAskedFromHere) {
            return untouched(packet);
        }
        Verdict::sure(Fate::Rejected)
    }

    fn at_closed_node_port(&self, port: &ServicePort, packet: &Packet) -> Verdict {
        if !self.mode.has(Difference::NoEndpointsAtEveryAddress) {
            return self.not_served(packet);
        }
        match port.external() {
            Reach::Reject => Verdict::sure(Fate::Rejected),
            Reach::Drop => Verdict::sure(Fate::Dropped),
            Reach::To(_) => self.not_served(packet),
        }
    }

    fn ranges_count(&self, port: &ServicePort) -> bool {
        port.endpoints.any || self.mode.has(Difference::RangesWithoutEndpoints)
    }

    /// The balancer's own address comes in where this node speaks to it and it is this node's: then this node's own address
    /// decides.
    fn may_use_balancer(&self, port: &ServicePort, packet: &Packet) -> bool {
        let ranges = &port.source_ranges;
        let allowed = |ip: IpAddr| ranges.iter().any(|range| range.contains(ip));
        let own = self.options.node_ips.iter().copied().any(allowed);
        ranges.is_empty()
            || allowed(packet.source)
            || (own && port.load_balancer_ips.contains(&packet.source))
    }

    fn reached(&self, reach: Reach<'_>, packet: &Packet, masquerade: bool) -> Verdict {
        match reach {
            Reach::Reject => Verdict::sure(Fate::Rejected),
            Reach::Drop => Verdict::sure(Fate::Dropped),
            Reach::To(endpoints) => Verdict::evenly(
                endpoints.iter().map(|endpoint| self.at_endpoint(endpoint, packet, masquerade)),
            ),
        }
    }

    /// An endpoint that speaks to itself would answer itself past this node: it is masqueraded too. What ends at a program of this
    /// node and comes from elsewhere never leaves, so nothing is changed there.
    fn at_endpoint(&self, endpoint: &Endpoint, packet: &Packet, masquerade: bool) -> Fate {
        let to = endpoint.address;
        let leaves = packet.arrival == Arrival::Here || !self.host.is_local(to.ip());
        let comes_back = to.ip() == packet.source
            && (endpoint.local || self.mode.has(Difference::HairpinOfOtherNodes));
        let masquerade = leaves && (masquerade || comes_back);
        let masked = || self.host.masquerade_source(to.ip()).unwrap();
        Fate::Endpoint { to, source: if masquerade { masked() } else { packet.source } }
    }

    fn not_served(&self, packet: &Packet) -> Verdict {
        let cluster = self.ports.values().any(|port| port.cluster_ip == packet.destination);
        if cluster && self.mode.has(Difference::OtherPortsOfClusterAddresses) {
            return Verdict::sure(Fate::Rejected);
        }
        untouched(packet)
    }

    /// `None`: nothing is known of pods.
    fn is_of_pod(&self, packet: &Packet) -> Option<bool> {
        let family = if packet.source.is_ipv4() { Family::V4 } else { Family::V6 };
        let interface = match &packet.arrival {
            Arrival::Here => "",
            Arrival::By { interface, .. } => interface,
        };
        Some(match self.options.local.of(family)? {
            LocalMatch::Source(range) => range.contains(packet.source),
            LocalMatch::Interface(name) => interface == name,
            LocalMatch::InterfacePrefix(prefix) => interface.starts_with(prefix),
        })
    }

    fn is_foreign(&self, packet: &Packet) -> bool {
        self.is_of_pod(packet) == Some(false)
    }
}

fn door(port: &ServicePort, destination: IpAddr) -> Option<Door> {
    if port.cluster_ip == destination {
        Some(Door::Cluster)
    } else if port.external_ips.contains(&destination) {
        Some(Door::External)
    } else if port.load_balancer_ips.contains(&destination) {
        Some(Door::Balancer)
    } else {
        None
    }
}

fn untouched(packet: &Packet) -> Verdict {
    Verdict::sure(Fate::Untouched { source: packet.source })
}
