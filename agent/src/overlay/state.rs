//! What the overlay must know after a restart, before any API server answers: below `<paths.state>/overlay/`.
//!
//! Each file is complete or as it was before, whenever the process or the machine dies. One that is broken, or another node's, is told
//! and left out: what it held comes again from the API.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use conf::lease::{Lease, LeaseError};
use netns_tools::MacAddr;
use netns_tools::cause::one_line;
use serde::{Deserialize, Serialize};

use super::node::NodeRecord;
use crate::pod::record::write_durably;

/// The form of the file of nodes. Another one is not read.
const VERSION: u32 = 1;
/// Ten thousand nodes take 5 MB.
const MOST_BYTES: u64 = 64 << 20;

/// The folder.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    node: String,
}

/// A file that cannot be written or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
pub struct StateError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// What was kept, and what of it cannot be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The Ethernet address of the VXLAN devices.
    pub mac: Option<MacAddr>,
    /// This node's part of the pods' addresses.
    pub lease: Option<Lease>,
    /// All nodes, as they were known last.
    pub nodes: Vec<NodeRecord>,
    /// Files that were left out, and why.
    pub problems: Vec<String>,
}

/// The file of nodes.
#[derive(Debug, Serialize, Deserialize)]
struct Nodes<T> {
    version: u32,
    /// Whose state this is: a disk may be cloned.
    node: String,
    #[serde(rename = "nodes")]
    all: T,
}

/// The file of the Ethernet address.
#[derive(Debug, Serialize, Deserialize)]
struct Mac {
    node: String,
    mac: MacAddr,
}

impl Store {
    /// Of the node of that name, below the agent's state folder. Nothing is read or written yet.
    pub fn new(state: &Path, node: &str) -> Self {
        Self { folder: state.join("overlay"), node: node.to_owned() }
    }

    /// Where the lease is kept.
    pub fn lease_file(&self) -> PathBuf {
        self.folder.join("subnet.env")
    }

    fn mac_file(&self) -> PathBuf {
        self.folder.join("mac.json")
    }

    fn nodes_file(&self) -> PathBuf {
        self.folder.join("nodes.json")
    }

    /// Reads everything.
    pub fn load(&self) -> Kept {
        let mut problems = Vec::new();
        let mac = read::<Mac>(&self.mac_file(), &mut problems);
        let nodes = read::<Nodes<Vec<NodeRecord>>>(&self.nodes_file(), &mut problems);
        let lease = match Lease::read(&self.lease_file()) {
            Ok(lease) => Some(lease),
            Err(LeaseError::Missing(_)) => None,
            Err(error) => {
                problems.push(format!("the kept lease is left out: {}", one_line(&error)));
                None
            }
        };
        let mut foreign = |path: PathBuf, node: &str| {
            let ours = node == self.node;
            if !ours {
                problems.push(format!(
                    "{} is left out: it is of node {node:?}, and this one is {:?}; was the disk cloned?",
                    path.display(),
                    self.node
                ));
            }
            ours
        };
        let mac = mac.filter(|mac| foreign(self.mac_file(), &mac.node));
        let nodes = nodes.filter(|nodes| foreign(self.nodes_file(), &nodes.node));
        let known = |nodes: &Nodes<Vec<NodeRecord>>| nodes.version == VERSION;
        Kept {
            mac: mac.map(|mac| mac.mac).filter(|mac| mac.is_unicast()),
            lease,
            nodes: nodes.filter(known).map(|nodes| nodes.all).unwrap_or_default(),
            problems,
        }
    }

    /// Keeps the Ethernet address.
    pub fn keep_mac(&self, mac: MacAddr) -> Result<(), StateError> {
        write(&self.mac_file(), &Mac { node: self.node.clone(), mac })
    }

    /// The file of all nodes, for [`Store::keep_nodes`].
    pub fn nodes_text(&self, nodes: &[&NodeRecord]) -> Option<Vec<u8>> {
        let file = Nodes { version: VERSION, node: self.node.clone(), all: nodes };
        serde_json::to_vec(&file).ok()
    }

    /// Keeps all nodes, which [`Store::nodes_text`] made a file of.
    pub fn keep_nodes(&self, text: &[u8]) -> Result<(), StateError> {
        put(&self.nodes_file(), text)
    }

