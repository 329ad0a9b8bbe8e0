//! What a configuration may say to `overlay`, and reading the lease.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use cni::plugin::Call;
use cni::{Error, ErrorCode, PluginConf};
use conf::lease::{LEASE_FILE, Lease, LeaseError};
use netns_tools::cause::one_line;
use serde_json::{Map, Value};

/// Where what was delegated is remembered.
pub const DATA_DIR: &str = "/var/lib/cni/overlay";

/// The delegates that `mode` names.
pub const BRIDGE: &str = "bridge";
/// The other one.
pub const PTP: &str = "ptp";

/// Whoever would delegate to us again, or does the same.
const LIKE_US: [&str; 2] = [super::NAME, "flannel"];

/// A checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conf {
    /// The lease.
    pub subnet_file: PathBuf,
    /// Where what was delegated is remembered.
    pub data_dir: PathBuf,
    /// The delegate's type.
    pub plugin: String,
    /// The keys for the delegate, `type` left out.
    pub delegate: Map<String, Value>,
    /// The keys for its IPAM plugin.
    pub ipam: Map<String, Value>,
}

impl Conf {
    /// Reads and checks everything, before anything is done.
    pub fn parse(call: &Call<'_>) -> Result<Self, Error> {
        let keys = &call.conf;
        let mut delegate: Map<_, _> = keys.get("delegate")?.unwrap_or_default();
        for key in ["name", "ipam"] {
            if delegate.contains_key(key) {
                let msg = format!(
                    "'delegate' dictionary must not have '{key}' field, it'll be set by overlay"
                );
                return Err(invalid(msg).with_details(format!("write {key:?} beside \"delegate\"")));
            }
        }
        let ipam: Map<_, _> = keys.get("ipam")?.unwrap_or_default();
        check_ipam(keys, &ipam)?;
        // a type that is no text has an error of its own
        let plugin = plugin(keys)?;
        delegate.remove("type");
        check_delegate(keys)?;
        Ok(Self {
            subnet_file: path(keys, "subnetFile", LEASE_FILE)?,
            data_dir: path(keys, "dataDir", DATA_DIR)?,
            plugin,
            delegate,
            ipam,
        })
    }

    /// What DEL and GC can do with, of a configuration that ADD would refuse by now: what cannot be read has its default.
    pub fn for_teardown(call: &Call<'_>) -> Self {
        Self::parse(call).unwrap_or_else(|_| {
            let keys = &call.conf;
            let mut delegate: Map<_, _> = keys.get("delegate").ok().flatten().unwrap_or_default();
            delegate.retain(|key, _| !["name", "ipam", "type"].contains(&key.as_str()));
            Self {
                subnet_file: path(keys, "subnetFile", LEASE_FILE)
                    .unwrap_or_else(|_| LEASE_FILE.into()),
                data_dir: path(keys, "dataDir", DATA_DIR).unwrap_or_else(|_| DATA_DIR.into()),
                plugin: plugin(keys).unwrap_or_else(|_| BRIDGE.to_owned()),
                delegate,
                ipam: keys.get("ipam").ok().flatten().unwrap_or_default(),
            }
        })
    }

    /// A switch of the delegate's; `None`: it is not given, or is none.
    pub fn switch(&self, key: &str) -> Option<bool> {
        self.delegate.get(key).and_then(Value::as_bool)
    }

    /// Whether attachments have the lease's MTU, and not one that the configuration gives.
    pub fn follows_mtu(&self) -> bool {
        !self.delegate.contains_key("mtu")
    }
}

/// The delegate's type: `delegate.type`, or `mode`, its short form.
fn plugin(keys: &PluginConf) -> Result<String, Error> {
    let mode = keys.text("mode")?;
    if let Some(mode) = &mode
        && ![BRIDGE, PTP].contains(&mode.as_str())
    {
        let details = format!(
            "mode is {BRIDGE:?} (a bridge, the default) or {PTP:?} (routed, no bridge); for another plugin set delegate.type"
        );
        return Err(invalid(format!("unknown mode {mode:?}")).with_details(details));
    }
    let named = keys.text("delegate.type").map_err(|error| {
        let msg = "'delegate' dictionary, if present, must have (string) 'type' field";
        invalid(msg.to_owned()).with_details(error.msg)
    })?;
    match (mode, named) {
        (Some(mode), Some(named)) if mode != named => {
            let msg = format!("mode is {mode:?} and delegate.type is {named:?}");
            Err(invalid(msg).with_details("they are the same key: leave one out"))
        }
        (_, Some(named)) if LIKE_US.contains(&named.as_str()) => {
            let details = format!(
                "delegate.type is the plugin that makes the interface, such as {BRIDGE:?} or {PTP:?}"
            );
            Err(invalid(format!("overlay cannot delegate to {named:?}")).with_details(details))
        }
        (Some(name), _) | (None, Some(name)) => Ok(name),
        (None, None) => Ok(BRIDGE.to_owned()),
    }
}

/// Wrong values of keys that we read ourselves; the others are the delegate's.
fn check_delegate(keys: &PluginConf) -> Result<(), Error> {
    for key in ["isDefaultGateway", "isGateway", "promiscMode", "forceAddress", "ipMasq"] {
        keys.is_on(&format!("delegate.{key}"))?;
    }
    Ok(())
}

/// The lease says which addresses there are.
fn check_ipam(keys: &PluginConf, ipam: &Map<String, Value>) -> Result<(), Error> {
    for key in ["subnet", "ranges", "rangeStart", "rangeEnd", "gateway"] {
        if ipam.get(key).is_some_and(|value| !value.is_null()) {
            let msg = format!(
                "ipam.{key} cannot be set: the lease says which addresses this node's pods have"
            );
            return Err(
                invalid(msg).with_details("leave it out, or use the plugin bridge or ptp itself")
            );
        }
    }
    keys.get::<Vec<cni::Route>>("ipam.routes").map(drop)
}

fn path(keys: &PluginConf, key: &str, default: &str) -> Result<PathBuf, Error> {
    let path = keys.text(key)?.map_or_else(|| default.into(), PathBuf::from);
    if path.is_absolute() {
        return Ok(path);
    }
    Err(invalid(format!("{key} {:?} is no absolute path", path.display().to_string()))
        .with_details(format!("write it from the root on, such as {default}")))
}

/// Reads the lease. Without one ADD is to be tried again: whoever writes it may be starting just now.
pub fn lease(file: &Path) -> Result<Lease, Error> {
    Lease::read(file).map_err(|error| {
        let (msg, remedy) = match &error {
            LeaseError::Missing(_) => (
                "this node has no lease yet",
                "heddle-agent writes it (or flanneld: set subnetFile to its file); the next ADD takes it up",
            ),
            _ => ("this node's lease cannot be used", "correct the file, or restart who writes it"),
        };
        Error::new(ErrorCode::TryAgainLater, msg)
            .with_details(format!("{}; {remedy}", one_line(&error)))
    })
}

fn invalid(msg: String) -> Error {
    Error::new(ErrorCode::InvalidConfig, msg)
}
