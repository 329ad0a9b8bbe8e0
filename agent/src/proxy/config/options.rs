//! From the configuration, this node and this host's addresses to what the rules depend on.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use netns_tools::iptables::Family;

use super::{DetectLocal, Mode, NodePortSelection, ProxyConfig};
use crate::proxy::model::{FAMILIES, Node};
use crate::proxy::options::{LocalTraffic, NodePortAddresses, RuleOptions};

impl ProxyConfig {
    /// What the rules depend on. `host` are the addresses of this host's interfaces, as the kernel lists them. To be asked anew when
    /// the node or these change.
    pub fn rule_options(&self, node: &Node, host: &[IpAddr]) -> RuleOptions {
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
            node_ports: self.node_port_addresses(node, host),
            node_ips: FAMILIES
                .into_iter()
                .filter_map(|family| self.primary_address(family, node))
                .collect(),
            localhost_node_ports: self.serves_localhost(),
            drop_invalid: !self.conntrack.tcp_be_liberal,
        }
    }

    /// The families that must be served: that of this node's primary address, if it is set, or IPv4. The other one is served if the
    /// host can.
    pub fn required(&self) -> [Family; 1] {
        [if self.bind_address.is_some_and(|ip| ip.is_ipv6()) { Family::V6 } else { Family::V4 }]
    }

    /// Whether node ports answer at 127.0.0.1. The kernel must route such packets then (`route_localnet`). Where no loopback address is
    /// among the ranges (kube-proxy's `ContainsIPv4Loopback`), nothing of this host is opened for it.
    pub fn serves_localhost(&self) -> bool {
        let selected = match Selected::of(&self.node_ports, Family::V4) {
            Selected::All => true,
            Selected::Some { ranges, .. } => ranges.iter().any(|range| {
                range.ip().is_loopback() || range.contains(IpAddr::V4(Ipv4Addr::LOCALHOST))
            }),
        };
        self.localhost_node_ports && self.mode == Mode::Iptables && selected
    }

    /// This node's primary address of a family: the one that was set, or the first of the Node object.
    pub fn primary_address(&self, family: Family, node: &Node) -> Option<IpAddr> {
        self.bind_address.filter(|ip| family.has(*ip)).or_else(|| node.address(family))
    }

    /// Addresses are listed as soon as one family needs it: of the other one they are all listed.
    fn node_port_addresses(&self, node: &Node, host: &[IpAddr]) -> NodePortAddresses {
        let selected = FAMILIES.map(|family| (family, Selected::of(&self.node_ports, family)));
        if selected.iter().all(|(_, selected)| matches!(selected, Selected::All)) {
            return NodePortAddresses::Any;
        }
        let mut listed = Vec::new();
        for (family, selected) in selected {
            let of_family = host.iter().copied().filter(|ip| family.has(*ip));
            match selected {
                Selected::All => listed.extend(of_family),
                Selected::Some { ranges, primary } => {
                    let held = |ip: &IpAddr| ranges.iter().any(|range| range.contains(*ip));
                    listed.extend(of_family.filter(held));
                    listed.extend(self.primary_address(family, node).filter(|_| primary));
                }
            }
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
        let ranges = selection.ranges.iter().filter(|range| family.has(range.ip()));
        let ranges: Vec<_> = ranges.copied().collect();
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
