//! The server as clients see it, over HTTP on a loopback port.

mod client;
mod hostile;
mod informer;
mod secure;
mod verbs;
mod watches;
