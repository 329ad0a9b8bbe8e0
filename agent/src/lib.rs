//! heddle-agent: the node daemon: pods, service proxy, status.

pub mod api;
pub mod cgroup;
pub mod cli;
pub mod daemon;
pub mod image;
pub mod kube;
pub mod listing;
pub mod lock;
pub mod log;
pub mod memory;
pub mod network;
pub mod node;
pub mod overlay;
pub mod pod;
pub mod proxy;
pub mod runtime;
pub mod source;
