//! Those who watch: told by a thread of their own, so that no write waits for them; whoever begins in the past reads the file first.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use redb::Database;

use super::batch::Changes;
use crate::store::hub::{Hub, Watcher};
use crate::store::{Notice, Revision, StoreError};

/// Tells what is durable until the writer has ended.
pub fn tell(hub: &Hub, changes: &Receiver<Changes>, progress: Duration) {
    let mut next = Instant::now() + progress;
    loop {
        match changes.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(changes) => {
                for (revision, events) in changes {
                    hub.tell(revision, &events);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if Instant::now() >= next {
            hub.progress();
            next = Instant::now() + progress;
        }
    }
}

/// Sends a watcher the history that it asks for until it is up to date, then lets it join the others. It may take its time: nothing is
/// held for it meanwhile, and when what it needs next is forgotten it is told so. Ends early when the store is closed.
pub async fn catch_up(database: Weak<Database>, hub: Arc<Hub>, watcher: Watcher) {
    let mut late = hub.join(watcher).err();
    while let Some(mut watcher) = late {
        let Some(database) = database.upgrade() else { return };
        match chunk(database, watcher.prefix().to_owned(), watcher.seen()).await {
            Ok((notices, upto)) => {
                for (revision, notice) in notices {
                    if !watcher.send(revision, notice).await {
                        return;
                    }
                }
                watcher.skip(upto);
            }
            Err(error) => return watcher.end(error).await,
        }
        late = hub.join(watcher).err();
    }
}

type Notices = Vec<(Revision, Notice)>;

async fn chunk(
    database: Arc<Database>,
    prefix: String,
    after: Revision,
) -> Result<(Notices, Revision), StoreError> {
    let chunk = super::read(database, move |view| view.changes(&prefix, after)).await?;
    let notice = |(revision, events)| (revision, Notice::Changes(events));
    Ok((chunk.changes.into_iter().map(notice).collect(), chunk.upto))
}
