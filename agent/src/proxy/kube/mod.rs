//! Services, `EndpointSlices` and this Node from a Kubernetes API server, as events of the model.
//!
//! Each kind has a list and a watch of its own (kube-rs' `watcher`: pages, bookmarks, a new list after 410). An object is converted
//! to the few fields of the model as soon as it is read, and dropped. While the API is away the rules stay as they are; it is tried
//! again at growing intervals with jitter, and what changed meanwhile comes as events of the watch or, if the server has forgotten
//! that much, as one list.
//!
//! | file | what |
//! | --- | --- |
//! | `client` | a connection from a kubeconfig, a service account or a URL |
//! | `token` | a token in a file, read anew |
//! | `intake` | from what the watcher tells to events: lists gathered, stale events and refused objects left out; pure |
//! | `names` | names that many objects have in common |
//! | `follow` | the loop over one kind, with its back-off |

mod client;
mod follow;
mod intake;
mod names;
mod token;

use k8s_openapi::api::core::v1::{Node as NodeObject, Service as ServiceObject};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use client::{ConnectError, connect};
use follow::{Follower, Retry};
use intake::{Intake, Nodes, Services, Slices};
pub use token::TokenError;

use super::model::Event;

/// What of Services and their slices is for this proxy: nothing that asks for another one, and nothing headless.
pub const SELECTOR: &str =
    "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless";
/// Objects per page of a list: their full form is in memory for as long as a page is converted.
const PAGE: u32 = 250;
/// How long one watch lasts, in seconds. A connection that died unnoticed is found dead five seconds later.
const WATCH_SECONDS: u32 = 120;

/// The three watches; they end when this is dropped.
#[derive(Debug)]
pub struct Informers {
    _tasks: JoinSet<()>,
}

/// Follows Services, `EndpointSlices` and the Node of that name for as long as `events` is listened to and the result is kept.
pub fn follow(client: &Client, node_name: &str, events: &mpsc::Sender<Event>) -> Informers {
    follow_with(client, node_name, events, Retry::default())
}

fn follow_with(
    client: &Client,
    node_name: &str,
    events: &mpsc::Sender<Event>,
    retry: Retry,
) -> Informers {
    let config = || watcher::Config::default().page_size(PAGE).timeout(WATCH_SECONDS);
    let mut tasks = JoinSet::new();
    let nodes = Follower {
        api: Api::<NodeObject>::all(client.clone()),
        config: config().fields(&format!("metadata.name={node_name}")),
        intake: Intake::new(Nodes::new(node_name)),
        events: events.clone(),
        retry,
    };
    let services = Follower {
        api: Api::<ServiceObject>::all(client.clone()),
        config: config().labels(SELECTOR),
        intake: Intake::new(Services::default()),
        events: events.clone(),
        retry,
    };
    let slices = Follower {
        api: Api::<EndpointSlice>::all(client.clone()),
        config: config().labels(SELECTOR),
        intake: Intake::new(Slices::default()),
        events: events.clone(),
        retry,
    };
    tasks.spawn(nodes.run());
    tasks.spawn(services.run());
    tasks.spawn(slices.run());
    Informers { _tasks: tasks }
}

#[cfg(test)]
mod tests;
