//! A watch on etcd that outlives the connection.

use std::time::Duration;

use etcd_client::{Error, EventType, WatchOptions, WatchResponse, WatchStream};
use tokio::time::{Instant, sleep};

use super::connection::{Connection, number, revision};
use super::error::unavailable;
use crate::store::hub::Watcher;
use crate::store::transaction::prefix_end;
use crate::store::{Event, Notice, Revision, StoreError};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Follows etcd for one watcher.
pub struct Follower {
    pub connection: Connection,
    pub watcher: Watcher,
    /// How often to ask for progress; `None` where the answer cannot be trusted.
    pub progress: Option<Duration>,
}

/// Why following stopped.
enum End {
    /// Nobody listens.
    Gone,
    /// The watch cannot go on.
    Over(StoreError),
    /// The connection is lost: again from where it was.
    Lost(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Lost(error)
    }
}

impl Follower {
    /// Until the watch is over. When the connection is lost it is made again, and goes on after the last revision that was told.
    pub async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let seen = self.watcher.seen();
            let Err(end) = self.follow().await else { return };
            match end {
                End::Gone => return,
                End::Over(error) => return self.watcher.end(error).await,
                End::Lost(error) => {
                    let error = unavailable(&self.connection.place, &error);
                    tracing::info!(%error, "a watch is begun anew");
                }
            }
            pause =
                if self.watcher.seen() > seen { FIRST_PAUSE } else { LONGEST_PAUSE.min(pause * 2) };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.watcher.gone() => return,
            }
        }
    }

    async fn follow(&mut self) -> Result<(), End> {
        let mut stream = self.begin().await?;
        // What was there when the watch began is history, which the watcher may take at its own pace.
        let mut history = Revision(0);
        let every = self.progress.unwrap_or(LONGEST_PAUSE);
        let mut ask = tokio::time::interval_at(Instant::now() + every, every);
        loop {
            let message = tokio::select! {
                message = stream.message() => message?,
                () = self.watcher.gone() => return Err(End::Gone),
                _ = ask.tick(), if self.progress.is_some() => {
                    stream.request_progress().await?;
                    continue;
                }
            };
            let ended = || Error::WatchError("etcd ended the watch".into());
            let message = message.ok_or_else(ended)?;
            let latest = message.header().map_or(Revision(0), |header| revision(header.revision()));
            if message.created() {
                history = latest;
            }
            self.tell(&message, latest, history).await?;
        }
    }

    async fn begin(&self) -> Result<WatchStream, End> {
        let prefix = self.watcher.prefix().as_bytes();
        let key = if prefix.is_empty() { b"\0" } else { prefix };
        let options = WatchOptions::new()
            .with_range(prefix_end(prefix).unwrap_or_else(|| vec![0]))
            .with_start_revision(number(Revision(self.watcher.seen().0 + 1)))
            .with_prev_key()
            .with_progress_notify();
        let mut watcher = self.connection.watcher();
        match self.connection.once(watcher.watch(key, Some(options))).await {
            Ok(stream) => Ok(stream?),
            Err(error) => Err(End::Lost(Error::WatchError(error.to_string()))),
        }
    }

    async fn tell(
        &mut self,
        message: &WatchResponse,
        latest: Revision,
        history: Revision,
    ) -> Result<(), End> {
        if message.canceled() {
            return Err(self.cancelled(message));
        }
        if message.events().is_empty() && !message.created() {
            return if self.watcher.progress(latest) { Ok(()) } else { Err(End::Gone) };
        }
        for (revision, events) in self.changes(message)? {
            if revision <= self.watcher.seen() {
                continue;
            }
            let goes_on = if revision <= history {
                self.watcher.send(revision, Notice::Changes(events)).await
            } else {
                self.watcher.tell(revision, &events)
            };
            if !goes_on {
                return Err(End::Gone);
            }
        }
        Ok(())
    }

    fn cancelled(&self, message: &WatchResponse) -> End {
        let oldest = revision(message.compact_revision());
        if oldest == Revision(0) {
            return End::Lost(Error::WatchError(message.cancel_reason().into()));
        }
        End::Over(StoreError::Compacted { asked: self.watcher.seen(), oldest })
    }

    /// The changes of a message by revision. Etcd does not split a revision between messages unless it is asked for fragments.
    fn changes(&self, message: &WatchResponse) -> Result<Vec<(Revision, Vec<Event>)>, End> {
        let mut changes: Vec<(Revision, Vec<Event>)> = Vec::new();
        for event in message.events() {
            let event = self.event(event)?;
            match changes.last_mut() {
                Some((revision, events)) if *revision == event.revision => events.push(event),
                _ => changes.push((event.revision, vec![event])),
            }
        }
        Ok(changes)
    }

    fn event(&self, event: &etcd_client::Event) -> Result<Event, End> {
        let now = event.kv().ok_or_else(|| Error::WatchError("an event without a key".into()))?;
        let deleted = event.event_type() == EventType::Delete;
        let revision = revision(now.mod_revision());
        let before = event.prev_kv().map(|kv| bytes::Bytes::copy_from_slice(kv.value()));
        if before.is_none() && (deleted || now.version() > 1) {
            // What the key held was compacted while the event was on its way: the watcher is too far behind.
            return Err(End::Over(StoreError::Compacted {
                asked: self.watcher.seen(),
                oldest: revision,
            }));
        }
        let key = super::key(&self.connection.place, now.key()).map_err(End::Over)?;
        let after = (!deleted).then(|| bytes::Bytes::copy_from_slice(now.value()));
        Ok(Event { key, revision, before, after })
    }
}

/// Whether the answer to a request for progress can be trusted. Before 3.4.25 and 3.5.8 a member could name a revision whose events it
/// had not sent (<https://github.com/etcd-io/etcd/issues/15220>).
pub fn tells_progress(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| {
        part.chars()
            .take_while(char::is_ascii_digit)
            .collect::<String>()
            .parse::<u32>()
            .unwrap_or(0)
    });
    let mut part = || parts.next().unwrap_or(0);
    match (part(), part(), part()) {
        (3, 4, patch) => patch >= 25,
        (3, 5, patch) => patch >= 8,
        (major, minor, _) => (major, minor) > (3, 5),
    }
}

#[cfg(test)]
mod tests {
    use super::tells_progress;

    #[test]
    fn old_members_are_not_asked_for_progress() {
        for version in ["3.3.27", "3.4.23", "3.4.24", "3.5.0", "3.5.7", "", "x"] {
            assert!(!tells_progress(version), "{version}");
        }
        for version in ["3.4.25", "3.4.30", "3.5.8", "3.5.21", "3.6.0-rc.1", "3.6.0", "4.0.0"] {
            assert!(tells_progress(version), "{version}");
        }
    }
}
