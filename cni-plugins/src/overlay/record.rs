//! What was delegated, and for which attachment: `<dataDir>/<container>:<interface>.json`.
//!
//! A file is written before the delegate is called, and appears whole or not at all. Nothing is synced to the disk: no interface
//! outlives this boot, and DEL does its best without the file.
//!
//! flannel's plugin keeps the delegate's bare configuration in `<dataDir>/<container>`. Where `dataDir` is flannel's, those are read
//! as well, so that containers of before are detached as they were attached.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cni::plugin::{Call, ValidAttachment};
use cni::{Error, ErrorCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::tag;

const EXTENSION: &str = ".json";
/// What a killed write leaves behind.
const NEW: &str = ".new";

/// What was delegated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The network's name.
    pub network: String,
    /// The container.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// The interface's name in it.
    pub ifname: String,
    /// The path of the container's namespace.
    pub netns: PathBuf,
    /// Whether its links have the lease's MTU.
    pub follows_mtu: bool,
    /// The delegate's configuration.
    pub delegate: Map<String, Value>,
}

impl Record {
    /// Of a call's attachment.
    pub fn new(call: &Call<'_>, follows_mtu: bool, delegate: Map<String, Value>) -> Self {
        Self {
            network: call.conf.name.clone(),
            container_id: call.container_id.clone(),
            ifname: call.ifname.clone(),
            netns: call.netns.clone().unwrap_or_default(),
            follows_mtu,
            delegate,
        }
    }

    /// The text that its host's end carries ([`crate::tag`]).
    pub fn tag(&self) -> String {
        tag::of(&self.network, &self.container_id, &self.ifname)
    }

    fn is_of(&self, call: &Call<'_>) -> bool {
        self.container_id == call.container_id
            && self.ifname == call.ifname
            && is_usable(&self.delegate, &call.conf.name)
    }
}

/// Whether a configuration is a delegate's in this network, and not our own again.
fn is_usable(delegate: &Map<String, Value>, network: &str) -> bool {
    let plugin = delegate.get("type").and_then(Value::as_str).unwrap_or_default();
    let named = delegate.get("name").and_then(Value::as_str) == Some(network);
    named && cni::lookup::is_plugin_name(plugin) && plugin != super::NAME
}

/// What is remembered of an attachment.
#[derive(Debug, PartialEq, Eq)]
pub enum Remembered {
    /// What was delegated.
    Delegate(Map<String, Value>),
    /// Nothing.
    Nothing,
    /// The file cannot be read or understood; why.
    Unreadable(String),
}

/// The folder.
pub struct Records(PathBuf);

impl Records {
    /// In this folder, which need not be there.
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// What is remembered of this call's attachment.
    pub fn find(&self, call: &Call<'_>) -> Remembered {
        let file = self.file(&call.container_id, &call.ifname);
        match fs::read(&file) {
            Ok(bytes) => match serde_json::from_slice::<Record>(&bytes) {
                Ok(record) if record.is_of(call) => Remembered::Delegate(record.delegate),
                Ok(_) => {
                    Remembered::Unreadable(format!("{} is another attachment's", file.display()))
                }
                Err(error) => Remembered::Unreadable(format!("{}: {error}", file.display())),
            },
            Err(error) if is_missing(&error) => self.find_flannels(call),
            Err(error) => Remembered::Unreadable(format!("{}: {error}", file.display())),
        }
    }

    /// flannel's plugin forgets that a container may have two interfaces; so the file is taken for what it is.
    fn find_flannels(&self, call: &Call<'_>) -> Remembered {
        let file = self.0.join(&call.container_id);
        let read = fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        match read {
            Some(delegate) if is_usable(&delegate, &call.conf.name) => {
                Remembered::Delegate(delegate)
            }
            _ => Remembered::Nothing,
        }
    }

    /// The file's content now, to be restored if an ADD fails.
    pub fn content(&self, call: &Call<'_>) -> Option<Vec<u8>> {
        fs::read(self.file(&call.container_id, &call.ifname)).ok()
    }

    /// Remembers.
    pub fn write(&self, record: &Record) -> Result<(), Error> {
        let file = self.file(&record.container_id, &record.ifname);
        let text = serde_json::to_vec_pretty(record).map_err(io::Error::from);
        let written = text.and_then(|text| self.replace(&file, &text));
        written.map_err(|error| io_error("write", &file, &error))
    }

    /// Writes what was there before, or removes the file if nothing was.
    pub fn restore(&self, call: &Call<'_>, before: Option<&[u8]>) -> Result<(), Error> {
        let Some(text) = before else { return self.remove(call) };
        let file = self.file(&call.container_id, &call.ifname);
        self.replace(&file, text).map_err(|error| io_error("restore", &file, &error))
    }

