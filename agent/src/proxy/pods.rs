//! The pods of this node as endpoints of services: what a cluster's controller of `EndpointSlices` does.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort as KubePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use netns_tools::iptables::Family;

use super::model::{FAMILIES, Protocol, ServiceName, Slice, SliceEndpoint, SlicePort};

/// A port of a pod that may have a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPort {
    /// Its name.
    pub name: Option<String>,
    /// Its number.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

/// A pod that services may send traffic to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodEndpoint {
    /// Namespace.
    pub namespace: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Addresses; the first of a family counts.
    pub ips: Vec<IpAddr>,
    /// Ports that its containers name.
    pub ports: Vec<NamedPort>,
    /// Whether it takes traffic.
    pub ready: bool,
    /// Whether it would take traffic, were it not for its termination.
    pub serving: bool,
    /// Whether it is being terminated.
    pub terminating: bool,
}

/// The slices of all services with a selector. `node`: where the pods are.
pub fn slices(services: &[Service], pods: &[PodEndpoint], node: &str) -> Vec<Slice> {
    services.iter().flat_map(|service| slices_of(service, pods, node)).collect()
}

/// One slice for pods with the same ports: behind a port's name each pod may have another number.
fn slices_of(service: &Service, pods: &[PodEndpoint], node: &str) -> Vec<Slice> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let namespace = service.metadata.namespace.as_deref().unwrap_or("default");
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let selected: Vec<_> = pods
        .iter()
        .filter(|pod| pod.namespace == namespace && selects(spec.selector.as_ref(), &pod.labels))
        .collect();
    let unready = spec.publish_not_ready_addresses == Some(true);
    let node: Arc<str> = node.into();
    let mut groups: BTreeMap<(bool, Vec<u16>), Slice> = BTreeMap::new();
    for family in FAMILIES {
        for pod in &selected {
            let is_ours = |ip: &&IpAddr| family.has(**ip);
            let Some(address) = pod.ips.iter().find(is_ours) else { continue };
            let ports = ports_of(spec.ports.iter().flatten(), pod);
            let numbers = ports.iter().map(|port| port.port).collect();
            let count = groups.len();
            let group = groups.entry((family == Family::V6, numbers)).or_insert_with(|| Slice {
                // no object's name has a slash, so it is none of a manifest
                name: format!("{namespace}/{name}/pods-{count}").into(),
                service: ServiceName::new(namespace, name),
                family,
                ports: ports.into(),
                endpoints: Box::default(),
                triggered: None,
            });
            let endpoint = SliceEndpoint {
                address: *address,
                ready: pod.ready || unready,
                serving: pod.serving || unready,
                terminating: pod.terminating,
                node: Some(node.clone()),
                for_zones: Box::default(),
                for_nodes: Box::default(),
            };
            let mut endpoints = std::mem::take(&mut group.endpoints).into_vec();
            endpoints.push(endpoint);
            group.endpoints = endpoints.into();
        }
    }
    groups.into_values().collect()
}

/// A service without a selector has endpoints that somebody else writes.
fn selects(selector: Option<&BTreeMap<String, String>>, labels: &BTreeMap<String, String>) -> bool {
    selector.is_some_and(|selector| {
        !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    })
}

/// The service's ports at a pod; those that it does not have are left out.
fn ports_of<'a>(ports: impl Iterator<Item = &'a KubePort>, pod: &PodEndpoint) -> Vec<SlicePort> {
    let port = |port: &KubePort| {
        let protocol = Protocol::parse(port.protocol.as_deref().unwrap_or("TCP"))?;
        Some(SlicePort {
            name: port.name.as_deref().unwrap_or_default().into(),
            protocol,
            port: target_port(port, protocol, pod).filter(|number| *number > 0)?,
        })
    };
    ports.filter_map(port).collect()
}

