//! What an interface had before `tuning` changed it: `<dataDir>/<container>_<interface>.json`.
//!
//! The keys `mac`, `promisc`, `mtu`, `txQLen` and `allmulti` are the reference's, so that either suite restores what the other
//! changed. The others say whose the values are: they must never be given to another interface that has got the same name.
//!
//! The file is written before anything is changed, and appears whole or not at all. Nothing is synced to the disk: no interface
//! outlives this boot.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cni::plugin::Call;
use cni::{Error, ErrorCode};
use netns_tools::{Link, NetNs};
use serde::{Deserialize, Serialize};

use super::change::Change;

/// The content of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Backup {
    #[serde(skip_serializing_if = "String::is_empty")]
    mac: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    promisc: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(rename = "txQLen", skip_serializing_if = "Option::is_none")]
    txqlen: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allmulti: Option<bool>,
    /// Whose values they are; the reference does not write it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<Owner>,
}

/// An interface, and the attachment that it is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// The network's name.
    pub network: String,
    /// The container.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// The interface's name.
    pub ifname: String,
    /// The path of the container's namespace.
    pub sandbox: PathBuf,
    /// Device and inode number of that namespace.
    pub namespace: (u64, u64),
    /// The interface's index in it.
    pub index: u32,
}

impl Owner {
    /// An interface of the call's attachment.
    pub fn new(call: &Call<'_>, ns: &NetNs, link: &Link) -> Self {
        Self {
            network: call.conf.name.clone(),
            container_id: call.container_id.clone(),
            ifname: call.ifname.clone(),
            sandbox: ns.path().to_owned(),
            namespace: (ns.id().dev, ns.id().ino),
            index: link.index,
        }
    }

    /// Whether `link` in `ns` is that interface.
    pub fn is(&self, ns: &NetNs, link: &Link) -> bool {
        self.namespace == (ns.id().dev, ns.id().ino) && self.index == link.index
    }
}

impl Backup {
    /// The values that the interface has now, of the properties about to be changed.
    ///
    /// `earlier` is what the file says already: an ADD that was killed, or another `tuning` of the same chain, has changed those
    /// properties. Its values are the real old ones, if they are of this very interface.
    pub fn new(owner: Owner, changes: &[Change], link: &Link, earlier: Option<Self>) -> Self {
        let mut backup = earlier.filter(|b| b.of.as_ref() == Some(&owner)).unwrap_or_default();
        let known = backup.changes();
        backup.of = Some(owner);
        for change in changes {
            if !known.iter().any(|old| old.is_like(*change))
                && let Some(old) = change.as_it_is(link)
            {
                backup.remember(old);
            }
        }
        backup
    }

    fn remember(&mut self, old: Change) {
        match old {
            Change::Mac(mac) => self.mac = mac.to_string(),
            Change::Promisc(on) => self.promisc = Some(on),
            Change::Mtu(mtu) => self.mtu = Some(mtu),
            Change::TxQLen(packets) => self.txqlen = Some(packets),
            Change::Allmulti(on) => self.allmulti = Some(on),
        }
    }

    /// What restores the interface, in the reference's order.
    pub fn changes(&self) -> Vec<Change> {
        let changes = [
            self.mtu.filter(|mtu| *mtu != 0).map(Change::Mtu),
            self.mac.parse().ok().map(Change::Mac),
            self.promisc.map(Change::Promisc),
            self.allmulti.map(Change::Allmulti),
            self.txqlen.map(Change::TxQLen),
        ];
        changes.into_iter().flatten().collect()
    }
}

/// The file of one attachment.
pub struct BackupFile(PathBuf);

impl BackupFile {
    /// The file of a container's interface. Both names have passed the protocol's rules, so they are safe file names.
    pub fn new(data_dir: &Path, container_id: &str, ifname: &str) -> Self {
        Self(data_dir.join(format!("{container_id}_{ifname}.json")))
    }

