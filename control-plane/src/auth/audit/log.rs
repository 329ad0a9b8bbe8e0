//! The file that the lines go to: whole lines, for the owner's eyes only, and not without end.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// When a new file is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// At so many bytes; 0 means never, another program moves the file away and asks for [`Log::reopen`].
    pub bytes: u64,
    /// How many full files are kept: `audit.log.1` is the youngest.
    pub files: usize,
}

/// A log that cannot be written. Requests go on; the caller counts and tells it.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} the audit log {}: {source}", path.display())]
pub struct LogError {
    operation: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

struct Open {
    file: File,
    length: u64,
}

/// The log.
pub struct Log {
    path: PathBuf,
    rotation: Rotation,
    open: Mutex<Open>,
}

impl Log {
    /// Goes on with a file, or begins it (mode 0600). A line that a death cut short is ended first.
    pub fn open(path: &Path, rotation: Rotation) -> Result<Self, LogError> {
        let open = begin(path)?;
        Ok(Self { path: path.to_owned(), rotation, open: Mutex::new(open) })
    }

    /// Adds an event as one line, in one write.
    pub fn write(&self, event: &Value) -> Result<(), LogError> {
        let line = format!("{event}\n");
        let length = line.len() as u64;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Rotation { bytes, .. } = self.rotation;
        if bytes != 0 && open.length != 0 && open.length + length > bytes {
            self.rotate()?;
            *open = begin(&self.path)?;
        }
        open.file
            .write_all(line.as_bytes())
            .map_err(|source| failed("write", &self.path, source))?;
        open.length += length;
        Ok(())
    }

    /// Begins the file anew after another program moved it away (SIGHUP).
    pub fn reopen(&self) -> Result<(), LogError> {
        let fresh = begin(&self.path)?;
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Every full file gets the next number; the last one is gone.
    fn rotate(&self) -> Result<(), LogError> {
        let numbered = |number: usize| match number {
            0 => self.path.clone(),
            number => PathBuf::from(format!("{}.{number}", self.path.display())),
        };
        for number in (0..self.rotation.files).rev() {
            let (from, to) = (numbered(number), numbered(number + 1));
            match std::fs::rename(&from, &to) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(failed("rotate", &from, error));
                }
                _ => {}
            }
        }
        if self.rotation.files == 0 {
            std::fs::remove_file(&self.path)
                .map_err(|source| failed("rotate", &self.path, source))?;
        }
        Ok(())
    }
}

fn begin(path: &Path) -> Result<Open, LogError> {
    let open = || {
        let mut file =
            OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path)?;
        let mut length = file.metadata()?.len();
        if length != 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                length += 1;
            }
        }
        Ok(Open { file, length })
    };
    open().map_err(|source| failed("open", path, source))
}

fn failed(operation: &'static str, path: &Path, source: std::io::Error) -> LogError {
    LogError { operation, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    const NEVER: Rotation = Rotation { bytes: 0, files: 0 };

    fn lines(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path).unwrap_or_default().lines().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn writers_do_not_mix_their_lines() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("audit.log");
        let log = Arc::new(Log::open(&path, NEVER).unwrap());
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let log = Arc::clone(&log);
                std::thread::spawn(move || {
                    for number in 0..100 {
                        log.write(&json!({"writer": writer, "number": number, "text": "a\nb"}))
                            .unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        let written = lines(&path);
        assert_eq!(written.len(), 400);
        assert!(written.iter().all(|line| serde_json::from_str::<Value>(line).is_ok()));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_full_file_makes_room_and_the_oldest_goes() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("audit.log");
        let log = Log::open(&path, Rotation { bytes: 8, files: 2 }).unwrap();
        for number in 0..9 {
            log.write(&json!(1000 + number)).unwrap();
        }
        let numbered = |number: usize| lines(&place.path().join(format!("audit.log.{number}")));
        assert_eq!(lines(&path), ["1008"]);
        assert_eq!((numbered(1), numbered(2)), (vec!["1007".to_owned()], vec!["1006".to_owned()]));
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 3);
        let wide = json!("longer than a file may be");
        log.write(&wide).unwrap();
        assert_eq!(lines(&path), [wide.to_string()], "a line is never cut");
    }

    #[test]
    fn a_line_that_a_death_cut_short_does_not_spoil_the_next() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("audit.log");
        std::fs::write(&path, "{\"half\": ").unwrap();
        let log = Log::open(&path, NEVER).unwrap();
        log.write(&json!({"whole": 1})).unwrap();
        assert_eq!(lines(&path), ["{\"half\": ", "{\"whole\":1}"]);
        std::fs::rename(&path, place.path().join("moved")).unwrap();
        log.write(&json!(2)).unwrap();
        log.reopen().unwrap();
        log.write(&json!(3)).unwrap();
        assert_eq!(lines(&place.path().join("moved")).len(), 3);
        assert_eq!(lines(&path), ["3"]);
    }
}
