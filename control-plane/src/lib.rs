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
//! - [`allocate`]: the addresses and node ports of Services
//! - [`registry`]: a file per kind: defaults, validation, columns, what may change
//! - [`admission`]: what a cluster adds to objects, and who may write what
//! - [`api`]: the verbs over registry and store
//! - [`http`]: the wire: TLS, routes, negotiation, watches
//! - [`controllers`]: what goes on without anybody asking: namespaces, accounts, garbage
//! - [`server`]: all of it in one process
//! - [`memory`]: what it holds of the machine's memory
//! - [`command`]: what the program does when it is called

pub mod admission;
pub mod allocate;
pub mod api;
pub mod apply;
pub mod auth;
pub mod command;
pub mod controllers;
pub mod http;
pub mod memory;
pub mod meta;
pub mod patch;
pub mod pki;
pub mod protobuf;
pub mod registry;
pub mod schema;
pub mod server;
pub mod store;
