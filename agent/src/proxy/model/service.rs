//! The few fields of a Service that matter here, checked: what comes from an API may end up in a rule's text.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::{Service as Object, ServicePort as ObjectPort, ServiceSpec};

use super::{PROXY_NAME_LABEL, Protocol, ServiceName};

/// What Kubernetes fills in for `sessionAffinityConfig.clientIP.timeoutSeconds`.
const AFFINITY_TIMEOUT_S: i32 = 10_800;

/// A service that cannot be served as it is, and why. The API server refuses such objects; this guards against the rest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Service {name}: {reason}")]
pub struct Refused {
    /// Which.
    pub name: String,
    /// The field and what is wrong with it.
    pub reason: String,
}

/// A service that this proxy serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// When it was made, in seconds since 1970.
    pub created: Option<i64>,
    /// Its cluster addresses, one per family at most.
    pub cluster_ips: Vec<IpAddr>,
    /// Addresses that somebody routes to nodes.
    pub external_ips: Vec<IpAddr>,
    /// Addresses of load balancers that keep the destination.
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may use them.
    pub source_ranges: Vec<IpNetwork>,
    /// `externalTrafficPolicy: Local`
    pub external_local: bool,
    /// `internalTrafficPolicy: Local`
    pub internal_local: bool,
    /// `sessionAffinity: ClientIP` with its time-out.
    pub affinity: Option<Duration>,
    /// Where a load balancer asks for this node's health.
    pub health_check_node_port: Option<u16>,
    /// Its ports.
    pub ports: Vec<Port>,
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name; empty if it has none.
    pub name: Arc<str>,
    /// Protocol.
    pub protocol: Protocol,
    /// Number at the service's addresses.
    pub port: u16,
    /// Number at the node's addresses.
    pub node_port: Option<u16>,
}

/// The name of an object.
pub(super) fn name_of(
    metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
) -> ServiceName {
    let namespace = metadata.namespace.as_deref().unwrap_or("default");
    ServiceName::new(namespace, metadata.name.as_deref().unwrap_or_default())
}

/// Whether a name is a label of DNS (RFC 1123), as Kubernetes requires of every name used here.
fn is_label(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty() && name.len() <= 63 && name.chars().all(plain)
}

impl Service {
    /// From the object. `None`: it is not for this proxy (headless, `ExternalName`, or labelled for another).
    pub fn of(object: &Object) -> Result<Option<Self>, Refused> {
        let name = name_of(&object.metadata);
        let refused = |reason| Refused { name: name.to_string(), reason };
        let Some(spec) = &object.spec else { return Ok(None) };
        let labels = object.metadata.labels.as_ref();
        let elsewhere = labels.is_some_and(|labels| labels.contains_key(PROXY_NAME_LABEL));
        let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
        let cluster_ips = cluster_ips(spec).map_err(refused)?;
        if elsewhere || kind == "ExternalName" || cluster_ips.is_empty() {
            return Ok(None);
        }
        let (namespace, own) = name.parts();
        if !is_label(namespace) || !is_label(own) {
            return Err(refused("metadata.name: namespace and name must be labels of DNS".into()));
        }
        let external_local = spec.external_traffic_policy.as_deref() == Some("Local");
        let is_balanced = kind == "LoadBalancer";
        let ranges = if is_balanced { source_ranges(object).map_err(refused)? } else { Vec::new() };
        Ok(Some(Self {
            created: object.metadata.creation_timestamp.as_ref().map(|time| time.0.as_second()),
            cluster_ips,
            external_ips: addresses("spec.externalIPs", spec.external_ips.iter().flatten())
                .map_err(refused)?,
            load_balancer_ips: if is_balanced { load_balancer_ips(object) } else { Vec::new() },
            source_ranges: ranges,
            external_local,
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            affinity: affinity(spec).map_err(refused)?,
            health_check_node_port: port_number(spec.health_check_node_port)
                .filter(|_| is_balanced && external_local),
            ports: ports(spec).map_err(refused)?,
            name: name.clone(),
        }))
    }
}

fn addresses<'a>(
    field: &str,
    listed: impl Iterator<Item = &'a String>,
) -> Result<Vec<IpAddr>, String> {
    let parse =
        |text: &String| text.parse().map_err(|_| format!("{field}: {text:?} is not an IP address"));
    let mut all: Vec<IpAddr> = listed.map(parse).collect::<Result<_, _>>()?;
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|ip| seen.insert(*ip));
    all.shrink_to_fit();
    Ok(all)
}

