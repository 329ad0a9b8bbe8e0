//! What the rules depend on besides the services and this node.

use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use netns_tools::iptables::Family;

/// How traffic of this node's pods is told from traffic of others: it is not masqueraded on the way to a cluster address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LocalTraffic {
    /// It is not: nothing is masqueraded for coming from outside.
    #[default]
    Unknown,
    /// By source range: the cluster's ranges of pods, or this node's.
    Cidrs(Vec<IpNetwork>),
    /// By the bridge that it comes in from.
    Bridge(String),
    /// By what the name of the interface that it comes in from begins with.
    InterfacePrefix(String),
}

/// How to recognise a pod's packet in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalMatch<'a> {
    /// Its source is in this range.
    Source(IpNetwork),
    /// It comes in from this interface.
    Interface(&'a str),
    /// It comes in from an interface whose name begins so.
    InterfacePrefix(&'a str),
}

impl LocalTraffic {
    /// The match of a family; `None` if there is none, and then nothing is known of where packets come from.
    pub fn of(&self, family: Family) -> Option<LocalMatch<'_>> {
        match self {
            Self::Unknown => None,
            Self::Cidrs(all) => {
                let is_ours = |cidr: &&IpNetwork| family.has(cidr.ip());
                all.iter().find(is_ours).copied().map(LocalMatch::Source)
            }
            Self::Bridge(name) => Some(LocalMatch::Interface(name)),
            Self::InterfacePrefix(prefix) => Some(LocalMatch::InterfacePrefix(prefix)),
        }
    }
}

/// At which addresses of this node the node ports answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// At all of them.
    Any,
    /// At these: those of this node that the configured ranges hold. Kept up to date by whoever makes the options.
    Listed(Vec<IpAddr>),
}

/// What the rules of one family depend on. A change of these is a full sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleOptions {
    /// The bit of the packet mark that asks for masquerading, 0 to 31.
    pub masquerade_bit: u8,
    /// Masquerade whatever goes to a cluster address.
    pub masquerade_all: bool,
    /// How pods' traffic is recognised.
    pub local: LocalTraffic,
    /// Where node ports answer.
    pub node_ports: NodePortAddresses,
    /// This node's primary addresses, one per family at most. Who may use a load balancer's address from here depends on them.
    pub node_ips: Vec<IpAddr>,
    /// Whether node ports answer at 127.0.0.1 too (iptables mode and IPv4 only, as in kube-proxy).
    pub localhost_node_ports: bool,
    /// Drop packets that conntrack finds invalid. Off where the kernel is told to be liberal (`conntrack.tcpBeLiberal`).
    pub drop_invalid: bool,
}

impl Default for RuleOptions {
    fn default() -> Self {
        Self {
            masquerade_bit: 14,
            masquerade_all: false,
            local: LocalTraffic::Unknown,
            node_ports: NodePortAddresses::Any,
            node_ips: Vec::new(),
            localhost_node_ports: true,
            drop_invalid: true,
        }
    }
}

impl RuleOptions {
    /// The mark that asks for masquerading.
    pub fn mark(&self) -> u32 {
        1 << self.masquerade_bit
    }
}

/// How often rules are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The least time between two syncs. Zero: a sync follows a change at once, and what changes meanwhile is one more.
    pub least: Duration,
    /// How often everything is compared with the kernel though nothing changed; every ten minutes at most.
    pub resync: Duration,
}
