//! Where objects come from: an API server, or a folder.

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::CommandError;
use super::arguments::Arguments;
use crate::proxy::config::ProxyConfig;
use crate::proxy::kube::{self, Informers};
use crate::proxy::manifests::Folder;
use crate::proxy::model::Event;

/// Events that may wait for the loop. What is beyond waits in the server's connection.
const WAITING: usize = 4096;

/// What keeps the events coming; they end when this is dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "held for its drop alone")]
pub enum Source {
    Api(Informers),
    Folder(JoinSet<()>),
}

/// Begins to follow the objects.
pub async fn follow(
    arguments: &Arguments,
    config: &ProxyConfig,
) -> Result<(Source, mpsc::Receiver<Event>), CommandError> {
    let (sender, events) = mpsc::channel(WAITING);
    let source = if let Some(path) = &arguments.static_dir {
        let mut folder = Folder::new(path.clone(), &config.node_name);
        // a folder that is not there is a mistake now, and a misfortune later
        folder.read()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(folder.follow(sender));
        tracing::info!(folder = %path.display(), "services come from manifests");
        Source::Folder(tasks)
    } else {
        let connection = kube::connect(&config.api).await?;
        tracing::info!(node = config.node_name, "services come from the API server");
        Source::Api(kube::follow(&connection, &config.node_name, &sender))
    };
    Ok((source, events))
}
