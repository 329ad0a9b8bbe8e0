//! Many services with endpoints.

use serde::Deserialize;
use serde_json::{Value, json};

/// What to make.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Plan {
    /// Services, at most 65 000.
    pub services: u32,
    /// Endpoints of each, at most 250.
    pub endpoints: u32,
    /// The node that the first endpoint of each is on; the others are on nodes of their own.
    pub node: String,
    /// The address of the service of number 0; the others follow.
    pub first_address: std::net::Ipv4Addr,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            services: 1000,
            endpoints: 2,
            node: "node".into(),
            first_address: [10, 100, 0, 1].into(),
        }
    }
}

/// Services `svc-0` … with one slice each; port 80 leads to 8080.
pub fn objects(plan: &Plan) -> impl Iterator<Item = Value> {
    let plan = plan.clone();
    (0..plan.services).flat_map(move |number| [service(&plan, number), slice(&plan, number, 0)])
}

/// One of the services.
pub fn service(plan: &Plan, number: u32) -> Value {
    let address = std::net::Ipv4Addr::from(u32::from(plan.first_address) + number).to_string();
    json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {"name": format!("svc-{number}"), "namespace": "default"},
        "spec": {
            "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
        },
        "status": {"loadBalancer": {}},
    })
}

/// Its slice. Another `turn` has other endpoints.
pub fn slice(plan: &Plan, number: u32, turn: u32) -> Value {
    let endpoints = (0..plan.endpoints).map(|index| {
        let host = (number * plan.endpoints + index) * 2 + turn % 2;
        let address = std::net::Ipv4Addr::from(u32::from_be_bytes([11, 0, 0, 1]) + host);
        let node = if index == 0 { plan.node.clone() } else { format!("other-{index}") };
        json!({
            "addresses": [address.to_string()], "nodeName": node,
            "conditions": {"ready": true, "serving": true, "terminating": false},
        })
    });
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "name": format!("svc-{number}-a1b2c"), "namespace": "default",
            "labels": {"kubernetes.io/service-name": format!("svc-{number}")},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints.collect::<Vec<_>>(),
    })
}
