//! The sets and maps of the table, and how the keys of their elements are made.

use std::net::IpAddr;
use std::time::Duration;

use netns_tools::iptables::Family;
use netns_tools::nftables::{Family as Packets, Field, Key, MapOf, Set, Table, Type, Value};

use super::super::model::Protocol;

/// The table's name. kube-proxy's is another, so either can be removed without the other.
pub const TABLE: &str = "heddle";
/// The table's comment. The number grows whenever the layout of sets or rules changes, so that a table of an earlier version is
/// known for one and replaced as a whole.
pub const COMMENT: &str = "services, by heddle-agent; layout 2";
/// Where the numbers of the endpoints of policy Local begin in `backends`.
pub const LOCAL: u32 = 1 << 16;
/// More endpoints than this of one port are left out.
pub const MOST: usize = 0xffff;
/// What the names of sets of clients begin with.
const CLIENTS: &str = "affinity-";

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

/// A set or map that every table has.
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
    /// All that every table has, in the order in which they are made. Besides there are sets of [`clients`].
    pub const ALL: [Self; 12] = [
        S::Services,
        S::NodePorts,
        S::Backends,
        S::NodePortBackends,
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
            S::Backends | S::NodePortBackends => match family {
                Family::V4 => MapOf::Data(&[V4, InetService]),
                Family::V6 => MapOf::Data(&[V6, InetService]),
            },
            _ => return None,
        })
    }

    /// Numbers of endpoints have no word of their own in nft's language: what the rules ask for (with whatever modulus).
    const fn shown_as(self, family: Family) -> Option<(&'static [Field], &'static [Field])> {
        use Field::{Dport, Ip6Daddr, IpDaddr, L4Proto, Random};
        Some(match (self, family) {
            (S::Backends, Family::V4) => {
                (&[IpDaddr, L4Proto, Dport, Random(LOCAL)], &[IpDaddr, Dport])
            }
            (S::Backends, Family::V6) => {
                (&[Ip6Daddr, L4Proto, Dport, Random(LOCAL)], &[Ip6Daddr, Dport])
            }
            (S::NodePortBackends, Family::V4) => {
                (&[L4Proto, Dport, Random(LOCAL)], &[IpDaddr, Dport])
            }
            (S::NodePortBackends, Family::V6) => {
                (&[L4Proto, Dport, Random(LOCAL)], &[Ip6Daddr, Dport])
            }
            _ => return None,
        })
    }

    /// All that the kernel is told of it.
    pub const fn definition(self, family: Family) -> Set<'static> {
        let (map, shown_as) = (self.map(family), self.shown_as(family));
        Set { map, shown_as, ..Set::new(self.name(), self.key(family)) }
    }
}

/// A set of the clients of one endpoint, which rules write: see `affinity`. Its name begins with `affinity-`.
///
/// No size is told: with one the kernel makes room for as many at once (2 MiB for 65535, against 2 KiB), and without one it takes
/// 65535 anyway (`nft_dynset_init`). Clients beyond that are served without being remembered.
pub const fn clients(name: &str, timeout: Duration, family: Family) -> Set<'_> {
    let set = Set::new(name, SetName::ClusterIps.key(family));
    Set { timeouts: true, dynamic: true, default_timeout: Some(timeout), ..set }
}

/// The name of such a set.
pub fn clients_name(rest: &str) -> Box<str> {
    format!("{CLIENTS}{rest}").into()
}

/// Whether a set has the name of such a one.
pub fn is_clients(name: &str) -> bool {
    name.starts_with(CLIENTS)
}

/// The fields of the key of a set of ours; `None`: it is none of ours.
pub fn key_of(name: &str, family: Family) -> Option<&'static [Type]> {
    match SetName::by_name(name) {
        Some(set) => Some(set.key(family)),
        None => is_clients(name).then(|| SetName::ClusterIps.key(family)),
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
