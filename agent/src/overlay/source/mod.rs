//! Where Node objects come from: an API server, or manifests in a folder.
//!
//! | file | what |
//! | --- | --- |
//! | `api` | a list and a watch of all Nodes |
//! | `manifests` | Nodes of a folder |
//! | `announce` | this node's own annotations, kept as they should be |

mod announce;
mod api;
mod manifests;

use std::collections::BTreeMap;

pub use announce::{Announcer, Told, Wanted};
pub use api::{NODES, STAYS, follow, follow_with};
pub use manifests::follow as follow_manifests;

use super::cluster;
use crate::overlay::annotation;

/// What a source tells.
#[derive(Clone, Debug)]
pub enum Event {
    /// Nodes.
    Nodes(cluster::Event),
    /// The source does not answer, and why; `None`: it does again.
    Away(Option<String>),
}

/// The annotations of this node's object by which nodes are announced, as they are; `None`: the object is not there.
pub type Own = Option<BTreeMap<String, String>>;

/// Every annotation that is ever written.
const ANNOTATIONS: [&str; 7] = [
    annotation::OURS,
    annotation::FLANNEL_TYPE,
    annotation::FLANNEL_DATA,
    annotation::FLANNEL_V6_DATA,
    annotation::FLANNEL_IP,
    annotation::FLANNEL_IPV6,
    annotation::FLANNEL_MANAGED,
];

#[cfg(test)]
mod tests;
