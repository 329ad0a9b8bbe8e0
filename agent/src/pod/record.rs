//! What is on disk of a pod: written before its first side effect, removed after its last.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::machine::Exit;
use crate::runtime::PodRef;

/// A pod's record: enough to remove all that it has, whatever became of its manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// Uid of the pod.
    pub uid: String,
    /// The boot in which its sandbox was made: after another one nothing of the sandbox is left in the kernel.
    pub boot_id: String,
    /// Seconds between SIGTERM and SIGKILL.
    pub grace_seconds: u64,
    /// Containers, by name, that are not to be started again.
    #[serde(default)]
    pub progress: BTreeMap<String, Progress>,
}

/// How far a container came that is not to be started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Which of its name.
    pub attempt: u32,
    /// How it ended. `None`: it was started.
    pub exit: Option<Exit>,
}

impl Record {
    /// The record of a pod none of whose containers has ended yet.
    pub fn new(pod: &PodRef, boot_id: &str, grace_seconds: u64) -> Self {
        let PodRef { namespace, name, uid } = pod.clone();
        Self {
            namespace,
            name,
            uid,
            boot_id: boot_id.to_owned(),
            grace_seconds,
            progress: BTreeMap::new(),
        }
    }

    /// The pod.
    pub fn pod(&self) -> PodRef {
        PodRef { namespace: self.namespace.clone(), name: self.name.clone(), uid: self.uid.clone() }
    }
}

/// The folder of records.
#[derive(Clone, Debug)]
pub struct Records {
    folder: PathBuf,
}

impl Records {
    /// Records below the agent's state folder.
    pub fn new(state: &Path) -> Self {
        Self { folder: state.join("pods") }
    }

    /// The folder of one pod, which also holds its `/etc` files.
    pub fn folder(&self, uid: &str) -> PathBuf {
        self.folder.join(uid)
    }

    /// The folder of one pod's `/etc` files.
    pub fn etc(&self, uid: &str) -> PathBuf {
        self.folder(uid).join("etc")
    }

    /// Writes a record; it is on disk when this returns.
    pub fn write(&self, record: &Record) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(record)?;
        write_durably(&self.folder(&record.uid).join("record.json"), &text)
    }

    /// The record of one pod. `None` also for one that cannot be read: it is written anew.
    pub fn read(&self, uid: &str) -> Option<Record> {
        parse(&fs::read(self.folder(uid).join("record.json")).ok()?, uid).ok()
    }

    /// All records, and the folders whose record cannot be read with the reason.
    pub fn all(&self) -> (Vec<Record>, Vec<(PathBuf, String)>) {
        let (mut records, mut broken) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path().join("record.json");
            match fs::read(&path)
                .map_err(|e| e.to_string())
                .and_then(|text| parse(&text, &entry.file_name().to_string_lossy()))
            {
                Ok(record) => records.push(record),
                Err(reason) => broken.push((entry.path(), reason)),
            }
        }
        records.sort_by(|a, b| a.uid.cmp(&b.uid));
        (records, broken)
    }

    /// Removes a pod's folder. Idempotent.
    pub fn remove(&self, uid: &str) -> io::Result<()> {
        match fs::remove_dir_all(self.folder(uid)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn parse(text: &[u8], folder: &str) -> Result<Record, String> {
    let record: Record = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    // the uid becomes part of paths and names
    if record.uid != folder || !cni::args::is_identifier(&record.uid) {
        return Err(format!("it names pod {:?}", record.uid));
    }
    Ok(record)
}

/// Replaces a file so that it is there complete or as it was, also after a power cut. Only its owner may read it: it can
/// hold what manifests hold.
pub fn write_durably(path: &Path, text: &[u8]) -> io::Result<()> {
    replace(path, text, 0o600)
}

/// The same for a file that everybody may read, as users in containers must.
pub fn write_shared(path: &Path, text: &[u8]) -> io::Result<()> {
    replace(path, text, 0o644)
}

fn replace(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("the path has no folder"))?;
    if !folder.exists() {
        fs::create_dir_all(folder)?;
        // a folder is on disk when the one above says so
        fs::File::open(folder.parent().unwrap_or(folder))?.sync_all()?;
    }
    let temporary = path.with_extension("tmp");
    let mut file = fs::File::create(&temporary)?;
    // not by the umask, which may be anything
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    fs::File::open(folder)?.sync_all()
}

/// The kernel's identity of this boot (random(4)).
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_broken_ones_are_told() {
        let state = tempfile::tempdir().unwrap();
        let records = Records::new(state.path());
        let record = Record {
            namespace: "default".into(),
            name: "web".into(),
            uid: "u1".into(),
            boot_id: boot_id().unwrap(),
            grace_seconds: 3,
            progress: BTreeMap::from([(
                "c".to_owned(),
                Progress { attempt: 1, exit: Some(Exit { code: 2, oom: false }) },
            )]),
        };
        records.write(&record).unwrap();
        fs::create_dir_all(records.folder("half")).unwrap();
        fs::write(records.folder("half").join("record.json"), "{\"uid\":").unwrap();
        write_durably(
            &records.folder("evil").join("record.json"),
            &serde_json::to_vec(&record).unwrap(),
        )
        .unwrap();
        let (good, broken) = records.all();
        assert_eq!(good, [record]);
        assert_eq!(broken.len(), 2);
        records.remove("u1").unwrap();
        records.remove("u1").unwrap();
        assert!(records.all().0.is_empty());
    }
}
