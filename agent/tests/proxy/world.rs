//! A node with pods, another node with pods, a host outside, and services of every kind: what packets are tried in, traced or real.

use std::net::{IpAddr, SocketAddr};

use heddle_agent::proxy::model::{Event, Model, Node, Service, Slice};
use heddle_agent::proxy::options::{LocalTraffic, NodePortAddresses, RuleOptions};
use heddle_agent::proxy::tracer::{Host, Interface};
use netns_tools::iptables::Family;
use serde_json::{Value, json};

/// The interface to everything outside.
pub const UPLINK: &str = "eth0";
/// The bridge of the pods.
pub const BRIDGE: &str = "cni0";
/// An interface that holds an address which services use as an external one.
pub const EXTRA: &str = "extra0";
/// The port at which endpoints listen.
pub const TARGET_PORT: u16 = 8080;

/// A host in both families, by its last part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    v4: &'static str,
    v6: &'static str,
}

impl Place {
    pub fn ip(self, family: Family) -> IpAddr {
        let text = if family == Family::V4 { self.v4 } else { self.v6 };
        text.parse().unwrap()
    }

    pub fn net(self, family: Family, v4: u8, v6: u8) -> ipnetwork::IpNetwork {
        let prefix = if family == Family::V4 { v4 } else { v6 };
        ipnetwork::IpNetwork::new(self.ip(family), prefix).unwrap()
    }
}

const fn place(v4: &'static str, v6: &'static str) -> Place {
    Place { v4, v6 }
}

/// This node's main address.
pub const NODE: Place = place("10.99.1.1", "fd00:99::1");
/// This node's address on the bridge.
pub const GATEWAY: Place = place("10.244.1.1", "fd00:244:1::1");
/// This node's address that services use as an external one.
pub const LOCAL_EXTERNAL: Place = place("198.51.100.200", "fd00:ee::200");
/// Pods of this node. The last is nobody's endpoint.
pub const PODS: [Place; 3] = [
    place("10.244.1.11", "fd00:244:1::11"),
    place("10.244.1.12", "fd00:244:1::12"),
    place("10.244.1.13", "fd00:244:1::13"),
];
/// The other node.
pub const OTHER_NODE: Place = place("10.99.1.2", "fd00:99::2");
/// Its pods.
pub const OTHER_PODS: [Place; 2] =
    [place("10.244.2.11", "fd00:244:2::11"), place("10.244.2.12", "fd00:244:2::12")];
/// Where they send what is for elsewhere.
pub const OTHER_GATEWAY: Place = place("10.244.2.1", "fd00:244:2::1");
/// The host outside where it joins the network.
pub const ROUTER: Place = place("10.99.1.254", "fd00:99::254");
/// Outside, within the source ranges of services that have some.
pub const WELCOME: Place = place("203.0.113.7", "fd00:203::7");
/// Outside, and in no range.
pub const STRANGER: Place = place("198.18.0.9", "fd00:18::9");
/// Loopback.
pub const LOCALHOST: Place = place("127.0.0.1", "::1");

/// What is routed where in the world: network, whose it is.
pub fn networks(family: Family) -> [ipnetwork::IpNetwork; 5] {
    let texts = match family {
        Family::V4 => {
            ["10.99.1.0/24", "10.244.1.0/24", "10.244.2.0/24", "203.0.113.0/24", "10.244.0.0/16"]
        }
        Family::V6 => {
            ["fd00:99::/64", "fd00:244:1::/64", "fd00:244:2::/64", "fd00:203::/64", "fd00:244::/32"]
        }
    };
    texts.map(|text| text.parse().unwrap())
}

/// The pods' networks: of all nodes, and of this node.
pub fn pod_cidr(family: Family, of_this_node: bool) -> ipnetwork::IpNetwork {
    networks(family)[if of_this_node { 1 } else { 4 }]
}

