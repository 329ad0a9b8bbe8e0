//! Who is told of changes: one store watch per kind, whose changes are kept in a short window that all watchers read.
//!
//! A watcher holds a position in the window and no queue of its own. One that does not keep up loses its place when the window
//! moves on and is cut off; memory is bounded by the window, however many watchers there are. The window is also what a watcher
//! that comes back after a short break is served from.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use super::set_resource_version;
use super::status::Status;
use crate::registry::Kind;
use crate::registry::kind::Reading;
use crate::store::{Event, Notice, Revision, Store, StoreError, Watch};

/// The most changes that a window holds.
const WINDOW_CHANGES: usize = 4096;
/// The most bytes that the changes of a window have in the store.
const WINDOW_BYTES: usize = 8 * 1024 * 1024;
/// Whoever comes back within this time after a break is served from the window, as from kube-apiserver's cache.
const WINDOW_AGE: Duration = Duration::from_secs(75);
/// So many changes stay, however old.
const WINDOW_LEAST: usize = 100;
/// How many of the last changes keep what was made of them: who keeps up reads only these.
const FRESH_CHANGES: usize = 128;
/// How many bytes these have in the store at most. As values they take ten times as many.
const FRESH_BYTES: usize = 256 * 1024;
/// When nothing has changed for so long, everybody who keeps up has read the last change.
const QUIET: Duration = Duration::from_secs(1);
/// How many changes a watcher takes at once.
const BATCH: usize = 64;
/// In how many forms an object is sent so often that the bytes are kept.
pub const FORMS: usize = 3;

/// One side of a change: the object before or after it, carrying the revision of the change.
#[derive(Debug)]
pub struct Side {
    raw: Bytes,
    revision: Revision,
    reading: Reading,
    made: Mutex<Option<Made>>,
}

/// What was made of the bytes, for all watchers.
#[derive(Debug, Default)]
struct Made {
    object: Option<Arc<Value>>,
    forms: [Option<Bytes>; FORMS],
}

impl Side {
    fn new(raw: Bytes, revision: Revision, reading: Reading) -> Self {
        Self { raw, revision, reading, made: Mutex::new(Some(Made::default())) }
    }

    fn made(&self) -> MutexGuard<'_, Option<Made>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object; `None` when what is stored is none, which is reported.
    pub fn object(&self) -> Option<Arc<Value>> {
        if let Some(made) = &mut *self.made() {
            if made.object.is_none() {
                made.object = self.read();
            }
            return made.object.clone();
        }
        self.read()
    }

    fn read(&self) -> Option<Arc<Value>> {
        match serde_json::from_slice::<Value>(&self.raw) {
            Ok(mut object) => {
                self.reading.show(&mut object);
                set_resource_version(&mut object, self.revision.0);
                Some(Arc::new(object))
            }
            Err(error) => {
                tracing::error!(revision = self.revision.0, %error, "a change cannot be read and is not told");
                None
            }
        }
    }

    /// The bytes of a form, made once for all watchers that keep up.
    pub fn form(&self, form: usize, make: impl FnOnce() -> Bytes) -> Bytes {
        if let Some(made) = &mut *self.made() {
            return made.forms[form].get_or_insert_with(make).clone();
        }
        make()
    }
}

/// A change of one object.
#[derive(Debug)]
pub struct Change {
    /// The key.
    pub key: String,
    /// When.
    pub revision: Revision,
    /// What the object was.
    pub before: Option<Side>,
    /// What it is.
    pub after: Option<Side>,
    since: Instant,
}

impl Change {
    /// From what the store tells, as a kind shows it.
    pub fn of(event: Event, reading: &Reading) -> Self {
        let side = |raw| Side::new(raw, event.revision, reading.clone());
        Self {
            revision: event.revision,
            before: event.before.map(side),
            after: event.after.map(side),
            key: event.key,
            since: Instant::now(),
        }
    }

    fn sides(&self) -> impl Iterator<Item = &Side> {
        self.before.iter().chain(&self.after)
    }

    fn bytes(&self) -> usize {
        self.key.len() + self.sides().map(|side| side.raw.len()).sum::<usize>()
    }

