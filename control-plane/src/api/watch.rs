//! Watches: the changes of a kind as a client asked for them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::hub::{Change, Changes, End, Side};
use super::options::{Filter, ListOptions, WatchOptions};
use super::status::Status;
use super::token::Token;
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

/// How many objects of the initial state are held at a time.
const PAGE: usize = 500;

/// The initial state, as far as it has not been read yet.
struct State {
    api: Arc<Api>,
    place: Place,
    list: ListOptions,
    mark_end: bool,
}

/// A running watch.
pub struct Watcher {
    kind: Arc<Kind>,
    state: Option<State>,
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
    pub async fn watch(
        self: &Arc<Self>,
        place: &Place,
        options: WatchOptions,
    ) -> Result<Watcher, Status> {
        let seconds = options
            .seconds
            .unwrap_or_else(|| LIFETIME + rand::random_range(0..LIFETIME))
            .min(LONGEST);
        let now = Instant::now();
        let mut watcher = Watcher {
            kind: place.kind.clone(),
            state: None,
            prefix: place.kind.prefix(if place.kind.namespaced { &place.namespace } else { "" }),
            filter: options.filter.clone(),
            changes: None,
            waiting: VecDeque::new(),
            bookmarks: options.bookmarks,
            next_bookmark: now + BOOKMARK_EVERY,
            end: now + Duration::from_secs(seconds),
        };
        match self.begin(place, &options, &mut watcher).await {
            Ok(()) => {}
            // watchers look for this within the stream, where a client of a cache would find it as well
            Err(status) if status.code() == 410 => watcher.waiting.push_back(Told::Error(status)),
            Err(status) => return Err(status),
        }
        Ok(watcher)
    }

    async fn begin(
        self: &Arc<Self>,
        place: &Place,
        options: &WatchOptions,
        watcher: &mut Watcher,
    ) -> Result<(), Status> {
        let latest = self.store.revision().await?;
        if let Some(after) = options.after.filter(|after| *after > latest.0) {
            return Err(Status::too_large_resource_version(after, latest.0));
        }
        if !options.initial {
            let after = options.after.map_or(latest, Revision);
            watcher.changes = Some(self.hub.changes(&place.kind, after).await?);
            return Ok(());
        }
        let filter = options.filter.clone();
        let list = ListOptions { filter, limit: PAGE, ..ListOptions::default() };
        let mark_end = options.mark_end;
        watcher.state = Some(State { api: self.clone(), place: place.clone(), list, mark_end });
        watcher.read_on().await
    }
}

impl Watcher {
    /// Reads the next page of the initial state; behind the last one changes begin, at the revision of all pages.
    async fn read_on(&mut self) -> Result<(), Status> {
        let Some(mut state) = self.state.take() else { return Ok(()) };
        let page = state.api.list(&state.place, &state.list).await?;
        self.waiting.extend(page.objects.into_iter().map(Told::Initial));
        if let Some(token) = page.token {
            state.list.token = Some(Token::read(&token)?);
            self.state = Some(state);
            return Ok(());
        }
        if state.mark_end {
            self.waiting.push_back(Told::Bookmark(page.revision, true));
        }
        let changes = state.api.hub.changes(&state.place.kind, Revision(page.revision)).await?;
        self.changes = Some(changes);
        Ok(())
    }

