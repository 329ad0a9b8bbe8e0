//! The log file: rotated by size, and never in the container's way.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The kubelet's defaults (`containerLogMaxSize`, `containerLogMaxFiles`).
const MAX_SIZE: u64 = 10 << 20;
const MAX_FILES: usize = 5;

/// A log that takes what it can. When the disk is full records are dropped rather than the container stopped.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    limit: u64,
    dropped: u64,
}

impl LogFile {
    /// Opens or makes the file with its folders. What fails is tried again at the next record.
    pub fn open(path: &Path) -> Self {
        let mut log =
            Self { path: path.to_owned(), file: None, size: 0, limit: MAX_SIZE, dropped: 0 };
        log.reopen();
        log
    }

    fn reopen(&mut self) {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).ok();
        }
        self.file = OpenOptions::new().create(true).append(true).open(&self.path).ok();
        self.size =
            self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.len());
    }

    /// Appends complete records.
    pub fn append(&mut self, records: &[u8]) {
        if records.is_empty() {
            return;
        }
        if self.file.is_none() {
            self.reopen();
        }
        if self.size > 0 && self.size + records.len() as u64 > self.limit {
            self.rotate();
        }
        let Some(file) = &mut self.file else {
            self.dropped += records.len() as u64;
            return;
        };
        if file.write_all(records).is_ok() {
            self.size += records.len() as u64;
        } else {
            self.dropped += records.len() as u64;
            self.file = None;
        }
    }

    /// `0.log` becomes `0.log.<time>`; the oldest beyond the limit goes.
    fn rotate(&mut self) {
        let stamp = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S-%9f");
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        fs::rename(&self.path, self.path.with_file_name(format!("{name}.{stamp}"))).ok();
        self.reopen();
        let prefix = format!("{name}.");
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut old: Vec<_> = entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .map(|entry| entry.path())
            .collect();
        old.sort();
        let keep = MAX_FILES - 1;
        for path in old.iter().rev().skip(keep) {
            fs::remove_file(path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_rotated_and_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let mut log = LogFile::open(&path);
        log.limit = 100;
        for _ in 0..40 {
            log.append(&[b'x'; 60]);
        }
        let count = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!((count, fs::metadata(&path).unwrap().len()), (MAX_FILES, 60));
    }

    #[test]
    fn a_place_that_cannot_be_written_drops_and_recovers() {
        let directory = tempfile::tempdir().unwrap();
        let blocker = directory.path().join("folder");
        fs::write(&blocker, "a file where a folder should be").unwrap();
        let path = blocker.join("0.log");
        let mut log = LogFile::open(&path);
        log.append(b"lost\n");
        assert_eq!(log.dropped, 5);
        fs::remove_file(&blocker).unwrap();
        log.append(b"kept\n");
        assert_eq!(fs::read_to_string(path).unwrap(), "kept\n");
    }
}