/// What the tracer must know of this node.
pub fn host() -> Host {
    let interface = |name: &str, place: Place, v4: u8, v6: u8| Interface {
        name: name.to_owned(),
        addresses: vec![place.net(Family::V4, v4, v6), place.net(Family::V6, v4, v6)],
    };
    let default = |text: &str| (text.parse().unwrap(), UPLINK.to_owned());
    Host {
        interfaces: vec![
            interface(UPLINK, NODE, 24, 64),
            interface(BRIDGE, GATEWAY, 24, 64),
            interface(EXTRA, LOCAL_EXTERNAL, 32, 128),
        ],
        routes: vec![default("0.0.0.0/0"), default("::/0")],
    }
}

/// Who serves, in the notation `<where>:<condition>`; where: p1 to p3 (pods here), o1 and o2 (pods there), n (this node);
/// condition: r ready, s serving while it terminates, d not ready.
pub const SITUATIONS: [(&str, &str); 8] = [
    ("none", ""),
    ("unready", "p1:d o1:d"),
    ("here", "p1:r"),
    ("there", "o1:r o2:r"),
    ("both", "p1:r p2:r o1:r"),
    ("leaving", "p1:s o1:s o2:d"),
    ("split", "p1:s o1:r"),
    ("host", "n:r o1:r"),
];

/// What a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of a Service")]
pub struct Kind {
    pub external: bool,
    pub external_local: bool,
    pub internal_local: bool,
    pub ranges: bool,
}

/// Every kind: cluster address only; with a node port, an external address, one that is this node's, and a load balancer's;
/// under each policy, with and without source ranges.
pub fn kinds() -> Vec<Kind> {
    let flags = [false, true];
    let mut kinds = Vec::new();
    for internal_local in flags {
        let inside = Kind { external: false, external_local: false, internal_local, ranges: false };
        kinds.push(inside);
        for external_local in flags {
            kinds.push(Kind { external: true, external_local, ..inside });
        }
    }
    let ranges = |external_local| Kind {
        external: true,
        external_local,
        internal_local: false,
        ranges: true,
    };
    kinds.extend(flags.map(ranges));
    kinds
}

/// Numbers and addresses of a service by its index.
pub fn cluster_ip(family: Family, index: u8) -> IpAddr {
    numbered(family, "10.96.0.", "fd00:96::", index)
}

pub fn external_ip(family: Family, index: u8) -> IpAddr {
    numbered(family, "198.51.100.", "fd00:ee::", index)
}

pub fn balancer_ip(family: Family, index: u8) -> IpAddr {
    numbered(family, "192.0.2.", "fd00:1b::", index)
}

pub fn node_port(index: u8) -> u16 {
    30_000 + u16::from(index)
}

fn numbered(family: Family, v4: &str, v6: &str, index: u8) -> IpAddr {
    let text = if family == Family::V4 { format!("{v4}{index}") } else { format!("{v6}{index:x}") };
    text.parse().unwrap()
}

/// A service with its endpoints, as the API has them.
#[derive(Clone, Debug)]
pub struct Example {
    pub name: String,
    pub index: u8,
    pub kind: Kind,
    pub protocol: &'static str,
    pub endpoints: String,
    pub affinity_seconds: Option<u32>,
    /// Its external address is this node's.
    pub at_this_node: bool,
}

impl Example {
    pub fn new(index: u8, kind: Kind, endpoints: &str) -> Self {
        let name = format!("s{index}");
        let endpoints = endpoints.to_owned();
        Self {
            name,
            index,
            kind,
            protocol: "TCP",
            endpoints,
            affinity_seconds: None,
            at_this_node: false,
        }
    }

