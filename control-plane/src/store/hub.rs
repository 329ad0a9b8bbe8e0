//! Who watches, and what each is told.
//!
//! One teller hands every revision to [`Hub::tell`], in order; a watcher joins at a revision, and only when nothing between that
//! revision and what was told last would be missed. Nobody here waits: a watcher with a full queue is cut.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::{Event, Notice, Revision, StoreError, Watch};

/// How watchers are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchLimits {
    /// How many notices may wait for a watcher before it is cut with [`StoreError::SlowWatcher`].
    pub queue: usize,
    /// After this time a watcher is told up to where nothing changed.
    pub progress: Duration,
}

impl Default for WatchLimits {
    fn default() -> Self {
        Self { queue: 4096, progress: Duration::from_secs(1) }
    }
}

/// One who watches.
#[derive(Debug)]
pub struct Watcher {
    prefix: String,
    seen: Revision,
    queue: mpsc::Sender<Result<Notice, StoreError>>,
}

impl Watcher {
    /// A watcher that has seen everything up to `seen`, whose queue has room for `queue` notices and a last word.
    pub fn new(prefix: &str, seen: Revision, queue: usize) -> (Self, Watch) {
        let (sender, watch) = mpsc::channel(queue + 1);
        (Self { prefix: prefix.into(), seen, queue: sender }, watch)
    }

    /// Up to where it was told everything.
    pub fn seen(&self) -> Revision {
        self.seen
    }

    /// The keys it is interested in begin with this.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether nobody listens any more.
    pub fn is_gone(&self) -> bool {
        self.queue.is_closed()
    }

    /// Ends when nobody listens any more.
    pub async fn gone(&self) {
        self.queue.closed().await;
    }

    /// Tells what changed at a revision, if it concerns this watcher. False: the watch is over.
    pub fn tell(&mut self, revision: Revision, events: &[Event]) -> bool {
        if revision <= self.seen {
            return true;
        }
        let concerned = |event: &&Event| event.key.starts_with(&self.prefix);
        let events: Vec<_> = events.iter().filter(concerned).cloned().collect();
        if events.is_empty() {
            return true;
        }
        self.seen = revision;
        self.push(Notice::Changes(events))
    }

    /// Tells that nothing happened up to a revision, unless that is known or other things wait to be taken. False: the watch is over.
    pub fn progress(&mut self, revision: Revision) -> bool {
        if revision > self.seen && self.has_room() {
            self.seen = revision;
            return self.push(Notice::Progress(revision));
        }
        !self.is_gone()
    }

    /// Waits until there is room: for what a watcher asked for itself, the history. False: the watch is over.
    pub async fn send(&mut self, upto: Revision, notice: Notice) -> bool {
        self.seen = upto;
        // Two places, of which one is given back: the last word must find room also right after this.
        let Ok(mut places) = self.queue.reserve_many(2).await else { return false };
        if let Some(place) = places.next() {
            place.send(Ok(notice));
        }
        true
    }

    /// Skips what is known not to concern it.
    pub fn skip(&mut self, upto: Revision) {
        self.seen = self.seen.max(upto);
    }

    /// The last word.
    pub async fn end(self, error: StoreError) {
        // Nobody listens: then nobody is told.
        let _ = self.queue.send(Err(error)).await;
    }

    // One place is kept for the last word.
    fn has_room(&self) -> bool {
        self.queue.capacity() > 1
    }

    fn push(&self, notice: Notice) -> bool {
        if self.has_room() {
            return self.queue.try_send(Ok(notice)).is_ok();
        }
        let pending = self.queue.max_capacity() - self.queue.capacity();
        // Full or gone: either way this watch is over.
        let _ = self.queue.try_send(Err(StoreError::SlowWatcher { pending }));
        false
    }
}

/// The watchers of a store that are up to date.
#[derive(Debug)]
pub struct Hub(Mutex<Members>);

#[derive(Debug)]
struct Members {
    told: Revision,
    closed: bool,
    watchers: Vec<Watcher>,
}

impl Hub {
    /// Nobody watches; the next revision that will be told comes after `told`.
    pub fn new(told: Revision) -> Self {
        Self(Mutex::new(Members { told, closed: false, watchers: Vec::new() }))
    }

    /// Takes a watcher in, or gives it back when revisions that it has not seen were told already.
    pub fn join(&self, watcher: Watcher) -> Result<(), Watcher> {
        let mut members = self.lock();
        if members.closed {
            return Ok(()); // dropped here: a store that is closed ends its watches
        }
        if watcher.seen < members.told {
            return Err(watcher);
        }
        members.watchers.push(watcher);
        Ok(())
    }

    /// Tells all what changed at a revision.
    pub fn tell(&self, revision: Revision, events: &[Event]) {
        let mut members = self.lock();
        members.told = revision;
        members.watchers.retain_mut(|watcher| watcher.tell(revision, events));
    }

