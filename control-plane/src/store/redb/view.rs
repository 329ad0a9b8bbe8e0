//! The store as one reader sees it: everything at one moment, whatever is written meanwhile.

use std::ops::Bound;

use redb::{AccessGuard, ReadOnlyTable, ReadTransaction, StorageError};

use super::table::{LOG, LogRow, META, Meta, Position, STATE, Slot, VERSIONS, record, value};
use crate::store::transaction::prefix_end;
use crate::store::{Event, Page, Range, Record, Revision, StoreError};

/// How much of the history is read at once.
const CHUNK_REVISIONS: usize = 256;
const CHUNK_BYTES: usize = 1 << 20;

/// A snapshot of the tables.
pub struct View {
    state: ReadOnlyTable<&'static str, Slot>,
    versions: ReadOnlyTable<(&'static str, u64), Slot>,
    log: ReadOnlyTable<Position, LogRow>,
    meta: Meta,
}

/// A part of the history.
pub struct Chunk {
    /// What changed, by revision.
    pub changes: Vec<(Revision, Vec<Event>)>,
    /// Up to where it goes.
    pub upto: Revision,
}

impl View {
    pub fn open(transaction: &ReadTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            state: transaction.open_table(STATE)?,
            versions: transaction.open_table(VERSIONS)?,
            log: transaction.open_table(LOG)?,
            meta: Meta::read(&transaction.open_table(META)?)?,
        })
    }

    pub fn revision(&self) -> Revision {
        Revision(self.meta.revision)
    }

    /// The revision to read at, or why it cannot be read at.
    pub fn check(&self, asked: Revision) -> Result<u64, StoreError> {
        // Nothing comes before the empty store.
        let at = asked.0.max(super::table::EMPTY);
        if at < self.meta.compacted {
            return Err(StoreError::Compacted { asked, oldest: Revision(self.meta.compacted) });
        }
        if at > self.meta.revision {
            return Err(StoreError::Future { asked, latest: self.revision() });
        }
        Ok(at)
    }

    pub fn get(&self, key: &str) -> Result<Option<Record>, StoreError> {
        let slot = self.state.get(key)?;
        slot.map(|slot| record(&self.log, key, slot.value())).transpose()
    }

    pub fn list(&self, range: &Range) -> Result<Page, StoreError> {
        let at = self.check(range.at.unwrap_or(self.revision()))?;
        let start = match &range.after {
            Some(after) if *after >= range.prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(range.prefix.as_str()),
        };
        let current = self.current(start, &range.prefix, at)?;
        let (records, remaining) = if at == self.meta.revision {
            let records = self.records(current, range)?;
            let endless = range.limit == 0 && range.bytes == 0;
            let remaining = if endless { 0 } else { self.keys_after(&records, range)? };
            (records, remaining)
        } else {
            let mut keys = merged(current, self.ended(start, &range.prefix, at)?);
            (self.records(&mut keys, range)?, count(keys.take(counted(range)))?)
        };
        Ok(Page { records, revision: Revision(at), remaining })
    }

    /// The next part of the history after a revision.
    pub fn changes(&self, prefix: &str, after: Revision) -> Result<Chunk, StoreError> {
        let after = self.check(after)?;
        let mut changes: Vec<(Revision, Vec<Event>)> = Vec::new();
        let mut bytes = 0;
        for row in self.log.range((after + 1, 0)..)? {
            let (position, row) = row?;
            let (revision, (ended, index, key, now)) = (position.value().0, row.value());
            if !key.starts_with(prefix) {
                continue;
            }
            let revision = Revision(revision);
            if changes.last().is_none_or(|(last, _)| *last != revision) {
                if changes.len() == CHUNK_REVISIONS || bytes > CHUNK_BYTES {
                    let upto = Revision(revision.0 - 1);
                    return Ok(Chunk { changes, upto });
                }
                changes.push((revision, Vec::new()));
            }
            let before = if ended == 0 { None } else { value(&self.log, (ended, index))? };
            let now = now.map(bytes::Bytes::copy_from_slice);
            bytes += key.len()
                + [&before, &now].into_iter().flatten().map(bytes::Bytes::len).sum::<usize>();
            let event = Event { key: key.into(), revision, before, after: now };
            changes.last_mut().expect("one was pushed").1.push(event);
        }
        Ok(Chunk { changes, upto: self.revision() })
    }

    /// The first records of the keys.
    fn records(
        &self,
        keys: impl Iterator<Item = Result<(String, Slot), StorageError>>,
        range: &Range,
    ) -> Result<Vec<Record>, StoreError> {
        let limit = if range.limit == 0 { usize::MAX } else { range.limit };
        let (mut records, mut bytes) = (Vec::new(), 0);
        for key in keys.take(limit) {
            let (key, slot) = key?;
            let record = record(&self.log, &key, slot)?;
            bytes += record.value.len();
            records.push(record);
            if range.bytes != 0 && bytes >= range.bytes {
                break;
            }
        }
        Ok(records)
    }

    /// How many keys of a range come after its first records, now. Of a large range this is most of the work, so keys are not copied.
    fn keys_after(&self, records: &[Record], range: &Range) -> Result<u64, StoreError> {
        let Some(last) = records.last() else { return Ok(0) };
        let end = prefix_end(range.prefix.as_bytes()).and_then(|end| String::from_utf8(end).ok());
        let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.state.range::<&str>((Bound::Excluded(last.key.as_str()), end))?;
        if end != Bound::Unbounded {
            return count(rows.take(counted(range)));
        }
        // No text comes right after such a prefix.
        let below = |row: &Result<(AccessGuard<'_, &str>, _), _>| {
            row.as_ref().map_or(true, |(key, _)| key.value().starts_with(&range.prefix))
        };
        count(rows.take_while(below).take(counted(range)))
    }

    /// The keys whose current version was there at a revision.
    fn current<'a>(
        &'a self,
        start: Bound<&str>,
        prefix: &'a str,
        at: u64,
    ) -> Result<impl Iterator<Item = Result<(String, Slot), StorageError>> + 'a, StoreError> {
        let rows = self.state.range::<&str>((start, Bound::Unbounded))?;
        let rows = rows.map(|row| row.map(|(key, slot)| (key, slot.value())));
        let below = move |row: &Result<(AccessGuard<'_, &str>, Slot), StorageError>| {
            row.as_ref().map_or(true, |(key, _)| key.value().starts_with(prefix))
        };
        Ok(rows.take_while(below).filter_map(move |row| match row {
            Ok((key, slot)) => (slot.1 <= at).then(|| Ok((key.value().to_owned(), slot))),
            Err(error) => Some(Err(error)),
        }))
    }

    /// The keys whose version at a revision has ended since.
    fn ended<'a>(
        &'a self,
        start: Bound<&str>,
        prefix: &'a str,
        at: u64,
    ) -> Result<impl Iterator<Item = Result<(String, Slot), StorageError>> + 'a, StoreError> {
        let start = match start {
            Bound::Excluded(key) => Bound::Excluded((key, u64::MAX)),
            Bound::Included(key) => Bound::Included((key, 0)),
            Bound::Unbounded => Bound::Unbounded,
        };
        let rows = self.versions.range::<(&str, u64)>((start, Bound::Unbounded))?;
        Ok(rows
            .map(|row| {
                let (key, slot) = row?;
                let (key, ended) = key.value();
                Ok((key.to_owned(), ended, slot.value()))
            })
            .take_while(move |row: &Result<(String, u64, Slot), StorageError>| {
                row.as_ref().map_or(true, |(key, ..)| key.starts_with(prefix))
            })
            .filter_map(move |row| match row {
                Ok((key, ended, slot)) => (ended > at && slot.1 <= at).then_some(Ok((key, slot))),
                Err(error) => Some(Err(error)),
            }))
    }
}

