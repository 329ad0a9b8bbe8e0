//! From the configuration, this node and this host's addresses to what the rules of one family depend on.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netns_tools::iptables::Family;

use super::{DetectLocal, Mode, NodePortSelection, ProxyConfig};
use crate::proxy::model::Node;
use crate::proxy::options::{LocalTraffic, NodePortAddresses, RuleOptions};

/// The addresses of this host's interfaces, as the kernel lists them.
pub type HostAddresses = [IpAddr];

impl ProxyConfig {
    /// What the rules of a family depend on. To be asked anew when the node or the host's addresses change.
    pub fn rule_options(&self, family: Family, node: &Node, host: &HostAddresses) -> RuleOptions {
        let local = match &self.detect_local {
            DetectLocal::ClusterCidr(ranges) => cidrs(ranges),
            DetectLocal::NodeCidr => cidrs(&node.pod_cidrs),
            DetectLocal::Bridge(name) => LocalTraffic::Bridge(name.clone()),
            DetectLocal::InterfacePrefix(prefix) => LocalTraffic::InterfacePrefix(prefix.clone()),
        };
        RuleOptions {
            masquerade_bit: self.masquerade_bit,
            masquerade_all: self.masquerade_all,
            local,
            node_ports: self.node_port_addresses(family, node, host),
            localhost_node_ports: self.serves_localhost(family),
            drop_invalid: !self.conntrack.tcp_be_liberal,
        }
    }

    /// Whether node ports answer at 127.0.0.1. The kernel must route such packets then (`route_localnet`).
    pub fn serves_localhost(&self, family: Family) -> bool {
        let loopback = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
        let selected = match Selected::of(&self.node_ports, Family::V4) {
            Selected::All => true,
            Selected::Some { ranges, .. } => ranges.iter().any(|range| range.contains(loopback)),
        };
        self.localhost_node_ports && self.mode == Mode::Iptables && family == Family::V4 && selected
    }

    /// This node's primary address of a family: the one that was set, or the first of the Node object.
    pub fn primary_address(&self, family: Family, node: &Node) -> Option<IpAddr> {
        let set = self.bind_address.filter(|ip| ip.is_ipv4() == (family == Family::V4));
        set.or_else(|| node.address(family))
    }

    fn node_port_addresses(
        &self,
        family: Family,
        node: &Node,
        host: &HostAddresses,
    ) -> NodePortAddresses {
        let Selected::Some { ranges, primary } = Selected::of(&self.node_ports, family) else {
            return NodePortAddresses::Any;
        };
        let of_family = host.iter().filter(|ip| ip.is_ipv4() == (family == Family::V4));
        let held = of_family.filter(|ip| ranges.iter().any(|range| range.contains(**ip)));
        let mut listed: Vec<_> = held.copied().collect();
        if primary {
            listed.extend(self.primary_address(family, node));
        }
        listed.sort_unstable();
        listed.dedup();
        NodePortAddresses::Listed(listed)
    }
}

/// What a selection means for one family.
enum Selected {
    All,
    Some { ranges: Vec<IpNetwork>, primary: bool },
}

impl Selected {
    fn of(selection: &NodePortSelection, family: Family) -> Self {
        let is_ours = |range: &&IpNetwork| range.is_ipv4() == (family == Family::V4);
        let ranges: Vec<_> = selection.ranges.iter().filter(is_ours).copied().collect();
        let nothing_said = ranges.is_empty() && !selection.primary;
        if selection.all || nothing_said || ranges.iter().any(|range| range.prefix() == 0) {
            Self::All
        } else {
            Self::Some { ranges, primary: selection.primary }
        }
    }
}

fn cidrs(ranges: &[IpNetwork]) -> LocalTraffic {
    if ranges.is_empty() { LocalTraffic::Unknown } else { LocalTraffic::Cidrs(ranges.to_vec()) }
}