    /// From now on only the bytes are held, also when somebody reads it late.
    fn let_go(&self) {
        self.sides().for_each(|side| *side.made() = None);
    }
}

/// The last changes of a kind.
#[derive(Debug)]
struct Window {
    changes: VecDeque<Arc<Change>>,
    /// How many changes went out of the window: the position of its first.
    first: u64,
    bytes: usize,
    /// How many of the last changes may hold more than their bytes.
    fresh: usize,
    /// The bytes of these.
    fresh_bytes: usize,
    /// Every change after this revision is in the window.
    floor: Revision,
    /// Every change up to this revision has been in the window.
    head: Revision,
    ended: bool,
}

impl Window {
    fn new(start: Revision) -> Self {
        Self {
            changes: VecDeque::new(),
            first: 0,
            bytes: 0,
            fresh: 0,
            fresh_bytes: 0,
            floor: start,
            head: start,
            ended: false,
        }
    }

    fn push(&mut self, change: Change) {
        self.head = change.revision;
        self.bytes += change.bytes();
        self.fresh_bytes += change.bytes();
        self.fresh += 1;
        self.changes.push_back(Arc::new(change));
        // the last one stays fresh, whatever its size
        while self.fresh > 1 && (self.fresh > FRESH_CHANGES || self.fresh_bytes > FRESH_BYTES) {
            self.let_go();
        }
        while self.changes.len() > 1
            && (self.changes.len() > WINDOW_CHANGES || self.bytes > WINDOW_BYTES)
        {
            self.drop_first();
        }
        self.drop_old(Instant::now());
    }

    /// Makes room for what others do while nothing changes here.
    fn tidy(&mut self, now: Instant) {
        while self.fresh > 0 {
            self.let_go();
        }
        self.drop_old(now);
        if self.changes.capacity() > 4 * WINDOW_LEAST.max(self.changes.len()) {
            self.changes.shrink_to_fit();
        }
    }

    /// When there is something to tidy, if nothing changes until then.
    fn untidy(&self) -> Option<Instant> {
        let (first, last) = (self.changes.front()?, self.changes.back()?);
        let quiet = last.since + QUIET;
        let old = self.changes.get(WINDOW_LEAST).map(|_| quiet.max(first.since + WINDOW_AGE));
        if self.fresh > 0 { Some(quiet) } else { old }
    }

    /// The first of those that are fresh is fresh no more.
    fn let_go(&mut self) {
        let change = &self.changes[self.changes.len() - self.fresh];
        change.let_go();
        self.fresh -= 1;
        self.fresh_bytes -= change.bytes();
    }

    fn drop_old(&mut self, now: Instant) {
        while self.changes.len() > WINDOW_LEAST
            && self.changes.front().is_some_and(|first| first.since + WINDOW_AGE <= now)
        {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if self.fresh == self.changes.len() {
            self.let_go();
        }
        if let Some(gone) = self.changes.pop_front() {
            self.first += 1;
            self.bytes -= gone.bytes();
            self.floor = gone.revision;
        }
    }

    /// The position of the first change after a revision; `None` when it is no longer there.
    fn position_after(&self, revision: Revision) -> Option<u64> {
        let skipped = self.changes.partition_point(|change| change.revision <= revision);
        (revision >= self.floor).then_some(self.first + skipped as u64)
    }

    fn at(&self, position: u64) -> Option<Arc<Change>> {
        let index = usize::try_from(position.checked_sub(self.first)?).ok()?;
        self.changes.get(index).cloned()
    }
}

/// The changes of one kind.
#[derive(Debug)]
pub struct Feed {
    /// How its objects are shown.
    reading: Reading,
    window: Mutex<Window>,
    moved: watch::Sender<()>,
}

impl Feed {
    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, changes: Vec<Event>) {
        let mut window = self.window();
        for event in changes {
            window.push(Change::of(event, &self.reading));
        }
        drop(window);
        self.moved.send_replace(());
    }

    fn progress(&self, revision: Revision) {
        let mut window = self.window();
        window.head = window.head.max(revision);
    }

    fn end(&self) {
        self.window().ended = true;
        self.moved.send_replace(());
    }
}