/// The port at the pod: a number, the number behind a name, or the service's own.
fn target_port(port: &KubePort, protocol: Protocol, pod: &PodEndpoint) -> Option<u16> {
    match &port.target_port {
        None | Some(IntOrString::Int(0)) => u16::try_from(port.port).ok(),
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
        Some(IntOrString::String(name)) => {
            let named = pod
                .ports
                .iter()
                .find(|own| own.name.as_deref() == Some(name) && own.protocol == protocol);
            named.map(|own| own.port).or_else(|| name.parse().ok())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(spec: Value) -> Service {
        serde_json::from_value(
            json!({"metadata": {"namespace": "default", "name": "web"}, "spec": spec}),
        )
        .unwrap()
    }

    fn pod(ips: &[&str], web: u16) -> PodEndpoint {
        PodEndpoint {
            namespace: "default".into(),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            ports: vec![NamedPort { name: Some("web".into()), port: web, protocol: Protocol::Tcp }],
            ready: true,
            serving: true,
            terminating: false,
        }
    }

    /// Slices as text: family, ports, endpoints.
    fn text(slices: &[Slice]) -> Vec<String> {
        let one = |slice: &Slice| {
            let ports: Vec<_> = slice.ports.iter().map(|port| port.port.to_string()).collect();
            let mark = |endpoint: &SliceEndpoint| {
                let marks =
                    [(endpoint.ready, "r"), (endpoint.serving, "s"), (endpoint.terminating, "t")];
                let marks: String =
                    marks.into_iter().filter(|(is, _)| *is).map(|(_, mark)| mark).collect();
                format!("{}={marks}", endpoint.address)
            };
            let endpoints: Vec<_> = slice.endpoints.iter().map(mark).collect();
            format!("{:?} {} {}", slice.family, ports.join(","), endpoints.join(","))
        };
        slices.iter().map(one).collect()
    }

    #[test]
    fn pods_are_grouped_by_family_and_by_what_a_name_means_to_them() {
        let spec = json!({"selector": {"app": "web"}, "ports": [
            {"name": "a", "port": 80, "targetPort": "web"}, {"name": "b", "port": 53, "protocol": "UDP"},
            {"name": "c", "port": 1, "targetPort": "missing"}]});
        let mut other = pod(&["10.1.0.9"], 1);
        other.labels.clear();
        let pods = [
            pod(&["10.1.0.1", "fd00::1"], 8080),
            pod(&["10.1.0.2"], 9090),
            pod(&["10.1.0.3"], 8080),
            other,
        ];
        let slices = slices(&[service(spec)], &pods, "here");
        assert_eq!(
            text(&slices),
            [
                "V4 8080,53 10.1.0.1=rs,10.1.0.3=rs",
                "V4 9090,53 10.1.0.2=rs",
                "V6 8080,53 fd00::1=rs"
            ]
        );
        let names: std::collections::BTreeSet<_> = slices.iter().map(|slice| &slice.name).collect();
        assert_eq!(names.len(), 3);
        assert!(slices.iter().all(|slice| slice.service.as_str() == "default/web"));
        assert_eq!(slices[0].endpoints[0].node.as_deref(), Some("here"));
    }

    #[test]
    fn conditions_are_those_of_the_pod_unless_the_service_wants_it_unready() {
        let starting = PodEndpoint { ready: false, serving: false, ..pod(&["10.1.0.1"], 1) };
        let ending = PodEndpoint { ready: false, terminating: true, ..pod(&["10.1.0.2"], 1) };
        let pods = [starting, ending];
        let mut spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
        let got = text(&slices(&[service(spec.clone())], &pods, "here"));
        assert_eq!(got, ["V4 80 10.1.0.1=,10.1.0.2=st"]);
        spec["publishNotReadyAddresses"] = true.into();
        let got = text(&slices(&[service(spec)], &pods, "here"));
        assert_eq!(got, ["V4 80 10.1.0.1=rs,10.1.0.2=rst"]);
    }

    #[test]
    fn a_service_without_a_selector_has_none() {
        let spec = json!({"ports": [{"port": 80}]});
        assert!(slices(&[service(spec)], &[pod(&["10.1.0.1"], 1)], "here").is_empty());
    }
}
