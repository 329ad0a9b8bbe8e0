//! Looking at every namespace of the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Overview, Snapshot, resolve};
use crate::cause::one_line;
use crate::netlink::Netlink;
use crate::netns::{self, NetNs, NetnsError, NetnsId};

/// A pinned namespace, counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its name under `/run/netns`.
    pub name: String,
    /// Its path.
    pub path: String,
    /// Its inode number.
    pub id: u64,
    /// How many links it has, `lo` included.
    pub links: usize,
    /// The processes in it, by their main thread.
    pub processes: Vec<u32>,
}

/// The pinned namespaces, ordered by name. One that goes meanwhile is left out.
pub fn entries() -> Result<Vec<Entry>, Box<dyn Error>> {
    let processes = processes();
    let mut entries = Vec::new();
    for named in netns::list()? {
        let ns = match NetNs::open(&named.path) {
            Ok(ns) => ns,
            Err(NetnsError::NotFound { .. } | NetnsError::NotANamespace { .. }) => continue,
            Err(e) => return Err(e.into()),
        };
        entries.push(Entry {
            name: named.name,
            path: named.path.display().to_string(),
            id: ns.id().ino,
            links: Netlink::open_in(&ns)?.links()?.len(),
            processes: processes.get(&ns.id()).cloned().unwrap_or_default(),
        });
    }
    Ok(entries)
}

/// The processes of each namespace. A process that ends meanwhile, or that we may not look at, is left out.
pub fn processes() -> BTreeMap<NetnsId, Vec<u32>> {
    let mut found: BTreeMap<NetnsId, Vec<u32>> = BTreeMap::new();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for entry in entries {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Ok(id) = NetnsId::of_path(entry.path().join("ns/net")) {
            found.entry(id).or_default().push(pid);
        }
    }
    for pids in found.values_mut() {
        pids.sort_unstable();
    }
    found
}

/// Looks at the host's namespace, the pinned ones, those that only processes hold, and `also`. What cannot be looked at
/// is told in [`Overview::errors`]; what is gone meanwhile is left out.
pub fn survey(also: Option<&NetNs>) -> Overview {
    let mut survey = Survey::default();
    survey.find(also);
    let known: Vec<_> = survey.open.iter().map(|(_, ns)| ns).collect();
    let mut snapshots = Vec::new();
    for (name, ns) in &survey.open {
        match snapshot(name, ns, &known) {
            Ok(snapshot) => snapshots.push(snapshot),
            Err(e) => {
                survey.errors.push(sentence(name, &*e));
                // Positions in `known` must stay those of the snapshots.
                snapshots.push(empty(name, ns));
            }
        }
    }
    Overview { namespaces: resolve(&snapshots), errors: survey.errors }
}

#[derive(Default)]
struct Survey {
    open: Vec<(String, NetNs)>,
    seen: BTreeSet<NetnsId>,
    errors: Vec<String>,
}

impl Survey {
    fn find(&mut self, also: Option<&NetNs>) {
        // Process 1's is the host's; in a container it is the container's, which is its inhabitants' host.
        let host =
            ["/proc/1/ns/net", "/proc/self/ns/net"].into_iter().find_map(|p| NetNs::open(p).ok());
        match host {
            Some(ns) => self.add("host".into(), ns),
            None => self.errors.push("cannot find the host's network namespace in /proc".into()),
        }
        match netns::list() {
            Ok(list) => list.into_iter().for_each(|named| self.open(named.name, &named.path)),
            Err(e) => self.errors.push(sentence("named namespaces", &e)),
        }
        for (id, pids) in processes() {
            if let Some(pid) = pids.first().filter(|_| !self.seen.contains(&id)) {
                self.open(format!("pid:{pid}"), &PathBuf::from(format!("/proc/{pid}/ns/net")));
            }
        }
        if let Some(ns) = also.filter(|ns| !self.seen.contains(&ns.id())) {
            self.open(ns.path().display().to_string(), ns.path());
        }
    }

    fn open(&mut self, name: String, path: &Path) {
        match NetNs::open(path) {
            Ok(ns) => self.add(name, ns),
            Err(NetnsError::NotFound { .. } | NetnsError::NotANamespace { .. }) => {}
            Err(e) => self.errors.push(sentence(&name, &e)),
        }
    }

    fn add(&mut self, name: String, ns: NetNs) {
        if self.seen.insert(ns.id()) {
            self.open.push((name, ns));
        }
    }
}

fn snapshot(name: &str, ns: &NetNs, all: &[&NetNs]) -> Result<Snapshot, Box<dyn Error>> {
    let mut netlink = Netlink::open_in(ns)?;
    let mut snapshot = empty(name, ns);
    // Listing the links is what makes the kernel number the namespaces that they lead to: the order matters.
    snapshot.links = netlink.links()?;
    snapshot.addresses = netlink.addresses(None)?;
    for link in snapshot.links.iter().filter(|link| link.vxlan.is_some()) {
        let entries = netlink.fdb(link.index)?;
        let remotes: BTreeSet<_> = entries.iter().filter_map(|entry| entry.remote).collect();
        snapshot.remotes.insert(link.index, remotes.len());
    }
    if snapshot.links.iter().any(|link| link.peer_netns_id.is_some()) {
        for (position, other) in all.iter().enumerate() {
            if let Some(id) = netlink.netns_id(other)? {
                snapshot.known.insert(id, position);
            }
        }
    }
    Ok(snapshot)
}

fn empty(name: &str, ns: &NetNs) -> Snapshot {
    Snapshot {
        name: name.into(),
        path: ns.path().display().to_string(),
        id: ns.id().ino,
        current: ns.is_current().unwrap_or(false),
        links: Vec::new(),
        addresses: Vec::new(),
        remotes: BTreeMap::new(),
        known: BTreeMap::new(),
    }
}

fn sentence(name: &str, error: &(dyn Error + 'static)) -> String {
    format!("{name}: {}", one_line(error))
}
