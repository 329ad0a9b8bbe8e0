//! Who did what: a line of JSON for each request that the policy wants.
//!
//! Source: Kubernetes documentation, "Auditing"; `audit.k8s.io/v1`.
//!
//! # Examples
//! ```ignore
//! let decision = policy.decide(&attributes, version);          // when the request is authorized
//! if decision.wants(Stage::ResponseComplete) {
//!     let event = Event { level: decision.level, stage: Stage::ResponseComplete, .. };
//!     writer.write(event.to_json(&decision).to_string()).await?;
//! }
//! ```

mod event;
mod log;
mod policy;
mod writer;

pub use event::{Event, Exchange};
pub use log::{Log, LogError, Rotation};
pub use policy::{Decision, Level, Policy, PolicyError, Stage};
pub use writer::{Counts, Lost, Mode, Writer};
