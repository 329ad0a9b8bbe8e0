//! Nodes and pods as namespaces.

use std::net::Ipv4Addr;

use netns_tools::testing::{End, TestNetns, veth_pair};

/// The range of all pods.
pub const CLUSTER: &str = "10.244.0.0/16";

/// A node.
pub struct Node {
    /// Its namespace.
    pub ns: TestNetns,
    /// From 1 on.
    number: u8,
}

impl Node {
    /// Two nodes on one link, which is `eth0` of each.
    pub fn pair() -> [Self; 2] {
        let nodes = [1, 2].map(|number| Self { ns: TestNetns::new("bench-n"), number });
        let [one, other] = nodes.each_ref().map(|node| format!("{}/24", node.address()));
        veth_pair(End(&nodes[0].ns, "eth0", &[&one]), End(&nodes[1].ns, "eth0", &[&other]));
        nodes
    }

    /// On the underlay (RFC 5737).
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, 10 + self.number)
    }

    /// Of its pods, as `first/24`.
    pub fn range(&self) -> String {
        format!("{}/24", self.first())
    }

    /// The first address of its range: the tunnel's own.
    pub const fn first(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, self.number, 0)
    }

    /// Of its pods.
    pub const fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, self.number, 1)
    }

    /// The Ethernet address of its tunnel when made by hand.
    pub fn mac(&self) -> String {
        format!("02:00:00:00:00:{:02x}", self.number)
    }

    /// Its name in the API.
    pub fn name(&self) -> String {
        format!("node-{}", self.number)
    }

    /// A namespace for a pod of this node; nothing is attached yet.
    pub fn pod(&self, number: u8) -> Pod {
        let ns = TestNetns::new("bench-p");
        ns.configure("lo", &[]);
        Pod { ns, node: self.number, number }
    }
}

/// A pod.
pub struct Pod {
    /// Its namespace.
    pub ns: TestNetns,
    node: u8,
    /// On its node, from 0 on.
    pub number: u8,
}

impl Pod {
    /// The one that host-local gives out, when pods are attached in the order of their numbers.
    pub const fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, self.node, 2 + self.number)
    }
}
