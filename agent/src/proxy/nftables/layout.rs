//! The sets and maps of the table, and how the keys of their elements are made.

use std::net::IpAddr;

use netns_tools::iptables::Family;
use netns_tools::nftables::{Family as Packets, Key, MapOf, Set, Table, Type, Value};

use super::super::model::Protocol;

/// The table's name. kube-proxy's is another, so either can be removed without the other.
pub const TABLE: &str = "heddle";
/// The table's comment. The number grows whenever the layout of sets or rules changes, so that a table of an earlier version is
/// known for one and replaced as a whole.
pub const COMMENT: &str = "services, by heddle-agent; layout 1";
/// Where the numbers of the endpoints of policy Local begin in `backends`.
pub const LOCAL: u32 = 1 << 16;
/// More endpoints than this of one port are left out.
pub const MOST: usize = 0xffff;
/// How many clients can be remembered at a time; further ones are served without being remembered.
const CLIENTS: u32 = 1 << 20;

/// The table of a family.
pub const fn table(family: Family) -> Table<'static> {
    Table::new(packets(family), TABLE)
}

/// The kernel's name of a family.
pub const fn packets(family: Family) -> Packets {
    match family {
        Family::V4 => Packets::Ip,
        Family::V6 => Packets::Ip6,
    }
}

/// A set or map of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetName {
    /// `address . protocol . port` → the chain of its route.
    Services,
    /// `protocol . port` → the chain of its route.
    NodePorts,
    /// `address . protocol . port . number` → endpoint.
    Backends,
    /// `protocol . node port . number` → endpoint.
    NodePortBackends,
    /// `client . address . protocol . port` → endpoint; rules write it.
    Clients,
    /// `client . protocol . node port` → endpoint; rules write it.
    NodePortClients,
    /// `address . protocol . port . endpoint`: who serves under the policy Cluster, where clients are remembered.
    Members,
    /// The same under the policy Local.
    LocalMembers,
    /// `protocol . node port . endpoint`: the same of node ports.
    NodePortMembers,
    /// The same under the policy Local.
    NodePortLocalMembers,
    /// The cluster addresses of services.
    ClusterIps,
    /// `address . address` of this node's endpoints.
    Hairpins,
    /// What nobody serves.
    Rejected,
    /// What nobody serves here.
    Dropped,
    /// The same of node ports.
    RejectedNodePorts,
    /// The same of node ports.
    DroppedNodePorts,
    /// Addresses of load balancers that not everybody may use → the chain that says who may.
    Firewall,
    /// Where node ports answer, if not everywhere.
    NodePortIps,
}

use SetName as S;

impl SetName {
    /// All, in the order in which they are made.
    pub const ALL: [Self; 18] = [
        S::Services,
        S::NodePorts,
        S::Backends,
        S::NodePortBackends,
        S::Clients,
        S::NodePortClients,
        S::Members,
        S::LocalMembers,
        S::NodePortMembers,
        S::NodePortLocalMembers,
        S::ClusterIps,
        S::Hairpins,
        S::Rejected,
        S::Dropped,
        S::RejectedNodePorts,
        S::DroppedNodePorts,
        S::Firewall,
        S::NodePortIps,
    ];

    /// In the kernel.
    pub const fn name(self) -> &'static str {
        match self {
            S::Services => "services",
            S::NodePorts => "nodeports",
            S::Backends => "backends",
            S::NodePortBackends => "nodeport-backends",
            S::Clients => "clients",
            S::NodePortClients => "nodeport-clients",
            S::Members => "members",
            S::LocalMembers => "local-members",
            S::NodePortMembers => "nodeport-members",
            S::NodePortLocalMembers => "nodeport-local-members",
            S::ClusterIps => "cluster-ips",
            S::Hairpins => "hairpins",
            S::Rejected => "rejected",
            S::Dropped => "dropped",
            S::RejectedNodePorts => "rejected-nodeports",
            S::DroppedNodePorts => "dropped-nodeports",
            S::Firewall => "firewall",
            S::NodePortIps => "nodeport-ips",
        }
    }

    /// By its name in the kernel.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|set| set.name() == name)
    }

    /// Whether packets write it, so that its elements are none of ours.
    pub const fn is_written_by_rules(self) -> bool {
        matches!(self, S::Clients | S::NodePortClients)
    }

    /// The fields of its key.
    pub const fn key(self, family: Family) -> &'static [Type] {
        use Type::{InetProto, InetService, Ipv4Addr as V4, Ipv6Addr as V6, Mark};
        const NODE_PORT: &[Type] = &[InetProto, InetService];
        macro_rules! keys {
            ($address:ident) => {
                match self {
                    S::NodePorts | S::RejectedNodePorts | S::DroppedNodePorts => NODE_PORT,
                    S::Backends => &[$address, InetProto, InetService, Mark],
                    S::NodePortBackends => &[InetProto, InetService, Mark],
                    S::Clients => &[$address, $address, InetProto, InetService],
                    S::NodePortClients => &[$address, InetProto, InetService],
                    S::Members | S::LocalMembers => {
                        &[$address, InetProto, InetService, $address, InetService]
                    }
                    S::NodePortMembers | S::NodePortLocalMembers => {
                        &[InetProto, InetService, $address, InetService]
                    }
                    S::ClusterIps | S::NodePortIps => &[$address],
                    S::Hairpins => &[$address, $address],
                    S::Services | S::Rejected | S::Dropped | S::Firewall => {
                        &[$address, InetProto, InetService]
                    }
                }
            };
        }
        match family {
            Family::V4 => keys!(V4),
            Family::V6 => keys!(V6),
        }
    }

    /// What it is a map of, if it is one.
    pub const fn map(self, family: Family) -> Option<MapOf<'static>> {
        use Type::{InetService, Ipv4Addr as V4, Ipv6Addr as V6};
        Some(match self {
            S::Services | S::NodePorts | S::Firewall => MapOf::Verdicts,
            S::Backends | S::NodePortBackends | S::Clients | S::NodePortClients => match family {
                Family::V4 => MapOf::Data(&[V4, InetService]),
                Family::V6 => MapOf::Data(&[V6, InetService]),
            },
            _ => return None,
        })
    }

    /// All that the kernel is told of it.
    pub const fn definition(self, family: Family) -> Set<'static> {
        let clients = self.is_written_by_rules();
        Set {
            map: self.map(family),
            timeouts: clients,
            dynamic: clients,
            size: if clients { Some(CLIENTS) } else { None },
            ..Set::new(self.name(), self.key(family))
        }
    }
}

/// `address . protocol . port`.
pub fn service_key(address: IpAddr, protocol: Protocol, port: u16) -> Key {
    Key::new(address).and(protocol.number()).and(port)
}

/// `protocol . port`.
pub fn node_port_key(protocol: Protocol, port: u16) -> Key {
    Key::new(protocol.number()).and(port)
}

/// A number in the kernel's own byte order.
pub fn number(number: u32) -> Value {
    Value::host(number)
}
