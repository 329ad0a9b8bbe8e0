//! The file itself.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Lease, LeaseError};
use crate::error::Mistake;

/// A lease has a few hundred bytes. What is longer is something else.
const MOST_BYTES: u64 = 64 * 1024;

/// Tells the temporary files of one process apart.
static COUNTER: AtomicU32 = AtomicU32::new(0);

impl Lease {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, LeaseError> {
        let text = match text_of(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(LeaseError::Missing(path.to_owned()));
            }
            Err(source) => {
                return Err(LeaseError::Io { operation: "read", path: path.to_owned(), source });
            }
        };
        let name = path.display().to_string();
        if text.trim().is_empty() {
            let reason = "is empty; it is to hold the node's lease, for example HEDDLE_NETWORK=10.244.0.0/16".to_owned();
            return Err(LeaseError::Mistakes(vec![Mistake { place: name, reason }]));
        }
        Self::parse_named(&text, &format!("{name}:")).map_err(|error| in_file(error, &name))
    }

    /// Writes a file, which everybody may read, so that it is there complete or as it was, also after a power cut. Its folder is
    /// made. Two writers do not disturb each other: the last one's stays.
    pub fn write(&self, path: &Path) -> Result<(), LeaseError> {
        replace(path, &self.render()).map_err(|(path, source)| LeaseError::Io {
            operation: "write",
            path,
            source,
        })
    }
}

/// What is about no line is about the file.
fn in_file(error: LeaseError, name: &str) -> LeaseError {
    let LeaseError::Mistakes(mut mistakes) = error else { return error };
    for mistake in mistakes.iter_mut().filter(|mistake| !mistake.place.starts_with(name)) {
        mistake.reason = format!("{} {}", mistake.place, mistake.reason);
        name.clone_into(&mut mistake.place);
    }
    LeaseError::Mistakes(mistakes)
}

fn text_of(path: &Path) -> io::Result<String> {
    // a FIFO under this name must not stop us
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = String::new();
    file.take(MOST_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(io::Error::other(format!("it has more than {MOST_BYTES} bytes")));
    }
    Ok(text)
}

fn replace(path: &Path, text: &str) -> Result<(), (PathBuf, io::Error)> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    let folder = match path.parent() {
        Some(folder) if folder == Path::new("") => Path::new("."),
        Some(folder) => folder,
        None => return Err((path.to_owned(), io::Error::other("it is no name of a file"))),
    };
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(folder);
    made.map_err(at(folder))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let temporary = folder.join(format!(".{name}.{}-{number}", std::process::id()));
    let done = put(&temporary, text).and_then(|()| fs::rename(&temporary, path));
    done.map_err(|error| {
        // a full disk shall not fill up with attempts
        let _ = fs::remove_file(&temporary);
        (path.to_owned(), error)
    })?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    // not by the umask, which may be anything
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
