//! The Heddle CNI plugins: a folder each, with `conf` (what the configuration may say), `plan` (pure
//! decisions) and `apply` (the kernel and the disk).
//!
//! They are one program, `heddle-cni`; see [`program`]. What plugins share is a module of its own here:
//! [`sandbox`], [`veth`], [`interface`], [`masquerade`], [`tag`], [`lease`], [`drift`], [`teardown`], [`readiness`], [`step`], [`undo`].
#![warn(missing_docs)]

mod asked;
pub mod bandwidth;
pub mod bridge;
pub mod call_log;
mod cli;
pub mod code;
mod collect;
pub mod dbus;
pub mod dhcp;
pub mod drift;
pub mod dummy;
pub mod firewall;
pub mod forwarding;
pub mod host_device;
pub mod host_local;
pub mod install;
pub mod interface;
pub mod ipvlan;
pub mod lease;
pub mod lock;
pub mod loopback;
pub mod macvlan;
pub mod masquerade;
mod nft;
pub mod overlay;
pub mod portmap;
pub mod program;
pub mod ptp;
pub mod readiness;
pub mod rules;
pub mod sandbox;
pub mod sbr;
pub mod single;
pub mod start;
pub mod static_ipam;
pub mod step;
pub mod sublink;
pub mod suite;
pub mod tag;
pub mod tap;
pub mod teardown;
pub mod tuning;
pub mod undo;
pub mod veth;
pub mod vlan;
pub mod vrf;

#[cfg(test)]
mod testcall;