    /// Removes everything; the files that were there.
    pub fn clear(&self) -> Result<Vec<PathBuf>, StateError> {
        let mut removed = Vec::new();
        for path in [self.lease_file(), self.mac_file(), self.nodes_file()] {
            if remove(&path)? {
                removed.push(path);
            }
        }
        // it stays if somebody put something of their own in it
        fs::remove_dir(&self.folder).ok();
        Ok(removed)
    }
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path, problems: &mut Vec<String>) -> Option<T> {
    let mut problem = |reason: String| {
        problems.push(format!("{} is left out: {reason}", path.display()));
        None
    };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return problem(error.to_string()),
        Ok(meta) if !meta.is_file() || meta.len() > MOST_BYTES => {
            return problem("it is no file that this program wrote".to_owned());
        }
        Ok(_) => {}
    }
    match fs::read(path) {
        Ok(text) => match serde_json::from_slice(&text) {
            Ok(value) => Some(value),
            Err(error) => problem(format!("it is not what this program writes: {error}")),
        },
        Err(error) => problem(error.to_string()),
    }
}

fn write(path: &Path, value: &impl Serialize) -> Result<(), StateError> {
    put(path, &serde_json::to_vec(value).unwrap_or_default())
}

fn put(path: &Path, text: &[u8]) -> Result<(), StateError> {
    write_durably(path, text).map_err(|source| StateError {
        operation: "write",
        path: path.to_owned(),
        source,
    })
}

/// Removes a file; whether it was there.
pub fn remove(path: &Path) -> Result<bool, StateError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(StateError { operation: "remove", path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str) -> NodeRecord {
        let pod_cidrs = vec!["10.244.1.0/24".parse().unwrap()];
        NodeRecord { name: name.into(), pod_cidrs, created: Some(7), ..NodeRecord::default() }
    }

    fn lease() -> Lease {
        let nets = ["10.244.0.0/16", "10.244.1.0/24"].map(|net| net.parse().unwrap());
        Lease::new([nets[0]], [nets[1]], 1450, true).unwrap()
    }

    #[test]
    fn what_was_kept_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), "a");
        assert_eq!(store.load(), Kept::default());
        let mac = MacAddr([2, 1, 2, 3, 4, 5]);
        store.keep_mac(mac).unwrap();
        store.keep_nodes(&store.nodes_text(&[&record("a"), &record("b")]).unwrap()).unwrap();
        lease().write(&store.lease_file()).unwrap();
        let want = Kept {
            mac: Some(mac),
            lease: Some(lease()),
            nodes: vec![record("a"), record("b")],
            problems: Vec::new(),
        };
        assert_eq!(store.load(), want);
        assert_eq!(store.clear().unwrap().len(), 3);
        assert_eq!((store.load(), store.clear().unwrap().len()), (Kept::default(), 0));
        assert!(!folder.path().join("overlay").exists());
    }

    #[test]
    fn what_is_broken_or_anothers_is_told_and_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let (store, other) = (Store::new(folder.path(), "a"), Store::new(folder.path(), "b"));
        store.keep_mac(MacAddr([2, 0, 0, 0, 0, 1])).unwrap();
        store.keep_nodes(&store.nodes_text(&[&record("a")]).unwrap()).unwrap();
        let kept = other.load();
        assert_eq!((kept.mac, kept.nodes.len(), kept.problems.len()), (None, 0, 2), "{kept:?}");
        assert!(kept.problems[0].contains("it is of node \"a\", and this one is \"b\""));

        for text in ["", "{", "{\"version\":1}", "[]", "\0\0"] {
            for path in [store.mac_file(), store.nodes_file(), store.lease_file()] {
                fs::write(path, text).unwrap();
            }
            let kept = store.load();
            let nothing = (kept.mac, kept.lease, kept.nodes.len());
            assert_eq!(nothing, (None, None, 0), "{text:?}");
            assert_eq!(kept.problems.len(), 3, "{text:?}: {:?}", kept.problems);
        }
        fs::remove_file(store.mac_file()).unwrap();
        fs::create_dir(store.mac_file()).unwrap();
        assert!(store.load().problems[0].contains("mac.json is left out: it is no file"));
        assert!(store.keep_mac(MacAddr([2, 0, 0, 0, 0, 1])).is_err(), "and nothing hangs or dies");
    }

    #[test]
    fn a_later_version_is_not_guessed_at() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), "a");
        store.keep_nodes(&store.nodes_text(&[&record("a")]).unwrap()).unwrap();
        let text = fs::read_to_string(store.nodes_file()).unwrap();
        fs::write(store.nodes_file(), text.replace("\"version\":1", "\"version\":2")).unwrap();
        assert_eq!(store.load(), Kept::default());
    }
}
