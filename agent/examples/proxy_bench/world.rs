//! N services with E endpoints each.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use heddle_agent::proxy::model::{
    Event, Model, Node, Port, Protocol, Service, ServiceName, Slice, SliceEndpoint, SlicePort,
};
use heddle_agent::proxy::options::{LocalTraffic, RuleOptions};
use netns_tools::iptables::Family;

/// This node, and the real servers of which one at a time is behind the last service.
pub const NODE_ADDRESS: &str = "10.9.0.1/24";
/// See [`NODE_ADDRESS`].
pub const SERVER_ADDRESSES: [&str; 2] = ["10.9.0.2/24", "10.9.0.3/24"];
/// See [`NODE_ADDRESS`].
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
/// See [`NODE_ADDRESS`].
pub const OTHER_SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 3);
/// The ports of services and of endpoints.
pub const PORT: u16 = 80;
/// See [`PORT`].
pub const TARGET: u16 = 8080;

/// How much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Services.
    pub services: u32,
    /// Endpoints of each.
    pub endpoints: u32,
}

impl Size {
    /// So many services with so many endpoints each.
    pub const fn new(services: u32, endpoints: u32) -> Self {
        Self { services, endpoints }
    }

    /// From `NxE`.
    pub fn parse(text: &str) -> Option<Self> {
        let (services, endpoints) = text.split_once('x')?;
        Some(Self { services: services.parse().ok()?, endpoints: endpoints.parse().ok()? })
    }

    /// The last of the services, in the order of names and of addresses.
    pub fn last(self) -> u32 {
        self.services - 1
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.services, self.endpoints)
    }
}

/// The number of a range of 16 bits, 250 hosts in each part.
fn address(range: [u8; 2], number: u32) -> Ipv4Addr {
    let [a, b] = range;
    let part = |value: u32| u8::try_from(value % 250).unwrap_or_default();
    Ipv4Addr::new(a, b, part(number / 250), part(number) + 1)
}

/// The cluster address of a service.
pub fn cluster_ip(index: u32) -> Ipv4Addr {
    address([10, 96], index)
}

/// The address of an endpoint.
pub fn endpoint(number: u32) -> Ipv4Addr {
    address([10, 244], number)
}

/// The address of a client.
pub fn client(number: u32) -> Ipv4Addr {
    address([172, 16], number)
}

fn name(index: u32) -> ServiceName {
    ServiceName::new("default", &format!("svc-{index:05}"))
}

/// A service with one port.
pub fn service(index: u32, protocol: Protocol) -> Service {
    Service {
        name: name(index),
        created: None,
        cluster_ips: vec![cluster_ip(index).into()],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: Vec::new(),
        external_local: false,
        internal_local: false,
        affinity: None,
        health_check_node_port: None,
        ports: vec![Port { name: "http".into(), protocol, port: PORT, node_port: None }],
    }
}

/// The endpoints of a service.
pub fn slice(index: u32, protocol: Protocol, addresses: impl Iterator<Item = IpAddr>) -> Slice {
    let endpoint = |address| SliceEndpoint {
        address,
        ready: true,
        serving: true,
        terminating: false,
        node: Some(Arc::from("bench-node")),
        for_zones: [].into(),
        for_nodes: [].into(),
    };
    Slice {
        name: format!("{}-x", name(index)).into(),
        service: name(index),
        family: Family::V4,
        ports: [SlicePort { name: "http".into(), protocol, port: TARGET }].into(),
        endpoints: addresses.map(endpoint).collect(),
        triggered: None,
    }
}

/// The endpoints of a service: those of the last are one real server.
fn endpoints(size: Size, index: u32) -> Vec<IpAddr> {
    if index == size.last() {
        return vec![SERVER.into()];
    }
    let first = index * size.endpoints;
    (first..first + size.endpoints).map(|number| endpoint(number).into()).collect()
}

/// A model with everything in it.
pub fn model(size: Size) -> Model {
    let mut model = Model::new(Node::named("bench-node"));
    let services = (0..size.services).map(|index| service(index, Protocol::Tcp));
    model.apply(Event::AllServices(services.collect()));
    let of = |index| slice(index, Protocol::Tcp, endpoints(size, index).into_iter());
    model.apply(Event::AllSlices((0..size.services).map(of).collect()));
    model
}

/// One endpoint of one service is replaced by one that was not there before.
pub fn replacement(size: Size, round: u32) -> Event {
    // spread over all services but the last
    let index = (round * 7919) % size.last().max(1);
    let mut all = endpoints(size, index);
    all[0] = address([10, 245], round).into();
    Event::Slice(slice(index, Protocol::Tcp, all.into_iter()))
}

/// The last service gets another server.
pub fn moved(size: Size, server: Ipv4Addr) -> Event {
    Event::Slice(slice(size.last(), Protocol::Tcp, std::iter::once(server.into())))
}

/// As on a node of a cluster with one range of pods.
pub fn options() -> RuleOptions {
    let pods = "10.244.0.0/16".parse().map(|range| LocalTraffic::Cidrs(vec![range]));
    RuleOptions { local: pods.unwrap_or_default(), ..RuleOptions::default() }
}
