//! The server as clients see it, over HTTP on a loopback port.

mod client;
mod hostile;
mod informer;
mod verbs;
mod watches;
