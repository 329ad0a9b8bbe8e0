//! Pods of different nodes talk: VXLAN, plain routes, or both.
//!
//! What the cluster is (Node objects) and what this host is (its underlay) go into a pure plan; the plan is compared with the
//! kernel, and what differs is written in one batch. Whatever tells of a change, an API server, the kernel or a clock, only says
//! that it is time to look.
//!
//! | file | what |
//! | --- | --- |
//! | `node` | what the overlay takes of a Node object, and what nodes announce to each other in annotations |
//! | `desired` | what must hold in the kernel of this node |

pub mod desired;
pub mod node;
