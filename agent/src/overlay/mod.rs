//! Pods of different nodes talk: VXLAN, plain routes, or both.
//!
//! What the cluster is (Node objects) and what this host is (its underlay) go into a pure plan; the plan is compared with the
//! kernel, and what differs is written in one batch. Whatever tells of a change, an API server, the kernel or a clock, only says
//! that it is time to look.
//!
//! | file | what |
//! | --- | --- |
//! | `node` | what the overlay takes of a Node object, and what nodes announce to each other |
//! | `annotation` | announcements as annotations: ours, and flannel's |
//! | `cluster` | all nodes, and which of them claim what another has |
//! | `plan` | what must hold in the kernel of this node, of its underlay and the cluster |
//! | `desired` | the same as plain data |
//! | `kernel` | makes it hold |
//! | `underlay` | which link, addresses and MTU the packets between nodes have |
//! | `rules` | packet filter rules and kernel parameters: masquerading, forwarding, who may send through the tunnel |
//! | `probe` | what arrives at other nodes: large packets, and those whose checksum is left to the device |
//! | `source` | where Node objects come from, and this node's own annotations |
//! | `state` | what must be known after a restart |
//! | `run` | the loop that makes all of it follow |
//! | `status`, `metrics` | what is told of it |
//! | `command` | the subcommand `heddle-agent overlay` |

pub mod annotation;
pub mod cluster;
pub mod command;
pub mod desired;
pub mod kernel;
pub mod metrics;
pub mod node;
pub mod plan;
pub mod probe;
pub mod rules;
pub mod run;
pub mod source;
pub mod state;
pub mod status;
pub mod underlay;
