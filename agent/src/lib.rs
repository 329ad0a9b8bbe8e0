//! heddle-agent: the node daemon: pods, service proxy, status.

pub mod cgroup;
pub mod image;
pub mod log;
pub mod runtime;
