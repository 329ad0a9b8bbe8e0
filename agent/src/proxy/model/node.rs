//! What of this node the rules depend on.

use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::Node as Object;
use netns_tools::iptables::Family;

/// The taint by which the cluster autoscaler announces that it will delete a node.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// This node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name, by which endpoints are known to be here.
    pub name: Arc<str>,
    /// Its zone; empty if it is in none.
    pub zone: Arc<str>,
    /// Its addresses, internal ones first.
    pub addresses: Vec<IpAddr>,
    /// The ranges of its pods.
    pub pod_cidrs: Vec<IpNetwork>,
    /// Whether it is going away, so that load balancers should send it nothing new: it is being deleted, or tainted for that by
    /// the cluster autoscaler.
    pub leaving: bool,
}

impl Node {
    /// A node of which nothing but the name is known.
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// From the object. What cannot be understood counts as not there.
    pub fn of(object: &Object) -> Self {
        let labels = object.metadata.labels.as_ref();
        let zone = labels.and_then(|labels| labels.get(ZONE_LABEL)).map_or("", String::as_str);
        let listed = object.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let mut addresses = Vec::new();
        for kind in ["InternalIP", "ExternalIP"] {
            let of_kind = listed.clone().filter(|address| address.type_ == kind);
            addresses.extend(of_kind.filter_map(|address| address.address.parse::<IpAddr>().ok()));
        }
        let spec = object.spec.as_ref();
        let cidrs = spec.iter().flat_map(|spec| {
            let all = spec.pod_cidrs.iter().flatten();
            all.chain(spec.pod_cidr.as_ref().filter(|_| spec.pod_cidrs.is_none()))
        });
        Self {
            name: object.metadata.name.as_deref().unwrap_or_default().into(),
            zone: zone.into(),
            addresses,
            pod_cidrs: cidrs.filter_map(|cidr| cidr.parse().ok()).collect(),
            leaving: is_leaving(object),
        }
    }

    /// Its first address of a family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|ip| family.has(*ip))
    }

    /// Whether an endpoint's node is this one.
    pub(super) fn is(&self, node: Option<&str>) -> bool {
        node.is_some_and(|node| *node == *self.name)
    }
}

fn is_leaving(object: &Object) -> bool {
    let mut taints = object.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    object.metadata.deletion_timestamp.is_some() || taints.any(|taint| taint.key == TO_BE_DELETED)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_leaves_when_it_is_deleted_or_tainted_for_that() {
        let table = [
            (json!({"metadata": {"name": "a"}}), false),
            (json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), true),
            (json!({"spec": {"taints": [{"key": "other", "effect": "NoSchedule"}]}}), false),
            (
                json!({"spec": {"taints": [{"key": "other", "effect": "NoSchedule"},
                                        {"key": TO_BE_DELETED, "effect": "NoSchedule"}]}}),
                true,
            ),
        ];
        for (object, want) in table {
            let node = Node::of(&serde_json::from_value(object.clone()).unwrap());
            assert_eq!(node.leaving, want, "{object}");
        }
    }
}
