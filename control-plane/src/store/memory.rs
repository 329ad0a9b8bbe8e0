//! A store in memory: the data model written down as plainly as possible. The others must behave like it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::WatchLimits;
use super::hub::{Hub, Watcher};
use super::transaction::{assert_well_formed, first_unmet};
use super::{Event, Operation, Outcome, Page, Range, Record, Revision, Store, StoreError};
use super::{Watch, Write};

/// A store that lives as long as the process.
#[derive(Debug)]
pub struct MemoryStore {
    history: Mutex<History>,
    hub: Hub,
    limits: WatchLimits,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(WatchLimits::default())
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new(limits: WatchLimits) -> Self {
        let history = History::default();
        Self { hub: Hub::new(history.latest), history: Mutex::new(history), limits }
    }

    /// Tells watchers for whom nothing changed up to where that holds; nothing here does it by the clock.
    pub fn progress(&self) {
        self.hub.progress();
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &str) -> Result<Option<Record>, StoreError> {
        let history = self.lock();
        Ok(history.record(key, history.latest))
    }

    async fn list(&self, range: Range) -> Result<Page, StoreError> {
        self.lock().list(&range)
    }

    async fn commit(&self, operations: Vec<Operation>) -> Result<Outcome, StoreError> {
        assert_well_formed(&operations);
        let mut history = self.lock();
        let before = history.latest;
        let outcome = history.commit(operations);
        // Told under the lock, so that revisions are told in order.
        if history.latest > before {
            self.hub.tell(history.latest, &history.events[&history.latest]);
        }
        Ok(outcome)
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, StoreError> {
        let history = self.lock();
        history.check(after)?;
        let missed = history.changes(prefix, after);
        let room = self.limits.queue + missed.len();
        let (mut watcher, watch) = Watcher::new(prefix, after, room);
        for (revision, events) in missed {
            watcher.tell(revision, events);
        }
        watcher.skip(history.latest);
        // It has seen all, and nothing is told while the lock is held.
        let joined = self.hub.join(watcher);
        debug_assert!(joined.is_ok());
        Ok(watch)
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        Ok(self.lock().latest)
    }

    async fn compact(&self, before: Revision) -> Result<(), StoreError> {
        self.lock().compact(before)
    }
}

/// What a key held from a revision on; no value when it was deleted then.
#[derive(Debug)]
struct Version {
    created: Revision,
    modified: Revision,
    value: Option<Bytes>,
}

#[derive(Debug)]
struct History {
    latest: Revision,
    compacted: Revision,
    keys: BTreeMap<String, Vec<Version>>,
    events: BTreeMap<Revision, Vec<Event>>,
}

impl Default for History {
    fn default() -> Self {
        let empty = Revision(1);
        Self { latest: empty, compacted: empty, keys: BTreeMap::new(), events: BTreeMap::new() }
    }
}

impl History {
    /// The revision to read at, or why it cannot be read at.
    fn check(&self, asked: Revision) -> Result<Revision, StoreError> {
        // Nothing comes before the empty store.
        let at = asked.max(Revision(1));
        if at < self.compacted {
            return Err(StoreError::Compacted { asked, oldest: self.compacted });
        }
        if at > self.latest {
            return Err(StoreError::Future { asked, latest: self.latest });
        }
        Ok(at)
    }

    fn record(&self, key: &str, at: Revision) -> Option<Record> {
        record_of(key, self.keys.get(key)?, at)
    }

    fn list(&self, range: &Range) -> Result<Page, StoreError> {
        let revision = self.check(range.at.unwrap_or(self.latest))?;
        let start = match &range.after {
            Some(after) if *after >= range.prefix => Bound::Excluded(after),
            _ => Bound::Included(&range.prefix),
        };
        let mut records: Vec<_> = self
            .keys
            .range::<String, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&range.prefix))
            .filter_map(|(key, versions)| record_of(key, versions, revision))
            .collect();
        let limit = if range.limit == 0 { records.len() } else { range.limit };
        let limit = limit.min(enough(&records, range.bytes));
        let remaining = records.len().saturating_sub(limit) as u64;
        records.truncate(limit);
        Ok(Page { records, revision, remaining })
    }

    fn commit(&mut self, operations: Vec<Operation>) -> Outcome {
        let held: Vec<_> =
            operations.iter().map(|operation| self.record(&operation.key, self.latest)).collect();
        if let Some(unmet) = first_unmet(&operations, &held) {
            return Outcome::Refused(unmet, held.into_iter().nth(unmet).flatten());
        }
        let revision = Revision(self.latest.0 + 1);
        let events: Vec<_> = operations
            .into_iter()
            .zip(held)
            .filter_map(|(operation, held)| self.write(operation, held, revision))
            .collect();
        if !events.is_empty() {
            self.latest = revision;
            self.events.insert(revision, events);
        }
        Outcome::Committed(self.latest)
    }

    fn write(
        &mut self,
        operation: Operation,
        held: Option<Record>,
        revision: Revision,
    ) -> Option<Event> {
        let value = match operation.write {
            Write::Put(value) => Some(value),
            Write::Delete if held.is_some() => None,
            Write::Delete | Write::Check => return None,
        };
        let created = held.as_ref().map_or(revision, |record| record.created);
        let version = Version { created, modified: revision, value: value.clone() };
        self.keys.entry(operation.key.clone()).or_default().push(version);
        let before = held.map(|record| record.value);
        Some(Event { key: operation.key, revision, before, after: value })
    }

    fn changes(&self, prefix: &str, after: Revision) -> Vec<(Revision, &[Event])> {
        let concerned = |event: &Event| event.key.starts_with(prefix);
        self.events
            .range((Bound::Excluded(after), Bound::Unbounded))
            .filter(|(_, events)| events.iter().any(concerned))
            .map(|(revision, events)| (*revision, events.as_slice()))
            .collect()
    }

    fn compact(&mut self, before: Revision) -> Result<(), StoreError> {
        if before > self.latest {
            return Err(StoreError::Future { asked: before, latest: self.latest });
        }
        if before > self.compacted {
            self.compacted = before;
            self.events = self.events.split_off(&Revision(before.0 + 1));
            self.keys.retain(|_, versions| forget(versions, before));
            debug_assert!(self.events.values().flatten().all(|event| event.revision > before));
        }
        Ok(())
    }
}

/// How many of the records are so many bytes.
fn enough(records: &[Record], bytes: usize) -> usize {
    let sums = records.iter().scan(0, |sum, record| {
        *sum += record.value.len();
        Some(*sum)
    });
    let before = sums.take_while(|sum| bytes == 0 || *sum < bytes).count();
    (before + 1).min(records.len())
}

fn record_of(key: &str, versions: &[Version], at: Revision) -> Option<Record> {
    let version = versions.iter().rev().find(|version| version.modified <= at)?;
    let value = version.value.clone()?;
    Some(Record { key: key.into(), value, created: version.created, modified: version.modified })
}

/// Drops the versions that nobody can see at or after a revision. False: nothing is left.
fn forget(versions: &mut Vec<Version>, before: Revision) -> bool {
    let current = versions.iter().rposition(|version| version.modified <= before).unwrap_or(0);
    versions.drain(..current);
    let gone = |version: &Version| version.modified <= before && version.value.is_none();
    if versions.first().is_some_and(gone) {
        versions.remove(0);
    }
    !versions.is_empty()
}
