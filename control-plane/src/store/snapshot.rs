//! A store at one revision as a file, for backup and for moving between stores.
//!
//! The file (numbers little-endian): `heddle-snapshot\n`, version (u32), revision (u64); per record the length of its key (u32), the
//! key, created (u64), modified (u64), the length of its value (u64), the value; then `END` (u32), the number of records (u64)
//! and the SHA-256 of everything before it. It is only ever there whole: it gets its name when it is on the disk.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncWriteExt, BufWriter};

use super::redb::sync_directory;
use super::{Condition, Operation, Outcome, Range, Record, Revision};
use super::{Still, Store, StoreError, Write};

const MAGIC: &[u8; 16] = b"heddle-snapshot\n";
const VERSION: u32 = 1;
/// In place of the length of a key: there are no more.
const END: u32 = u32::MAX;
const DIGEST: u64 = 32;
/// How many records are asked of a store at once.
const PAGE: usize = 500;
/// About how many bytes are handed on at once.
const PIECE: usize = 1 << 20;
/// What a transaction may hold that puts records back; etcd takes 128 operations and 1.5 MB unless told otherwise.
const BATCH: usize = 100;
const BATCH_BYTES: usize = 1 << 20;

/// How far a restored store goes ahead of its snapshot: more than what was written after it was taken. Clients that have seen that find
/// their revision forgotten, and list anew, instead of missing what takes its place.
pub const AHEAD: u64 = 1_000_000_000;

/// Why a snapshot was not saved or restored.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A file could not be read or written.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The snapshot is not what was saved. Nothing was restored.
    #[error("the snapshot {} is damaged: {reason}; take another one", path.display())]
    Damaged {
        /// The snapshot.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It did not arrive whole. Nothing was written.
    #[error("the snapshot did not arrive whole: {reason}; nothing was written, try again")]
    Broken {
        /// What is missing.
        reason: String,
    },
    /// A later version wrote the snapshot. Nothing was restored.
    #[error(
        "the snapshot {} has version {version}, and this heddle-server reads up to {VERSION}; restore it with a later one",
        path.display()
    )]
    Later {
        /// The snapshot.
        path: PathBuf,
        /// What it says.
        version: u32,
    },
    /// There is something where the snapshot should go.
    #[error(
        "{place} is not empty; a snapshot is only restored into an empty place: remove what is there, or name another"
    )]
    Occupied {
        /// The file, or a key of the store.
        place: String,
    },
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

/// What a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The revision at which it was taken.
    pub revision: Revision,
    /// How many records.
    pub records: u64,
}

/// Saves all of a store at its latest revision. A file of that name is replaced, in one step, when all is written; it can be read by its
/// owner only (mode 0600): there are secrets in it.
pub async fn save(store: &dyn Store, path: &Path) -> Result<Summary, SnapshotError> {
    let unfinished = unfinished(path);
    let saved = save_as(store, &unfinished).await;
    settle(saved, &unfinished, path)
}

async fn save_as(store: &dyn Store, path: &Path) -> Result<Summary, SnapshotError> {
    let mut output = Output::create(path).await?;
    let mut pieces = Pieces::of(store).await?;
    while let Some(piece) = pieces.next().await? {
        output.write(&piece).await?;
    }
    output.finish().await?;
    Ok(pieces.summary())
}

/// Writes a snapshot that comes from elsewhere to a file, as [`save`] does, once it has arrived whole: its checksum is right, and
/// everything is there that it says.
pub async fn receive(
    mut pieces: impl Stream<Item = Result<Bytes, String>> + Unpin,
    path: &Path,
) -> Result<Summary, SnapshotError> {
    let unfinished = unfinished(path);
    let received = async {
        let mut output = Output::create(&unfinished).await?;
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|reason| SnapshotError::Broken { reason })?;
            output.write(&piece).await?;
        }
        output.finish().await?;
        let arrived = unfinished.clone();
        let checked = tokio::task::spawn_blocking(move || check(&arrived)).await;
        let ended =
            |error| SnapshotError::Broken { reason: format!("it was not checked: {error}") };
        checked.map_err(ended)?.map_err(|error| match error {
            SnapshotError::Damaged { reason, .. } => SnapshotError::Broken { reason },
            error => error,
        })
    };
    let received = received.await;
    settle(received, &unfinished, path)
}

