//! The packets that are tried: everyone knocks at every door of every service.

use std::net::IpAddr;

use heddle_agent::proxy::model::Protocol;
use heddle_agent::proxy::tracer::{Arrival, Packet};
use netns_tools::iptables::Family;

use crate::world::*;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sender {
    /// A pod of this node, by number.
    Pod(usize),
    /// A program of this node.
    Node,
    /// The other node.
    OtherNode,
    /// A pod of the other node.
    OtherPod,
    /// Outside, in the source ranges.
    Welcome,
    /// Outside, not in them.
    Stranger,
}

/// Everyone. The first pod is an endpoint of most services, the last of none.
pub const SENDERS: [Sender; 7] = [
    Sender::Pod(0),
    Sender::Pod(2),
    Sender::Node,
    Sender::OtherNode,
    Sender::OtherPod,
    Sender::Welcome,
    Sender::Stranger,
];

impl Sender {
    fn arrival(self) -> Arrival {
        match self {
            Self::Pod(number) => Arrival::by_port(BRIDGE, &format!("veth{number}")),
            Self::Node => Arrival::Here,
            _ => Arrival::by(UPLINK),
        }
    }

    /// The source of what it sends. A program of this node speaks from the address that routes prefer.
    pub fn source(self, destination: IpAddr) -> IpAddr {
        let family = if destination.is_ipv4() { Family::V4 } else { Family::V6 };
        match self {
            Self::Pod(number) => PODS[number].ip(family),
            Self::Node => host().source_for(destination).unwrap(),
            Self::OtherNode => OTHER_NODE.ip(family),
            Self::OtherPod => OTHER_PODS[0].ip(family),
            Self::Welcome => WELCOME.ip(family),
            Self::Stranger => STRANGER.ip(family),
        }
    }

    pub fn packet(self, destination: IpAddr, protocol: Protocol, port: u16) -> Packet {
        let source = self.source(destination);
        Packet { arrival: self.arrival(), source, destination, protocol, port }
    }
}

/// A packet of a sender, with what it is for.
#[derive(Clone, Debug)]
pub struct Flow {
    pub name: String,
    pub sender: Sender,
    pub packet: Packet,
}

/// The doors of a service in a family: what, address, port.
fn doors(example: &Example, family: Family) -> Vec<(&'static str, IpAddr, u16)> {
    let index = example.index;
    let mut doors = vec![
        ("cluster address", cluster_ip(family, index), 80),
        ("another port of the cluster address", cluster_ip(family, index), 81),
    ];
    if example.kind.external {
        let external = if example.at_this_node {
            LOCAL_EXTERNAL.ip(family)
        } else {
            external_ip(family, index)
        };
        doors.extend([
            ("external address", external, 80),
            ("another port of the external address", external, 81),
            ("load balancer", balancer_ip(family, index), 80),
            ("node port", NODE.ip(family), node_port(index)),
            ("node port at the bridge", GATEWAY.ip(family), node_port(index)),
            ("node port at the external address", LOCAL_EXTERNAL.ip(family), node_port(index)),
            ("node port at localhost", LOCALHOST.ip(family), node_port(index)),
        ]);
    }
    doors
}

/// Every sender at every door of every service, and some that know no service.
pub fn flows(examples: &[Example], family: Family) -> Vec<Flow> {
    let mut flows = Vec::new();
    for example in examples {
        let protocol = Protocol::parse(example.protocol).unwrap();
        for (door, address, port) in doors(example, family) {
            for sender in SENDERS {
                let name = format!(
                    "{sender:?} to {door} of {} ({:?}, {:?})",
                    example.name, example.kind, example.endpoints
                );
                flows.push(Flow { name, sender, packet: sender.packet(address, protocol, port) });
            }
        }
    }
    flows.extend(strays(family));
    flows
}

/// Packets that are for no service, or for one under another protocol.
fn strays(family: Family) -> Vec<Flow> {
    let direct = |name: &str, place: Place, protocol, port| {
        SENDERS.map(|sender| Flow {
            name: format!("{sender:?} {name}"),
            sender,
            packet: sender.packet(place.ip(family), protocol, port),
        })
    };
    let mut flows = Vec::new();
    flows.extend(direct("to a pod", PODS[1], Protocol::Tcp, TARGET_PORT));
    flows.extend(direct("to a pod of the other node", OTHER_PODS[1], Protocol::Udp, TARGET_PORT));
    flows.extend(direct("to this node", NODE, Protocol::Tcp, 22));
    flows.extend(direct("to no node port", NODE, Protocol::Tcp, 32_767));
    flows.extend(direct("to localhost", LOCALHOST, Protocol::Tcp, 22));
    flows.extend(direct("outwards", WELCOME, Protocol::Tcp, 443));
    let udp = SENDERS.map(|sender| Flow {
        name: format!("{sender:?} to a TCP service by UDP"),
        sender,
        packet: sender.packet(cluster_ip(family, 1), Protocol::Udp, 80),
    });
    flows.extend(udp);
    flows
}
