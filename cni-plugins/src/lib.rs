//! The Heddle CNI plugins: a folder each, with `conf` (what the configuration may say), `plan` (pure
//! decisions) and `apply` (the kernel and the disk).
//!
//! They are one program, `heddle-cni`; see [`program`]. What plugins share is a module of its own here:
//! [`sandbox`], [`veth`], [`interface`], [`masquerade`], [`tag`], [`drift`], [`teardown`], [`readiness`], [`step`], [`undo`].
#![warn(missing_docs)]

pub mod bridge;
pub mod call_log;
mod cli;
pub mod code;
pub mod dbus;
pub mod drift;
pub mod firewall;
pub mod forwarding;
pub mod host_local;
pub mod install;
pub mod interface;
pub mod lock;
pub mod loopback;
pub mod masquerade;
pub mod portmap;
pub mod program;
pub mod ptp;
pub mod readiness;
pub mod rules;
pub mod sandbox;
pub mod step;
pub mod suite;
pub mod tag;
pub mod teardown;
pub mod undo;
pub mod veth;

#[cfg(test)]
mod testcall;
