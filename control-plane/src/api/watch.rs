//! Watches: the changes of a kind as a client asked for them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::hub::{Change, Changes, End, Side};
use super::options::{Filter, ListOptions, WatchOptions};
use super::status::Status;
use super::{Api, Place};
use crate::registry::Kind;
use crate::store::Revision;

/// How often a bookmark tells how far a watch has come.
const BOOKMARK_EVERY: Duration = Duration::from_mins(1);
/// A watch without a limit of its own ends after so many seconds, and up to as many more, so that not all come back at once.
const LIFETIME: u64 = 1800;
/// The longest that a client may ask for.
const LONGEST: u64 = 24 * 3600;

/// What a client is told.
#[derive(Debug)]
pub enum Told {
    /// An object of the initial state.
    Initial(Value),
    /// An object that the client does not know.
    Added(Seen),
    /// An object that the client knows.
    Modified(Seen),
    /// An object that is gone, or is no longer selected.
    Deleted(Seen),
    /// Everything up to this revision has been told; the flag marks the end of the initial state.
    Bookmark(u64, bool),
    /// The watch has failed and ends.
    Error(Status),
}

/// One side of a change.
#[derive(Clone, Debug)]
pub struct Seen {
    change: Arc<Change>,
    before: bool,
}

impl Seen {
    /// The object and its bytes.
    pub fn side(&self) -> Option<&Side> {
        if self.before { self.change.before.as_ref() } else { self.change.after.as_ref() }
    }
}

/// A running watch.
pub struct Watcher {
    kind: Arc<Kind>,
    prefix: String,
    filter: Filter,
    changes: Option<Changes>,
    waiting: VecDeque<Told>,
    bookmarks: bool,
    next_bookmark: Instant,
    end: Instant,
}

impl Api {
    /// Begins a watch.
    pub async fn watch(&self, place: &Place, options: WatchOptions) -> Result<Watcher, Status> {
        let seconds = options
            .seconds
            .unwrap_or_else(|| LIFETIME + rand::random_range(0..LIFETIME))
            .min(LONGEST);
        let now = Instant::now();
        let mut watcher = Watcher {
            kind: place.kind.clone(),
            prefix: place.kind.prefix(if place.kind.namespaced { &place.namespace } else { "" }),
            filter: options.filter.clone(),
            changes: None,
            waiting: VecDeque::new(),
            bookmarks: options.bookmarks,
            next_bookmark: now + BOOKMARK_EVERY,
            end: now + Duration::from_secs(seconds),
        };
        match self.begin(place, &options, &mut watcher.waiting).await {
            Ok(changes) => watcher.changes = Some(changes),
            // watchers look for this within the stream, where a client of a cache would find it as well
            Err(status) if status.code() == 410 => watcher.waiting.push_back(Told::Error(status)),
            Err(status) => return Err(status),
        }
        Ok(watcher)
    }

    async fn begin(
        &self,
        place: &Place,
        options: &WatchOptions,
        waiting: &mut VecDeque<Told>,
    ) -> Result<Changes, Status> {
        let latest = self.store.revision().await?;
        if let Some(after) = options.after.filter(|after| *after > latest.0) {
            return Err(Status::too_large_resource_version(after, latest.0));
        }
        if !options.initial {
            let after = options.after.map_or(latest, Revision);
            return self.hub.changes(&place.kind, after).await;
        }
        let list = ListOptions { filter: options.filter.clone(), ..ListOptions::default() };
        let state = self.list(place, &list).await?;
        waiting.extend(state.objects.into_iter().map(Told::Initial));
        if options.mark_end {
            waiting.push_back(Told::Bookmark(state.revision, true));
        }
        self.hub.changes(&place.kind, Revision(state.revision)).await
    }
}

impl Watcher {
    /// What is told next; waits for it. `None`: the watch has ended.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some(told) = self.waiting.pop_front() {
                if matches!(told, Told::Error(_)) {
                    self.changes = None;
                }
                return Some(told);
            }
            let changes = self.changes.as_mut()?;
            let found = tokio::select! {
                found = changes.next() => found,
                () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => {
                    self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                    return Some(Told::Bookmark(changes.seen().0, false));
                }
                () = tokio::time::sleep_until(self.end) => return None,
            };
            match found {
                Ok(found) => {
                    let told: Vec<Told> =
                        found.into_iter().filter_map(|change| self.tell(change)).collect();
                    self.waiting.extend(told);
                }
                Err(End::CutOff) => return None,
                Err(End::Failed(status)) => self.waiting.push_back(Told::Error(status)),
            }
        }
    }

    /// What a change means to this client.
    fn tell(&self, change: Arc<Change>) -> Option<Told> {
        if !change.key.starts_with(&self.prefix) {
            return None;
        }
        let (was, is) = (self.selects(change.before.as_ref()), self.selects(change.after.as_ref()));
        match (was, is) {
            (false, true) => Some(Told::Added(Seen { change, before: false })),
            (true, true) => Some(Told::Modified(Seen { change, before: false })),
            (true, false) => Some(Told::Deleted(Seen { change, before: true })),
            (false, false) => None,
        }
    }

    fn selects(&self, side: Option<&Side>) -> bool {
        match side {
            None => false,
            Some(_) if self.filter.is_everything() => true,
            Some(side) => {
                side.object().is_some_and(|object| self.filter.matches(&self.kind, object))
            }
        }
    }
}

/// The object of a bookmark.
pub fn bookmark(kind: &Kind, revision: u64, end_of_state: bool) -> Value {
    let mut object = json!({
        "kind": kind.kind, "apiVersion": kind.api_version(),
        "metadata": {"resourceVersion": revision.to_string(), "creationTimestamp": null},
    });
    if end_of_state {
        object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    object
}