    fn object(&self) -> Value {
        let both = |of: fn(Family, u8) -> IpAddr| {
            [Family::V4, Family::V6].map(|family| of(family, self.index).to_string())
        };
        let policy = |local: bool| if local { "Local" } else { "Cluster" };
        let mut spec = json!({
            "type": "ClusterIP", "clusterIP": both(cluster_ip)[0], "clusterIPs": both(cluster_ip),
            "internalTrafficPolicy": policy(self.kind.internal_local),
            "ports": [{"name": "main", "port": 80, "protocol": self.protocol}],
        });
        if let Some(seconds) = self.affinity_seconds {
            spec["sessionAffinity"] = json!("ClientIP");
            spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": seconds}});
        }
        let mut object = json!({"metadata": {"namespace": "default", "name": self.name}});
        if self.kind.external {
            spec["type"] = json!("LoadBalancer");
            spec["externalTrafficPolicy"] = json!(policy(self.kind.external_local));
            spec["ports"][0]["nodePort"] = json!(node_port(self.index));
            spec["externalIPs"] = json!(self.external_ips());
            let ingress = both(balancer_ip).map(|ip| json!({"ip": ip, "ipMode": "VIP"}));
            object["status"] = json!({"loadBalancer": {"ingress": ingress}});
        }
        if self.kind.ranges {
            let ranges = [Family::V4, Family::V6].map(|family| networks(family)[3].to_string());
            spec["loadBalancerSourceRanges"] = json!(ranges);
        }
        object["spec"] = spec;
        object
    }

    fn external_ips(&self) -> Vec<String> {
        let families = [Family::V4, Family::V6];
        let ip = |family| {
            if self.at_this_node {
                LOCAL_EXTERNAL.ip(family)
            } else {
                external_ip(family, self.index)
            }
        };
        families.map(|family| ip(family).to_string()).to_vec()
    }

    pub fn service(&self) -> Service {
        let object = serde_json::from_value(self.object()).unwrap();
        Service::of(&object).unwrap().unwrap()
    }

    /// The slices of both families.
    pub fn slices(&self) -> Vec<Slice> {
        [Family::V4, Family::V6].map(|family| self.slice(family)).to_vec()
    }

    fn slice(&self, family: Family) -> Slice {
        let kind = if family == Family::V4 { "IPv4" } else { "IPv6" };
        let endpoints: Vec<_> =
            self.endpoints.split_whitespace().map(|text| endpoint(text, family)).collect();
        let object = json!({
            "metadata": {"namespace": "default", "name": format!("{}-{}", self.name, kind.to_lowercase()),
                "labels": {"kubernetes.io/service-name": self.name}},
            "addressType": kind, "endpoints": endpoints,
            "ports": [{"name": "main", "port": TARGET_PORT, "protocol": self.protocol}],
        });
        Slice::of(&serde_json::from_value(object).unwrap()).unwrap()
    }
}

fn endpoint(text: &str, family: Family) -> Value {
    let (at, condition) = text.split_once(':').unwrap();
    let (place, node) = endpoint_place(at);
    let (ready, serving, terminating) = match condition {
        "r" => (true, true, false),
        "s" => (false, true, true),
        "d" => (false, false, false),
        other => panic!("condition {other}"),
    };
    json!({"addresses": [place.ip(family).to_string()], "nodeName": node,
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating}})
}

pub fn endpoint_place(at: &str) -> (Place, &'static str) {
    match at {
        "p1" => (PODS[0], "this"),
        "p2" => (PODS[1], "this"),
        "p3" => (PODS[2], "this"),
        "o1" => (OTHER_PODS[0], "other"),
        "o2" => (OTHER_PODS[1], "other"),
        "n" => (NODE, "this"),
        other => panic!("no place {other}"),
    }
}

/// Where an endpoint listens.
pub fn target(place: Place, family: Family) -> SocketAddr {
    SocketAddr::new(place.ip(family), TARGET_PORT)
}

