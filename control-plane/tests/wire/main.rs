//! The server as clients see it, over HTTP on a loopback port.

mod client;
mod custom;
mod events;
mod evictions;
mod hostile;
mod informer;
mod lists;
mod packed;
mod restart;
mod secure;
mod snapshots;
mod verbs;
mod watches;
