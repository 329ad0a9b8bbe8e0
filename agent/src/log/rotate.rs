//! The log file: rotated by size, and never in the container's way.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The kubelet's defaults (`containerLogMaxSize`, `containerLogMaxFiles`).
const MAX_SIZE: u64 = 10 << 20;
const MAX_FILES: usize = 5;

/// A log that takes what it can. When the disk is full records are dropped rather than the container stopped, and the first
/// record that can be written again is preceded by one that says how much is missing.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    limit: u64,
    dropped: u64,
    failure: String,
}

impl LogFile {
    /// Opens or makes the file with its folders. What fails is tried again at the next record.
    pub fn open(path: &Path) -> Self {
        let mut log = Self {
            path: path.to_owned(),
            file: None,
            size: 0,
            limit: MAX_SIZE,
            dropped: 0,
            failure: String::new(),
        };
        if let Err(error) = log.reopen() {
            log.failure = error.to_string();
        }
        log
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.file = None;
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Appends complete records.
    pub fn append(&mut self, records: &[u8]) {
        if records.is_empty() {
            return;
        }
        let written = if self.dropped == 0 {
            self.try_append(records)
        } else {
            self.try_append(&[self.notice().as_bytes(), records].concat())
        };
        match written {
            Ok(()) => self.dropped = 0,
            Err(error) => {
                self.dropped += records.len() as u64;
                self.failure = error.to_string();
            }
        }
    }

    fn try_append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            self.reopen()?;
        }
        if self.size > 0 && self.size + bytes.len() as u64 > self.limit {
            self.rotate()?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let written = file.write_all(bytes);
        if written.is_ok() {
            self.size += bytes.len() as u64;
        } else {
            // half a record would spoil the next one, too
            file.set_len(self.size).ok();
            self.file = None;
        }
        written
    }

    fn notice(&self) -> String {
        let time = jiff::Timestamp::now();
        let Self { dropped, failure, .. } = self;
        format!(
            "{time:.9} stderr F heddle-agent: {dropped} bytes of this log are missing here: {failure}\n"
        )
    }

    /// `0.log` becomes `0.log.<time>`; the oldest beyond the limit goes.
    fn rotate(&mut self) -> io::Result<()> {
        let stamp = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S-%9f");
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        fs::rename(&self.path, self.path.with_file_name(format!("{name}.{stamp}"))).ok();
        self.reopen()?;
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
        Ok(())
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
        let text = fs::read_to_string(path).unwrap();
        let (notice, kept) = text.split_once('\n').unwrap();
        assert!(
            notice.contains(" stderr F heddle-agent: 5 bytes of this log are missing here: "),
            "{notice}"
        );
        assert_eq!(kept, "kept\n");
        log.append(b"on\n");
        assert!(fs::read_to_string(&log.path).unwrap().ends_with("kept\non\n"));
    }

    #[test]
    fn a_full_disk_leaves_no_half_records() {
        // mounts of a thread with a mount namespace of its own go with the thread
        let thread = std::thread::spawn(|| {
            use nix::mount::{MsFlags, mount};
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("the test needs root");
            mount(
                None::<&str>,
                "/",
                None::<&str>,
                MsFlags::MS_REC | MsFlags::MS_PRIVATE,
                None::<&str>,
            )
            .unwrap();
            let folder = tempfile::tempdir().unwrap();
            mount(Some("tmpfs"), folder.path(), Some("tmpfs"), MsFlags::empty(), Some("size=64k"))
                .unwrap();
            let path = folder.path().join("0.log");
            let mut log = LogFile::open(&path);
            let record = [vec![b'x'; 999], vec![b'\n']].concat();
            for _ in 0..200 {
                log.append(&record);
            }
            assert!(log.dropped > 100_000, "{log:?}");
            let full = fs::read_to_string(&path).unwrap();
            assert!(full.lines().all(|line| line.len() == 999), "half a record stays");
            mount(None::<&str>, folder.path(), None::<&str>, MsFlags::MS_REMOUNT, Some("size=1m"))
                .unwrap();
            log.append(&record);
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains("missing here: No space left on device"), "{text}");
            assert_eq!(
                text.lines().filter(|line| line.len() == 999).count(),
                full.lines().count() + 1
            );
            drop(log);
            nix::mount::umount(folder.path()).unwrap();
        });
        thread.join().unwrap();
    }
}