    /// Forgets this call's attachment.
    pub fn remove(&self, call: &Call<'_>) -> Result<(), Error> {
        let file = self.file(&call.container_id, &call.ifname);
        let flannels = match fs::read(self.0.join(&call.container_id)) {
            Ok(bytes) if is_flannels(&bytes, &call.conf.name) => {
                remove(&self.0.join(&call.container_id))
            }
            _ => Ok(()),
        };
        remove(&new_name(&file)).and_then(|()| remove(&file)).and(flannels)
    }

    /// Every record that can be read.
    pub fn all(&self) -> Result<Vec<Record>, Error> {
        let files = self.files()?.into_iter();
        let read = files.filter_map(|(_, path)| serde_json::from_slice(&fs::read(path).ok()?).ok());
        Ok(read.collect())
    }

    /// What was delegated in a network to attachments that are not valid any more, each kind of it once.
    pub fn stale(
        &self,
        network: &str,
        valid: &[ValidAttachment],
    ) -> Result<Vec<Map<String, Value>>, Error> {
        let mut kinds = Vec::new();
        for path in self.stale_files(network, valid)? {
            let Ok(bytes) = fs::read(path) else { continue };
            let delegate = match serde_json::from_slice::<Record>(&bytes) {
                Ok(record) => record.delegate,
                Err(_) => serde_json::from_slice(&bytes).unwrap_or_default(),
            };
            let delegate = super::plan::without_passing(delegate);
            if is_usable(&delegate, network) && !kinds.contains(&delegate) {
                kinds.push(delegate);
            }
        }
        Ok(kinds)
    }

    /// Forgets the attachments of a network that are not valid any more. What cannot be understood is nobody's: DEL does without.
    pub fn collect_garbage(&self, network: &str, valid: &[ValidAttachment]) -> Result<(), Error> {
        let mut outcome = Ok(());
        for file in self.stale_files(network, valid)? {
            outcome = outcome.and(remove(&file));
        }
        outcome
    }

    fn stale_files(&self, network: &str, valid: &[ValidAttachment]) -> Result<Vec<PathBuf>, Error> {
        let names: BTreeSet<_> =
            valid.iter().map(|one| name(&one.container_id, &one.ifname)).collect();
        let is_valid = |name: &str| names.contains(name.strip_suffix(NEW).unwrap_or(name));
        let mut stale = Vec::new();
        for (name, path) in self.files()? {
            let other = || {
                let record = fs::read(&path).ok()?;
                let record: Record = serde_json::from_slice(&record).ok()?;
                Some(record.network != network)
            };
            if !is_valid(&name) && other() != Some(true) {
                stale.push(path);
            }
        }
        let containers: BTreeSet<_> = valid.iter().map(|one| one.container_id.as_str()).collect();
        for (name, path) in self.flannels()? {
            let ours = fs::read(&path).is_ok_and(|bytes| is_flannels(&bytes, network));
            if ours && !containers.contains(name.as_str()) {
                stale.push(path);
            }
        }
        Ok(stale)
    }

    /// Our files, with their names.
    fn files(&self) -> Result<Vec<(String, PathBuf)>, Error> {
        self.list(|name| {
            name.contains(':') && name.strip_suffix(NEW).unwrap_or(name).ends_with(EXTENSION)
        })
    }

    /// What may be flannel's: the bare name of a container.
    fn flannels(&self) -> Result<Vec<(String, PathBuf)>, Error> {
        self.list(cni::args::is_identifier)
    }

    fn list(&self, is_meant: impl Fn(&str) -> bool) -> Result<Vec<(String, PathBuf)>, Error> {
        let failed = |error: io::Error| io_error("list", &self.0, &error);
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if is_missing(&error) => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_meant(&name) {
                files.push((name, entry.path()));
            }
        }
        files.sort();
        Ok(files)
    }

    fn replace(&self, file: &Path, text: &[u8]) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        // one attachment is added or deleted by one process at a time, so one name will do
        let new = new_name(file);
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = options.open(&new).and_then(|mut to| to.write_all(text));
        written.and_then(|()| fs::rename(&new, file)).inspect_err(|_| drop(fs::remove_file(&new)))
    }

    fn file(&self, container_id: &str, ifname: &str) -> PathBuf {
        self.0.join(name(container_id, ifname))
    }
}

/// Names of the protocol have no colon. A long one is shortened as in [`crate::tag`], so that it stays a file's name.
fn name(container_id: &str, ifname: &str) -> String {
    format!("{}:{ifname}{EXTENSION}", tag::word(container_id))
}

fn new_name(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(NEW);
    name.into()
}

/// Whether a file's content is a delegate's configuration in this network.
fn is_flannels(bytes: &[u8], network: &str) -> bool {
    serde_json::from_slice(bytes).is_ok_and(|delegate| is_usable(&delegate, network))
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if !is_missing(&error) => Err(io_error("remove", path, &error)),
        _ => Ok(()),
    }
}

fn io_error(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::new(ErrorCode::Io, format!("cannot {what} {}", path.display()))
        .with_details(format!("{error}; it keeps what was delegated, see \"dataDir\""))
}