/// Gives a file its name when it is what it should be, and removes it otherwise.
fn settle(
    written: Result<Summary, SnapshotError>,
    unfinished: &Path,
    path: &Path,
) -> Result<Summary, SnapshotError> {
    let named = written.and_then(|summary| {
        fs::rename(unfinished, path).map_err(failed("rename a snapshot to", path))?;
        sync_directory(path).map_err(failed("make durable the name", path))?;
        Ok(summary)
    });
    if named.is_err() {
        // What cannot be removed is overwritten by the next one.
        let _ = fs::remove_file(unfinished);
    }
    named
}

/// The name of a file that is being written by this process. Those of processes that were killed at it are removed.
fn unfinished(path: &Path) -> PathBuf {
    let own = beside(path, &format!("{}.saving", std::process::id()));
    let prefix = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let directory = own.parent().filter(|parent| !parent.as_os_str().is_empty());
    for entry in fs::read_dir(directory.unwrap_or(Path::new("."))).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let writer = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".saving"));
        let dead = |pid: u32| !Path::new(&format!("/proc/{pid}")).exists();
        if writer.and_then(|pid| pid.parse().ok()).is_some_and(dead) {
            let _ = fs::remove_file(entry.path());
        }
    }
    own
}

/// The bytes of a snapshot, one piece after the other. A store that can is held as it is at the beginning; another is read at the
/// revision of the beginning, which it must not forget meanwhile.
pub struct Pieces<'s> {
    store: &'s dyn Store,
    still: Option<Arc<dyn Still>>,
    range: Range,
    summary: Option<Summary>,
    hash: Sha256,
    ended: bool,
}

impl<'s> Pieces<'s> {
    /// Of a store as it is now.
    pub async fn of(store: &'s dyn Store) -> Result<Self, StoreError> {
        let range = Range { limit: PAGE, bytes: PIECE, uncounted: true, ..Range::default() };
        let still = store.still().await?;
        Ok(Self { store, still, range, summary: None, hash: Sha256::new(), ended: false })
    }

    /// The next piece, about a megabyte; `None` after the last one.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let page = match &self.still {
            Some(still) => still.list(self.range.clone()).await?,
            None => self.store.list(self.range.clone()).await?,
        };
        let mut piece = BytesMut::with_capacity(PIECE);
        if self.summary.is_none() {
            piece.extend_from_slice(&header(page.revision));
        }
        for record in &page.records {
            piece.extend_from_slice(&encode(record));
            piece.extend_from_slice(&record.value);
        }
        let before = self.summary.map_or(0, |summary| summary.records);
        let records = before + page.records.len() as u64;
        self.summary = Some(Summary { revision: page.revision, records });
        // The first page says at which revision the others are read.
        self.range.at = Some(page.revision);
        self.range.after = page.records.last().map(|record| record.key.clone());
        self.ended = page.remaining == 0;
        if self.ended {
            piece.extend_from_slice(&END.to_le_bytes());
            piece.extend_from_slice(&records.to_le_bytes());
        }
        self.hash.update(&piece);
        if self.ended {
            piece.extend_from_slice(&std::mem::take(&mut self.hash).finalize());
        }
        Ok(Some(piece.freeze()))
    }

    /// Whether there are no more.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// What the pieces so far hold.
    pub fn summary(&self) -> Summary {
        self.summary.unwrap_or(Summary { revision: Revision(0), records: 0 })
    }
}

/// A file that is written and made durable.
struct Output<'p> {
    path: &'p Path,
    file: BufWriter<tokio::fs::File>,
}

impl<'p> Output<'p> {
    async fn create(path: &'p Path) -> Result<Self, SnapshotError> {
        let mut options = tokio::fs::OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(path).await.map_err(failed("create", path))?;
        Ok(Self { path, file: BufWriter::with_capacity(1 << 20, file) })
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.file.write_all(bytes).await.map_err(failed("write", self.path))
    }

