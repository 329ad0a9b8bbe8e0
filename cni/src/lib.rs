//! The Container Network Interface protocol, both sides: what a plugin speaks ([`plugin`]), and how a runtime calls
//! plugins ([`runtime`]). Specification: containernetworking/cni SPEC.md 1.1.0, and the older result forms back to 0.1.0.
//!
//! This crate knows nothing of the kernel: a namespace is a path here.

mod answer;
pub mod args;
pub mod config;
mod delegate;
pub mod error;
pub mod exec;
pub mod lookup;
pub mod plugin;
mod quote;
pub mod result;
pub mod runtime;
pub mod version;

pub use answer::AnswerError;
pub use args::{CniArgs, Command};
pub use config::PluginConf;
pub use error::{Error, ErrorCode};
pub use plugin::{Call, Io, NoSuite, Plugin, Suite, ValidAttachment};
pub use result::{CniResult, Dns, Interface, IpConfig, Route};
pub use version::Version;
