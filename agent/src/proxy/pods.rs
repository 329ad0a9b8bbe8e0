//! Services and pods as the proxy sees them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Service, ServicePort as KubePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The label by which a service asks for another proxy.
pub const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the protocols need no explanation")]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// From Kubernetes' spelling.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            _ => None,
        }
    }

    /// As iptables writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

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
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Address.
    pub ip: IpAddr,
    /// Ports that its containers name.
    pub ports: Vec<NamedPort>,
    /// Whether it takes traffic.
    pub ready: bool,
}

/// One port of one service with its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// `namespace/name`, with `:port` if the port has a name: kube-proxy's name for it.
    pub name: String,
    /// The cluster address.
    pub cluster_ip: IpAddr,
    /// The port at the cluster address.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// The port at each node's address.
    pub node_port: Option<u16>,
    /// Where traffic goes, in order of address.
    pub endpoints: Vec<SocketAddr>,
}

/// The ports of all services that this proxy is to serve, in order of name. Headless services, `ExternalName` and those
/// that asked for another proxy are left alone.
pub fn service_ports(services: &[Service], pods: &[PodEndpoint]) -> Vec<ServicePort> {
    let mut ports: Vec<_> = services.iter().flat_map(|service| ports_of(service, pods)).collect();
    ports.sort_by(|a, b| a.name.cmp(&b.name).then(a.protocol.cmp(&b.protocol)));
    ports
}

fn ports_of(service: &Service, pods: &[PodEndpoint]) -> Vec<ServicePort> {
    let spec = service.spec.clone().unwrap_or_default();
    let elsewhere = service
        .metadata
        .labels
        .as_ref()
        .is_some_and(|labels| labels.contains_key(PROXY_NAME_LABEL));
    let Some(cluster_ip) = spec.cluster_ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok())
    else {
        return Vec::new();
    };
    if elsewhere || spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let namespace = service.metadata.namespace.as_deref().unwrap_or("default");
    let selected: Vec<_> = pods
        .iter()
        .filter(|pod| {
            pod.ready && pod.namespace == namespace && pod.ip.is_ipv4() == cluster_ip.is_ipv4()
        })
        .filter(|pod| selects(spec.selector.as_ref(), &pod.labels))
        .collect();
    let port = |port: &KubePort| {
        let protocol = Protocol::parse(port.protocol.as_deref().unwrap_or("TCP"))?;
        let mut name =
            format!("{namespace}/{}", service.metadata.name.as_deref().unwrap_or_default());
        if let Some(own) = port.name.as_deref().filter(|own| !own.is_empty()) {
            name = format!("{name}:{own}");
        }
        let mut endpoints: Vec<_> = selected
            .iter()
            .filter_map(|pod| Some(SocketAddr::new(pod.ip, target_port(port, protocol, pod)?)))
            .collect();
        endpoints.sort_unstable();
        endpoints.dedup();
        Some(ServicePort {
            name,
            cluster_ip,
            port: u16::try_from(port.port).ok()?,
            protocol,
            node_port: port
                .node_port
                .and_then(|port| u16::try_from(port).ok())
                .filter(|port| *port > 0),
            endpoints,
        })
    };
    spec.ports.iter().flatten().filter_map(port).collect()
}

/// A service without a selector has endpoints that somebody else writes; here there are none.
fn selects(selector: Option<&BTreeMap<String, String>>, labels: &BTreeMap<String, String>) -> bool {
    selector.is_some_and(|selector| {
        !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    })
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
