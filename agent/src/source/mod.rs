//! What should run: Kubernetes objects from a folder of manifests.
//!
//! The rest of the agent sees a set of objects and knows nothing of files, so that an API server can take the folder's place.

mod directory;
pub mod folder;
mod manifest;
mod watch;

use std::fmt;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

pub use directory::Directory;
pub use manifest::{Parsed, parse};
pub use watch::watch;

/// An object and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Sourced<T> {
    /// The file.
    pub path: PathBuf,
    /// The line that its document begins at, from 1.
    pub line: usize,
    /// The object.
    pub object: T,
}

/// Something in a file that is not right.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct SourceError {
    /// The file.
    pub path: PathBuf,
    /// The line of the mistake or, if only the object is known, of its document. `None`: the file as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The object (`Pod default/web`) or its place in the file (`document 2`).
    pub object: String,
    /// What is wrong and what to do.
    pub reason: String,
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}: {}", self.object, self.reason)
    }
}

/// Everything that should run, and what could not be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Objects {
    /// Pods, each of them valid and with a uid.
    pub pods: Vec<Sourced<Pod>>,
    /// Services, each of them valid.
    pub services: Vec<Sourced<Service>>,
    /// Endpoints of services without a selector, each of them valid.
    pub slices: Vec<Sourced<EndpointSlice>>,
    /// What is wrong, by file.
    pub errors: Vec<SourceError>,
}