/// Empty if there is none, or it is `None`.
fn cluster_ips(spec: &ServiceSpec) -> Result<Vec<IpAddr>, String> {
    let listed = spec.cluster_ips.iter().flatten();
    let single = spec.cluster_ip.iter().filter(|_| spec.cluster_ips.is_none());
    let given = listed.chain(single).filter(|ip| !ip.is_empty() && *ip != "None");
    addresses("spec.clusterIPs", given)
}

/// A load balancer of mode `Proxy` changes the destination before packets come here, so nothing is to be done for its address.
fn load_balancer_ips(object: &Object) -> Vec<IpAddr> {
    let status = object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    let kept = ingress.filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
    // an entry with only a host name has no address to serve
    kept.filter_map(|ingress| ingress.ip.as_ref()?.parse().ok()).collect()
}

/// A range that is not understood must not be left out silently: an empty list lets everybody in.
fn source_ranges(object: &Object) -> Result<Vec<IpNetwork>, String> {
    const ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let spec = object.spec.as_ref().and_then(|spec| spec.load_balancer_source_ranges.as_ref());
    let annotated = || {
        let annotations = object.metadata.annotations.as_ref()?;
        let text = annotations.get(ANNOTATION)?.trim();
        (!text.is_empty()).then(|| text.split(',').map(str::to_owned).collect::<Vec<_>>())
    };
    let given = spec.filter(|list| !list.is_empty()).cloned().or_else(annotated);
    let parse = |text: &String| {
        let range: IpNetwork = text.trim().parse().map_err(|_| {
            format!("spec.loadBalancerSourceRanges: {text:?} is not a range such as 10.0.0.0/8")
        })?;
        // IpNetwork keeps host bits; rules name the network
        IpNetwork::new(range.network(), range.prefix()).map_err(|error| error.to_string())
    };
    given.unwrap_or_default().iter().map(parse).collect()
}

fn affinity(spec: &ServiceSpec) -> Result<Option<Duration>, String> {
    match spec.session_affinity.as_deref() {
        None | Some("" | "None") => Ok(None),
        Some("ClientIP") => {
            let config = spec.session_affinity_config.as_ref();
            let client = config.and_then(|config| config.client_ip.as_ref());
            let seconds =
                client.and_then(|client| client.timeout_seconds).unwrap_or(AFFINITY_TIMEOUT_S);
            let seconds = u64::try_from(seconds).ok().filter(|s| (1..=86_400).contains(s));
            let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
            seconds
                .map(|seconds| Some(Duration::from_secs(seconds)))
                .ok_or_else(|| format!("{field}: is not between 1 and 86400"))
        }
        Some(other) => Err(format!("spec.sessionAffinity: {other:?} is not None or ClientIP")),
    }
}

fn port_number(number: Option<i32>) -> Option<u16> {
    number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0)
}

fn ports(spec: &ServiceSpec) -> Result<Vec<Port>, String> {
    let mut ports: Vec<Port> = Vec::new();
    for (index, object) in spec.ports.iter().flatten().enumerate() {
        let port = port(object).map_err(|reason| format!("spec.ports[{index}].{reason}"))?;
        let same = |known: &Port| known.name == port.name && known.protocol == port.protocol;
        if ports.iter().any(same) {
            return Err(format!("spec.ports[{index}].name: {:?} is used twice", port.name));
        }
        ports.push(port);
    }
    ports.shrink_to_fit();
    Ok(ports)
}

fn port(object: &ObjectPort) -> Result<Port, String> {
    let name = object.name.as_deref().unwrap_or_default();
    if !name.is_empty() && !is_label(name) {
        return Err(format!("name: {name:?} is not a label of DNS"));
    }
    let protocol = object.protocol.as_deref().unwrap_or("TCP");
    let protocol = Protocol::parse(protocol)
        .ok_or_else(|| format!("protocol: {protocol:?} is not TCP, UDP or SCTP"))?;
    let number = port_number(Some(object.port))
        .ok_or_else(|| format!("port: {} is not between 1 and 65535", object.port))?;
    Ok(Port { name: name.into(), protocol, port: number, node_port: port_number(object.node_port) })
}
