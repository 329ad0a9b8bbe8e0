//! What a kubelet may do: read what its own pods need, and write about itself.
//!
//! Source: Kubernetes documentation, "Using Node Authorization", and of the admission plugin `NodeRestriction`. A kubelet is the user
//! `system:node:NAME` in the group `system:nodes`.

mod authorizer;
mod graph;
pub mod restriction;

pub use authorizer::decide;
pub use graph::Graph;
