//! Which addresses were let through for whom.
//!
//! Rules and sources name an address and nobody's name, and must stay so for the reference to find them. So GC, and a DEL without a
//! result, would not know what to remove; and a late DEL would take away what its address's next owner needs. A file per attachment
//! remembers it: `<dataDir>/<network>/<container>:<interface>`. It lies where rules lie, too: nothing of it survives a reboot.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cni::{Error, ErrorCode};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// What was done for one attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The addresses, each as a network of its own.
    pub hosts: Vec<IpNetwork>,
    /// firewalld's zone; none: iptables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// An attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The network's name.
    pub network: String,
    /// The container.
    pub container_id: String,
    /// The interface in it.
    pub ifname: String,
}

/// All records of a node.
pub struct Records {
    dir: PathBuf,
}

impl Records {
    /// The records in a folder, which need not be there.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Writes a record, whole or not at all.
    pub fn write(&self, owner: &Owner, record: &Record) -> Result<(), Error> {
        let path = self.path(owner);
        // A name that no record has: interfaces' names have no spaces.
        let new = path.with_file_name(format!("{}:{} new", owner.container_id, owner.ifname));
        let text = serde_json::to_vec(record).map_err(io::Error::other);
        let written = text.and_then(|text| {
            fs::create_dir_all(self.dir.join(&owner.network))?;
            fs::write(&new, text)?;
            fs::rename(&new, &path)
        });
        written.map_err(|e| {
            let _ = fs::remove_file(&new);
            failed("write", &path, &e)
        })
    }

    /// What was done for an attachment. A record that cannot be read is told of, and counts as none.
    pub fn read(&self, owner: &Owner) -> Option<Record> {
        read(&self.path(owner))
    }

    /// Forgets an attachment.
    pub fn remove(&self, owner: &Owner) -> Result<(), Error> {
        let path = self.path(owner);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path, &e)),
            _ => Ok(()),
        }
    }

    /// The attachments of a network that are remembered.
    pub fn owners(&self, network: &str) -> Result<Vec<Owner>, Error> {
        let folder = self.dir.join(network);
        let names = file_names(&folder).map_err(|e| failed("list", &folder, &e))?;
        Ok(names.into_iter().filter_map(|name| owner(network, &name)).collect())
    }

    /// Those of `hosts` that no attachment but `owner` has: an address may be somebody else's by now.
    pub fn unclaimed(&self, owner: &Owner, hosts: &[IpNetwork]) -> Result<Vec<IpNetwork>, Error> {
        let mut unclaimed = hosts.to_vec();
        let networks = file_names(&self.dir).map_err(|e| failed("list", &self.dir, &e))?;
        for network in networks {
            for other in self.owners(&network)? {
                if other != *owner
                    && let Some(record) = self.read(&other)
                {
                    unclaimed.retain(|host| !record.hosts.contains(host));
                }
            }
        }
        Ok(unclaimed)
    }

    fn path(&self, owner: &Owner) -> PathBuf {
        // The protocol allows no slash in any of the three names, and a colon in none.
        self.dir.join(&owner.network).join(format!("{}:{}", owner.container_id, owner.ifname))
    }
}

fn owner(network: &str, name: &str) -> Option<Owner> {
    let (container_id, ifname) = name.split_once(':').filter(|(_, rest)| !rest.contains(' '))?;
    Some(Owner {
        network: network.to_owned(),
        container_id: container_id.to_owned(),
        ifname: ifname.to_owned(),
    })
}

fn read(path: &Path) -> Option<Record> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
        Err(e) => {
            eprintln!("cannot read {}: {e}", path.display());
            return None;
        }
    };
    match serde_json::from_slice(&text) {
        Ok(record) => Some(record),
        Err(e) => {
            eprintln!("{} is no record and is ignored: {e}", path.display());
            None
        }
    }
}

/// Empty if there is no such folder.
fn file_names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
    names.filter_map(Result::transpose).collect()
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    let msg = format!("cannot {what} {:?}", path.display().to_string());
    let hint = "the firewall plugin notes there whose addresses it lets through; \"dataDir\" names another folder";
    Error::new(ErrorCode::Io, msg).with_details(format!("{error}; {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner_of(container_id: &str, ifname: &str) -> Owner {
        Owner { network: "net".into(), container_id: container_id.into(), ifname: ifname.into() }
    }

    fn record(hosts: &[&str]) -> Record {
        Record { hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(), zone: None }
    }

    #[test]
    fn an_address_that_went_to_another_is_not_the_first_one_s() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::new(dir.path().join("deep/down"));
        let (one, two) = (owner_of("c1", "eth0"), owner_of("c2", "eth0"));
        assert_eq!(records.owners("net").unwrap(), []);
        let both = record(&["10.0.0.1/32", "fd00::1/128"]);
        records.write(&one, &both).unwrap();
        assert_eq!(records.unclaimed(&one, &both.hosts).unwrap(), both.hosts);
        let other_network = Owner { network: "net2".into(), ..two.clone() };
        records.write(&other_network, &record(&["10.0.0.1/32"])).unwrap();
        assert_eq!(records.unclaimed(&one, &both.hosts).unwrap(), both.hosts[1..]);
        assert_eq!(records.read(&one), Some(both));
        records.remove(&one).unwrap();
        records.remove(&one).unwrap();
        assert_eq!((records.read(&one), records.owners("net").unwrap()), (None, vec![]));
        assert_eq!(records.owners("net2").unwrap(), [other_network]);
    }

    #[test]
    fn what_is_no_record_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::new(dir.path().to_owned());
        let one = owner_of("c1", "eth0");
        records.write(&one, &record(&["10.0.0.1/32"])).unwrap();
        fs::write(dir.path().join("net/c2:eth0"), "{").unwrap();
        fs::write(dir.path().join("net/c3:eth0 new"), "{}").unwrap();
        fs::write(dir.path().join("net/strange"), "{}").unwrap();
        let mut owners = records.owners("net").unwrap();
        owners.sort_by(|a, b| a.container_id.cmp(&b.container_id));
        assert_eq!(owners, [one.clone(), owner_of("c2", "eth0")]);
        assert_eq!(records.read(&owners[1]), None);
        let hosts = record(&["10.0.0.9/32"]).hosts;
        assert_eq!(records.unclaimed(&one, &hosts).unwrap(), hosts);
    }
}
