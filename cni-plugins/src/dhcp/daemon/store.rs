//! The files of leases: one for each, named after the attachment's hash. They appear and change in one go.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cni::{Error, ErrorCode};
use data_encoding::HEXLOWER;
use netns_tools::NetnsId;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::log;
use crate::dhcp::lease::Lease;
use crate::dhcp::rpc::{Allocate, Attachment};

const SUFFIX: &str = ".json";

/// What a lease needs to be gone on with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What was asked for.
    pub allocate: Allocate,
    /// The namespace, by device and inode number: another one may get its name.
    pub namespace: (u64, u64),
    /// The interface's index.
    pub index: u32,
    /// The interface was down before.
    pub was_down: bool,
    /// The lease.
    pub lease: Lease,
}

/// Device and inode number of a namespace.
pub fn numbers(id: NetnsId) -> (u64, u64) {
    (id.dev, id.ino)
}

/// A folder of records, locked: two daemons must not look after the same leases.
pub struct Store {
    folder: PathBuf,
    _lock: Flock<File>,
}

impl Store {
    /// Opens the folder, and makes it first if needed.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let failed = |why: String| {
            let msg = format!("cannot keep leases in {}", folder.display());
            Error::new(ErrorCode::Io, msg).with_details(why)
        };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| failed(error.to_string()))?;
        let file =
            OpenOptions::new().create(true).append(true).mode(0o600).open(folder.join("lock"));
        let file = file.map_err(|error| failed(error.to_string()))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
            failed(format!("{errno}: another daemon has it; stop that, or use another --statedir"))
        })?;
        Ok(Self { folder: folder.to_owned(), _lock: lock })
    }

    /// Every record that can be read; what cannot is told and removed.
    pub fn load(&self) -> Vec<Record> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        paths.filter_map(|path| self.load_one(&path)).collect()
    }

    fn load_one(&self, path: &Path) -> Option<Record> {
        let name = path.file_name()?.to_string_lossy().into_owned();
        if name == "lock" {
            return None;
        }
        let read = fs::read(path).map_err(|error| error.to_string());
        let record = read.and_then(|bytes| {
            serde_json::from_slice::<Record>(&bytes).map_err(|error| error.to_string())
        });
        match record {
            Ok(record) if self.path(&record.allocate.attachment) == path => Some(record),
            // Half-written by a daemon that died.
            _ if !name.ends_with(SUFFIX) => {
                let _ = fs::remove_file(path);
                None
            }
            Ok(_) => {
                log(&format!("{} is under a wrong name and is left alone", path.display()));
                None
            }
            Err(error) => {
                log(&format!("{} is no lease ({error}) and is left alone", path.display()));
                None
            }
        }
    }

    /// Writes a record; the one before is there until the new one is.
    pub fn save(&self, record: &Record) -> io::Result<()> {
        let path = self.path(&record.allocate.attachment);
        let new = path.with_extension("new");
        let bytes = serde_json::to_vec(record)?;
        // Nothing is synced: a lease matters only as long as this run of the machine.
        fs::write(&new, bytes)?;
        fs::rename(&new, &path)
    }

    /// Removes a record if there is one.
    pub fn remove(&self, attachment: &Attachment) -> io::Result<()> {
        match fs::remove_file(self.path(attachment)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn path(&self, attachment: &Attachment) -> PathBuf {
        let hash = Sha256::digest(attachment.to_string());
        self.folder.join(format!("{}{SUFFIX}", HEXLOWER.encode(&hash[..16])))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    fn record(container: &str) -> Record {
        serde_json::from_value(json!({
            "allocate": {
                "attachment": { "container": container, "network": "net", "ifname": "eth0" },
                "netns": "/run/netns/x", "provide": { "12": "6162" }, "request": [1, 3],
            },
            "namespace": [4, 4_026_531_840_u64], "index": 7, "was_down": true,
            "lease": {
                "address": "10.0.0.5", "server": "10.0.0.1", "via": "02:00:00:00:00:01", "options": {},
                "times": { "renew": 1, "rebind": 2, "end": 3 },
            },
        }))
        .unwrap()
    }

    #[test]
    fn what_is_saved_can_be_loaded() {
        let folder = TempDir::new().unwrap();
        let store = Store::open(&folder.path().join("a/b")).unwrap();
        let [mut one, other] = [record("c1"), record("c2")];
        store.save(&one).unwrap();
        store.save(&other).unwrap();
        one.index = 8;
        store.save(&one).unwrap();
        let mut loaded = store.load();
        loaded.sort_by_key(|record| record.allocate.attachment.clone());
        assert_eq!(loaded, [one, other.clone()]);
        for _ in 0..2 {
            store.remove(&record("c1").allocate.attachment).unwrap();
        }
        assert_eq!(store.load(), [other]);
    }

    #[test]
    fn damaged_files_harm_nobody() {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.save(&record("c1")).unwrap();
        let half = folder.path().join("0123.new");
        fs::write(&half, "{").unwrap();
        fs::write(folder.path().join("4567.json"), "{}").unwrap();
        fs::write(folder.path().join("89ab.json"), serde_json::to_vec(&record("c9")).unwrap())
            .unwrap();
        assert_eq!(store.load(), [record("c1")]);
        assert!(!half.exists());
    }

    #[test]
    fn one_daemon_only() {
        let folder = TempDir::new().unwrap();
        let first = Store::open(folder.path()).unwrap();
        let error = Store::open(folder.path()).map(drop).unwrap_err();
        assert!(error.details.contains("another daemon"), "{error}");
        drop(first);
        assert!(Store::open(folder.path()).is_ok());
    }
}
