//! The service proxy: Services and their endpoints become rules of the kernel.
//!
//! objects → [`model`] (pure: what must hold, per family) → a [`backend`] makes the rules, compares them with what it committed and
//! writes the difference in one transaction. [`run`] is the loop that ties these together.
//!
//! | module | what |
//! | --- | --- |
//! | [`model`] | services, endpoints, this node: what must hold |
//! | [`options`], [`backend`] | what rules depend on besides; what a way of writing rules must be able to do |
//! | [`iptables`] | kube-proxy's chains by `iptables-restore` |
//! | [`conntrack`] | flows that lead where nobody serves any more |
//! | [`run`] | the loop: when what is written, failures, repair |
//! | [`command`] | the proxy alone: `heddle-agent proxy` |
//! | [`config`] | kube-proxy's flags and file |
//! | [`kube`], [`manifests`] | objects from an API server, or from a folder |
//! | [`ops`], [`host`] | metrics and health; the host's parameters and addresses |
//! | [`tracer`] | where a packet ends up, told from the rules: for tests |
//! | [`allocate`], [`validate`], [`pods`] | what an API server and its controllers do, for objects from a folder |

pub mod allocate;
pub mod backend;
pub mod command;
pub mod config;
pub mod conntrack;
pub mod host;
pub mod iptables;
pub mod kube;
pub mod manifests;
pub mod model;
pub mod nftables;
pub mod ops;
pub mod options;
pub mod pods;
pub mod run;
pub mod tracer;
pub mod validate;