    /// Tells those for whom nothing changed lately up to where that holds, and forgets those who are gone.
    pub fn progress(&self) {
        let mut members = self.lock();
        let told = members.told;
        members.watchers.retain_mut(|watcher| watcher.progress(told));
    }

    /// Ends all watches, also those that would join later.
    pub fn close(&self) {
        let mut members = self.lock();
        members.closed = true;
        members.watchers.clear();
    }

    /// How many watch.
    pub fn watchers(&self) -> usize {
        self.lock().watchers.len()
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn event(key: &str, revision: u64) -> Event {
        Event { key: key.into(), revision: Revision(revision), before: None, after: None }
    }

    fn joined(hub: &Hub, seen: u64, queue: usize) -> Watch {
        let (watcher, watch) = Watcher::new("/pods/", Revision(seen), queue);
        hub.join(watcher).expect("nothing was told yet");
        watch
    }

    fn is_over(watch: &mut Watch) -> bool {
        matches!(watch.try_recv(), Err(mpsc::error::TryRecvError::Disconnected))
    }

    #[test]
    fn who_has_missed_something_may_not_join() {
        let hub = Hub::new(Revision(4));
        hub.tell(Revision(5), &[]);
        let (late, _watch) = Watcher::new("", Revision(4), 4);
        let late = hub.join(late).expect_err("revision 5 was told without it");
        assert_eq!(late.seen(), Revision(4));
        let (current, _watch) = Watcher::new("", Revision(5), 4);
        hub.join(current).expect("it has seen all");
    }

    #[test]
    fn what_was_seen_or_lies_elsewhere_is_not_told() {
        let hub = Hub::new(Revision(1));
        let mut watch = joined(&hub, 2, 4);
        hub.tell(Revision(2), &[event("/pods/a", 2)]);
        hub.tell(Revision(3), &[event("/podsx", 3)]);
        assert!(watch.try_recv().is_err());
        hub.tell(Revision(4), &[event("/nodes/a", 4), event("/pods/b", 4)]);
        let told = watch.try_recv().expect("a notice").expect("no end");
        assert_eq!(told, Notice::Changes(vec![event("/pods/b", 4)]));
    }

    #[test]
    fn a_full_queue_ends_the_watch_with_a_word() {
        let hub = Hub::new(Revision(1));
        let mut watch = joined(&hub, 1, 2);
        for revision in 2..6 {
            hub.tell(Revision(revision), &[event("/pods/a", revision)]);
        }
        assert_eq!(hub.watchers(), 0);
        assert!(matches!(watch.try_recv(), Ok(Ok(Notice::Changes(_)))));
        assert!(matches!(watch.try_recv(), Ok(Ok(Notice::Changes(_)))));
        assert!(matches!(watch.try_recv(), Ok(Err(StoreError::SlowWatcher { pending: 2 }))));
        assert!(is_over(&mut watch));
    }

    #[tokio::test]
    async fn history_leaves_room_for_the_last_word() {
        let (mut watcher, mut watch) = Watcher::new("", Revision(1), 2);
        for revision in [2, 3] {
            assert!(watcher.send(Revision(revision), Notice::Progress(Revision(revision))).await);
        }
        let more = watcher.send(Revision(4), Notice::Progress(Revision(4)));
        assert!(more.now_or_never().is_none(), "history waits for room");
        assert!(!watcher.tell(Revision(5), &[event("/pods/a", 5)]), "what is new does not");
        drop(watcher);
        assert!(matches!(watch.recv().await, Some(Ok(Notice::Progress(Revision(2))))));
        assert!(matches!(watch.recv().await, Some(Ok(Notice::Progress(Revision(3))))));
        assert!(matches!(watch.recv().await, Some(Err(StoreError::SlowWatcher { pending: 2 }))));
        assert!(watch.recv().await.is_none());
    }

    #[test]
    fn progress_is_told_once_and_forgets_the_gone() {
        let hub = Hub::new(Revision(1));
        let mut watch = joined(&hub, 1, 4);
        drop(joined(&hub, 1, 4));
        hub.tell(Revision(2), &[event("/nodes/a", 2)]);
        hub.progress();
        hub.progress();
        assert_eq!(hub.watchers(), 1);
        assert_eq!(watch.try_recv().expect("one").expect("no end"), Notice::Progress(Revision(2)));
        assert!(watch.try_recv().is_err());
    }

    #[test]
    fn a_closed_hub_ends_all_watches() {
        let hub = Hub::new(Revision(1));
        let mut before = joined(&hub, 1, 4);
        hub.close();
        let mut after = joined(&hub, 1, 4);
        assert!(is_over(&mut before));
        assert!(is_over(&mut after));
    }
}
