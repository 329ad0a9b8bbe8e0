//! What lies in the file.
//!
//! Values are written once, into the log; what moves when a key is overwritten is its small slot. The tables:
//!
//! | table | key | holds |
//! | --- | --- | --- |
//! | `state` | key | the slot of its current version |
//! | `versions` | key, revision that ended it | the slot of a version that is no more, until it is swept |
//! | `log` | revision, index | slot position of the version it ended (0, 0: none), key, value (none: deleted) |
//! | `meta` | name | `format`, `revision`, `compacted` (readers go no further back), `swept` (what is gone from the other tables) |

use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::store::{Record, Revision, StoreError};

/// When a key was made, when this version was written, and its index among the writes of that transaction.
pub type Slot = (u64, u64, u32);
/// Where in the log a version is.
pub type Position = (u64, u32);
/// The position it ended (revision, index), the key, its value.
pub type LogRow = (u64, u32, &'static str, Option<&'static [u8]>);

pub const STATE: TableDefinition<&str, Slot> = TableDefinition::new("state");
pub const VERSIONS: TableDefinition<(&str, u64), Slot> = TableDefinition::new("versions");
pub const LOG: TableDefinition<Position, LogRow> = TableDefinition::new("log");
pub const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// The layout above. A file of a later one is refused.
pub const FORMAT: u64 = 1;
/// The revision of an empty store.
pub const EMPTY: u64 = 1;

/// The counters of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    pub revision: u64,
    pub compacted: u64,
    pub swept: u64,
}

impl Meta {
    /// Of a store that begins at a revision.
    pub fn beginning_at(revision: u64) -> Self {
        Self { revision, compacted: revision, swept: revision }
    }

    pub fn read(table: &impl ReadableTable<&'static str, u64>) -> Result<Self, StoreError> {
        let number = |name: &str| match table.get(name)? {
            Some(number) => Ok(number.value()),
            None => Err(corrupt(&format!("its table meta has no {name}"))),
        };
        Ok(Self {
            revision: number("revision")?,
            compacted: number("compacted")?,
            swept: number("swept")?,
        })
    }

    pub fn write(self, table: &mut Table<'_, &'static str, u64>) -> Result<(), StoreError> {
        table.insert("revision", self.revision)?;
        table.insert("compacted", self.compacted)?;
        table.insert("swept", self.swept)?;
        Ok(())
    }
}

/// All tables in a write transaction.
pub struct Tables<'t> {
    pub state: Table<'t, &'static str, Slot>,
    pub versions: Table<'t, (&'static str, u64), Slot>,
    pub log: Table<'t, Position, LogRow>,
    pub meta: Table<'t, &'static str, u64>,
}

impl<'t> Tables<'t> {
    pub fn open(transaction: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            state: transaction.open_table(STATE)?,
            versions: transaction.open_table(VERSIONS)?,
            log: transaction.open_table(LOG)?,
            meta: transaction.open_table(META)?,
        })
    }
}

/// The record of a key whose slot is known.
pub fn record(
    log: &impl ReadableTable<Position, LogRow>,
    key: &str,
    (created, modified, index): Slot,
) -> Result<Record, StoreError> {
    let value = value(log, (modified, index))?;
    let value = value.ok_or_else(|| corrupt(&format!("revision {modified} of {key} is empty")))?;
    Ok(Record { key: key.into(), value, created: Revision(created), modified: Revision(modified) })
}

/// The value at a position of the log that something refers to.
pub fn value(
    log: &impl ReadableTable<Position, LogRow>,
    position: Position,
) -> Result<Option<bytes::Bytes>, StoreError> {
    let row = log.get(position)?;
    let row = row.ok_or_else(|| corrupt(&format!("its log has no {position:?}")))?;
    Ok(row.value().3.map(bytes::Bytes::copy_from_slice))
}

/// A file that contradicts itself.
pub fn corrupt(what: &str) -> StoreError {
    unusable("file", &format!("it is damaged: {what}; restore a snapshot"))
}

pub fn unusable(place: &str, reason: &str) -> StoreError {
    StoreError::Unusable { place: place.into(), reason: reason.into() }
}

fn engine_error(error: redb::Error) -> StoreError {
    match error {
        redb::Error::Corrupted(what) => corrupt(&what),
        // After an error of the disk redb writes nothing more until the file is opened anew.
        redb::Error::PreviousIo => StoreError::Unavailable {
            reason: "the disk failed earlier; see to it and restart heddle-server".into(),
        },
        error => StoreError::Unavailable { reason: error.to_string() },
    }
}

macro_rules! engine_errors {
    ($($error:ty),*) => {$(
        impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                engine_error(error.into())
            }
        }
    )*};
}

engine_errors!(redb::StorageError, redb::TableError, redb::TransactionError, redb::CommitError);
