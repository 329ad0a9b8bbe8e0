//! Network lists and the directory that they lie in.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::error::ListError;
use crate::args::is_identifier;
use crate::version::Version;

/// The most that is read of a configuration file, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// One plugin of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginEntry {
    /// Its type: a file name, never a path.
    pub plugin_type: String,
    /// The capabilities that it declares to be `true`.
    pub capabilities: Vec<String>,
    /// Its configuration as written.
    pub raw: Map<String, Value>,
}

/// A network: plugins to be called one after the other (SPEC 1.1.0, section 1).
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkList {
    /// The network's name.
    pub name: String,
    /// The version spoken to its plugins.
    pub cni_version: Version,
    /// `disableCheck`: CHECK does nothing.
    pub disable_check: bool,
    /// `disableGC`: GC does nothing.
    pub disable_gc: bool,
    /// The plugins, in the order of ADD.
    pub plugins: Vec<PluginEntry>,
    /// The file that it came from.
    pub path: PathBuf,
    /// Its text, which the cache keeps for a later DEL.
    pub(crate) text: Vec<u8>,
}

impl NetworkList {
    /// Reads one file: a list, or a single plugin's configuration, which is a list of one.
    pub fn load(path: &Path) -> Result<Self, ListError> {
        let read = |source| ListError::Read { path: path.to_owned(), source };
        let file = fs::File::open(path).map_err(read)?;
        let mut text = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut text).map_err(read)?;
        Self::parse(&text, path)
    }

    /// The first list of a directory in lexical order, of the files that end in `.conflist`, `.conf` or `.json`. A file that
    /// cannot be used is passed over, as every runtime does; if none can, the error says why for each.
    pub fn load_first(directory: &Path) -> Result<Self, ListError> {
        let read = |source| ListError::Read { path: directory.to_owned(), source };
        let mut files = Vec::new();
        match fs::read_dir(directory) {
            Ok(entries) => {
                for entry in entries {
                    files.push(entry.map_err(read)?.path());
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(read(error)),
        }
        files.retain(|path| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            matches!(extension, Some("conflist" | "conf" | "json")) && path.is_file()
        });
        files.sort();
        let mut skipped = Vec::new();
        for file in files {
            match Self::load(&file) {
                Ok(list) => return Ok(list),
                Err(error) => skipped.push(error.to_string()),
            }
        }
        Err(ListError::None { directory: directory.to_owned(), skipped })
    }

    /// Parses a list; `path` is where it came from, for messages and for `<directory>/<name>/*.conf`.
    pub fn parse(text: &[u8], path: &Path) -> Result<Self, ListError> {
        let invalid = |reason: String| ListError::Invalid { path: path.to_owned(), reason };
        if text.len() as u64 > MAX_FILE {
            return Err(invalid(format!("larger than {MAX_FILE} bytes")));
        }
        let raw: Map<String, Value> =
            serde_json::from_slice(text).map_err(|error| invalid(error.to_string()))?;
        let name = raw.get("name").and_then(Value::as_str).unwrap_or_default();
        if !is_identifier(name) {
            return Err(invalid(format!(
                "name: {name:?} is not a network name: it starts with a letter or digit, then letters, digits, '_', '.' or '-'"
            )));
        }
        let mut plugins = Vec::new();
        match raw.get("plugins") {
            Some(Value::Array(entries)) => {
                for (index, entry) in entries.iter().enumerate() {
                    plugins.push(
                        PluginEntry::parse(entry)
                            .map_err(|e| invalid(format!("plugins[{index}]: {e}")))?,
                    );
                }
            }
            Some(_) => return Err(invalid("plugins: must be a list".to_owned())),
            None if raw.contains_key("type") => {
                plugins.push(PluginEntry::parse(&Value::Object(raw.clone())).map_err(invalid)?);
            }
            None => {}
        }
        if !flag(&raw, "loadOnlyInlinedPlugins").map_err(invalid)? {
            plugins.extend(plugins_of_folder(path, name)?);
        }
        if plugins.is_empty() {
            return Err(invalid("plugins: the list has none".to_owned()));
        }
        Ok(Self {
            name: name.to_owned(),
            cni_version: negotiate(&raw).map_err(invalid)?,
            disable_check: flag(&raw, "disableCheck").map_err(invalid)?,
            disable_gc: flag(&raw, "disableGC").map_err(invalid)?,
            plugins,
            path: path.to_owned(),
            text: text.to_owned(),
        })
    }
}