    async fn finish(mut self) -> Result<(), SnapshotError> {
        self.file.flush().await.map_err(failed("write", self.path))?;
        self.file.get_ref().sync_all().await.map_err(failed("make durable", self.path))
    }
}

/// Reads all of a snapshot: whether it is whole, and what it holds.
pub fn check(path: &Path) -> Result<Summary, SnapshotError> {
    let mut input = Input::open(path)?;
    while input.next()?.is_some() {}
    let end = input.file.stream_position().map_err(failed("read", path))?;
    if end != input.body {
        let reason = "it has more records than it says".to_owned();
        return Err(SnapshotError::Damaged { path: path.into(), reason });
    }
    Ok(input.summary)
}

fn header(revision: Revision) -> Vec<u8> {
    [MAGIC.as_slice(), &VERSION.to_le_bytes(), &revision.0.to_le_bytes()].concat()
}

fn encode(record: &Record) -> Vec<u8> {
    let key = u32::try_from(record.key.len()).expect("a key is short");
    let numbers = [record.created.0, record.modified.0, record.value.len() as u64];
    let numbers = numbers.map(u64::to_le_bytes).concat();
    [key.to_le_bytes().as_slice(), record.key.as_bytes(), &numbers].concat()
}

/// Makes a file store of a snapshot. The file must not exist, and does not unless all went well. Objects keep their revisions; the
/// store goes on at the snapshot's plus `ahead` (see [`AHEAD`]), and nothing before that can be asked for.
pub fn restore(snapshot: &Path, file: &Path, ahead: u64) -> Result<Summary, SnapshotError> {
    let occupied = || SnapshotError::Occupied { place: file.display().to_string() };
    if file.exists() {
        return Err(occupied());
    }
    let mut input = Input::open(snapshot)?;
    let summary = input.summary;
    let unfinished = beside(file, &format!("{}.restoring", std::process::id()));
    // Left by a process with our number that was killed.
    let _ = fs::remove_file(&unfinished);
    let next = Revision(summary.revision.0.saturating_add(ahead));
    let mut damage = None;
    let records = std::iter::from_fn(|| input.next().map_err(|error| damage = Some(error)).ok()?);
    let loaded = super::redb::load(&unfinished, next, records.map(Ok));
    let restored = match (damage, loaded) {
        (Some(damage), _) => Err(damage),
        (None, Err(error)) => Err(error.into()),
        // Not a rename: that would replace a file that appeared meanwhile.
        (None, Ok(())) => fs::hard_link(&unfinished, file).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => occupied(),
            _ => failed("name a store", file)(error),
        }),
    };
    let _ = fs::remove_file(&unfinished);
    restored?;
    sync_directory(file).map_err(failed("make durable the name", file))?;
    Ok(summary)
}

/// Writes the records of a snapshot to a store that is empty. They get new revisions (a store such as etcd counts itself), so every
/// client must list anew. When it fails halfway the store must be emptied before it is tried again.
pub async fn restore_into(store: &dyn Store, snapshot: &Path) -> Result<Summary, SnapshotError> {
    let mut input = Input::open(snapshot)?;
    let first = store.list(Range { limit: 1, ..Range::default() }).await?;
    if let Some(record) = first.records.first() {
        return Err(SnapshotError::Occupied {
            place: format!("the store (it has {})", record.key),
        });
    }
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while let Some(record) = input.next()? {
        let size = record.key.len() + record.value.len();
        if batch.len() == BATCH || (bytes + size > BATCH_BYTES && !batch.is_empty()) {
            put_back(store, std::mem::take(&mut batch)).await?;
            bytes = 0;
        }
        bytes += size;
        let write = Write::Put(record.value);
        batch.push(Operation { key: record.key, condition: Condition::Absent, write });
    }
    if !batch.is_empty() {
        put_back(store, batch).await?;
    }
    Ok(input.summary)
}

async fn put_back(store: &dyn Store, batch: Vec<Operation>) -> Result<(), SnapshotError> {
    match store.commit(batch).await? {
        Outcome::Committed(_) => Ok(()),
        Outcome::Refused(_, held) => {
            let key = held.map(|record| record.key).unwrap_or_default();
            Err(SnapshotError::Occupied { place: format!("the store (somebody wrote {key})") })
        }
    }
}