/// The feeds of all kinds that somebody watches.
pub struct Hub {
    store: Arc<dyn Store>,
    feeds: tokio::sync::Mutex<BTreeMap<String, (Arc<Feed>, AbortHandle)>>,
}

impl Hub {
    /// The hub of a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, feeds: tokio::sync::Mutex::default() }
    }

    /// The feed of a kind, begun if nobody has watched the kind before or the last feed has ended.
    async fn feed(&self, kind: &Kind) -> Result<Arc<Feed>, Status> {
        let (prefix, reading) = (kind.prefix(""), kind.reading());
        let key = key(kind);
        let mut feeds = self.feeds.lock().await;
        if let Some((feed, pump)) = feeds.get(&key).filter(|(feed, _)| !feed.window().ended) {
            match reading.serial().cmp(&feed.reading.serial()) {
                Ordering::Equal => return Ok(feed.clone()),
                // who still has the old kind must not end what others watch
                Ordering::Less => {
                    let why = "the definition of this kind has just changed; try again";
                    return Err(Status::unavailable(why));
                }
                Ordering::Greater => {}
            }
            pump.abort();
            feed.end();
        }
        let start = self.store.revision().await?;
        let changes = self.store.watch(&prefix, start).await?;
        let feed = Arc::new(Feed {
            reading,
            window: Mutex::new(Window::new(start)),
            moved: watch::Sender::new(()),
        });
        let pump = tokio::spawn(pump(prefix, changes, feed.clone()));
        feeds.insert(key, (feed.clone(), pump.abort_handle()));
        Ok(feed)
    }

    /// Ends the feed of a kind that is no longer served, or not like this: its watchers come back and see what is.
    pub async fn forget(&self, kind: &Kind) {
        if let Some((feed, pump)) = self.feeds.lock().await.remove(&key(kind)) {
            pump.abort();
            feed.end();
        }
    }

    /// All changes of a kind after a revision.
    pub async fn changes(&self, kind: &Kind, after: Revision) -> Result<Changes, Status> {
        let feed = self.feed(kind).await?;
        let moved = feed.moved.subscribe();
        let position = feed.window().position_after(after);
        let source = match position {
            Some(position) => Source::Window(position),
            None => Source::Own(Box::new(self.store.watch(&kind.prefix(""), after).await?)),
        };
        Ok(Changes { feed, moved, source, known: after, after })
    }
}

/// The versions of a custom kind have a feed each, and so has a kind whose objects are another one's: their objects differ.
fn key(kind: &Kind) -> String {
    let version = kind.custom.as_ref().map_or("", |custom| &custom.api_version);
    let group = kind.form.map_or("", |_| &kind.group);
    format!("{group}{}{version}", kind.prefix(""))
}

async fn pump(prefix: String, mut changes: Watch, feed: Arc<Feed>) {
    loop {
        let untidy = feed.window().untidy();
        let next = changes.recv();
        let notice = match untidy {
            None => Ok(next.await),
            Some(at) => timeout_at(at, next).await,
        };
        let Ok(notice) = notice else {
            feed.window().tidy(Instant::now());
            continue;
        };
        let Some(notice) = notice else { break };
        match notice {
            Ok(Notice::Changes(events)) => feed.push(events),
            Ok(Notice::Progress(revision)) => feed.progress(revision),
            Err(error) => {
                tracing::warn!(%prefix, %error, "the store's watch ended; watchers come back and start another");
                break;
            }
        }
    }
    feed.end();
}

/// Where changes come from.
#[derive(Debug)]
enum Source {
    /// The window, from this position.
    Window(u64),
    /// The store, until the window has what comes next.
    Own(Box<Watch>),
}

/// The changes of a kind as one watcher sees them: each once, in order.
#[derive(Debug)]
pub struct Changes {
    feed: Arc<Feed>,
    moved: watch::Receiver<()>,
    source: Source,
    /// What the window may still have to catch up with: it was told by a list, or by the store.
    known: Revision,
    after: Revision,
}

