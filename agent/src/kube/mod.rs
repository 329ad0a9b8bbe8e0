//! Objects of a Kubernetes API server, followed: what the proxy and the overlay share.
//!
//! Each kind has a list and a watch of its own (kube-rs' `watcher`: pages, bookmarks, a new list after 410). An object is converted
//! to the few fields that matter as soon as it is read, and dropped. While the API is away it is tried again at growing intervals
//! with jitter, and what changed meanwhile comes as events of the watch or, if the server has forgotten that much, as one list.
//!
//! | file | what |
//! | --- | --- |
//! | `client` | a connection from a kubeconfig, a service account or a URL |
//! | `token` | a token in a file, read anew |
//! | `intake` | from what the watcher tells to events: lists gathered, stale events and refused objects left out; pure |
//! | `follow` | the loop over one kind, with its back-off |
//! | `watches` | watches that begin, and those that end too soon |
//! | `outage` | what is told of a server that does not answer |

mod client;
mod follow;
mod intake;
mod outage;
#[cfg(test)]
pub mod said;
mod token;
mod watches;

use kube::runtime::watcher;

pub use client::{ApiAccess, ConnectError, Connection, connect, connect_again};
pub use follow::{Follower, Retry, chance};
pub use intake::{Intake, Kind, key};
pub use outage::{Failure, Outages, is_refusal, reason};
pub use token::TokenError;

/// Objects per page of a list: their full form is in memory for as long as a page is converted.
const PAGE: u32 = 250;
/// How long one watch lasts, in seconds. A connection that died unnoticed is found dead five seconds later.
const WATCH_SECONDS: u32 = 120;

/// How any kind is listed and watched.
pub fn watch_config() -> watcher::Config {
    watcher::Config::default().page_size(PAGE).timeout(WATCH_SECONDS)
}

/// What is shown of the client library's own log where `level` is (as `log.level` has it), for a filter of `tracing`. What goes wrong with
/// the API is told by who follows it, once; the library tells of every single try.
pub fn log_filter(level: &str) -> &'static str {
    match level {
        "debug" | "trace" => "kube_client=debug,kube_runtime=debug",
        _ => "kube_client=off,kube_runtime=off",
    }
}
