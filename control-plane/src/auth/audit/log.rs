//! The file that the lines go to: whole lines, for the owner's eyes only, and not without end.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// When a new file is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// At so many bytes; 0 means never, another program moves the file away and asks for [`Log::reopen`].
    pub bytes: u64,
    /// How many full files are kept: `audit.log.1` is the youngest.
    pub files: usize,
}

/// A log that cannot be written.
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
    /// A line was begun and could not be ended: the disk was full.
    torn: bool,
}

/// The log. One thread writes it: [`super::Writer`]'s.
pub struct Log {
    path: PathBuf,
    rotation: Rotation,
    open: Open,
}

impl Log {
    /// Goes on with a file, or begins it (mode 0600). A line that a death cut short is ended first.
    pub fn open(path: &Path, rotation: Rotation) -> Result<Self, LogError> {
        let open = begin(path)?;
        Ok(Self { path: path.to_owned(), rotation, open })
    }

    /// Adds an event (a text without line breaks) as one line, in one write.
    pub fn write(&mut self, event: &str) -> Result<(), LogError> {
        let begin_line = if self.open.torn { "\n" } else { "" };
        let line = format!("{begin_line}{event}\n");
        let length = line.len() as u64;
        let Rotation { bytes, .. } = self.rotation;
        if bytes != 0 && self.open.length != 0 && self.open.length + length > bytes {
            self.rotate()?;
            self.open = begin(&self.path)?;
        }
        let written = self.open.file.write_all(line.as_bytes());
        self.open.torn = written.is_err();
        written.map_err(|source| failed("write", &self.path, source))?;
        self.open.length += length;
        Ok(())
    }

    /// Begins the file anew after another program moved it away (SIGHUP).
    pub fn reopen(&mut self) -> Result<(), LogError> {
        self.open = begin(&self.path)?;
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
        Ok(Open { file, length, torn: false })
    };
    open().map_err(|source| failed("open", path, source))
}

fn failed(operation: &'static str, path: &Path, source: std::io::Error) -> LogError {
    LogError { operation, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    const NEVER: Rotation = Rotation { bytes: 0, files: 0 };

    fn lines(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path).unwrap_or_default().lines().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn a_full_file_makes_room_and_the_oldest_goes() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("audit.log");
        let mut log = Log::open(&path, Rotation { bytes: 8, files: 2 }).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        for number in 0..9 {
            log.write(&(1000 + number).to_string()).unwrap();
        }
        let numbered = |number: usize| lines(&place.path().join(format!("audit.log.{number}")));
        assert_eq!(lines(&path), ["1008"]);
        assert_eq!((numbered(1), numbered(2)), (vec!["1007".to_owned()], vec!["1006".to_owned()]));
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 3);
        let wide = "\"longer than a file may be\"";
        log.write(wide).unwrap();
        assert_eq!(lines(&path), [wide], "a line is never cut");
    }

    #[test]
    fn a_line_that_a_death_cut_short_does_not_spoil_the_next() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("audit.log");
        std::fs::write(&path, "{\"half\": ").unwrap();
        let mut log = Log::open(&path, NEVER).unwrap();
        log.write("{\"whole\":1}").unwrap();
        assert_eq!(lines(&path), ["{\"half\": ", "{\"whole\":1}"]);
        std::fs::rename(&path, place.path().join("moved")).unwrap();
        log.write("2").unwrap();
        log.reopen().unwrap();
        log.write("3").unwrap();
        assert_eq!(lines(&place.path().join("moved")).len(), 3);
        assert_eq!(lines(&path), ["3"]);
    }

    #[test]
    fn a_line_that_a_full_disk_cut_short_does_not_spoil_the_next() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("audit.log");
        let mut log = Log::open(&path, NEVER).unwrap();
        let (file, full) =
            (log.open.file.try_clone().unwrap(), OpenOptions::new().write(true).open("/dev/full"));
        log.open.file = full.unwrap();
        let error = log.write("{}").unwrap_err().to_string();
        assert!(error.contains("No space left"), "{error}");
        // what got there of it
        std::fs::write(&path, "{\"ha").unwrap();
        log.open.file = file;
        log.write("{\"whole\":1}").unwrap();
        log.write("2").unwrap();
        assert_eq!(lines(&path), ["{\"ha", "{\"whole\":1}", "2"]);
    }
}
