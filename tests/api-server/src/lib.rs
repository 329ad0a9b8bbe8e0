//! A small Kubernetes API server for tests and benchmarks.
//!
//! It holds Services, `EndpointSlices` and Nodes, answers lists (pages, selectors) and watches (versions, bookmarks, 410 for a version
//! that is too old) over plain HTTP as kube-apiserver does, and misbehaves when told to: it goes away, cuts connections, is slow, sends
//! events twice or late. On demand it asks who is there: TLS, client certificates, bearer tokens. It checks nothing else and is no API
//! server to use.
//!
//! | file | what |
//! | --- | --- |
//! | `resource` | the kinds that it knows |
//! | `store` | objects, their versions and the history that watches read; pure |
//! | `selector` | label and field selectors; pure |
//! | `server` | HTTP |
//! | `thread` | the same on a thread of its own |
//! | `access` | who may ask |
//! | `watch` | one watch |
//! | `faults` | how it is to misbehave |
//! | `control` | changes and faults over HTTP, for other programs |
//! | `generate` | many services with endpoints |

mod access;
mod control;
mod faults;
pub mod generate;
mod resource;
mod selector;
mod server;
mod store;
mod thread;
mod watch;

pub use access::{Authority, Credential};
pub use resource::Resource;
pub use server::Server;
pub use thread::ServerThread;
