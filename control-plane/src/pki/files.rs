//! The directory of keys and certificates: whole files or none, and nobody else reads a key.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::PkiError;

/// Who may read a private key beside its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Nobody: the keys that we make.
    Owner,
    /// A group: keys that another program provides, such as `0640 root:ssl-cert`.
    Group,
}

impl Exposure {
    const fn forbidden(self) -> u32 {
        match self {
            Self::Owner => 0o077,
            Self::Group => 0o037,
        }
    }
}

/// A directory of ours, mode 0700.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
}

/// Tells apart what one process writes at the same time.
static WRITES: AtomicU64 = AtomicU64::new(0);

impl Directory {
    /// Makes it when it is not there, and removes what writers that died left behind.
    pub fn open(path: &Path) -> Result<Self, PkiError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|source| failed("make the directory", path, source))?;
        let directory = Self { path: path.to_owned() };
        directory.sweep()?;
        Ok(directory)
    }

    /// Where a file of it is.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What a file of it holds; `None` when it does not exist.
    pub fn read(&self, name: &str) -> Result<Option<String>, PkiError> {
        read(&self.file(name))
    }

    /// As [`Directory::read`] for a private key, which must not be readable by others.
    pub fn read_key(&self, name: &str) -> Result<Option<String>, PkiError> {
        read_key(&self.file(name), Exposure::Owner)
    }

    /// Writes a file that is not there yet and answers with what it holds then: what somebody else wrote first wins.
    pub fn create(&self, name: &str, text: &str, mode: u32) -> Result<String, PkiError> {
        let (target, written) = (self.file(name), self.written(name, text, mode)?);
        let linked = std::fs::hard_link(&written, &target);
        remove(&written)?;
        match linked {
            Ok(()) => self.sync().map(|()| text.to_owned()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Ok(read(&target)?.unwrap_or_default())
            }
            Err(source) => Err(failed("write", &target, source)),
        }
    }

    /// Puts a new file in the place of an old one, at once.
    pub fn replace(&self, name: &str, text: &str, mode: u32) -> Result<(), PkiError> {
        let (target, written) = (self.file(name), self.written(name, text, mode)?);
        std::fs::rename(&written, &target).map_err(|source| failed("write", &target, source))?;
        self.sync()
    }

    /// The names that begin and end so, in order.
    pub fn names(&self, begin: &str, end: &str) -> Result<Vec<String>, PkiError> {
        let fail = |source| failed("list", &self.path, source);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name().to_string_lossy().into_owned();
            if name.starts_with(begin) && name.ends_with(end) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// A durable file under a name that nobody reads, with this process' number in it.
    fn written(&self, name: &str, text: &str, mode: u32) -> Result<PathBuf, PkiError> {
        let count = WRITES.fetch_add(1, Ordering::Relaxed);
        let path = self.file(&format!(".{name}.{}-{count}.new", std::process::id()));
        let write = || {
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|source| failed("write", &path, source))?;
        Ok(path)
    }

    fn sync(&self) -> Result<(), PkiError> {
        let synced = File::open(&self.path).and_then(|directory| directory.sync_all());
        synced.map_err(|source| failed("sync", &self.path, source))
    }

    /// Removes what processes that are no more were writing.
    fn sweep(&self) -> Result<(), PkiError> {
        for name in self.names(".", ".new")? {
            let writer = name.rsplit('.').nth(1).and_then(|part| part.split('-').next());
            let pid = writer.and_then(|text| text.parse::<u32>().ok());
            let alive = pid.is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists());
            if !alive {
                remove(&self.file(&name))?;
            }
        }
        Ok(())
    }
}

/// What a file holds; `None` when it does not exist.
pub(super) fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed("read", path, source)),
    }
}

/// What a private key's file holds, when only those may read it who should.
pub(super) fn read_key(path: &Path, exposure: Exposure) -> Result<Option<String>, PkiError> {
    let Some(text) = read(path)? else { return Ok(None) };
    let metadata = std::fs::metadata(path).map_err(|source| failed("look at", path, source))?;
    let mode = metadata.mode() & 0o7777;
    match mode & exposure.forbidden() {
        0 => Ok(Some(text)),
        _ => Err(PkiError::Exposed { path: path.to_owned(), mode }),
    }
}

fn remove(path: &Path) -> Result<(), PkiError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path, error)),
        _ => Ok(()),
    }
}

fn failed(operation: &'static str, path: &Path, source: std::io::Error) -> PkiError {
    PkiError::File { operation, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn the_first_writer_wins_and_nothing_is_left_over() {
        let place = tempfile::tempdir().unwrap();
        let directory = Directory::open(&place.path().join("a/pki")).unwrap();
        assert_eq!(mode(&directory.file("")), 0o700);
        let writers: Vec<_> = (0..8)
            .map(|number| {
                let directory = directory.clone();
                std::thread::spawn(move || {
                    directory.create("ca.key", &format!("key {number}"), 0o600).unwrap()
                })
            })
            .collect();
        let seen: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        let held = directory.read_key("ca.key").unwrap().unwrap();
        assert!(seen.iter().all(|text| *text == held), "{seen:?} {held}");
        assert_eq!(mode(&directory.file("ca.key")), 0o600);
        assert_eq!(std::fs::read_dir(directory.file("")).unwrap().count(), 1);
    }

    #[test]
    fn what_the_dead_left_is_swept_and_what_the_living_write_is_not() {
        let place = tempfile::tempdir().unwrap();
        let living = format!(".ca.crt.{}-7.new", std::process::id());
        for name in [".ca.key.4194999-0.new", ".half..new", &living, "notes.new"] {
            std::fs::write(place.path().join(name), "x").unwrap();
        }
        let directory = Directory::open(place.path()).unwrap();
        assert_eq!(directory.names("", "").unwrap(), [living.as_str(), "notes.new"]);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("tls.key");
        std::fs::write(&path, "secret").unwrap();
        let cases = [(0o600, true, true), (0o640, false, true), (0o644, false, false)];
        for (mode, owner, group) in cases {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_key(&path, Exposure::Owner).is_ok(), owner, "{mode:o}");
            assert_eq!(read_key(&path, Exposure::Group).is_ok(), group, "{mode:o}");
        }
        let refused = read_key(&path, Exposure::Group).unwrap_err().to_string();
        assert!(
            refused.contains("can be read by others (mode 0644); run `chmod 600`"),
            "{refused}"
        );
    }
}
