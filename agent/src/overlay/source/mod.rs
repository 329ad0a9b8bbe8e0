//! Where Node objects come from: an API server, or manifests in a folder.
//!
//! | file | what |
//! | --- | --- |
//! | `api` | a list and a watch of all Nodes |
//! | `manifests` | Nodes of a folder |
//! | `keeper` | something of this node's own object, kept as it should be: |
//! | `announce` | its annotations |
//! | `network` | its condition `NetworkUnavailable` |

mod announce;
mod api;
mod keeper;
mod manifests;
mod network;

pub use announce::{Announcement, Wanted};
pub use api::{NODES, Own, STAYS, follow, follow_with};
pub use keeper::{Duty, Keeper, Told};
pub use manifests::follow as follow_manifests;
pub use network::Network;

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
