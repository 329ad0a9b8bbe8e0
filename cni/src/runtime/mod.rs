//! The runtime's side of the protocol: lists of plugins, called in order, with the results kept on disk.
//!
//! Synchronous; each plugin call is bounded in time. File names and formats of the cache are libcni's, so that either can
//! detach what the other attached.

mod cache;
mod chain;
mod error;
mod list;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

pub use cache::{Cache, CachedAttachment};
pub use error::{ListError, RuntimeError};
pub use list::{NetworkList, PluginEntry};

/// How long one plugin call may take unless configured otherwise. Generous: an IPAM plugin may wait for a DHCP server.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_mins(1);

/// One interface of one container: what ADD makes and DEL removes.
#[derive(Clone, Debug, PartialEq)]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_NETNS`; DEL works without.
    pub netns: Option<PathBuf>,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_ARGS`, in order.
    pub args: Vec<(String, String)>,
    /// Capability arguments (`portMappings`, `bandwidth`, …): a plugin gets those that it declares, as `runtimeConfig`.
    pub capabilities: Map<String, Value>,
}

impl Attachment {
    /// An attachment without arguments.
    pub fn new(
        container_id: impl Into<String>,
        netns: Option<PathBuf>,
        ifname: impl Into<String>,
    ) -> Self {
        Self {
            container_id: container_id.into(),
            netns,
            ifname: ifname.into(),
            args: Vec::new(),
            capabilities: Map::new(),
        }
    }
}

/// Calls plugins.
#[derive(Clone, Debug)]
pub struct Runtime {
    bin_dirs: Vec<PathBuf>,
    cache: Cache,
    timeout: Duration,
}

impl Runtime {
    /// A runtime that looks for plugins in `bin_dirs`, in order, and keeps results below `cache_dir`
    /// (libcni: `/var/lib/cni`, with the files in `results`).
    pub fn new(bin_dirs: Vec<PathBuf>, cache_dir: impl Into<PathBuf>) -> Self {
        Self { bin_dirs, cache: Cache::new(cache_dir), timeout: DEFAULT_TIMEOUT }
    }

    /// The same with another limit on each plugin call.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What is kept of an attachment.
    pub fn cached(
        &self,
        network: &str,
        container_id: &str,
        ifname: &str,
    ) -> Result<Option<CachedAttachment>, RuntimeError> {
        self.cache.read(network, container_id, ifname)
    }

    /// All that is kept. Files that cannot be read are reported beside the good ones.
    pub fn cached_all(&self) -> (Vec<CachedAttachment>, Vec<RuntimeError>) {
        self.cache.read_all()
    }
}

#[cfg(test)]
mod tests;
