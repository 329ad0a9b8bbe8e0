//! Several transactions in one of redb's: each judged after the one before, all durable together.

use crate::store::{Condition, Event, Operation, Outcome, Record, Revision, StoreError, Write};

use super::table::{Meta, Position, Slot, Tables, record, value};

/// How many revisions are swept at once: what writers wait for at most.
const SWEEP: usize = 1000;

/// What changed, by revision.
pub type Changes = Vec<(Revision, Vec<Event>)>;

/// A batch that is being written.
pub struct Batch<'t> {
    tables: Tables<'t>,
    meta: Meta,
    found: Meta,
    changes: Changes,
}

impl<'t> Batch<'t> {
    pub fn open(tables: Tables<'t>) -> Result<Self, StoreError> {
        let meta = Meta::read(&tables.meta)?;
        Ok(Self { tables, meta, found: meta, changes: Vec::new() })
    }

    /// Judges and carries out one transaction.
    pub fn commit(&mut self, operations: &[Operation]) -> Result<Outcome, StoreError> {
        let slots = self.slots(operations)?;
        if let Some(unmet) = unmet(operations, &slots) {
            let held = self.held(&operations[unmet].key, slots[unmet])?;
            return Ok(Outcome::Refused(unmet, held));
        }
        let revision = self.meta.revision + 1;
        let mut events = Vec::new();
        for (operation, slot) in operations.iter().zip(slots) {
            let index = u32::try_from(events.len()).expect("a transaction has few operations");
            events.extend(self.write(operation, slot, (revision, index))?);
        }
        if !events.is_empty() {
            self.meta.revision = revision;
            self.changes.push((Revision(revision), events));
        }
        Ok(Outcome::Committed(Revision(self.meta.revision)))
    }

    /// From now on nobody reads the history before a revision.
    pub fn compact(&mut self, before: Revision) -> Result<(), StoreError> {
        if before.0 > self.meta.revision {
            let latest = Revision(self.meta.revision);
            return Err(StoreError::Future { asked: before, latest });
        }
        self.meta.compacted = self.meta.compacted.max(before.0);
        Ok(())
    }

    /// Removes a part of what nobody reads any more.
    pub fn sweep(&mut self) -> Result<(), StoreError> {
        let (rows, upto) = self.sweepable()?;
        for row in rows {
            if let Some(ended) = row.ended {
                self.tables.log.remove(ended)?;
                self.tables.versions.remove((row.key.as_str(), row.position.0))?;
            }
            if row.deleted {
                self.tables.log.remove(row.position)?;
            }
        }
        self.meta.swept = upto;
        Ok(())
    }

    /// The counters as they will be, whether anything is to be written, and what changed.
    pub fn finish(mut self) -> Result<(Meta, bool, Changes), StoreError> {
        let changed = self.meta != self.found;
        if changed {
            self.meta.write(&mut self.tables.meta)?;
        }
        Ok((self.meta, changed, self.changes))
    }

    fn slots(&self, operations: &[Operation]) -> Result<Vec<Option<Slot>>, StoreError> {
        use redb::ReadableTable;
        let slot = |operation: &Operation| {
            let slot = self.tables.state.get(operation.key.as_str())?;
            Ok(slot.map(|slot| slot.value()))
        };
        operations.iter().map(slot).collect()
    }

    fn held(&self, key: &str, slot: Option<Slot>) -> Result<Option<Record>, StoreError> {
        slot.map(|slot| record(&self.tables.log, key, slot)).transpose()
    }

    fn write(
        &mut self,
        operation: &Operation,
        slot: Option<Slot>,
        position: Position,
    ) -> Result<Option<Event>, StoreError> {
        let after = match &operation.write {
            Write::Put(value) => Some(value),
            Write::Delete if slot.is_some() => None,
            Write::Delete | Write::Check => return Ok(None),
        };
        let key = operation.key.as_str();
        let before = match slot {
            Some((_, modified, index)) => value(&self.tables.log, (modified, index))?,
            None => None,
        };
        if let Some(slot) = slot {
            self.tables.versions.insert((key, position.0), slot)?;
        }
        let created = slot.map_or(position.0, |(created, ..)| created);
        match after {
            Some(_) => self.tables.state.insert(key, (created, position.0, position.1))?,
            None => self.tables.state.remove(key)?,
        };
        let (ended, index) = slot.map_or((0, 0), |(_, modified, index)| (modified, index));
        let row = (ended, index, key, after.map(AsRef::as_ref));
        self.tables.log.insert(position, row)?;
        let revision = Revision(position.0);
        Ok(Some(Event { key: key.into(), revision, before, after: after.cloned() }))
    }

    fn sweepable(&self) -> Result<(Vec<Sweepable>, u64), StoreError> {
        use redb::ReadableTable;
        let range = (self.meta.swept + 1, 0)..=(self.meta.compacted, u32::MAX);
        let mut rows: Vec<Sweepable> = Vec::new();
        for row in self.tables.log.range(range)? {
            let (position, row) = row?;
            let position = position.value();
            // Revisions are swept whole: what is half swept could not be gone on with.
            if rows.len() >= SWEEP && rows.last().is_some_and(|last| last.position.0 != position.0)
            {
                return Ok((rows, position.0 - 1));
            }
            let (ended, index, key, value) = row.value();
            let ended = (ended != 0).then_some((ended, index));
            rows.push(Sweepable { position, ended, key: key.into(), deleted: value.is_none() });
        }
        Ok((rows, self.meta.compacted))
    }
}

struct Sweepable {
    position: Position,
    ended: Option<Position>,
    key: String,
    deleted: bool,
}

fn unmet(operations: &[Operation], slots: &[Option<Slot>]) -> Option<usize> {
    let holds = |condition: Condition, slot: &Option<Slot>| {
        condition.holds(slot.map(|(_, modified, _)| Revision(modified)))
    };
    operations.iter().zip(slots).position(|(operation, slot)| !holds(operation.condition, slot))
}
