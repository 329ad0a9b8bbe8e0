//! Results on disk: what DEL and CHECK need to know of an ADD, also after a restart. Names and format are libcni's
//! (`<cache_dir>/results/<network>-<container>-<interface>`, kind `cniCacheV1`).

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::RuntimeError;
use super::list::NetworkList;
use super::{Attachment, ListError};
use crate::args::{is_identifier, validate_container_id, validate_ifname};
use crate::error::{Error, ErrorCode};
use crate::result::CniResult;
use crate::version::Version;

const KIND: &str = "cniCacheV1";

/// The folder of results.
#[derive(Clone, Debug)]
pub struct Cache {
    results: PathBuf,
}

/// What is kept of one attachment.
#[derive(Clone, Debug, PartialEq)]
pub struct CachedAttachment {
    /// The network.
    pub network: String,
    /// The attachment as ADD was called with it.
    pub attachment: Attachment,
    /// The list as it was when ADD was called.
    pub config: Vec<u8>,
    /// The result of the last plugin.
    pub result: Value,
}

/// The file's shape.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    kind: String,
    container_id: String,
    #[serde(default)]
    config: String,
    if_name: String,
    network_name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    netns: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cni_args: Option<Vec<(String, String)>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    capability_args: Option<Map<String, Value>>,
    #[serde(default)]
    result: Value,
}

impl CachedAttachment {
    /// The list that ADD was called with.
    pub fn list(&self) -> Result<NetworkList, ListError> {
        NetworkList::parse(&self.config, Path::new("cached configuration"))
    }

    /// The result in the internal form.
    pub fn cni_result(&self) -> Result<CniResult, Error> {
        let version = self
            .result
            .get("cniVersion")
            .and_then(Value::as_str)
            .and_then(|word| word.parse().ok());
        CniResult::from_json(&self.result, version.unwrap_or(Version::V0_1_0))
    }
}

impl Cache {
    /// The cache below `directory`. Both `/var/lib/cni` and `/var/lib/cni/results` mean the same place.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        let named = directory.file_name().is_some_and(|name| name == "results");
        Self { results: if named { directory } else { directory.join("results") } }
    }

    /// The file of an attachment. The parts are checked first, so that the file is in the folder whatever they are.
    fn path(
        &self,
        network: &str,
        container_id: &str,
        ifname: &str,
    ) -> Result<PathBuf, RuntimeError> {
        if !is_identifier(network) {
            let error =
                Error::new(ErrorCode::InvalidConfig, "invalid characters found in network name");
            return Err(RuntimeError::InvalidAttachment(error.with_details(network)));
        }
        validate_container_id(container_id).map_err(RuntimeError::InvalidAttachment)?;
        validate_ifname(ifname).map_err(RuntimeError::InvalidAttachment)?;
        Ok(self.results.join(format!("{network}-{container_id}-{ifname}")))
    }

    /// Checks the names of an attachment without touching anything.
    pub(super) fn validate(
        &self,
        network: &str,
        attachment: &Attachment,
    ) -> Result<(), RuntimeError> {
        self.path(network, &attachment.container_id, &attachment.ifname).map(drop)
    }

    /// Keeps a result. The file appears complete or not at all.
    pub(super) fn write(
        &self,
        list: &NetworkList,
        attachment: &Attachment,
        result: &Value,
    ) -> Result<(), RuntimeError> {
        let path = self.path(&list.name, &attachment.container_id, &attachment.ifname)?;
        let document = Document {
            kind: KIND.to_owned(),
            container_id: attachment.container_id.clone(),
            config: data_encoding::BASE64.encode(&list.text),
            if_name: attachment.ifname.clone(),
            network_name: list.name.clone(),
            netns: attachment
                .netns
                .as_ref()
                .map(|path| path.to_string_lossy().into_owned())
                .unwrap_or_default(),
            cni_args: (!attachment.args.is_empty()).then(|| attachment.args.clone()),
            capability_args: (!attachment.capabilities.is_empty())
                .then(|| attachment.capabilities.clone()),
            result: result.clone(),
        };
        let text = serde_json::to_vec(&document).map_err(io::Error::from);
        text.and_then(|text| replace(&path, &text)).map_err(|source| failed("write", &path, source))
    }

    /// Reads what is kept of an attachment.
    pub(super) fn read(
        &self,
        network: &str,
        container_id: &str,
        ifname: &str,
    ) -> Result<Option<CachedAttachment>, RuntimeError> {
        let path = self.path(network, container_id, ifname)?;
        read_file(&path).map_err(|source| failed("read", &path, source))
    }

    /// Everything that is kept, and what could not be read.
    pub(super) fn read_all(&self) -> (Vec<CachedAttachment>, Vec<RuntimeError>) {
        let (mut found, mut errors) = (Vec::new(), Vec::new());
        let Ok(entries) = fs::read_dir(&self.results) else { return (found, errors) };
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|path| {
            path.is_file()
                && !path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'))
        });
        files.sort();
        for path in files {
            match read_file(&path) {
                Ok(cached) => found.extend(cached),
                Err(source) => errors.push(failed("read", &path, source)),
            }
        }
        (found, errors)
    }

    /// Forgets an attachment.
    pub(super) fn remove(
        &self,
        network: &str,
        attachment: &Attachment,
    ) -> Result<(), RuntimeError> {
        let path = self.path(network, &attachment.container_id, &attachment.ifname)?;
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path, source))
            }
            _ => Ok(()),
        }
    }
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> RuntimeError {
    RuntimeError::Cache { operation, path: path.to_owned(), source }
}

fn read_file(path: &Path) -> io::Result<Option<CachedAttachment>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let document: Document = serde_json::from_slice(&text)?;
    if document.kind != KIND {
        return Err(io::Error::other(format!("its kind is {:?}, not {KIND}", document.kind)));
    }
    let config =
        data_encoding::BASE64.decode(document.config.as_bytes()).map_err(io::Error::other)?;
    Ok(Some(CachedAttachment {
        network: document.network_name,
        attachment: Attachment {
            container_id: document.container_id,
            netns: Some(document.netns).filter(|path| !path.is_empty()).map(PathBuf::from),
            ifname: document.if_name,
            args: document.cni_args.unwrap_or_default(),
            capabilities: document.capability_args.unwrap_or_default(),
        },
        config,
        result: document.result,
    }))
}

/// Replaces a file by writing another one and renaming it. The temporary name starts with a dot, which no network's does.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or_else(|| io::Error::other("the path has no directory"))?;
    fs::create_dir_all(directory)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory.join(format!(".{name}.{}", std::process::id()));
    let written = fs::File::create(&temporary)
        .and_then(|mut file| file.write_all(text).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        fs::remove_file(&temporary).ok();
    }
    written
}