/// Services of every kind in every situation, and some odd ones.
pub fn examples() -> Vec<Example> {
    let mut examples = Vec::new();
    let mut next = 0;
    let mut index = || {
        next += 1;
        next
    };
    for (_, endpoints) in SITUATIONS {
        examples.extend(kinds().into_iter().map(|kind| Example::new(index(), kind, endpoints)));
    }
    let open = Kind { external: true, external_local: false, internal_local: false, ranges: false };
    let local = Kind { external_local: true, ..open };
    for (protocol, kind) in [("UDP", open), ("UDP", local), ("SCTP", open)] {
        for endpoints in ["", "p1:r o1:r", "o1:r"] {
            examples.push(Example { protocol, ..Example::new(index(), kind, endpoints) });
        }
    }
    for kind in [open, local] {
        let example = Example::new(index(), kind, "p1:r p2:r o1:r");
        examples.push(Example { affinity_seconds: Some(100), ..example });
    }
    // an address has one owner for each protocol: TCP and UDP
    let here = Example { at_this_node: true, ..Example::new(index(), local, "p1:r o1:r") };
    let nobody = Example { at_this_node: true, protocol: "UDP", ..Example::new(index(), open, "") };
    examples.extend([here, nobody]);
    examples
}

/// A model that holds these services.
pub fn model(examples: &[Example]) -> Model {
    let mut model = Model::new(this_node());
    for example in examples {
        model.apply(Event::Service(example.service()));
        for slice in example.slices() {
            model.apply(Event::Slice(slice));
        }
    }
    model
}

fn this_node() -> Node {
    let families = [Family::V4, Family::V6];
    Node { addresses: families.map(|family| NODE.ip(family)).to_vec(), ..Node::named("this") }
}

/// Everything that is tried together.
#[derive(Debug)]
pub struct World {
    pub host: Host,
    pub model: Model,
    pub examples: Vec<Example>,
    pub options: Options,
}

/// What of the options differs from world to world.
#[derive(Clone, Debug)]
pub struct Options {
    pub name: &'static str,
    pub local: LocalTraffic,
    pub masquerade_all: bool,
    /// Node ports answer at the main address only, and at 127.0.0.1 if `localhost` is on.
    pub listed: bool,
    pub localhost: bool,
}

impl Options {
    /// What a backend of a family is told.
    pub fn of(&self, family: Family) -> RuleOptions {
        let localhost = LOCALHOST.ip(family);
        let own = [NODE.ip(family)].into_iter();
        let listed =
            || NodePortAddresses::Listed(own.chain(self.localhost.then_some(localhost)).collect());
        RuleOptions {
            local: self.local.clone(),
            masquerade_all: self.masquerade_all,
            node_ports: if self.listed { listed() } else { NodePortAddresses::Any },
            localhost_node_ports: self.localhost,
            node_ips: vec![NODE.ip(family)],
            ..RuleOptions::default()
        }
    }
}

/// Each way to recognise pods, with each other option in turn.
pub fn variants() -> Vec<Options> {
    let plain = Options {
        name: "unknown",
        local: LocalTraffic::Unknown,
        masquerade_all: false,
        listed: false,
        localhost: true,
    };
    let cidrs = |of_this_node| {
        LocalTraffic::Cidrs(vec![
            pod_cidr(Family::V4, of_this_node),
            pod_cidr(Family::V6, of_this_node),
        ])
    };
    let bridge = LocalTraffic::Bridge(BRIDGE.to_owned());
    let prefix = LocalTraffic::InterfacePrefix("cni".to_owned());
    vec![
        Options { name: "cluster cidr", local: cidrs(false), ..plain.clone() },
        Options {
            name: "node cidr, listed",
            local: cidrs(true),
            listed: true,
            localhost: false,
            ..plain.clone()
        },
        Options {
            name: "bridge, not at localhost",
            local: bridge,
            localhost: false,
            ..plain.clone()
        },
        Options { name: "prefix, all", local: prefix, masquerade_all: true, ..plain.clone() },
        Options {
            name: "unknown, all, listed",
            masquerade_all: true,
            listed: true,
            ..plain.clone()
        },
        plain,
    ]
}

impl World {
    pub fn new(examples: Vec<Example>, options: Options) -> Self {
        Self { host: host(), model: model(&examples), examples, options }
    }
}
