//! Services, `EndpointSlices` and this Node from a Kubernetes API server, as events of the model.
//!
//! While the API is away the rules stay as they are. How objects are followed is the same for every kind: [`crate::kube`].
//!
//! | file | what |
//! | --- | --- |
//! | `kinds` | Services, `EndpointSlices` and this Node: what is taken of them, and which events they are |
//! | `names` | names that many objects have in common |

mod kinds;
mod names;

use k8s_openapi::api::core::v1::{Node as NodeObject, Service as ServiceObject};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use kinds::{Nodes, Services, Slices};

use super::model::Event;
pub use crate::kube::{ConnectError, TokenError, connect};
use crate::kube::{Connection, Follower, Intake, Retry, watch_config};

/// What of Services and their slices is for this proxy: nothing that asks for another one, and nothing headless.
pub const SELECTOR: &str =
    "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless";
/// The three watches; they end when this is dropped.
#[derive(Debug)]
pub struct Informers {
    _tasks: JoinSet<()>,
}

/// Follows Services, `EndpointSlices` and the Node of that name for as long as `events` is listened to and the result is kept.
pub fn follow(connection: &Connection, node_name: &str, events: &mpsc::Sender<Event>) -> Informers {
    follow_with(connection, node_name, events, Retry::default())
}

fn follow_with(
    connection: &Connection,
    node_name: &str,
    events: &mpsc::Sender<Event>,
    retry: Retry,
) -> Informers {
    let mut tasks = JoinSet::new();
    let nodes = Follower {
        connection: connection.clone(),
        api: Api::<NodeObject>::all(Client::clone(connection)),
        config: watch_config().fields(&format!("metadata.name={node_name}")),
        intake: Intake::new(Nodes::new(node_name)),
        events: events.clone(),
        retry,
    };
    let services = Follower {
        connection: connection.clone(),
        api: Api::<ServiceObject>::all(Client::clone(connection)),
        config: watch_config().labels(SELECTOR),
        intake: Intake::new(Services::default()),
        events: events.clone(),
        retry,
    };
    let slices = Follower {
        connection: connection.clone(),
        api: Api::<EndpointSlice>::all(Client::clone(connection)),
        config: watch_config().labels(SELECTOR),
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