impl PluginEntry {
    fn parse(entry: &Value) -> Result<Self, String> {
        let raw = entry.as_object().ok_or("must be an object")?.clone();
        let plugin_type = raw.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        if plugin_type.is_empty()
            || plugin_type.contains(['/', '\0'])
            || plugin_type == "."
            || plugin_type == ".."
        {
            return Err(format!("type: {plugin_type:?} is not a plugin's file name"));
        }
        let declared = raw.get("capabilities").and_then(Value::as_object);
        let capabilities = declared
            .into_iter()
            .flatten()
            .filter(|(_, wanted)| wanted.as_bool() == Some(true))
            .map(|(name, _)| name.clone())
            .collect();
        Ok(Self { plugin_type, capabilities, raw })
    }
}

/// `disableCheck` and the like: a boolean, or the text of one, which libcni accepts too.
fn flag(raw: &Map<String, Value>, key: &str) -> Result<bool, String> {
    match raw.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(other) => Err(format!("{key}: {other} is neither true nor false")),
    }
}

/// `cniVersion`, or the newest of `cniVersions` that is known here (1.1.0).
fn negotiate(raw: &Map<String, Value>) -> Result<Version, String> {
    let listed = raw.get("cniVersions").and_then(Value::as_array).into_iter().flatten();
    let known = listed.filter_map(|word| word.as_str()?.parse::<Version>().ok()).max();
    let single = match raw.get("cniVersion") {
        None | Some(Value::Null) => None,
        Some(Value::String(word)) if word.is_empty() => None,
        Some(Value::String(word)) => {
            Some(word.parse::<Version>().map_err(|error| format!("cniVersion: {error}")))
        }
        Some(other) => return Err(format!("cniVersion: {other} is not a string")),
    };
    match (known, single) {
        (Some(known), Some(Ok(single))) => Ok(known.max(single)),
        (Some(known), _) => Ok(known),
        (None, Some(single)) => single,
        (None, None) => Ok(Version::V0_1_0),
    }
}

/// Plugins in files of their own beside the list: `<directory>/<network>/*.conf` (1.1.0).
fn plugins_of_folder(list: &Path, name: &str) -> Result<Vec<PluginEntry>, ListError> {
    let Some(folder) = list.parent().map(|directory| directory.join(name)) else {
        return Ok(Vec::new());
    };
    let Ok(entries) = fs::read_dir(&folder) else { return Ok(Vec::new()) };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    let mut plugins = Vec::new();
    for path in files {
        let text =
            fs::read(&path).map_err(|source| ListError::Read { path: path.clone(), source })?;
        let value = serde_json::from_slice(&text).unwrap_or(Value::Null);
        let entry =
            PluginEntry::parse(&value).map_err(|reason| ListError::Invalid { path, reason })?;
        plugins.push(entry);
    }
    Ok(plugins)
}

/// The document that a plugin gets: its own configuration and what the chain adds to it.
pub(crate) fn document(
    list: &NetworkList,
    entry: &PluginEntry,
    additions: Map<String, Value>,
) -> Vec<u8> {
    let mut raw = entry.raw.clone();
    raw.remove("capabilities");
    raw.insert("name".to_owned(), json!(list.name));
    raw.insert("cniVersion".to_owned(), json!(list.cni_version.as_str()));
    raw.extend(additions);
    Value::Object(raw).to_string().into_bytes()
}
