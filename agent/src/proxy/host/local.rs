//! What an operator should know of how pods' traffic is recognised.

use netns_tools::iptables::Family;

use crate::proxy::model::Node;
use crate::proxy::options::LocalTraffic;

const MEANING: &str = "pods' traffic cannot be told from others': what comes from outside to a cluster address is not masqueraded, and under \
                       externalTrafficPolicy Local pods reach external addresses only by endpoints of this node";

/// Families in which pods' traffic is not recognised, in words with the remedy. `by_node`: it should be by the node's own ranges
/// (`detectLocalMode: NodeCIDR`). kube-proxy waits for these when it starts; here rules are written meanwhile, and follow the node.
pub fn blind_spots(
    local: &LocalTraffic,
    families: &[Family],
    by_node: bool,
    node: &Node,
) -> Vec<String> {
    let blind = families.iter().filter(|family| local.of(**family).is_none());
    blind.map(|family| spot(*family, by_node, &node.name)).collect()
}

fn spot(family: Family, by_node: bool, node: &str) -> String {
    let family = crate::proxy::ops::family_name(family);
    if by_node {
        return format!(
            "detectLocalMode is NodeCIDR and node {node} has no {family} range in spec.podCIDRs, so in {family} {MEANING}; let the \
             controller manager allocate one (--allocate-node-cidrs), or choose another detectLocalMode"
        );
    }
    format!(
        "clusterCIDR has no {family} range, so in {family} {MEANING}; set clusterCIDR to the ranges of all pods, or choose another \
         detectLocalMode"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_that_nothing_is_known_of_are_told() {
        let both = [Family::V4, Family::V6];
        let only_v4 = LocalTraffic::Cidrs(vec!["10.1.0.0/16".parse().unwrap()]);
        let told = |local: &LocalTraffic, by_node| {
            let all = blind_spots(local, &both, by_node, &Node::named("n"));
            all.into_iter().map(|spot| spot[..60].to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(told(&LocalTraffic::Bridge("cni0".into()), false), [""; 0]);
        assert_eq!(told(&LocalTraffic::InterfacePrefix("veth".into()), false), [""; 0]);
        let want = ["clusterCIDR has no IPv6 range, so in IPv6 pods' traffic canno"];
        assert_eq!(told(&only_v4, false), want.map(|text| text[..60].to_owned()));
        let want = [
            "detectLocalMode is NodeCIDR and node n has no IPv4 range in s",
            "detectLocalMode is NodeCIDR and node n has no IPv6 range in s",
        ];
        assert_eq!(told(&LocalTraffic::Unknown, true), want.map(|text| text[..60].to_owned()));
    }
}
