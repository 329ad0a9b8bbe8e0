//! The file: made, locked, told apart from others.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, ReadableDatabase, StorageBackend, TableHandle};

use super::RedbConfig;
use super::table::{EMPTY, FORMAT, META, Meta, Tables, unusable};
use crate::store::StoreError;

/// Opens a file, or makes it (mode 0600) with an empty store in it.
pub fn open(path: &Path, config: RedbConfig) -> Result<Database, StoreError> {
    let place = path.display().to_string();
    if !path.exists() {
        make(path, config)?;
    }
    let database = builder(config).create(path);
    settle(&place, database)
}

fn builder(config: RedbConfig) -> redb::Builder {
    let mut builder = redb::Builder::new();
    // Without it redb panics at some files that were damaged while nobody had them open.
    builder.set_cache_size(config.cache).set_check_integrity_on_open(config.verify);
    builder
}

/// Opens a store in something other than a file.
pub fn open_backend(
    backend: impl StorageBackend,
    config: RedbConfig,
) -> Result<Database, StoreError> {
    let database = builder(config).create_with_backend(backend);
    settle("backend", database)
}

/// Makes an empty store under another name, and gives it its own when it is durable: redb cannot open a file whose making was cut
/// short.
fn make(path: &Path, config: RedbConfig) -> Result<(), StoreError> {
    let place = path.display().to_string();
    let failed = |error: io::Error| unusable(&place, &format!("it cannot be made: {error}"));
    remove_unfinished(path);
    let unfinished = unfinished(path, &std::process::id().to_string());
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(failed)?;
    let database = builder(config).create(&unfinished);
    drop(settle(&place, database)?);
    // Not a rename: that would replace the file of a process that was quicker.
    let named = match fs::hard_link(&unfinished, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(error)),
        _ => sync_directory(path).map_err(failed),
    };
    remove_unfinished(path);
    named
}

/// The name of a file that is being made by a process.
fn unfinished(path: &Path, process: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{process}.new"))
}

/// Removes what was left by processes that were killed at it; what cannot be removed does no harm.
fn remove_unfinished(path: &Path) {
    let prefix = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
    for entry in fs::read_dir(directory(path)).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(&prefix).and_then(|name| name.strip_suffix(".new"));
        if process.is_some_and(|process| process.parse::<u32>().is_ok()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Makes the name of a file durable.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory(path))?.sync_all()
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn settle(place: &str, database: Result<Database, DatabaseError>) -> Result<Database, StoreError> {
    let database = database.map_err(|error| refused(place, &error))?;
    match check(&database) {
        Ok(Found::Store) => Ok(database),
        Ok(Found::Nothing) => {
            initialise(&database, Meta::beginning_at(EMPTY))?;
            Ok(database)
        }
        Ok(Found::Later(format)) => Err(unusable(
            place,
            &format!(
                "it has format {format} and this version reads up to {FORMAT}: it was written by a later version of heddle-server; run that one"
            ),
        )),
        Ok(Found::Foreign) => {
            Err(unusable(place, "it is a redb file, but not of heddle-server; name another"))
        }
        Err(error) => Err(unusable(place, &error.to_string())),
    }
}

fn refused(place: &str, error: &DatabaseError) -> StoreError {
    let reason = match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            return StoreError::InUse { place: place.to_owned() };
        }
        DatabaseError::UpgradeRequired(version) => {
            format!(
                "it has version {version} of redb's file format, which this version cannot read"
            )
        }
        error => format!(
            "it is not a store, or is damaged: {error}; restore a snapshot or name another file"
        ),
    };
    unusable(place, &reason)
}

enum Found {
    Nothing,
    Store,
    Later(u64),
    Foreign,
}

fn check(database: &Database) -> Result<Found, StoreError> {
    let transaction = database.begin_read()?;
    let mut tables = transaction.list_tables()?.map(|table| table.name().to_owned()).peekable();
    if tables.peek().is_none() {
        return Ok(Found::Nothing);
    }
    if !tables.any(|name| name == META.name()) {
        return Ok(Found::Foreign);
    }
    let format = transaction.open_table(META)?.get("format")?.map(|format| format.value());
    Ok(match format {
        Some(FORMAT) => Found::Store,
        Some(format) => Found::Later(format),
        None => Found::Foreign,
    })
}

/// Makes the tables of a store in an empty file.
pub fn initialise(database: &Database, meta: Meta) -> Result<(), StoreError> {
    let transaction = database.begin_write()?;
    {
        let mut tables = Tables::open(&transaction)?;
        tables.meta.insert("format", FORMAT)?;
        meta.write(&mut tables.meta)?;
    }
    transaction.commit()?;
    Ok(())
}