/// How many of the keys behind a page are looked at.
fn counted(range: &Range) -> usize {
    if range.uncounted { 1 } else { usize::MAX }
}

fn count<T>(rows: impl Iterator<Item = Result<T, StorageError>>) -> Result<u64, StoreError> {
    let mut count = 0;
    for row in rows {
        row?;
        count += 1;
    }
    Ok(count)
}

/// Two sorted lists of keys, of which no key is in both, as one.
fn merged<E>(
    left: impl Iterator<Item = Result<(String, Slot), E>>,
    right: impl Iterator<Item = Result<(String, Slot), E>>,
) -> impl Iterator<Item = Result<(String, Slot), E>> {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    std::iter::from_fn(move || match (left.peek(), right.peek()) {
        (Some(Ok((l, _))), Some(Ok((r, _)))) if l > r => right.next(),
        (None, _) => right.next(),
        _ => left.next(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_merged_in_the_order_of_keys() {
        let list = |keys: &str| {
            let keys: Vec<_> =
                keys.chars().map(|key| Ok::<_, ()>((key.to_string(), (1, 1, 0)))).collect();
            keys.into_iter()
        };
        let names = |left, right| -> String {
            merged(list(left), list(right)).map(|key| key.expect("no errors here").0).collect()
        };
        assert_eq!(names("adf", "bce"), "abcdef");
        assert_eq!(names("", "bc"), "bc");
        assert_eq!(names("ab", ""), "ab");
    }

    #[test]
    fn an_error_in_either_list_is_not_lost() {
        let good = || [Ok(("a".to_owned(), (1, 1, 0)))].into_iter();
        let bad = || [Err("broken")].into_iter();
        assert!(merged(good(), bad()).any(|key| key.is_err()));
        assert!(merged(bad(), good()).any(|key| key.is_err()));
    }
}
