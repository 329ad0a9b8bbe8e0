//! Heddle's own configuration: types, validation, defaults, and the files that it ships.
//!
//! One table of keys ([`KEYS`]) drives the file, the flags and the help: a key that is not in it does not exist. What
//! comes in is checked whole, every mistake is reported at once with its place, and what comes out cannot hold a wrong
//! value.

mod agent;
pub mod dns;
mod error;
mod key;
mod layer;
pub mod lease;

pub use agent::{
    AgentConfig, ChecksumOffload, CniConfig, ContainerdConfig, LogLevel, NetworkConfig, NodeSource,
    OverlayBackend, OverlayConfig, PathConfig, PodsConfig, ProxyConfig, ProxyMode,
};
pub use error::{ConfigError, Mistake};
pub use key::{KEYS, Key, Kind, Reader};
pub use layer::Layer;
pub use lease::{Lease, LeaseError};