    /// What is told next; waits for it. `None`: the watch has ended.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some(told) = self.waiting.pop_front() {
                if matches!(told, Told::Error(_)) {
                    (self.changes, self.state) = (None, None);
                }
                return Some(told);
            }
            if self.state.is_some() {
                if let Err(status) = self.read_on().await {
                    self.waiting.push_back(Told::Error(status));
                }
                continue;
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
                side.object().is_some_and(|object| self.filter.matches(&self.kind, &object))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::options::{DeleteOptions, WriteOptions};
    use crate::registry::{Registry, configmap, namespace};
    use crate::store::memory::MemoryStore;

    async fn maps() -> (Arc<Api>, Place) {
        let registry = Registry::default();
        registry.add(namespace::kind());
        registry.add(configmap::kind());
        let api = Arc::new(Api::new(Arc::new(MemoryStore::default()), Arc::new(registry)));
        let kind = api.registry.at("", "v1", "namespaces").expect("a kind");
        let spaces = Place { kind, namespace: String::new(), name: String::new() };
        let object = json!({"metadata": {"name": "d"}});
        api.create(&spaces, object, &WriteOptions::default()).await.expect("it is made");
        let kind = api.registry.at("", "v1", "configmaps").expect("a kind");
        (api, Place { kind, namespace: "d".to_owned(), name: String::new() })
    }

    async fn make_map(api: &Api, place: &Place, name: &str) {
        let object = json!({"metadata": {"name": name}});
        api.create(place, object, &WriteOptions::default()).await.expect("it is made");
    }

    fn asked(query: &[(&str, &str)], place: &Place) -> WatchOptions {
        let query = query.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let query = crate::api::options::Query::new(query.collect());
        WatchOptions::of(&place.kind, &query).expect("options")
    }

    #[tokio::test(start_paused = true)]
    async fn a_bookmark_tells_every_minute_how_far_a_quiet_watch_has_come() {
        let (api, place) = maps().await;
        let options = asked(&[("allowWatchBookmarks", "true"), ("timeoutSeconds", "150")], &place);
        let mut watcher = api.watch(&place, options).await.expect("a watch");
        let begun = Instant::now();
        make_map(&api, &place, "a").await;
        assert!(matches!(watcher.next().await, Some(Told::Added(_))));
        let latest = api.store.revision().await.expect("a revision").0;
        for minute in [1, 2] {
            let Some(Told::Bookmark(revision, false)) = watcher.next().await else {
                panic!("no bookmark in minute {minute}");
            };
            assert_eq!((revision, begun.elapsed().as_secs()), (latest, minute * 60));
        }
        // from there a watch goes on without what it knows
        let after = latest.to_string();
        let again = asked(&[("resourceVersion", &after)], &place);
        let mut again = api.watch(&place, again).await.expect("a watch");
        make_map(&api, &place, "b").await;
        let Some(Told::Added(seen)) = again.next().await else { panic!("no change") };
        assert_eq!(seen.change.key, place.kind.key("d", "b"));
        // and the first ends in its own time
        assert!(matches!(watcher.next().await, Some(Told::Added(_))));
        assert!(watcher.next().await.is_none());
        assert_eq!(begun.elapsed().as_secs(), 150);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_gets_a_bookmark_unasked() {
        let (api, place) = maps().await;
        let options = asked(&[("timeoutSeconds", "200")], &place);
        let mut watcher = api.watch(&place, options).await.expect("a watch");
        assert!(watcher.next().await.is_none());
    }

    /// More than a page of objects, and changes while the first page is told: each object once, then the changes.
    #[tokio::test]
    async fn a_large_state_is_told_in_pages_and_once() {
        let registry = Registry::default();
        registry.add(namespace::kind());
        registry.add(configmap::kind());
        let api = Arc::new(Api::new(Arc::new(MemoryStore::default()), Arc::new(registry)));
        let place = |plural, namespace: &str, name: &str| {
            let kind = api.registry.at("", "v1", plural).expect("a kind");
            Place { kind, namespace: namespace.to_owned(), name: name.to_owned() }
        };
        let make = async |plural, namespace, name: &str| {
            let object = json!({"metadata": {"name": name}});
            let made =
                api.create(&place(plural, namespace, ""), object, &WriteOptions::default()).await;
            made.expect("it is made");
        };
        make("namespaces", "", "d").await;
        for number in 0..=PAGE {
            make("configmaps", "d", &format!("c{number:04}")).await;
        }
        let query = crate::api::options::Query::new(
            [
                ("sendInitialEvents", "true"),
                ("resourceVersionMatch", "NotOlderThan"),
                ("allowWatchBookmarks", "true"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        );
        let all = place("configmaps", "d", "");
        let options = WatchOptions::of(&all.kind, &query).expect("options");
        let mut watcher = api.watch(&all, options).await.expect("a watch");
        assert!(matches!(watcher.next().await, Some(Told::Initial(_))));
        let last = place("configmaps", "d", &format!("c{PAGE:04}"));
        api.delete(&last, &DeleteOptions::default()).await.expect("deleted");
        make("configmaps", "d", "new").await;
        for _ in 0..PAGE {
            assert!(matches!(watcher.next().await, Some(Told::Initial(_))));
        }
        assert!(matches!(watcher.next().await, Some(Told::Bookmark(_, true))));
        assert!(matches!(watcher.next().await, Some(Told::Deleted(_))));
        assert!(matches!(watcher.next().await, Some(Told::Added(_))));
    }
}
