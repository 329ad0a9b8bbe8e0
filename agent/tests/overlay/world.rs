//! Three nodes, what is between them, and an API server that they all reach.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

use serde_json::Value;
use test_api_server::{Resource, Server};
use tokio::runtime::Runtime;

use crate::agent::Agent;
use crate::node::Node;
use crate::underlay::{Shape, Underlay, router};

/// All of it; gone with this.
pub struct World {
    pub nodes: [Node; 3],
    pub underlay: Underlay,
    pub api: Server,
    #[expect(dead_code, reason = "the API server runs on it")]
    runtime: Runtime,
    folder: tempfile::TempDir,
}

impl World {
    /// The API knows all nodes. No program runs, and no pods are there.
    pub fn new(shape: Shape) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let underlay = Underlay::new(shape);
        let nodes = [1, 2, 3].map(|number| Node::new(number, &underlay, folder.path()));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = underlay.hub.run(|| TcpListener::bind((router(1)[0], 0)).unwrap());
        listener.set_nonblocking(true).unwrap();
        let api = runtime.block_on(async {
            Server::serve(tokio::net::TcpListener::from_std(listener).unwrap())
        });
        fs::write(folder.path().join("kubeconfig"), api.kubeconfig()).unwrap();
        // one after the other, so that their ages differ as their numbers do
        for node in &nodes {
            api.put(node.object());
        }
        Self { nodes, underlay, api, runtime, folder }
    }

    /// A node, by its number from 1 on.
    pub fn node(&self, number: u8) -> &Node {
        &self.nodes[usize::from(number) - 1]
    }

    /// See [`Self::node`].
    pub fn node_mut(&mut self, number: u8) -> &mut Node {
        &mut self.nodes[usize::from(number) - 1]
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// Starts the program on a node, with more lines for its section `[overlay]`.
    pub fn start(&self, node: u8, more: &str) -> Agent {
        Agent::start(self.node(node), &self.kubeconfig(), more)
    }

    /// Node objects as the API has them.
    pub fn forget(&self, node: u8) {
        assert!(self.api.delete(Resource::Nodes, "", &self.node(node).name()));
    }

    pub fn put(&self, object: Value) {
        self.api.put(object);
    }

    /// As [`Self::reboot`], with another Ethernet address of its `eth0`.
    pub fn reboot_as_another(&mut self, node: u8) {
        self.nodes[usize::from(node) - 1].reboot_as_another(&self.underlay);
    }

    /// Removes a node's kernel state and what was below its `/run`.
    pub fn reboot(&mut self, node: u8) {
        self.nodes[usize::from(node) - 1].reboot(&self.underlay);
    }
}