/// A snapshot whose checksum is right.
struct Input<'p> {
    path: &'p Path,
    file: BufReader<File>,
    summary: Summary,
    /// Where the records end.
    body: u64,
    left: u64,
    last: Option<String>,
}

impl<'p> Input<'p> {
    fn open(path: &'p Path) -> Result<Self, SnapshotError> {
        let damaged =
            |reason: &str| SnapshotError::Damaged { path: path.into(), reason: reason.into() };
        let file = File::open(path).map_err(failed("open", path))?;
        let size = file.metadata().map_err(failed("read", path))?.len();
        let mut file = BufReader::new(file);
        let mut magic = [0; MAGIC.len()];
        let read = file.read_exact(&mut magic);
        if read.is_err() || magic != *MAGIC {
            return Err(damaged("it does not begin as a snapshot of heddle-server does"));
        }
        let version = u32::from_le_bytes(bytes(&mut file).map_err(failed("read", path))?);
        if version > VERSION {
            return Err(SnapshotError::Later { path: path.into(), version });
        }
        let body = size.checked_sub(DIGEST + 12).ok_or_else(|| damaged("it is cut short"))?;
        verify(&mut file, size).map_err(failed("read", path))?.map_err(damaged)?;
        let summary = summary(&mut file, body).map_err(failed("read", path))?;
        Ok(Self { path, file, summary, body, left: summary.records, last: None })
    }

    /// The next record.
    fn next(&mut self) -> Result<Option<Record>, SnapshotError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let record = record(&mut self.file).map_err(failed("read", self.path))?;
        let revision = self.summary.revision;
        let sound = record.created <= record.modified && record.modified <= revision;
        if !sound || self.last.as_ref().is_some_and(|last| *last >= record.key) {
            let reason = format!("{} cannot come after {:?}", record.key, self.last);
            return Err(SnapshotError::Damaged { path: self.path.into(), reason });
        }
        self.last = Some(record.key.clone());
        Ok(Some(record))
    }
}

/// Compares the checksum at the end with the bytes before it.
fn verify(file: &mut BufReader<File>, size: u64) -> io::Result<Result<(), &'static str>> {
    file.rewind()?;
    let mut hash = Sha256::new();
    let mut body = file.by_ref().take(size - DIGEST);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match body.read(&mut buffer)? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    let digest: [u8; 32] = bytes(file)?;
    let same = digest.as_slice() == hash.finalize().as_slice();
    Ok(if same { Ok(()) } else { Err("its checksum is wrong, or it is cut short") })
}

/// Reads the number of records at the end, and the revision at the start, where the file is left.
fn summary(file: &mut BufReader<File>, end: u64) -> io::Result<Summary> {
    file.seek(io::SeekFrom::Start(end + 4))?;
    let records = u64::from_le_bytes(bytes(file)?);
    file.seek(io::SeekFrom::Start(MAGIC.len() as u64 + 4))?;
    Ok(Summary { revision: Revision(u64::from_le_bytes(bytes(file)?)), records })
}

fn record(file: &mut BufReader<File>) -> io::Result<Record> {
    let wrong = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let length = u32::from_le_bytes(bytes(file)?);
    if length == END {
        return Err(wrong("it has fewer records than it says"));
    }
    let key = String::from_utf8(take(file, length.into())?);
    let key = key.map_err(|_| wrong("a key is not UTF-8"))?;
    let [created, modified] = [number(file)?, number(file)?].map(Revision);
    let length = number(file)?;
    let value = take(file, length)?.into();
    Ok(Record { key, value, created, modified })
}

fn number(file: &mut impl Read) -> io::Result<u64> {
    Ok(u64::from_le_bytes(bytes(file)?))
}

fn bytes<const N: usize>(file: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// So many bytes; what is claimed is not believed before it is there.
fn take(file: &mut impl Read, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// A hidden name in the same directory.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{suffix}"))
}

fn failed(what: &'static str, path: &Path) -> impl Fn(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::File { what, path: path.clone(), source }
}
