//! The configuration that a plugin gets on standard input (SPEC 1.1.0, "Plugin configuration objects").

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::args::is_identifier;
use crate::error::{Error, ErrorCode};
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

impl PluginConf {
    /// Reads and validates the document.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let raw = object(bytes)?;
        let cni_version = version_of(&raw)?;
        let name = text(&raw, "name")?.unwrap_or_default();
        if name.is_empty() {
            return Err(Error::new(ErrorCode::InvalidConfig, "missing network name"));
        }
        if !is_identifier(&name) {
            return Err(Error::new(
                ErrorCode::InvalidConfig,
                "invalid characters found in network name",
            )
            .with_details(name));
        }
        let prev_result = match raw.get("prevResult") {
            None | Some(Value::Null) => None,
            Some(value) => Some(previous(value, cni_version)?),
        };
        let ipam = raw.get("ipam").and_then(Value::as_object);
        Ok(Self {
            cni_version,
            name,
            plugin_type: text(&raw, "type")?.unwrap_or_default(),
            ipam_type: match ipam {
                Some(ipam) => text(ipam, "type")?.filter(|t| !t.is_empty()),
                None => None,
            },
            dns: field(&raw, "dns")?.unwrap_or_default(),
            prev_result,
            raw,
        })
    }

    /// The plugin's own keys, as its own type.
    pub fn keys<T: DeserializeOwned>(&self) -> Result<T, Error> {
        T::deserialize(Value::Object(self.raw.clone())).map_err(|error| {
            Error::new(
                ErrorCode::Decode,
                format!("cannot decode the configuration of network {}: {error}", self.name),
            )
        })
    }
}

/// The document as an object.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, Error> {
    serde_json::from_slice(bytes).map_err(|error| {
        Error::new(ErrorCode::Decode, format!("cannot decode the network configuration: {error}"))
    })
}

/// The version that a document is written for.
pub(crate) fn version_of(raw: &Map<String, Value>) -> Result<Version, Error> {
    let word = text(raw, "cniVersion")?.unwrap_or_default();
    if word.is_empty() {
        return Ok(Version::V0_1_0);
    }
    word.parse().map_err(|_| incompatible(&word, Version::ALL))
}

/// The error of a version that is not supported, in the reference's words.
pub(crate) fn incompatible(wanted: &str, supported: &[Version]) -> Error {
    let supported: Vec<_> = supported.iter().map(|version| version.as_str()).collect();
    Error::new(ErrorCode::IncompatibleVersion, "incompatible CNI versions")
        .with_details(format!("config is {wanted:?}, plugin supports {supported:?}"))
}

/// A `prevResult` carries its own version, which is normally the configuration's.
fn previous(value: &Value, default: Version) -> Result<CniResult, Error> {
    let own = value.get("cniVersion").and_then(Value::as_str).and_then(|word| word.parse().ok());
    CniResult::from_json(value, own.unwrap_or(default)).map_err(|mut error| {
        error.msg = format!("prevResult: {}", error.msg);
        error
    })
}

fn text(raw: &Map<String, Value>, key: &str) -> Result<Option<String>, Error> {
    field(raw, key)
}

fn field<T: DeserializeOwned>(raw: &Map<String, Value>, key: &str) -> Result<Option<T>, Error> {
    let Some(value) = raw.get(key).filter(|value| !value.is_null()) else { return Ok(None) };
    let parsed = T::deserialize(value.clone());
    parsed.map(Some).map_err(|error| {
        Error::new(
            ErrorCode::Decode,
            format!("cannot decode the network configuration: {key}: {error}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_and_codes() {
        let cases = [
            ("{", 6, "cannot decode the network configuration"),
            ("[]", 6, "cannot decode"),
            ("{}", 7, "missing network name"),
            (r#"{"name": "a/b"}"#, 7, "invalid characters found in network name"),
            (r#"{"name": 5}"#, 6, "name"),
            (r#"{"name": "a", "cniVersion": "9.9.9"}"#, 1, "incompatible CNI versions"),
            (r#"{"name": "a", "ipam": {"type": 7}}"#, 6, "type"),
            (r#"{"name": "a", "cniVersion": "1.0.0", "prevResult": {"ips": 5}}"#, 6, "prevResult"),
        ];
        for (document, code, message) in cases {
            let error = PluginConf::parse(document.as_bytes()).unwrap_err();
            assert_eq!(error.code.code(), code, "{document}: {error}");
            assert!(error.msg.contains(message), "{document}: {error}");
        }
    }

    #[test]
    fn a_document_without_a_version_is_the_oldest() {
        let conf =
            PluginConf::parse(br#"{"name": "n", "type": "bridge", "ipam": {}, "mtu": 1400}"#)
                .unwrap();
        assert_eq!((conf.cni_version, conf.ipam_type), (Version::V0_1_0, None));
    }

    proptest! {
        #[test]
        fn hostile_input_never_panics(bytes: Vec<u8>) {
            PluginConf::parse(&bytes).ok();
        }
    }
}