/// Why there are no more changes.
#[derive(Debug)]
pub enum End {
    /// The watcher was too slow, or the server lost sight of the store: it can come back at once.
    CutOff,
    /// The history that it needs is gone.
    Failed(Status),
}

impl Changes {
    /// The next changes, in order; waits for them.
    pub async fn next(&mut self) -> Result<Vec<Arc<Change>>, End> {
        loop {
            let found = match &mut self.source {
                Source::Window(position) => {
                    Self::read(&self.feed, &mut self.moved, position, self.known).await?
                }
                Source::Own(own) => match own.recv().await {
                    Some(Ok(Notice::Changes(events))) => {
                        let reading = &self.feed.reading;
                        events
                            .into_iter()
                            .map(|event| Arc::new(Change::of(event, reading)))
                            .collect()
                    }
                    Some(Ok(Notice::Progress(_))) => Vec::new(),
                    Some(Err(StoreError::SlowWatcher { .. })) | None => return Err(End::CutOff),
                    Some(Err(error)) => return Err(End::Failed(error.into())),
                },
            };
            let Some(last) = found.last() else { continue };
            self.after = last.revision;
            if matches!(self.source, Source::Own(_))
                && let Some(position) = self.feed.window().position_after(self.after)
            {
                self.source = Source::Window(position);
                self.known = self.after;
            }
            return Ok(found);
        }
    }

    async fn read(
        feed: &Feed,
        moved: &mut watch::Receiver<()>,
        position: &mut u64,
        known: Revision,
    ) -> Result<Vec<Arc<Change>>, End> {
        loop {
            moved.mark_unchanged();
            let mut found = Vec::new();
            {
                let window = feed.window();
                if *position < window.first || (window.ended && window.at(*position).is_none()) {
                    return Err(End::CutOff);
                }
                while let Some(change) = window.at(*position).filter(|_| found.len() < BATCH) {
                    *position += 1;
                    found.extend((change.revision > known).then_some(change));
                }
            }
            if !found.is_empty() {
                return Ok(found);
            }
            // the sender lives in the feed, so this ends by a change only
            let _ = moved.changed().await;
        }
    }

