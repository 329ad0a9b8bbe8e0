//! The overlay as an operator runs it: `heddle-agent overlay` on three nodes that are namespaces, with what breaks in clusters.
//!
//! | file | what |
//! | --- | --- |
//! | `world` | nodes, pods, an API server, and what is between nodes |
//! | `underlay` | the network between nodes: one link, or two subnets and a router; its MTU, its filters |
//! | `node` | one node: its namespace, its pods, its program |
//! | `agent` | the running program |
//! | `traffic` | streams, datagrams, and who is seen as their source |
//! | `cluster` | all of it running, with pods |
//! | `talk` | pods talk by every backend; a crash stops nothing |
//! | `changes` | nodes change, boot, claim what is not theirs, and go |
//! | `faults` | devices, routes, wires, routers and firewalls that break |
//! | `flannel` | a cluster of flannel becomes ours, node by node |
//! | `guard` | frames from somewhere else |
//! | `harness` | tests of all these themselves: by hand a tunnel works, and what is to break does |

mod agent;
mod changes;
mod cluster;
mod faults;
mod flannel;
mod guard;
mod harness;
mod node;
mod talk;
mod traffic;
mod underlay;
mod world;
