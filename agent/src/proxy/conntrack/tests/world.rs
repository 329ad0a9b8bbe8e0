//! Services and flows in a few words.

use std::net::{IpAddr, SocketAddr};

use netns_tools::conntrack::{Flow, Tuple};
use netns_tools::iptables::Family;

use crate::proxy::model::{
    Changes, Event, Model, Node, Port, Protocol, Service, ServiceName, Slice, SliceEndpoint,
    SlicePort,
};
use crate::proxy::options::RuleOptions;

/// Where endpoints listen.
pub const TARGET: u16 = 5353;

/// A model made of words: services separated by `;`, each `PROTOCOL IP:PORT [np=N] [ext=IP] [lb=IP] [elocal] [ilocal]
/// [HOST@NODE:STATE]...`. The name of a service is its cluster address.
pub struct World {
    pub model: Model,
}

impl World {
    pub fn of(text: &str) -> Self {
        let mut world = Self { model: Model::new(Node::named("n1")) };
        world.set(text);
        world.model.take_changes();
        world
    }

    /// The same model with other objects, and what changed by it.
    pub fn then(mut self, text: &str) -> (Self, Changes) {
        self.set(text);
        let changes = self.model.take_changes();
        (self, changes)
    }

    pub fn set(&mut self, text: &str) {
        let texts = text.split(';').map(str::trim).filter(|text| !text.is_empty());
        let (services, slices) = texts.map(parse).unzip();
        self.model.apply(Event::AllServices(services));
        self.model.apply(Event::AllSlices(slices));
    }
}

fn parse(text: &str) -> (Service, Slice) {
    let mut words = text.split_whitespace();
    let protocol = Protocol::parse(&words.next().unwrap().to_uppercase()).unwrap();
    let at: SocketAddr = words.next().unwrap().parse().unwrap();
    let rest: Vec<_> = words.collect();
    let value = |key: &str| rest.iter().find_map(|word| word.strip_prefix(key));
    let ips = |key: &str| -> Vec<IpAddr> {
        value(key).map(|ip| ip.parse().unwrap()).into_iter().collect()
    };
    let name = ServiceName::new("default", &at.to_string());
    let port = Port {
        name: "".into(),
        protocol,
        port: at.port(),
        node_port: value("np=").map(|number| number.parse().unwrap()),
    };
    let service = Service {
        name: name.clone(),
        created: None,
        cluster_ips: vec![at.ip()],
        external_ips: ips("ext="),
        load_balancer_ips: ips("lb="),
        source_ranges: Vec::new(),
        external_local: rest.contains(&"elocal"),
        internal_local: rest.contains(&"ilocal"),
        affinity: None,
        health_check_node_port: None,
        ports: vec![port],
    };
    let endpoints = rest.iter().filter(|word| word.contains('@'));
    let slice = Slice {
        name: format!("{name}-1").into(),
        service: name,
        family: if at.is_ipv4() { Family::V4 } else { Family::V6 },
        ports: [SlicePort { name: "".into(), protocol, port: TARGET }].into(),
        endpoints: endpoints.map(|word| endpoint(word, at.ip())).collect(),
        triggered: None,
    };
    (service, slice)
}

/// The address of an endpoint by its number.
pub fn address(host: u8, like: IpAddr) -> IpAddr {
    let text = if like.is_ipv4() { format!("10.1.0.{host}") } else { format!("fd01::{host}") };
    text.parse().unwrap()
}

fn endpoint(word: &str, like: IpAddr) -> SliceEndpoint {
    let (host, rest) = word.split_once('@').unwrap();
    let (node, state) = rest.split_once(':').unwrap();
    let (ready, serving, terminating) = match state {
        "r" => (true, true, false),
        "s" => (false, true, true),
        "d" => (false, false, true),
        other => panic!("{other} is no state"),
    };
    SliceEndpoint {
        address: address(host.parse().unwrap(), like),
        ready,
        serving,
        terminating,
        node: Some(node.into()),
        for_zones: [].into(),
        for_nodes: [].into(),
    }
}

/// `from > to = answered by`
pub fn flow(protocol: u8, text: &str) -> Flow {
    let (source, rest) = text.split_once(" > ").unwrap();
    let (to, by) = rest.split_once(" = ").unwrap();
    let [source, to, by] = [source, to, by].map(|text| text.parse().unwrap());
    let original = Tuple { source, destination: to };
    Flow::new(protocol, original, Tuple { source: by, destination: source })
}

pub fn options() -> RuleOptions {
    RuleOptions::default()
}
