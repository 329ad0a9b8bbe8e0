//! A small Kubernetes API server.
//!
//! From the ground up; a module uses those above it in this list, never those below:
//!
//! - [`store`]: keys, bytes and revisions: what is kept, where, and what changed since (knows nothing of Kubernetes)
//! - [`schema`]: what an object of some kind may hold, and how its lists and maps merge
//! - [`protobuf`]: bodies in Kubernetes' protobuf to JSON
//! - [`patch`], [`apply`]: the four ways to change an object, and who owns which field
//! - [`meta`]: what every object has: metadata, names, labels, selectors, quantities, field errors
//! - [`pki`], [`auth`]: certificates and tokens; who someone is and what they may do
//! - [`registry`]: a file per kind: defaults, validation, columns, what may change
//! - [`api`]: the verbs over registry and store
//! - [`http`]: the wire: TLS, routes, negotiation, watches

pub mod apply;
pub mod auth;
pub mod meta;
pub mod patch;
pub mod pki;
pub mod protobuf;
pub mod schema;
pub mod store;
