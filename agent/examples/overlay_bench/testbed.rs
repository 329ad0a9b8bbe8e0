//! One topology, ready for traffic.

use std::net::IpAddr;

use crate::Outcome;
use crate::hand;
use crate::heddle::Plugins;
use crate::node::{Node, Pod};
use crate::place::{Builder, Path, Place};
use crate::program::{Agents, Program};
use crate::traffic::{self, Effort, Figures, Server};

/// Two nodes, a client's pod and a server's. What is inside goes first: the order of the fields.
pub struct Testbed {
    server: Server,
    #[expect(dead_code, reason = "it runs as long as this lives")]
    agents: Option<Agents>,
    client: Pod,
    receiver: Pod,
    #[expect(dead_code, reason = "it lives as long as this")]
    nodes: [Node; 2],
}

impl Testbed {
    /// Builds it and waits until a request is answered.
    pub fn new(place: Place, plugins: &Plugins, program: Option<&Program>) -> Outcome<Self> {
        let nodes = Node::pair();
        for node in &nodes {
            hand::prepare(node, place)?;
        }
        let receivers = if place.path == Path::Same { (&nodes[0], 1) } else { (&nodes[1], 0) };
        let (client, receiver) = (nodes[0].pod(0), receivers.0.pod(receivers.1));
        for (node, pod) in [(&nodes[0], &client), (receivers.0, &receiver)] {
            match place.builder {
                Builder::Heddle => plugins.attach(node, pod, place)?,
                Builder::Bare | Builder::Hand => hand::attach(node, pod, place)?,
            }
        }
        let agents = match (place.builder, program) {
            (Builder::Heddle, Some(program)) => Some(program.start(&nodes, place)?),
            (builder, _) => {
                by_hand(&nodes, place, builder)?;
                None
            }
        };
        let address = IpAddr::V4(receiver.address());
        let server = Server::start(&receiver.ns, address)?;
        if let Err(error) = traffic::wait_for(&client.ns, address) {
            let said = agents.map(|agents| agents.said()).unwrap_or_default();
            return Err(format!("{place}: {error}\n{said}").into());
        }
        Ok(Self { server, agents, client, receiver, nodes })
    }

    /// One sample.
    pub fn sample(&self, effort: Effort) -> Outcome<Figures> {
        self.server.sample(&self.client.ns, &self.receiver.ns, effort)
    }
}

fn by_hand(nodes: &[Node; 2], place: Place, builder: Builder) -> Outcome {
    let [one, other] = nodes;
    hand::route(one, other, place)?;
    hand::route(other, one, place)?;
    if builder == Builder::Bare {
        return Ok(());
    }
    nodes.iter().try_for_each(|node| hand::rules(node, nodes))
}
