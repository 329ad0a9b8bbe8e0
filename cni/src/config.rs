//! The configuration that a plugin gets on standard input (SPEC 1.1.0, "Plugin configuration objects").

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::args::is_identifier;
use crate::error::{Error, ErrorCode};
use crate::quote;
use crate::result::{CniResult, Dns};
use crate::version::Version;

/// A plugin's configuration: what every plugin has, and the raw document for its own keys.
#[derive(Clone, Debug)]
pub struct PluginConf {
    /// The version that the runtime speaks; a document without one is 0.1.0.
    pub cni_version: Version,
    /// The network's name.
    pub name: String,
    /// The plugin's type, which is its file name.
    pub plugin_type: String,
    /// The type of the IPAM plugin to delegate to.
    pub ipam_type: Option<String>,
    /// `dns`.
    pub dns: Dns,
    /// The result of the plugins before this one in the chain.
    pub prev_result: Option<CniResult>,
    /// The whole document.
    pub raw: Map<String, Value>,
}

/// What to do with a `prevResult` that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Previous {
    /// Refuse the configuration.
    Needed,
    /// Go on as if there were none: a DEL must not fail for what it can do without.
    IfReadable,
}

impl PluginConf {
    /// Reads and validates the document.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        Self::from_object(object(bytes)?, Version::ALL, Previous::Needed)
    }

    /// Validates a document for a plugin that speaks some versions. The name comes first, as in the reference.
    pub(crate) fn from_object(
        raw: Map<String, Value>,
        supported: &[Version],
        previous: Previous,
    ) -> Result<Self, Error> {
        let name = network_name(&raw)?;
        let cni_version = version_of(&raw, supported)?;
        let prev_result = match raw.get("prevResult").filter(|value| !value.is_null()) {
            None => None,
            Some(value) => match CniResult::read(value, cni_version) {
                Ok(result) => Some(result),
                Err(_) if previous == Previous::IfReadable => None,
                Err(error) => {
                    let msg = format!("prevResult: {}", error.msg);
                    return Err(Error::new(error.code, msg).with_details(error.details));
                }
            },
        };
        let ipam: Map<_, _> = field(&raw, "ipam")?.unwrap_or_default();
        Ok(Self {
            cni_version,
            name,
            plugin_type: field(&raw, "type")?.unwrap_or_default(),
            ipam_type: match field::<String>(&ipam, "type") {
                Ok(name) => name.filter(|name| !name.is_empty()),
                Err(error) => return Err(inside("ipam", error)),
            },
            dns: field(&raw, "dns")?.unwrap_or_default(),
            prev_result,
            raw,
        })
    }

    /// The value at a path such as `args.cni.mac`. `null` counts as absent, on the way there too, as in the reference
    /// plugins. An error names the key by its whole path, into the value (`ipam.ranges[0][0].subnet`).
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Error> {
        let (parents, key) = path.rsplit_once('.').unwrap_or(("", path));
        let mut object = &self.raw;
        let mut walked = String::new();
        for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
            walked = if walked.is_empty() { parent.into() } else { format!("{walked}.{parent}") };
            object = match object.get(parent) {
                None | Some(Value::Null) => return Ok(None),
                Some(Value::Object(object)) => object,
                Some(_) => return Err(self.wrong(&walked, "it must be an object")),
            };
        }
        let Some(value) = object.get(key).filter(|value| !value.is_null()) else { return Ok(None) };
        serde_path_to_error::deserialize(value).map(Some).map_err(|error| {
            let inner = error.path().to_string();
            let place = match inner.as_str() {
                "." => path.to_owned(),
                inner if inner.starts_with('[') => format!("{path}{inner}"),
                inner => format!("{path}.{inner}"),
            };
            self.wrong(&place, &error.inner().to_string())
        })
    }

    /// A text that is not empty.
    pub fn text(&self, path: &str) -> Result<Option<String>, Error> {
        Ok(self.get::<String>(path)?.filter(|text| !text.is_empty()))
    }

    /// A switch; off unless it is on.
    pub fn is_on(&self, path: &str) -> Result<bool, Error> {
        Ok(self.get(path)?.unwrap_or(false))
    }

    fn wrong(&self, path: &str, why: &str) -> Error {
        let msg = format!("cannot decode {path:?} of network {:?}: {why}", self.name);
        Error::new(ErrorCode::Decode, msg)
    }
}

/// The document as an object.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, Error> {
    serde_json::from_slice(bytes).map_err(|error| {
        Error::new(ErrorCode::Decode, "cannot decode the network configuration")
            .with_details(error.to_string())
    })
}

fn network_name(raw: &Map<String, Value>) -> Result<String, Error> {
    let name: String = field(raw, "name")?.unwrap_or_default();
    if name.is_empty() {
        return Err(Error::new(ErrorCode::InvalidConfig, "missing network name"));
    }
    if !is_identifier(&name) {
        let msg = "invalid characters found in network name";
        return Err(Error::new(ErrorCode::InvalidConfig, msg).with_details(name));
    }
    Ok(name)
}

/// The version that a document is written for; one that says none is 0.1.0.
pub(crate) fn version_of(
    raw: &Map<String, Value>,
    supported: &[Version],
) -> Result<Version, Error> {
    let mut word: String = field(raw, "cniVersion")?.unwrap_or_default();
    if word.is_empty() {
        Version::V0_1_0.as_str().clone_into(&mut word);
    }
    let known = supported.iter().find(|version| version.as_str() == word);
    known.copied().ok_or_else(|| incompatible(&word, supported))
}

/// The error of a version that is not supported, in the reference's words.
pub(crate) fn incompatible(wanted: &str, supported: &[Version]) -> Error {
    let supported: Vec<_> = supported.iter().map(|version| version.as_str()).collect();
    Error::new(ErrorCode::IncompatibleVersion, "incompatible CNI versions")
        .with_details(format!("config is {wanted:?}, plugin supports {}", quote::list(&supported)))
}

/// A value of the document; `null` counts as absent.
fn field<T: DeserializeOwned>(raw: &Map<String, Value>, key: &str) -> Result<Option<T>, Error> {
    let Some(value) = raw.get(key).filter(|value| !value.is_null()) else { return Ok(None) };
    T::deserialize(value).map(Some).map_err(|error| {
        Error::new(ErrorCode::Decode, "cannot decode the network configuration")
            .with_details(format!("{key}: {error}"))
    })
}

fn inside(parent: &str, mut error: Error) -> Error {
    error.details = format!("{parent}.{}", error.details);
    error
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