    /// Every file of a folder.
    pub fn all(data_dir: &Path) -> Result<Vec<Self>, Error> {
        let failed = |e: io::Error| io_error("list", data_dir, &e);
        let entries = match fs::read_dir(data_dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                files.push(Self(path));
            }
        }
        Ok(files)
    }

    /// What the file says; `None` if there is none or it cannot be understood: then there is nothing to be restored.
    pub fn read(&self) -> Result<Option<Backup>, Error> {
        match fs::read(&self.0) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &self.0, &error)),
        }
    }

    /// Writes the file, whole or not at all.
    pub fn write(&self, backup: &Backup) -> Result<(), Error> {
        let new = self.new_name();
        let text = serde_json::to_vec_pretty(backup).map_err(io::Error::from);
        let written = text.and_then(|text| {
            if let Some(folder) = self.0.parent() {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            let mut options = fs::OpenOptions::new();
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&text)?;
            fs::rename(&new, &self.0)
        });
        written.map_err(|error| io_error("write", &self.0, &error))
    }

    /// Removes the file, and what a killed write has left.
    pub fn remove(&self) -> Result<(), Error> {
        for path in [&self.new_name(), &self.0] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("remove", path, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// One attachment is added or deleted by one process at a time, so one name will do.
    fn new_name(&self) -> PathBuf {
        self.0.with_extension("json.new")
    }
}

fn io_error(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::new(ErrorCode::Io, format!("cannot {what} {}", path.display()))
        .with_details(format!("{error}; it keeps what to restore, see \"dataDir\""))
}

#[cfg(test)]
mod tests {
    use netns_tools::MacAddr;
    use tempfile::TempDir;

    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn owner(index: u32) -> Owner {
        Owner {
            network: "n".into(),
            container_id: "c".into(),
            ifname: "eth0".into(),
            sandbox: "/run/netns/x".into(),
            namespace: (4, 4_026_532_000),
            index,
        }
    }

    fn link() -> Link {
        let ns = netns_tools::testing::TestNetns::new("backup");
        let veth = netns_tools::Veth { mac: Some(MAC), ..netns_tools::Veth::new("eth0", "far") };
        ns.netlink().add_veth(&veth).unwrap();
        ns.link("eth0")
    }

    #[test]
    fn only_what_is_changed_is_kept() {
        let link = link();
        let wanted = [Change::Mac(MacAddr([2, 0, 0, 0, 0, 9])), Change::Promisc(true)];
        let backup = Backup::new(owner(2), &wanted, &link, None);
        assert_eq!(backup.changes(), [Change::Mac(MAC), Change::Promisc(false)]);
        let json = serde_json::to_value(&backup).unwrap();
        assert_eq!((&json["mac"], &json["promisc"]), (&MAC.to_string().into(), &false.into()));
        assert!(json.get("mtu").is_none() && json.get("allmulti").is_none());
    }

    /// After an ADD that was killed the interface has the new value already.
    #[test]
    fn the_first_old_value_counts_if_it_is_of_the_same_interface() {
        let mut link = link();
        let first = Backup::new(owner(2), &[Change::Mtu(1400)], &link, None);
        link.mtu = 1400;
        let wanted = [Change::Mtu(1400), Change::TxQLen(5)];
        let second = Backup::new(owner(2), &wanted, &link, Some(first.clone()));
        assert_eq!(second.changes(), [Change::Mtu(1500), Change::TxQLen(1000)]);
        let other = Backup::new(owner(3), &wanted, &link, Some(first));
        assert_eq!(other.changes(), [Change::Mtu(1400), Change::TxQLen(1000)]);
    }

    #[test]
    fn a_file_of_the_reference_is_read() {
        let text = r#"{"mac":"02:00:00:00:00:01","promisc":false,"mtu":1500,"allmulti":true}"#;
        let backup: Backup = serde_json::from_str(text).unwrap();
        assert!(backup.of.is_none());
        let wanted =
            [Change::Mtu(1500), Change::Mac(MAC), Change::Promisc(false), Change::Allmulti(true)];
        assert_eq!(backup.changes(), wanted);
    }

    #[test]
    fn files() {
        let dir = TempDir::new().unwrap();
        let folder = dir.path().join("a/b");
        assert!(BackupFile::all(&folder).unwrap().is_empty());
        let file = BackupFile::new(&folder, "c", "eth0");
        assert_eq!(file.read().unwrap(), None);
        let backup = Backup { mtu: Some(1500), of: Some(owner(2)), ..Backup::default() };
        file.write(&backup).unwrap();
        assert_eq!(file.read().unwrap(), Some(backup));
        assert_eq!(BackupFile::all(&folder).unwrap().len(), 1);
        fs::write(folder.join("c_eth0.json"), "{").unwrap();
        assert_eq!(file.read().unwrap(), None);
        fs::write(folder.join("c_eth0.json.new"), "{").unwrap();
        file.remove().unwrap();
        file.remove().unwrap();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }
}
