//! containerd's events: exits and out-of-memory kills, over restarts of containerd.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use containerd_client::events::{TaskExit, TaskOom};
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::events_client::EventsClient;
use containerd_client::services::v1::{
    Container, PublishRequest, SubscribeRequest, UpdateContainerRequest,
};
use containerd_client::types::Envelope;
use prost::Message;
use prost_types::Any;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;

use super::{Containerd, system_time};
use crate::runtime::{RuntimeEvent, label};

/// An event of our own: a subscription is known to be in force when it comes back.
const HERE: &str = "/heddle/here";
/// How long to wait before subscribing again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// How many events may wait for their reader.
const BACKLOG: usize = 256;

impl Containerd {
    /// Starts the task that reads events until nobody listens any more.
    pub(super) fn subscribe(&self) -> mpsc::Receiver<RuntimeEvent> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let containerd = self.clone();
        tokio::spawn(async move {
            let mut pause = FIRST_PAUSE;
            while !sender.is_closed() {
                if containerd.follow(&sender).await {
                    pause = FIRST_PAUSE;
                }
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = sender.closed() => {}
                }
                pause = (pause * 2).min(LAST_PAUSE);
            }
        });
        receiver
    }

    /// Reads one stream to its end. Says whether the subscription came to be.
    async fn follow(&self, sender: &mpsc::Sender<RuntimeEvent>) -> bool {
        let filter = |topic: &str| format!("namespace==\"{}\",topic==\"{topic}\"", self.namespace);
        let filters = vec![filter("/tasks/exit"), filter("/tasks/oom"), filter(HERE)];
        let mut client = EventsClient::new(self.channel.clone());
        let mut request = self.request(SubscribeRequest { filters });
        // the channel's limit on a call must not end a stream that is meant to last
        request.set_timeout(Duration::from_hours(87600));
        let greeter = self.greet();
        // `subscribe` does not return before the first event, which is why somebody else has to cause one
        let stream = tokio::select! {
            stream = client.subscribe(request) => stream,
            never = greeter => match never {},
            () = sender.closed() => return false,
        };
        let Ok(stream) = stream else { return false };
        let mut stream = stream.into_inner();
        if sender.send(RuntimeEvent::Resync).await.is_err() {
            return true;
        }
        loop {
            let envelope = tokio::select! {
                envelope = stream.next() => envelope,
                () = sender.closed() => return true,
            };
            let Some(Ok(envelope)) = envelope else { return true };
            if let Some(event) = decode(&envelope) {
                if let RuntimeEvent::Oom { id } = &event {
                    self.remember_oom(id).await;
                }
                if sender.send(event).await.is_err() {
                    return true;
                }
            }
        }
    }

    /// Publishes our own event again and again until the subscription answers and this is dropped.
    async fn greet(&self) -> std::convert::Infallible {
        loop {
            let event = Any { type_url: "heddle.dev/Here".to_owned(), value: Vec::new() };
            let request =
                self.request(PublishRequest { topic: HERE.to_owned(), event: Some(event) });
            EventsClient::new(self.channel.clone()).publish(request).await.ok();
            tokio::time::sleep(FIRST_PAUSE).await;
        }
    }

    /// Writes the kill into the container's labels: the exit code alone does not tell it, and a restarted agent has to know.
    async fn remember_oom(&self, id: &str) {
        let container = Container {
            id: id.to_owned(),
            labels: HashMap::from([(label::OOM.to_owned(), "true".to_owned())]),
            ..Container::default()
        };
        let mask = prost_types::FieldMask { paths: vec![format!("labels.{}", label::OOM)] };
        let request = self.request(UpdateContainerRequest {
            container: Some(container),
            update_mask: Some(mask),
        });
        if let Err(status) = ContainersClient::new(self.channel.clone()).update(request).await {
            tracing::warn!(
                container = id,
                error = status.message(),
                "cannot note an out-of-memory kill"
            );
        }
    }
}

fn decode(envelope: &Envelope) -> Option<RuntimeEvent> {
    let value = envelope.event.as_ref()?.value.as_slice();
    match envelope.topic.as_str() {
        "/tasks/exit" => {
            let exit = TaskExit::decode(value).ok()?;
            // an `exec` that ends is an exit too
            let is_first_process = exit.id == exit.container_id;
            is_first_process.then(|| RuntimeEvent::Exited {
                id: exit.container_id,
                code: exit.exit_status,
                at: exit.exited_at.map_or_else(SystemTime::now, system_time),
            })
        }
        "/tasks/oom" => Some(RuntimeEvent::Oom { id: TaskOom::decode(value).ok()?.container_id }),
        _ => None,
    }
}