    /// Up to which revision the watcher has seen everything that there was.
    pub fn seen(&self) -> Revision {
        let window = self.feed.window();
        match self.source {
            Source::Window(position) if window.at(position).is_none() => {
                window.head.max(self.after)
            }
            _ => self.after,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::configmap;
    use crate::store::memory::MemoryStore;
    use crate::store::{Condition, Operation, Write};

    async fn write(store: &MemoryStore, kind: &Kind, name: &str, bytes: usize) -> Revision {
        let value = format!(r#"{{"data":{{"k":"{}"}}}}"#, "x".repeat(bytes));
        let key = kind.key("d", name);
        let write = Write::Put(value.into());
        let operation = Operation { key, condition: Condition::Absent, write };
        match store.commit(vec![operation]).await.expect("it is written") {
            crate::store::Outcome::Committed(revision) => revision,
            refused @ crate::store::Outcome::Refused(..) => panic!("{refused:?}"),
        }
    }

    async fn until_told(changes: &Changes, revision: Revision) {
        while changes.feed.window().head < revision {
            tokio::task::yield_now().await;
        }
    }

    /// Bytes and numbers both move the window on; who keeps up sees everything, who does not is cut off and may come back.
    #[tokio::test]
    async fn who_falls_out_of_the_window_is_cut_off() {
        for (count, bytes) in [(WINDOW_CHANGES + 1, 1), (10, WINDOW_BYTES / 9)] {
            let store = Arc::new(MemoryStore::default());
            let (hub, kind) = (Hub::new(store.clone()), configmap::kind());
            let start = store.revision().await.expect("a revision");
            let mut slow = hub.changes(&kind, start).await.expect("changes");
            let mut quick = hub.changes(&kind, start).await.expect("changes");
            let (mut told, mut last) = (0, start);
            for index in 0..count {
                last = write(&store, &kind, &format!("c{index}"), bytes).await;
                told += quick.next().await.expect("who keeps up is told").len();
            }
            until_told(&slow, last).await;
            assert_eq!(told, count);
            assert!(matches!(slow.next().await, Err(End::CutOff)));
            // it comes back with what it knew, and is served from the store until the window has the rest
            let mut again = hub.changes(&kind, start).await.expect("changes");
            let mut seen = 0;
            while seen < count {
                seen += again.next().await.expect("the history is there").len();
            }
            assert_eq!((seen, again.seen()), (count, last));
        }
    }

    impl Window {
        /// How many sides hold an object or a form, beside their bytes.
        fn held(&self) -> usize {
            let holds = |side: &&Side| {
                let made = side.made();
                let made = made.as_ref();
                made.is_some_and(|made| {
                    made.object.is_some() || made.forms.iter().any(Option::is_some)
                })
            };
            self.changes.iter().flat_map(|change| change.sides()).filter(holds).count()
        }
    }

    async fn read_all(changes: &mut Changes, count: usize) {
        let mut told = 0;
        while told < count {
            for change in changes.next().await.expect("it is told") {
                let side = change.after.as_ref().expect("it was made");
                let object = side.object().expect("an object");
                assert!(object["data"]["k"].is_string());
                assert_eq!(side.form(0, || Bytes::from("form")), "form");
                told += 1;
            }
        }
    }

    /// What a window costs is its bytes: values are held of the last changes only, for a moment.
    #[tokio::test(start_paused = true)]
    async fn values_are_held_only_as_long_as_everybody_reads_them() {
        for (bytes, fresh) in [(1, FRESH_CHANGES), (FRESH_BYTES / 4, 3), (FRESH_BYTES, 1)] {
            let store = Arc::new(MemoryStore::default());
            let (hub, kind) = (Hub::new(store.clone()), configmap::kind());
            let start = store.revision().await.expect("a revision");
            let mut quick = hub.changes(&kind, start).await.expect("changes");
            let mut late = hub.changes(&kind, start).await.expect("changes");
            let count = fresh + 20;
            for index in 0..count {
                write(&store, &kind, &format!("c{index}"), bytes).await;
                read_all(&mut quick, 1).await;
            }
            assert_eq!(quick.feed.window().held(), fresh, "{bytes} bytes each");
            // who reads them later does not bring them back
            read_all(&mut late, count).await;
            assert_eq!(quick.feed.window().held(), fresh, "{bytes} bytes each");
            tokio::time::sleep(QUIET * 2).await;
            assert_eq!(quick.feed.window().held(), 0, "{bytes} bytes each");
            let mut again = hub.changes(&kind, start).await.expect("changes");
            read_all(&mut again, count).await;
            assert_eq!(quick.feed.window().held(), 0, "{bytes} bytes each");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_window_is_small_and_nobody_misses_anything() {
        let store = Arc::new(MemoryStore::default());
        let (hub, kind) = (Hub::new(store.clone()), configmap::kind());
        let start = store.revision().await.expect("a revision");
        let mut quick = hub.changes(&kind, start).await.expect("changes");
        let mut stalled = hub.changes(&kind, start).await.expect("changes");
        let (count, later) = (WINDOW_LEAST * 3, 10);
        for index in 0..count {
            write(&store, &kind, &format!("c{index}"), 100).await;
        }
        read_all(&mut quick, count).await;
        tokio::time::sleep(WINDOW_AGE / 2).await;
        for index in 0..later {
            write(&store, &kind, &format!("d{index}"), 100).await;
        }
        read_all(&mut quick, later).await;
        assert_eq!(quick.feed.window().changes.len(), count + later);
        tokio::time::sleep(WINDOW_AGE).await;
        assert_eq!(quick.feed.window().changes.len(), WINDOW_LEAST);
        assert!(matches!(stalled.next().await, Err(End::CutOff)));
        // the store has what the window has no more
        let mut again = hub.changes(&kind, start).await.expect("changes");
        read_all(&mut again, count + later).await;
        // and what comes next is told to both, once
        write(&store, &kind, "e", 100).await;
        for changes in [&mut quick, &mut again] {
            let told = changes.next().await.expect("it is told");
            let keys: Vec<_> = told.iter().map(|change| change.key.clone()).collect();
            assert_eq!(keys, [kind.key("d", "e")]);
        }
    }
}
