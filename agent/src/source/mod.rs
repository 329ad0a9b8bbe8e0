//! What should run: Kubernetes objects from a folder of manifests.
//!
//! The rest of the agent sees a set of objects and knows nothing of files, so that an API server can take the folder's place.

mod directory;
mod manifest;

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Pod, Service};

pub use directory::{Directory, watch};
pub use manifest::{Parsed, parse};

/// An object and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Sourced<T> {
    /// The file.
    pub path: PathBuf,
    /// The object.
    pub object: T,
}

/// Something in a file that is not right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct SourceError {
    /// The file.
    pub path: PathBuf,
    /// The object (`Pod default/web`) or the place in the file (`document 2, line 14`).
    pub object: String,
    /// What is wrong and what to do.
    pub reason: String,
}

/// Everything that should run, and what could not be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Objects {
    /// Pods, each of them valid.
    pub pods: Vec<Sourced<Pod>>,
    /// Services, each of them valid.
    pub services: Vec<Sourced<Service>>,
    /// What is wrong, by file.
    pub errors: Vec<SourceError>,
}
