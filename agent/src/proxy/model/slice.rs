//! The few fields of an `EndpointSlice` that matter here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use k8s_openapi::api::discovery::v1::{Endpoint as ObjectEndpoint, EndpointSlice as Object};
use netns_tools::iptables::Family;

use super::{Protocol, ServiceName};

const SERVICE_LABEL: &str = "kubernetes.io/service-name";
const TRIGGER_ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// Endpoints of one service in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// `namespace/name` of the slice.
    pub name: Arc<str>,
    /// The service that they serve.
    pub service: ServiceName,
    /// Their family.
    pub family: Family,
    /// The ports that every endpoint has.
    pub ports: Box<[SlicePort]>,
    /// The endpoints.
    pub endpoints: Box<[SliceEndpoint]>,
    /// When this change was caused, by the controller's annotation.
    pub triggered: Option<SystemTime>,
}

/// A port of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// The name of the service's port that leads here; may be empty.
    pub name: Arc<str>,
    /// Protocol.
    pub protocol: Protocol,
    /// Number at the endpoint.
    pub port: u16,
}

/// An endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its address.
    pub address: IpAddr,
    /// Takes traffic.
    pub ready: bool,
    /// Would take traffic, were it not for its termination.
    pub serving: bool,
    /// Is being terminated.
    pub terminating: bool,
    /// Where it is.
    pub node: Option<Arc<str>>,
    /// Zones whose traffic it should take; empty if there is no hint.
    pub for_zones: Box<[Arc<str>]>,
    /// Nodes whose traffic it should take; empty if there is no hint.
    pub for_nodes: Box<[Arc<str>]>,
}

impl Slice {
    /// From the object. `None`: it belongs to no service, or to a headless one, or holds host names.
    pub fn of(object: &Object) -> Option<Self> {
        let metadata = &object.metadata;
        let labels = metadata.labels.as_ref()?;
        let owner = labels.get(SERVICE_LABEL).filter(|name| !name.is_empty())?;
        // the controller marks slices of headless services, which nobody routes to
        if labels.contains_key("service.kubernetes.io/headless") {
            return None;
        }
        let family = match object.address_type.as_str() {
            "IPv4" => Family::V4,
            "IPv6" => Family::V6,
            _ => return None,
        };
        let namespace = metadata.namespace.as_deref().unwrap_or("default");
        let annotations = metadata.annotations.as_ref();
        let trigger = annotations.and_then(|all| all.get(TRIGGER_ANNOTATION));
        let endpoints = object.endpoints.iter();
        let is_ours = |endpoint: &SliceEndpoint| family.has(endpoint.address);
        Some(Self {
            name: super::service::name_of(metadata).as_str().into(),
            service: ServiceName::new(namespace, owner),
            family,
            ports: object.ports.iter().flatten().filter_map(port).collect(),
            endpoints: endpoints.filter_map(endpoint).filter(is_ours).collect(),
            triggered: trigger
                .and_then(|text| text.parse::<jiff::Timestamp>().ok())
                .map(Into::into),
        })
    }

    /// Whether the other says the same of endpoints. Controllers touch slices without changing any.
    pub(super) fn same_endpoints(&self, other: &Self) -> bool {
        self.family == other.family
            && self.ports == other.ports
            && self.endpoints == other.endpoints
    }
}

fn port(object: &k8s_openapi::api::discovery::v1::EndpointPort) -> Option<SlicePort> {
    Some(SlicePort {
        name: object.name.as_deref().unwrap_or_default().into(),
        protocol: Protocol::parse(object.protocol.as_deref().unwrap_or("TCP"))?,
        port: u16::try_from(object.port?).ok().filter(|port| *port > 0)?,
    })
}

/// Conditions that are not told count as the API says: ready unless told otherwise, serving as ready.
fn endpoint(object: &ObjectEndpoint) -> Option<SliceEndpoint> {
    let conditions = object.conditions.as_ref();
    let ready = conditions.and_then(|known| known.ready).unwrap_or(true);
    let hints = object.hints.as_ref();
    let zones = hints.and_then(|hints| hints.for_zones.as_ref()).into_iter().flatten();
    let nodes = hints.and_then(|hints| hints.for_nodes.as_ref()).into_iter().flatten();
    Some(SliceEndpoint {
        // all addresses of an endpoint lead to the same pod; the first is the one to use
        address: object.addresses.first()?.parse().ok()?,
        ready,
        serving: conditions.and_then(|known| known.serving).unwrap_or(ready),
        terminating: conditions.and_then(|known| known.terminating).unwrap_or(false),
        node: object.node_name.as_deref().map(Into::into),
        for_zones: zones.map(|zone| zone.name.as_str().into()).collect(),
        for_nodes: nodes.map(|node| node.name.as_str().into()).collect(),
    })
}
